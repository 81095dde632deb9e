"""Facts of an invented publication: every answer has sentinel numbers that occur nowhere else."""

from dataclasses import replace
from datetime import date, datetime

import pytest

from orchestration.documentation.facts import (
    Check,
    Facts,
    Head,
    LedgerRun,
    ModelCard,
    RuleVersion,
    Table,
)
from orchestration.lineage.data_map import DataMap, Entry

ODD = 'a|b <script>alert("x")</script> *c* [d](http://example.com/e) `f` & _g_'


def answer(name: str, columns: str, *rows: tuple) -> Table:
    return Table(name, tuple(columns.split()), rows)


def passport(relation: str) -> dict:
    return {
        "relation": relation, "segment": None, "description": ODD, "profile": "fintech", "role": "risk", "verdict": "proven",
        "violations": [], "waivers": [], "publication": None,
        "gate": {"relation": "consent.gate", "condition": "gate_outcome = 'ALLOW'", "read_by": ["features.risk_features"]},
        "purposes": [{"purpose": "p", "mode": "strict", "legal_basis": "consent", "legal_reference": ODD}],
        "sources": [{"relation": "raw.customers", "kind": "raw", "description": ODD}], "gate_rests_on": ["raw.consent_events"],
        "way": ["raw.customers", relation], "columns": [{"name": "tier", "category": "user", "from": ["raw.customers.a"] * 20}],
        "rows_depend_on": [{"relation": "raw.customers", "column": "a", "how": "join"}], "rules": [], "checks": ["gate_is_total"],
    }  # fmt: skip


@pytest.fixture
def facts() -> Facts:
    as_of, published = datetime(2026, 11, 1), datetime(2026, 11, 22, 10, 0)
    head = "log.example/1\n7070707\nrbc6giA+06mv+269c+pFYOuTyz+8F0+MHE5gSBs6wrU=\n\n\N{EM DASH} log.example/1 AAECA3==\n"
    tables = [
        answer("publication", "run_id profile as_of published_at", ("run-1", "fintech", as_of, published)),
        answer("relations", "relation row_count", ("published.risk_segments", 9000001)),
        answer("publications", "run_id profile as_of published_at row_count", ("run-1", "fintech", as_of, published, 9000002)),
        answer("subjects", "customers", (9000003,)),
        answer("tiers", "segment gate_reason customers", ("low", ODD, 9000004), ("high", "legal_obligation", 9000005)),
        answer("rated", "customers", (9000006,)),
        answer("audiences", "segment_family segment gate_reason customers", ("engagement", "default", "consent_denied", 9000007)),
        answer("defaults", "segment_family gate_reason customers", ("engagement", "consent_denied", 9000008)),
        answer("excluded", "zone purpose gate_reason subject_count", ("risk", "p", "policy_denies", 9000009)),
        answer(
            "reconciliation", "feed entity rows_in_file rows_excluded rows_kept duplicates quarantined",
            (ODD, "customers", 9000010, 0, 9000011, 1, 2),
        ),
        answer("quarantine", "feed reason row_count", (ODD, "missing_value", 9000012)),
        answer(
            "rules", "rule_id version factor name rule_text predicate points floor_tier owner rationale legal_reference "
            "valid_from valid_to approved_by rule_set_version is_in_force",
            ("R1", 1, "customer", ODD, ODD, "a < 1 or b > 2", 10, None, "o", ODD, "L", date(1990, 1, 1), date(2020, 1, 1), "m", "v", False),
            ("R1", 2, "customer", ODD, ODD, "a < 2 or b > 3", 30, None, "o", ODD, "L", date(2020, 1, 1), None, "m", "v", True),
            ("R2", 1, "customer", "n", "t", "c", None, "high", "o", "w", "L", date(1990, 1, 1), None, "m", "v", True),
        ),
        answer("rule_hits", "rule_id customers", ("R1", 4500003)),
        answer("risk_tiers", "tier min_points review_months", ("low", 0, 36), ("medium", 25, 24), ("high", 50, 12), ("prohibited", None, 1)),
        answer(
            "purposes", "purpose role mode legal_basis reads_signals reads_gpc needs_explicit_grant legal_reference note",
            ("personalisation", "audience", "strict", "consent", True, False, False, "GDPR 6(1)(a)", ODD),
        ),
        answer("packs", "pack is_in_force note", ("GDPR", True, None)),
        answer("policy_versions", "version valid_from signed_by change fingerprint", ("v1", date(2026, 11, 1), None, ODD, "ff")),
        answer(
            "policy", "purpose jurisdiction age_band signal strict statutory reference confidence",
            ("personalisation", "EU", "18+", "granted", "ALLOW", "ALLOW", "GDPR 6", "H"),
            ("personalisation", "EU", "<13", "granted", "DEFAULT", "COND", "GDPR 8", "L"),
        ),
        answer("consent_states", "purpose consent_status customers", ("personalisation", "granted", 9000013), ("personalisation", "new_state", 1)),
        answer(
            "gate", "purpose gate_outcome gate_reason legal_basis customers",
            ("personalisation", "ALLOW", "consent_granted", "consent", 9000014),
            ("personalisation", "DEFAULT", "self_grant_without_capacity", "consent", 9000015),
        ),
        answer("ages", "jurisdiction age_band customers", ("EU", "18+", 9000016)),
        answer("retention", "relation rules rows_total rows_due rows_held rows_removed", ("raw.customers", "T1", 9000017, 0, 0, 0)),
        answer("opt_outs", "opt_outs longest_seconds", (9000018, 2.5)),
        answer("model_status", "status reason", ("no_model", ODD)),
        answer("scores", "customers", (0,)),
        answer(
            "clusters", "cluster_id cluster_name profile state state_reason clustering_version fitted_as_of fitted_count "
            "subject_count outlier_count",
            ("A1", ODD, ODD, "current", ODD, "audience-1", "2026-11-01 00:00:00", 9000022, 9000023, None),
        ),
        answer("ledger_head", "tree_size note run_id made_at", (7070707, head, "run-1", published)),
        answer("ledger_anchors", "target tree_size anchored_at"),
        answer("ledger_runs", "statement"),
    ]  # fmt: skip
    entry = Entry("raw.customers", "age", "user.age", "customer", ODD, ("c",), ("p",), ("b",), ("r",), ("k",), ("published.x.y",))
    totals = {"risk": {"new": 9000019, "changed": 0, "unchanged": 0, "departed": 0}}
    return Facts(
        tables={one.source: one for one in tables},
        checks=(
            Check("consent.gate", "gate_is_total", True, "ERROR", True, "rows 9,000,020"),
            Check("ops.ledger_anchors", "no_anchor_is_overdue", False, "WARN", False),
        ),
        rule_history=(RuleVersion("R1", 1, ODD, "a < 1", 10, None, "2026-11-22 10:00", "2026-11-22 10:00", 1),),
        ledger_runs=(LedgerRun("run-1", "2026-11-01 00:00", "2026-11-22 10:00", "fintech", 2, 9000021, "ff", totals),),
        head=Head("log.example/1", 7070707, "ab" * 32, "00010203", head, published),
        data_map=DataMap("fintech", [entry], [], True, {"encryption": ODD}),
        passports=(passport("published.risk_segments"),),
        cards=(ModelCard("m1", ("champion",), "cd" * 32, f"# Model card: m1\n\n{ODD}\n\n## Data\n\n[x]\n\n[x]: http://example.com/y\n"),),
    )


@pytest.fixture
def bare(facts) -> Facts:
    """A home of which nothing but the publication is known."""
    return replace(
        facts, tables={"publication": facts.table("publication")}, checks=(), rule_history=(), ledger_runs=(), head=None,
        data_map=None, passports=(), cards=(), missing={"checks": ODD},
    )  # fmt: skip
