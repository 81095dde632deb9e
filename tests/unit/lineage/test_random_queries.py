"""The checker against an oracle: no random query may pass the proof and leak.

The hand-written wrong models are the ways round that somebody thought of; random queries are the others. Set
SEGLINE_FUZZ_QUERIES to run more of them than a normal test run does.
"""

import os
import random

import duckdb
import pytest

from orchestration.lineage.scopes import NotUnderstood
from tests.unit.lineage.random_queries import Oracle, Writer, accepts

QUERIES = int(os.environ.get("SEGLINE_FUZZ_QUERIES", "240"))
SEED = int(os.environ.get("SEGLINE_FUZZ_SEED", "20261101"))


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    return Oracle(SEED)


def judged(oracle: Oracle, sql: str) -> tuple[bool, bool]:
    """(whether the checker lets it pass, whether it leaks)."""
    try:
        passed = accepts(sql)
    except NotUnderstood:
        passed = False
    return passed, oracle.leaks(sql)


def test_no_random_query_passes_the_checker_and_leaks(oracle, record_property):
    """Rows of ungated people are changed, added and removed: what the checker lets pass must not notice.

    Nor may the checker be safe by refusing everything: of the queries that never leaked it has to let a good part pass,
    among them queries over people's data behind the gate.
    """
    counts = {"accepted, safe": 0, "accepted, leaks": 0, "rejected, safe": 0, "rejected, leaks": 0, "cannot run": 0, "over people's data": 0}
    unsound = []
    for number in range(QUERIES):
        sql = Writer(random.Random(SEED * 1_000_003 + number)).query()
        try:
            passed, leaks = judged(oracle, sql)
        except duckdb.Error:
            counts["cannot run"] += 1
            continue
        counts[f"{'accepted' if passed else 'rejected'}, {'leaks' if leaks else 'safe'}"] += 1
        counts["over people's data"] += passed and ("t.events" in sql or "t.people" in sql)
        if passed and leaks:
            unsound.append(sql)
    for name, count in counts.items():
        record_property(name, count)
    print(counts)
    assert unsound == []
    assert counts["cannot run"] < QUERIES / 20
    assert counts["rejected, leaks"] > QUERIES / 10, "the oracle finds no leaks: it proves nothing"
    assert counts["accepted, safe"] > counts["rejected, safe"], "a checker that refuses what is safe would be switched off"
    assert counts["over people's data"] > QUERIES / 20


def test_the_oracle_sees_a_known_leak_and_no_ghosts(oracle):
    gated = "select e.amount from t.events as e inner join t.gate as g on e.subject_token = g.subject_token where {}"
    assert oracle.leaks("select sum(amount) from t.events")
    assert oracle.leaks(gated.format("g.purpose_role = 'risk'"))
    assert not oracle.leaks(gated.format("g.purpose_role = 'risk' and g.gate_outcome = 'ALLOW'"))
    assert not oracle.leaks("select subject_token, gate_outcome, consent_status from t.gate")


@pytest.mark.parametrize(
    "clause", ["g.purpose_role = 'risk'", "g.gate_outcome = 'ALLOW'", "g.purpose_role = 'audience' and g.gate_outcome = 'ALLOW'"]
)
def test_half_a_gate_is_no_gate(oracle, clause):
    sql = f"select e.amount from t.events as e inner join t.gate as g on e.subject_token = g.subject_token where {clause}"
    assert judged(oracle, sql) == (False, True)
