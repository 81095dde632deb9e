"""Whether a person could consent alone on the day of an event, said at landing, while the birth date is still there.

Only the answer goes to `raw`, per event; the birth dates stay in a temporary table of the engine and go with it.

Belongs here: the join of events to birth dates and to the law of their day. Does not belong here: ages themselves (`age`),
what a grant without capacity is worth (the consent models).
"""

import duckdb

from orchestration.identity.age import age_spans_of, capable_on_sql
from orchestration.identity.errors import without_values
from orchestration.lake import identifier

PERSONS = "collection_persons"
SPANS = "collection_age_spans"


@without_values("noting ages of consent")
def remember_persons(connection: duckdb.DuckDBPyConnection, customers: str, subjects: str, customer_key: str) -> None:
    """Keep what the age of consent hangs on in two temporary tables; `forget_persons` when the events are stored.

    `customers` is the typed delivery with the contract's columns, `subjects` a table (value, token) of their identifiers,
    `customer_key` the column of the identifier. The engine's spill files must be encrypted: this holds birth dates.
    """
    source = identifier(customers)
    countries = connection.execute(f"select distinct country from {source}").fetchall()
    connection.register("arriving_spans", age_spans_of(row[0] for row in countries))
    try:
        connection.execute(f"create or replace temp table {SPANS} as select * from arriving_spans")
    finally:
        connection.unregister("arriving_spans")
    connection.execute(
        f"create or replace temp table {PERSONS} as select subjects.token as subject_token, delivered.birth_date, "
        f"delivered.customer_type, delivered.country from {source} as delivered "
        f"inner join {identifier(subjects)} as subjects on subjects.value = delivered.{identifier(customer_key)}"
    )


def capability_column(events: str, instant: str) -> tuple[str, str]:
    """SQL for a query over `events` (an alias with `subject_token`): the expression, and the joins that it needs.

    The expression is a boolean, never null; a person or an instant that is not known gives false.
    """
    day = f"cast({events}.{identifier(instant)} as date)"
    capable = capable_on_sql(f"{PERSONS}.birth_date", f"{PERSONS}.customer_type", f"{SPANS}.min_age", day)
    joins = (
        f" left join {PERSONS} on {events}.subject_token = {PERSONS}.subject_token left join {SPANS} on "
        f"{SPANS}.country = {PERSONS}.country and {day} >= {SPANS}.valid_from and {day} < {SPANS}.valid_to"
    )
    return f"({capable})", joins


def forget_persons(connection: duckdb.DuckDBPyConnection) -> None:
    """Drop the temporary tables."""
    for name in (PERSONS, SPANS):
        connection.execute(f"drop table if exists temp.{name}")
