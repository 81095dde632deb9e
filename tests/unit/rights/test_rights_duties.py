"""What the law keeps: the bank's records stay, the marketing side goes, and the refusal says why and until when."""

from datetime import date, datetime, timedelta

import pytest

from orchestration.lake import open_lake
from orchestration.rights import certificate, erasure, receiving, scanner
from orchestration.rights.duties import duty_of, state_of
from orchestration.rights.requests import now, open_log
from orchestration.rights.retention_policy import RetentionError, kept_after_end, load_rules
from orchestration.settings import Settings
from tests.unit.rights.conftest import Home, apply


def end(connection, subject, ended_at: datetime) -> None:
    """The relationship ended then; so did all movement."""
    token = subject.tokens["raw"]
    connection.execute("update lake.raw.customers set status = 'closed', updated_at = ? where subject_token = ?", [ended_at, token])
    connection.execute("update lake.raw.transactions set booked_at = ? where subject_token = ?", [ended_at, token])


def ask(home: Home, customer: str):
    return receiving.receive(home.settings, home.keys, customer, "deletion", "test", "officer")


FIVE_YEARS = timedelta(days=1827)   # never less, however leap years fall


@pytest.mark.parametrize(
    ("ended_at", "until"),
    [
        (None, date(2031, 11, 2)),  # lasts, or nobody knows: not before five years from now
        (datetime(2024, 2, 29), date(2029, 3, 1)),
        (datetime(2021, 11, 1), date(2026, 11, 2)),
        (datetime(2021, 10, 31), None),  # the period is over on this very day
        (datetime(2015, 1, 1), None),
    ],
)
def test_the_duty_ends_with_its_period_after_the_relationship_and_not_before(ended_at, until):
    state = state_of(duty_of("fintech"), ended_at, FIVE_YEARS, date(2026, 11, 1))
    assert (state.until if state else None) == until


def test_a_duty_lasts_as_long_as_the_retention_policy_says_by_tier():
    """One fact, one place: a refusal of deletion and the retention job that keeps the row must name the same day."""
    periods = kept_after_end(load_rules("fintech"), duty_of("fintech").purpose)
    assert periods["*"] == FIVE_YEARS
    assert periods["prohibited"] > periods["*"]


def test_a_duty_without_a_period_is_an_error_and_not_over_at_once():
    with pytest.raises(RetentionError, match="no_such_purpose"):
        kept_after_end(load_rules("fintech"), "no_such_purpose")


@pytest.mark.parametrize(("tier", "scope"), [("low", "full"), ("prohibited", "restricted")])
def test_a_prohibited_persons_records_are_kept_longer_than_another_ones(bank, tier, scope):
    """Six years after the end: five for everybody, ten where the policy says so for the tier."""
    customer = bank.customers()[0]["customer_id"]
    six_years_ago = now().replace(tzinfo=None) - timedelta(days=6 * 365)
    subject = bank.subject(customer)
    with open_lake(bank.settings) as connection:
        end(connection, subject, six_years_ago)
        connection.execute("update lake.risk.risk_ratings set tier = ? where risk_subject_token = ?", [tier, subject.tokens["risk"]])
    assert ask(bank, customer).detail("planned")["scope"] == scope


def test_a_movement_after_the_closing_moves_the_end(bank):
    """As the retention job counts: it would keep the row while deletion let it go."""
    customer = bank.customers()[0]["customer_id"]
    subject = bank.subject(customer)
    with open_lake(bank.settings) as connection:
        end(connection, subject, datetime(2019, 1, 1))
        connection.execute(
            "update lake.raw.transactions set booked_at = ? where subject_token = ?",
            [now().replace(tzinfo=None) - timedelta(days=400), subject.tokens["raw"]],
        )
        assert connection.execute(
            "select count(*) > 0 from lake.raw.transactions where subject_token = ?", [subject.tokens["raw"]]
        ).fetchone()[0]
    assert ask(bank, customer).detail("planned")["scope"] == "restricted"


def test_a_retailer_is_under_no_such_duty():
    assert duty_of("childrens_retail") is None


def test_the_compliance_copy_stays_and_the_marketing_copy_does_not(bank):
    customer, control = (row["customer_id"] for row in bank.customers()[:2])
    with open_lake(bank.settings) as connection:
        connection.execute("update lake.raw.customers set status = 'active'")
    before, other = bank.tables_with(customer), bank.tables_with(control)
    request = ask(bank, customer)
    refused = request.detail("planned")["refused"]
    assert refused["duty"] == "aml_records" and "2015/849" in refused["statement"]
    assert date.fromisoformat(refused["until"]) >= (now() + timedelta(days=5 * 365)).date()
    apply(bank)
    after = bank.tables_with(customer)
    kept = ("raw.customers", "raw.transactions", "features.risk_subjects", "risk.risk_ratings", "published.risk_segments", "ops.decision_payloads")
    assert all(after[name] == rows for name, rows in before.items() if name.startswith(kept))
    gone = ("audience.", "published.audience", "raw.web_events", "raw.survey_feedback", "raw.complaints")
    assert not [name for name in after if name.startswith(gone)]
    assert bank.rows(
        "select count(*) from lake.raw.consent_events where subject_token = ? and action = 'granted'",
        bank.subject(customer).tokens["raw"],
    ) == [(0,)]
    assert bank.rows(
        "select count(*) from lake.consent.gate where subject_token = ? and gate_outcome = 'ALLOW' and legal_basis = 'consent'",
        bank.subject(customer).tokens["raw"],
    ) == [(0,)]
    assert bank.tables_with(control) == other
    document = certificate.read(bank.settings, request.request_id)
    assert document["outcome"] == "erased but for what the law keeps" and document["refused"]["until"] == refused["until"]
    # The identifier is there by law, and the search says so: no clean bill for somebody who is still a customer.
    assert scanner.verify(bank.settings, bank.keys, [customer], control).verdict == scanner.FOUND

    reasons = bank.land()
    assert any(reason == "suppressed" for _, reason in reasons)
    again = bank.tables_with(customer)
    assert again["raw.transactions.subject_token"] == before["raw.transactions.subject_token"]
    assert "raw.web_events.subject_token" not in again and "raw.survey_feedback.subject_token" not in again
    # The gate reads the request from raw, whichever way it came.
    assert bank.rows(
        "select request_type, feed from lake.raw.privacy_requests where subject_token = ? and feed = 'segline_rights'",
        bank.subject(customer).tokens["raw"],
    ) == [("deletion", "segline_rights")]


def test_a_former_customer_goes_when_the_five_years_are_over(bank):
    customer = bank.customers()[0]["customer_id"]
    with open_lake(bank.settings) as connection:
        end(connection, bank.subject(customer), datetime(2019, 1, 1))
    request = ask(bank, customer)
    assert request.detail("planned")["scope"] == "full"
    apply(bank)
    assert bank.tables_with(customer) == {}


def test_a_wrong_profile_in_the_environment_erases_nothing_that_the_bank_must_keep(bank):
    """The profile is that of the landed data, not that of whoever types the command."""
    careless = Settings(home=bank.settings.home, profile="childrens_retail")
    request = receiving.receive(careless, bank.keys, bank.customers()[0]["customer_id"], "deletion", "test", "officer")
    assert request.detail("planned")["scope"] == "restricted"


def test_a_legal_hold_refuses_with_reason_and_date(retail):
    customer = retail.customers()[0]["customer_id"]
    with open_log(retail.settings) as log:
        log.hold(retail.subject(customer).hash, "court order 12/26", "counsel", datetime(2999, 1, 1))
    held = retail.tables_with(customer)
    request = ask(retail, customer)
    assert request.state == "refused"
    detail = request.detail("refused")
    assert "court order 12/26" in detail["reason"] and detail["until"] == "2999-01-01" and detail["refused_at"]
    document = certificate.read(retail.settings, request.request_id)
    certificate.check(document, certificate.public_key(retail.keys))
    assert document["outcome"] == "refused"
    assert erasure.apply(retail.settings, retail.keys).requests == []
    assert retail.tables_with(customer) == held
    with open_log(retail.settings) as log:
        log.release(retail.subject(customer).hash)
    assert ask(retail, customer).state == "planned"
