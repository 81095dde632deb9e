"""A few persons evaluated: the plan's SQL over their rows alone, as of an instant, in an engine of its own.

Each evaluation fills empty tables, runs the steps and reads the segments, all in one transaction that is rolled back: nothing
is left in memory. Each statement is planned anew. Prepared ones would save a quarter of the time, but DuckDB 1.5 keeps what it
concluded from the statistics of tables that were empty then: a grant came out as unknown (tried; `docs/serving.md`).

Belongs here: running the plan. Does not belong here: where rows come from (`book`, `event_log`), HTTP.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from orchestration.ingestion.contracts import load_contracts
from orchestration.lake import ZONES, identifier
from orchestration.online.event_log import FEED, insert_sql
from orchestration.online.sql import TARGETS, Plan
from orchestration.rights.published_sql import at_instant

Row = dict[str, Any]


@dataclass(frozen=True)
class Evaluation:
    """Rows of the candidate relations, by relation and by that zone's pseudonym."""

    as_of: datetime
    rows: Mapping[str, Mapping[str, Sequence[Row]]]

    def of(self, relation: str, token: str) -> list[Row]:
        """One person's rows of a relation; none where the gate blocks, or the person is not in the book."""
        return list(self.rows.get(relation, {}).get(token, ()))


class Evaluator:
    """An engine with everything that a plan reads but the persons. One thread at a time."""

    def __init__(self, lake: duckdb.DuckDBPyConnection, plan: Plan, compiled_as_of: datetime) -> None:
        """`lake` has the lake attached, for the reference data; `compiled_as_of` is the instant that the SQL carries."""
        self.plan = plan
        self.compiled_as_of = compiled_as_of
        self._engine = duckdb.connect()
        self._engine.execute("set timezone = 'UTC'; set threads = 1; set enable_progress_bar = false")
        self._engine.execute("attach ':memory:' as lake; use lake")
        for zone in ZONES:
            self._engine.execute(f"create schema lake.{zone}")
        contracts = load_contracts()
        for entity in plan.entities:
            self._engine.execute(contracts[entity].raw_ddl())
        for relation in plan.copied:
            self._engine.register("copied", lake.execute(f"select * from {relation}").to_arrow_table())
            self._engine.execute(f"create table {relation} as select * from copied")
            self._engine.unregister("copied")

    def evaluate(
        self, rows: Mapping[str, pa.Table], events: Mapping[str, pa.Table], as_of: datetime
    ) -> Evaluation:
        """Evaluate whoever these rows are about.

        `rows` are typed rows of the raw tables, `events` rows as text of what came since (`event_log.raw_tables`).
        """
        with self._undone() as engine:
            for entity, table in rows.items():
                engine.register("arriving_rows", table)
                engine.execute(f"insert into lake.raw.{identifier(entity)} by name select * from arriving_rows")
                engine.unregister("arriving_rows")
            for entity, table in events.items():
                engine.register("arriving_events", table)
                engine.execute(insert_sql(entity, "arriving_events"), {"feed": FEED, "load": FEED})
                engine.unregister("arriving_events")
            for step in self.plan.steps:
                sql = at_instant(step.sql, self.compiled_as_of, as_of)
                # What lies in staging renames and looks up: a view costs nothing. What is read often is made once.
                kind = "view" if ".\"staging\"." in step.relation else "table"
                engine.execute(f"create {kind} {step.relation} as {sql}")
            return Evaluation(as_of, {name: self._by_token(name) for name in self._targets()})

    def close(self) -> None:
        """Let the memory go."""
        self._engine.close()

    @contextmanager
    def _undone(self) -> Iterator[duckdb.DuckDBPyConnection]:
        self._engine.execute("begin")
        try:
            yield self._engine
        finally:
            self._engine.execute("rollback")

    def _targets(self) -> list[str]:
        made = {step.relation.replace('"', "").rpartition(".")[2] for step in self.plan.steps}
        return [name for name in TARGETS if name in made]

    def _by_token(self, name: str) -> dict[str, list[Row]]:
        return rows_by_token(self._engine.execute(f"select * from lake.candidate.{identifier(name)}"))


def rows_by_token(cursor: duckdb.DuckDBPyConnection) -> dict[str, list[Row]]:
    """The rows of a result that has a `subject_token`, by it."""
    names = [column[0] for column in cursor.description]
    found: dict[str, list[Row]] = {}
    for values in cursor.fetchall():
        row = dict(zip(names, values, strict=True))
        found.setdefault(row["subject_token"], []).append(row)
    return found
