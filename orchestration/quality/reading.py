"""Reading: the columns that a suite names, from the lake, into frames that `validation` takes.

Belongs here: the queries of a check and the check of a whole boundary. Does not belong here: what is expected.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb

from orchestration.lake import identifier
from orchestration.quality.suites import EXPECTATIONS_DIR, Expectation, Suite, SuiteError, load_suite
from orchestration.quality.validation import CheckOutcome, UnknownColumnError, validate

if TYPE_CHECKING:
    import pandas as pd


class UnknownRelationError(SuiteError):
    """A suite names a relation that the lake does not have."""


def check_boundary(
    connection: duckdb.DuckDBPyConnection,
    boundary: str,
    run_id: str | None = None,
    folder: Path = EXPECTATIONS_DIR,
) -> list[CheckOutcome]:
    """Check every relation of a boundary; the outcomes come in the suite's order.

    `connection` has the lake in use (`lake.open_lake`; read-only is enough). Raises `SuiteError` or one of its kinds
    for a suite that does not fit the lake; data that break a rule never raise.
    """
    suite = load_suite(boundary, folder)
    outcomes: dict[str, CheckOutcome] = {}
    for relation in suite.relations:
        for rows in ("distinct", "all"):
            wanted = [
                expectation
                for expectation in suite.expectations
                if expectation.meta.relation == relation and expectation.meta.rows == rows
            ]
            if wanted:
                # One frame at a time: the next replaces it.
                frame = read_frame(connection, suite, wanted, run_id)
                outcomes |= {outcome.check: outcome for outcome in validate(wanted, frame)}
    return [outcomes[expectation.meta.check] for expectation in suite.expectations]


def read_frame(
    connection: duckdb.DuckDBPyConnection, suite: Suite, expectations: Sequence[Expectation], run_id: str | None = None
) -> "pd.DataFrame":
    """One query: the columns that expectations of the same relation and row mode name, derived ones computed.

    Raises `UnknownRelationError`, `UnknownColumnError`, and `SuiteError` if the suite asks for a run that is not given.
    """
    relation, rows = expectations[0].meta.relation, expectations[0].meta.rows
    derived = suite.meta.derived.get(relation, {})
    columns = list(dict.fromkeys(column for expectation in expectations for column in expectation.columns))
    schema, table = relation.split(".")
    source = f"{identifier(schema)}.{identifier(table)}"
    try:
        present = {row[0] for row in connection.execute(f"describe {source}").fetchall()}
    except duckdb.CatalogException:
        raise UnknownRelationError(f"{suite.name}.json: there is no relation {relation}") from None
    unknown = [column for column in columns if column not in present and column not in derived]
    if unknown:
        raise UnknownColumnError(f"{suite.name}.json: {relation} has no column {', '.join(unknown)}")
    hidden = sorted(present & set(derived))
    if hidden:
        raise SuiteError(f"{suite.name}.json: {relation} has a column of its own called {', '.join(hidden)}")
    selected = ", ".join(
        f"{derived[column]} as {identifier(column)}" if column in derived else identifier(column) for column in columns
    )
    where = suite.meta.where.get(relation)
    query = f"select {'distinct ' if rows == 'distinct' else ''}{selected} from {source}"
    parameters: dict[str, str] = {}
    if where:
        query += f" where {where}"
        if "$run_id" in where:
            if run_id is None:
                raise SuiteError(f"{suite.name}.json: {relation} is checked for one run, and none was given")
            parameters["run_id"] = run_id
    try:
        return connection.execute(query, parameters).df()
    except (duckdb.BinderException, duckdb.ParserException):
        raise SuiteError(f"{suite.name}.json: what it derives or demands of {relation} is no valid SQL there") from None
