"""Rules set the floor: whatever a score says, a tier never falls below them."""

import json

import duckdb
import jinja2
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orchestration.settings import DBT_PROJECT_DIR

TIERS = ["low", "medium", "high", "prohibited"]
EVIDENCE = ["reason_codes", "rule_set_version", "consent_event_id", "consent_status", "legal_basis", "legal_reference", "policy_version", "gate_outcome", "gate_reason"]


def combined_sql(macros) -> str:
    """The model's own text, with the two macros of other files that it calls."""
    text = (DBT_PROJECT_DIR / "models" / "risk" / "risk_combined_tiers.sql").read_text(encoding="utf-8")
    context = macros.call | {
        "score_model": lambda: {"status": "current", "model_version": "t1"},
        "risk_tier_names": lambda: TIERS,
        "months_after": lambda date, months: f"cast({date} + to_months(cast({months} as integer)) as date)",
        "config": lambda **given: "",
        "ref": lambda name: name,
    }
    return jinja2.Environment().from_string(text, globals=context).render()


@pytest.fixture(scope="module")
def store():
    with duckdb.connect() as connection:
        connection.execute("create table risk_tiers as select * from (values ('low', 36), ('medium', 24), ('high', 12), ('prohibited', 1)) as t (tier, review_months)")
        yield connection


@pytest.fixture(scope="module")
def sql(macros) -> str:
    return combined_sql(macros)


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(pairs=st.lists(st.tuples(st.sampled_from(TIERS), st.sampled_from([*TIERS, None, "", "HIGH", "unheard of"])), min_size=1, max_size=12))
def test_a_score_never_lowers_a_tier_and_never_prohibits(store, sql, pairs):
    with store.cursor() as connection:
        evidence = ", ".join(f"cast(null as varchar) as {name}" for name in EVIDENCE)
        rows = ", ".join(f"({number}, '{rules}')" for number, (rules, _) in enumerate(pairs))
        connection.execute(f"create or replace table risk_ratings as select *, {evidence}, 1 as points, date '2029-01-01' as review_due_date, timestamp '2026-11-01' as as_of from (values {rows}) as r (risk_subject_token, tier)")
        scores = ", ".join(f"({number}, {'cast(null as varchar)' if score is None else json.dumps(score).replace(chr(34), chr(39))})" for number, (_, score) in enumerate(pairs))
        connection.execute(f"create or replace table model_scores as select *, 0.0 as score, 'flow' as reasons from (values {scores}) as s (risk_subject_token, score_tier)")
        found = dict(connection.execute(f"select risk_subject_token, (tier, is_raised_by_score) from ({sql})").fetchall())
    assert len(found) == len(pairs)
    for number, (rules, score) in enumerate(pairs):
        tier, raised = found[number].values() if isinstance(found[number], dict) else found[number]
        assert TIERS.index(tier) >= TIERS.index(rules)
        assert tier == rules or ((raised and tier == score) or (raised and score == "prohibited" and tier == "high"))
        if rules != "prohibited":
            assert tier != "prohibited"
