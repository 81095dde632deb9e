"""Each expectation of each suite holds on sound tables and fails on the fault that it is there to find."""

import json
from datetime import datetime
from typing import Any, NamedTuple

import duckdb
import pytest

from orchestration.quality.reading import read_frame
from orchestration.quality.suites import BOUNDARIES, Expectation, Suite, check_specs, load_suite
from orchestration.quality.validation import CheckOutcome, check_boundary, validate
from orchestration.settings import EXPECTATIONS_DIR

Row = dict[str, Any]
LANDED = datetime(2026, 11, 1)


class Fault(NamedTuple):
    """What is wrong: changes to the first row of the sound table, or to every row."""

    changes: Row
    in_every_row: bool = False


def gate_row(purpose: str, basis: str, **others: Any) -> Row:
    """A row of the gate for an adult in the Union."""
    row = {
        "subject_token": "s1",
        "purpose": purpose,
        "purpose_role": "none",
        "jurisdiction": "EU",
        "age_band": "18+",
        "signal": "granted",
        "consent_status": "granted",
        "gate_outcome": "ALLOW",
        "gate_reason": "consent_granted",
        "legal_basis": basis,
        "policy_version": "1",
        "policy_mode": "strict",
    }
    return row | others


EVIDENCE = {
    "consent_event_id": "e1",
    "consent_status": "granted",
    "legal_basis": "consent",
    "policy_version": "1",
    "gate_outcome": "ALLOW",
    "gate_reason": "consent_granted",
}
REFUSED = {
    "consent_status": "unknown",
    "legal_basis": "consent",
    "policy_version": "1",
    "gate_outcome": "DEFAULT",
    "gate_reason": "no_consent_on_record",
}
RATED = EVIDENCE | {"consent_event_id": None, "consent_status": "not_applicable", "legal_basis": "legal_obligation"}
MEASURES = {f"{name}_{days}d": days for name in ("transaction_count", "volume_eur") for days in (30, 90, 365)}
SHARES = {f"{name}_share_{days}d": 0.25 for name in ("cash", "crypto", "wallet") for days in (30, 90, 365)}
VISITS = {f"{name}_{days}d": days for name in ("purchase_count", "web_event_count") for days in (30, 90, 365)}

SOUND: dict[str, list[Row]] = {
    "ops.reconciliation": [
        {
            "run_id": "r2",
            "feed": "crm",
            "rows_read": 1000,
            "duplicates": 3,
            "quarantined_share": 0.001,
            "landed_at": LANDED,
        },
        {"run_id": "r2", "feed": "web", "rows_read": 0, "duplicates": 0, "quarantined_share": 0.0, "landed_at": LANDED},
        # A run of long ago that went badly is history, and no reason to stop today's.
        {
            "run_id": "r1",
            "feed": "crm",
            "rows_read": 1000,
            "duplicates": 900,
            "quarantined_share": 0.9,
            "landed_at": datetime(2026, 10, 1),
        },
    ],
    "raw.customers": [
        {"customer_type": "corporate", "age_band": "18+", "is_self_consent_capable": True, "country": "CZ"},
        {"customer_type": "individual", "age_band": "<13", "is_self_consent_capable": False, "country": "Czechia"},
        {"customer_type": "individual", "age_band": "13-15", "is_self_consent_capable": True, "country": "US"},
        {"customer_type": "individual", "age_band": "unknown", "is_self_consent_capable": False, "country": "US"},
    ],
    "raw.transactions": [
        {"payment_method": "cash", "channel": "atm"},
        {"payment_method": "cash", "channel": None},
        {"payment_method": "transfer", "channel": "online"},
    ],
    "consent.gate": [
        gate_row("personalisation", "consent"),
        gate_row(
            "aml_legal_obligation",
            "legal_obligation",
            signal="unknown",
            consent_status="not_applicable",
            gate_reason="legal_obligation",
        ),
        gate_row(
            "ads_sale_share",
            "consent",
            age_band="13-15",
            signal="gpc_on",
            consent_status="unknown",
            gate_outcome="DEFAULT",
            gate_reason="gpc_signal",
        ),
        gate_row(
            "analytics",
            "consent",
            signal="unknown",
            consent_status="unknown",
            policy_mode="statutory",
            gate_reason="opt_out_regime",
        ),
    ],
    "features.risk_features": [MEASURES | SHARES, {name: 0 for name in MEASURES}],
    "features.audience_features": [VISITS, {name: 0 for name in VISITS}],
    "candidate.risk_segments": [
        RATED | {"subject_token": "risk_1", "segment": "high", "tier": "high", "rules_tier": "medium", "score_reasons": "flow", "points": 60, "reason_codes": "TXN-01"},
        *(
            RATED | {"subject_token": f"risk_{n}", "segment": "low", "tier": "low", "rules_tier": "low", "points": 0, "reason_codes": ""}
            for n in range(2, 6)
        ),
        REFUSED | {"subject_token": "risk_6", "segment": "default"},
    ],
    "candidate.audience_segments": [
        EVIDENCE | {"subject_token": "aud_1", "segment_family": "engagement", "segment": "loyal"},
        REFUSED | {"subject_token": "aud_2", "segment_family": "engagement", "segment": "default"},
    ],
}

FAULTS: dict[str, Fault] = {
    # landing
    "no_feed_is_mostly_quarantined": Fault({"quarantined_share": 0.21}),
    "few_rows_are_quarantined": Fault({"quarantined_share": 0.03}),
    "few_rows_are_duplicates": Fault({"duplicates": 51}),
    "who_may_consent_alone_agrees_with_age": Fault({"age_band": "unknown"}),
    "a_firm_counts_as_an_adult": Fault({"age_band": "<13"}),
    "nearly_every_customer_has_a_country": Fault({"country": None}),
    "cash_is_handled_in_person": Fault({"channel": "online"}),
    # gate
    "outcome_is_one_of_four": Fault({"gate_outcome": "COND"}),
    "signal_is_one_of_nine": Fault({"signal": "implied"}),
    "consent_allows_only_what_was_granted": Fault({"consent_status": "expired"}),
    "legal_obligation_ignores_every_signal": Fault({"legal_basis": "legal_obligation", "gate_outcome": "DEFAULT"}),
    "no_refusal_reason_allows": Fault({"gate_reason": "consent_withdrawn"}),
    "every_outcome_has_a_reason": Fault({"gate_outcome": "BLOCK", "gate_reason": None}),
    "no_minor_is_sold_or_shared": Fault({"purpose": "ads_sale_share", "age_band": "16-17"}),
    "global_privacy_control_is_obeyed": Fault({"purpose": "ads_sale_share", "signal": "granted+gpc_on"}),
    # features
    "no_share_exceeds_the_whole": Fault({"cash_share_90d": 1.01}),
    "no_risk_measure_is_negative": Fault({"volume_eur_365d": -1.0}),
    "movements_of_90_days_hold_those_of_30": Fault({"transaction_count_30d": 91}),
    "movements_of_365_days_hold_those_of_90": Fault({"transaction_count_365d": 89}),
    "cash_is_not_the_rule": Fault({"cash_share_365d": 0.9}, in_every_row=True),
    "no_audience_measure_is_negative": Fault({"purchase_count_90d": -1}),
    "purchases_of_365_days_hold_those_of_90": Fault({"purchase_count_365d": 89}),
    # decisions
    "only_the_allowed_are_rated": Fault({"gate_outcome": "HUMAN"}),
    "default_segment_has_no_tier": Fault({"segment": "default"}),
    "points_go_with_a_rating": Fault({"points": -1}),
    "every_raised_tier_has_reasons": Fault({"reason_codes": "", "score_reasons": ""}),
    "score_never_lowers_a_tier": Fault({"rules_tier": "prohibited"}),
    "high_tiers_are_the_exception": Fault({"segment": "prohibited"}, in_every_row=True),
    "every_risk_segment_is_evidenced": Fault({"consent_status": "granted", "consent_event_id": None}),
    "every_audience_segment_is_evidenced": Fault({"policy_version": None}),
    "only_the_allowed_are_in_an_audience": Fault({"gate_outcome": "DEFAULT"}),
    "no_audience_rests_on_legal_obligation": Fault({"legal_basis": "legal_obligation"}),
}

# The same check, broken in another way that is easy to overlook, above all by a value that is not there.
FURTHER_FAULTS: list[tuple[str, Row]] = [
    ("who_may_consent_alone_agrees_with_age", {"is_self_consent_capable": None}),
    ("outcome_is_one_of_four", {"gate_outcome": None}),
    ("signal_is_one_of_nine", {"signal": None}),
    ("consent_allows_only_what_was_granted", {"consent_status": None}),
    ("consent_allows_only_what_was_granted", {"legal_basis": None, "consent_status": "unknown"}),
    ("no_refusal_reason_allows", {"gate_reason": None}),
    ("no_minor_is_sold_or_shared", {"purpose": "ads_sale_share", "age_band": None}),
    ("no_minor_is_sold_or_shared", {"purpose": "ads_sale_share", "age_band": "<13", "policy_mode": None}),
    ("no_risk_measure_is_negative", {"crypto_share_30d": -0.01}),
    ("no_risk_measure_is_negative", {"open_sanctions_alert_count": -1}),
    ("movements_of_90_days_hold_those_of_30", {"transaction_count_90d": None}),
    ("only_the_allowed_are_rated", {"gate_outcome": None}),
    ("only_the_allowed_are_rated", {"gate_outcome": "BLOCK"}),
    ("default_segment_has_no_tier", {"tier": None}),
    ("points_go_with_a_rating", {"points": None}),
    ("points_go_with_a_rating", {"segment": "default"}),
    ("every_raised_tier_has_reasons", {"reason_codes": None, "score_reasons": None}),
    ("every_raised_tier_has_reasons", {"reason_codes": None, "rules_tier": "high"}),
    ("score_never_lowers_a_tier", {"rules_tier": None}),
    ("every_risk_segment_is_evidenced", {"legal_basis": None}),
    ("only_the_allowed_are_in_an_audience", {"gate_outcome": None}),
    ("no_audience_rests_on_legal_obligation", {"legal_basis": None}),
]


def find(check: str) -> tuple[Suite, Expectation]:
    """A check's suite and expectation."""
    for boundary in BOUNDARIES:
        suite = load_suite(boundary)
        for expectation in suite.expectations:
            if expectation.meta.check == check:
                return suite, expectation
    raise LookupError(check)


def outcome_of(connection: duckdb.DuckDBPyConnection, check: str) -> CheckOutcome:
    """Evaluate one check on the tables that are there."""
    suite, expectation = find(check)
    frame = read_frame(connection, suite, expectation.meta.relation, expectation.meta.rows)
    return validate([expectation], frame)[0]


def faulty(relation: str, fault: Fault) -> list[Row]:
    """The sound rows of a relation with a fault in them."""
    first, *others = SOUND[relation]
    return [row | fault.changes for row in (first, *others)] if fault.in_every_row else [first | fault.changes, *others]


def planted(row: Row, word: str, figure: int) -> Row:
    """The row with every text and number replaced, but for what tells which run it belongs to."""
    return {
        name: value if name in ("run_id", "landed_at") or isinstance(value, bool) else _plant(value, word, figure)
        for name, value in row.items()
    }


def _plant(value: Any, word: str, figure: int) -> Any:
    return word if isinstance(value, str) else figure if isinstance(value, int | float) else value


def all_checks() -> list[str]:
    return [spec.check for boundary in BOUNDARIES for spec in check_specs(boundary)]


def test_every_check_has_a_failing_case_and_a_name_of_its_own() -> None:
    """A check that nothing was ever seen to fail may as well not be there."""
    assert sorted(all_checks()) == sorted(FAULTS)


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_sound_tables_pass(boundary: str, connection, make_table) -> None:
    for relation in load_suite(boundary).relations:
        make_table(relation, SOUND[relation])
    failed = [outcome.check for outcome in check_boundary(connection, boundary) if not outcome.passed]
    assert failed == []


@pytest.mark.parametrize("check", FAULTS)
def test_fault_is_found(check: str, connection, make_table) -> None:
    _, expectation = find(check)
    make_table(expectation.meta.relation, faulty(expectation.meta.relation, FAULTS[check]))
    outcome = outcome_of(connection, check)
    assert (outcome.passed, outcome.error, outcome.severity) == (False, None, expectation.severity)


@pytest.mark.parametrize(("check", "changes"), FURTHER_FAULTS)
def test_fault_that_is_easy_to_overlook_is_found(check: str, changes: Row, connection, make_table) -> None:
    _, expectation = find(check)
    make_table(expectation.meta.relation, faulty(expectation.meta.relation, Fault(changes)))
    assert not outcome_of(connection, check).passed


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_empty_tables_pass(boundary: str, connection, make_table) -> None:
    """No transactions, no consent events, nobody allowed: all legal."""
    for relation in load_suite(boundary).relations:
        make_table(relation, [])
    assert [
        (outcome.check, outcome.error) for outcome in check_boundary(connection, boundary) if not outcome.passed
    ] == []


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_columns_without_any_value_are_judged_not_choked_on(boundary: str, connection, make_table) -> None:
    for relation in load_suite(boundary).relations:
        make_table(relation, [{}, {}])
    assert [(outcome.check, outcome.error) for outcome in check_boundary(connection, boundary) if outcome.error] == []


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_great_expectations_reads_the_file_as_its_own(boundary: str) -> None:
    """The files are plain suites: whoever has Great Expectations alone can use them."""
    from great_expectations.core.expectation_suite import ExpectationSuite, expectationSuiteSchema

    content = json.loads((EXPECTATIONS_DIR / f"{boundary}.json").read_text(encoding="utf-8"))
    suite = ExpectationSuite(**expectationSuiteSchema.load(content))
    assert [e.meta["check"] for e in suite.expectations] == [spec.check for spec in check_specs(boundary)]
    assert {e.severity for e in suite.expectations} <= {"critical", "warning", "info"}


def test_no_value_of_a_row_leaves(connection, make_table, caplog, capfd) -> None:
    """Every text column holds a planted word and every number a planted figure, so that checks fail on them."""
    word, figure = "Planted-Novak", 987654321
    said = []
    for boundary in BOUNDARIES:
        for relation in load_suite(boundary).relations:
            make_table(relation, [planted(row, word, figure) for row in SOUND[relation]])
        outcomes = check_boundary(connection, boundary)
        assert any(not outcome.passed for outcome in outcomes)
        said.append(repr(outcomes))
    captured = capfd.readouterr()
    said += [captured.out, captured.err, caplog.text]
    assert not [text for text in said if word in text or str(figure) in text]
