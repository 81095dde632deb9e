"""The ledger keeps a decision no longer than the policy says, and stays provable when it lets go."""

from datetime import datetime, timedelta

import pytest
from small_tenant import Customer

from orchestration.identity.keys import load_keys
from orchestration.identity.pseudonyms import token
from orchestration.lake import ensure_zones, transaction
from orchestration.ledger.leaves import DEPARTED
from orchestration.ledger.verification import verify
from orchestration.rights import ledger_retention, retention
from orchestration.rights.holds import place_hold
from orchestration.rights.retention_policy import DEPARTURE, load_rules

LATER = timedelta(days=1)


@pytest.fixture
def left(tenant):
    """C1 was decided about, then left the book."""
    with tenant.lake() as connection:
        tenant.decide(connection)
        del tenant.book["C1"]
        tenant.decide(connection)
    return tenant


def of(connection, token: str) -> int:
    return connection.execute("select count(*) from lake.ops.decision_payloads where subject_token = ?", [token]).fetchone()[0]


def departed_at(connection, token: str) -> datetime:
    text = f"select max(decided_at) from lake.ops.decision_payloads where subject_token = ? and segment = '{DEPARTED}'"
    return connection.execute(text, [token]).fetchone()[0]


def test_who_left_the_book_goes_when_the_period_is_over_and_not_before(left):
    token, other = left.token("C1"), left.token("C2")
    with left.lake() as connection:
        kept, end = of(connection, other), departed_at(connection, token)
        rows, inputs = ledger_retention.judge_departed(connection, end, may_be_held=False)
        assert (rows.due, inputs.due) == (0, 0)
        rows, inputs = ledger_retention.judge_departed(connection, end + LATER, may_be_held=False)
        assert (rows.due, inputs.due) == (4, 2)  # two families; a departure has no inputs
        with transaction(connection):
            assert ledger_retention.forget_in_ledger(connection, left.settings, []) == 4
        assert (of(connection, token), of(connection, other)) == (0, kept)
        assert verify(connection, left.key(connection)).findings == []
        again, _ = ledger_retention.judge_departed(connection, end + LATER, may_be_held=False)
        assert again.due == 0


def test_who_came_back_is_kept(left):
    left.book["C1"] = Customer()
    with left.lake() as connection:
        left.decide(connection)
        end = departed_at(connection, left.token("C1"))
        rows, _ = ledger_retention.judge_departed(connection, end + LATER, may_be_held=False)
    assert (rows.due, rows.held) == (0, 0)


def test_a_hold_on_somebody_who_left_keeps_whoever_left(left):
    """The register knows no ledger pseudonym: it may mean any of them, so nobody's decisions go."""
    with left.lake() as connection:
        end = departed_at(connection, left.token("C1"))
        rows, _ = ledger_retention.judge_departed(connection, end + LATER, may_be_held=True)
        assert (rows.due, rows.held) == (0, 4)
        with transaction(connection):
            assert ledger_retention.forget_in_ledger(connection, left.settings, []) == 0


@pytest.mark.parametrize("held", [False, True])
def test_the_job_counts_from_the_departure_by_the_policys_period(left, held):
    """Through the job's own judgement, whose report is what an auditor sees."""
    keep = next(rule.keep for rule in load_rules("fintech") if rule.clock == DEPARTURE)
    if held:
        place_hold(left.settings, "C1", "court order", "counsel")
    with left.lake() as connection:
        ensure_zones(connection)
        connection.execute("create or replace temp table retention_holds as select unnest($1::varchar[]) as subject_hash", [
            retention.holds_in_force(left.settings, datetime(2999, 1, 1))["subject_hash"].to_pylist(),
        ])  # fmt: skip
        end = departed_at(connection, left.token("C1"))
        for instant, due in ((end + keep, 0), (end + keep + LATER, 4)):
            lines = {line.relation: line for line in retention._judge_ledger(connection, left.settings, instant, ("ops",))}
            line = lines["ops.decision_payloads"]
            assert (line.rows_due, line.rows_held) == ((0, due) if held else (due, 0))


def test_the_decisions_go_with_the_customer_whom_retention_removes(tenant):
    """Their period has run while they were a former customer; another one from the departure on would double it."""
    mine = tenant.token("C9")
    with tenant.lake() as connection:
        tenant.decide(connection)
        raw = token(load_keys(tenant.settings), "raw", "C9")
        before = of(connection, mine)
        with transaction(connection):
            assert ledger_retention.forget_in_ledger(connection, tenant.settings, [raw]) == before == 2
        assert of(connection, mine) == 0
        assert verify(connection, tenant.key(connection)).findings == []
