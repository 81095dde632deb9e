"""Online against batch: a sample of customers decided both ways must come out the same, to the last column.

Asked in every run before it publishes, of what is about to be published, and by a service of each publication that it loads.

Belongs here: the comparison. Does not belong here: evaluating (`evaluating`), what follows from a difference.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from orchestration.lake import identifier
from orchestration.online.evaluating import Evaluation, Evaluator, Row, rows_by_token
from orchestration.online.sql import TARGETS, plan_of

RUN_SAMPLE = 50


@dataclass(frozen=True)
class Reconciliation:
    """How many decisions were compared, and how many differ, by relation; nobody is named."""

    compared: int
    differing: Mapping[str, int]

    @property
    def passed(self) -> bool:
        """Whether something was compared and nothing differs."""
        return self.compared > 0 and not self.differing


def compare(
    made: Evaluation, stands: Callable[[str, str], Sequence[Row]], names: Sequence[str], persons: Sequence[Mapping[str, Any]]
) -> Reconciliation:
    """Compare what was evaluated of these persons (rows with the tokens of both zones) with what stands, relation by relation."""
    compared, differing = 0, {}
    for name in names:
        zone = "audience_subject_token" if name.startswith("audience") else "risk_subject_token"
        wrong = 0
        for person in persons:
            batch, online = stands(name, str(person[zone])), made.of(name, str(person[zone]))
            compared += max(len(batch), len(online), 1)
            wrong += _plain(batch) != _plain(online)
        if wrong:
            differing[name] = wrong
    return Reconciliation(compared, differing)


def reconcile_candidates(
    connection: duckdb.DuckDBPyConnection, manifest: Mapping[str, Any], as_of: datetime, sample: int = RUN_SAMPLE
) -> Reconciliation:
    """Decide random customers of the run whose manifest this is by the online way, and compare with its candidates."""
    plan = plan_of(manifest, as_of)
    connection.execute(
        "create or replace temp table reconciled as select subject_token, risk_subject_token, audience_subject_token "
        f"from lake.raw.customers using sample {sample} rows"
    )
    rows = {
        entity: connection.execute(
            f"select * from lake.raw.{identifier(entity)} where subject_token in (select subject_token from reconciled)"
        ).to_arrow_table()
        for entity in plan.entities
    }
    persons = connection.execute("select * from reconciled").to_arrow_table().to_pylist()
    evaluator = Evaluator(connection, plan, as_of)
    try:
        made = evaluator.evaluate(rows, {}, as_of)
    finally:
        evaluator.close()
    own = "select risk_subject_token from reconciled union all select audience_subject_token from reconciled"
    standing = {
        name: rows_by_token(connection.execute(f"select * from lake.candidate.{identifier(name)} where subject_token in ({own})"))
        for name in TARGETS
        if name in made.rows
    }
    return compare(made, lambda name, token: standing[name].get(token, []), list(standing), persons)


def _plain(rows: Sequence[Row]) -> list[list[tuple[str, Any]]]:
    return sorted((sorted(row.items()) for row in rows), key=repr)
