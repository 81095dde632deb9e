"""Retention: data that has aged goes, by purpose and tier, down to the bytes; what a hold names stays."""

import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from orchestration.deliveries import record_delivery
from orchestration.identity.keys import load_keys
from orchestration.identity.pseudonyms import token
from orchestration.ingestion.contracts import load_contracts
from orchestration.ingestion.errors import SourceError
from orchestration.lake import ensure_zones, open_lake
from orchestration.rights import retention
from orchestration.rights.holds import HoldError, lift_hold, place_hold
from orchestration.rights.retention import apply_retention, enforce_at_landing, older_than_policy, plan
from orchestration.rights.retention_policy import RetentionError, load_rules, rules_for
from orchestration.settings import Settings

NOW = datetime(2026, 6, 1)
YEARS = timedelta(days=365)


@pytest.fixture(scope="module")
def empty_home(tmp_path_factory) -> Path:
    """Made once and copied: every schema and table is a commit."""
    settings = Settings(home=tmp_path_factory.mktemp("empty") / "home", profile="fintech")
    with open_lake(settings) as connection:
        ensure_zones(connection)
        for contract in load_contracts().values():
            connection.execute(contract.raw_ddl())
    load_keys(settings)
    return settings.root


@pytest.fixture
def settings(tmp_path, empty_home) -> Settings:
    shutil.copytree(empty_home, tmp_path / "home")
    return Settings(home=tmp_path / "home", profile="fintech")


def raw(settings: Settings, customer: str) -> str:
    return token(load_keys(settings), "raw", customer)


def add_customer(settings: Settings, customer: str, closed_at: datetime | None = None, tier: str = "low") -> None:
    keys = load_keys(settings)
    with open_lake(settings) as connection:
        connection.execute(
            "insert into lake.raw.customers (subject_token, risk_subject_token, status, updated_at, country) "
            "values (?, ?, ?, ?, ?)",
            [
                raw(settings, customer), token(keys, "risk", customer), "closed" if closed_at else "active",
                closed_at or NOW, f"country-of-{customer}",
            ],
        )  # fmt: skip
        connection.execute("create table if not exists lake.risk.risk_ratings (risk_subject_token varchar, tier varchar)")
        connection.execute("insert into lake.risk.risk_ratings values (?, ?)", [token(keys, "risk", customer), tier])


def add_event(settings: Settings, entity: str, customer: str, at: datetime) -> None:
    event_time = load_contracts()[entity].event_time
    with open_lake(settings) as connection:
        connection.execute(
            f"insert into lake.raw.{entity} (subject_token, {event_time}) values (?, ?)", [raw(settings, customer), at]
        )


def left(settings: Settings, entity: str) -> list[str]:
    with open_lake(settings, read_only=True) as connection:
        return [row[0] for row in connection.execute(f"select subject_token from lake.raw.{entity}").fetchall()]


def test_web_visits_go_after_thirteen_months_and_not_before(settings):
    """The boundary: exactly as old as the policy allows is still kept."""
    add_customer(settings, "ann")
    keep = rules_for(load_rules("fintech"), "raw.web_events")[0].keep
    for age in (keep - timedelta(seconds=1), keep, keep + timedelta(seconds=1), keep * 3):
        add_event(settings, "web_events", "ann", NOW - age)
    assert {line.relation: line.rows_due for line in plan(settings, NOW)}["raw.web_events"] == 2
    lines = {line.relation: line for line in apply_retention(settings, NOW, "t")}
    assert lines["raw.web_events"].rows_removed == 2
    assert len(left(settings, "web_events")) == 2
    assert older_than_policy(plan(settings, NOW)) == []


def test_an_open_relationship_keeps_what_law_asks_for(settings):
    """AML: five years count from the end of the relationship, and it has not ended."""
    add_customer(settings, "ann")
    add_event(settings, "transactions", "ann", NOW - 12 * YEARS)
    apply_retention(settings, NOW, "t")
    assert len(left(settings, "transactions")) == 1


def test_an_ended_relationship_goes_with_everything_in_it(settings):
    for name, ended in (("old", NOW - 6 * YEARS), ("recent", NOW - 4 * YEARS)):
        add_customer(settings, name, ended)
        for entity in ("transactions", "consent_events", "privacy_requests"):
            add_event(settings, entity, name, ended - 1 * YEARS)
    apply_retention(settings, NOW, "t")
    for entity in ("customers", "transactions", "consent_events", "privacy_requests"):
        assert left(settings, entity) == [raw(settings, "recent")], entity


def test_no_denial_goes_before_the_grant_that_it_undid(settings):
    """If the newer refusal were deleted first, the older grant would speak again."""
    add_customer(settings, "ann")
    add_event(settings, "consent_events", "ann", NOW - 20 * YEARS)
    add_event(settings, "privacy_requests", "ann", NOW - 19 * YEARS)
    apply_retention(settings, NOW, "t")
    assert left(settings, "consent_events") and left(settings, "privacy_requests")


def test_a_purpose_that_still_needs_a_row_keeps_it(settings):
    """Marketing lets transactions go after two years, the anti-money-laundering duty does not."""
    add_customer(settings, "ann", NOW - 3 * YEARS)
    add_event(settings, "transactions", "ann", NOW - 3 * YEARS)
    apply_retention(settings, NOW, "t")
    assert len(left(settings, "transactions")) == 1


def test_the_tier_has_its_own_period(settings):
    for name, tier in (("plain", "low"), ("worst", "prohibited")):
        add_customer(settings, name, NOW - 7 * YEARS, tier)
        add_event(settings, "incidents", name, NOW - 8 * YEARS)
    apply_retention(settings, NOW, "t")
    assert left(settings, "incidents") == [raw(settings, "worst")]
    assert left(settings, "customers") == [raw(settings, "worst")]


def test_a_customer_row_stays_while_anything_of_theirs_does(settings):
    """Otherwise events would refer to nobody, and the run's relations would break."""
    add_customer(settings, "ann", NOW - 6 * YEARS)
    add_event(settings, "survey_feedback", "ann", NOW - timedelta(days=5))
    apply_retention(settings, NOW, "t")
    assert left(settings, "customers") == [raw(settings, "ann")]


def test_a_legal_hold_keeps_one_person_and_nobody_else(settings):
    for name in ("ann", "bob"):
        add_customer(settings, name, NOW - 6 * YEARS)
        add_event(settings, "transactions", name, NOW - 7 * YEARS)
    hold = place_hold(settings, "ann", "court order 7", "counsel")
    lines = {line.relation: line for line in apply_retention(settings, NOW, "t")}
    assert lines["raw.transactions"].rows_held == 1 and lines["raw.transactions"].rows_removed == 1
    assert left(settings, "transactions") == left(settings, "customers") == [raw(settings, "ann")]
    lift_hold(settings, hold, "counsel")
    apply_retention(settings, NOW, "t")
    assert left(settings, "transactions") == left(settings, "customers") == []


def test_a_hold_ends_with_its_day(settings):
    add_customer(settings, "ann", NOW - 6 * YEARS)
    add_event(settings, "transactions", "ann", NOW - 7 * YEARS)
    place_hold(settings, "ann", "audit", "counsel", until=NOW.date())
    assert sum(line.rows_held for line in plan(settings, NOW)) > 0
    assert sum(line.rows_held for line in plan(settings, NOW + timedelta(days=1))) == 0


def test_a_hold_without_a_reason_or_a_name_is_refused(settings):
    for reason, by in ((" ", "counsel"), ("case", "")):
        with pytest.raises(HoldError):
            place_hold(settings, "ann", reason, by)
    with pytest.raises(HoldError):
        lift_hold(settings, "hold-unknown", "counsel")


def test_an_unknown_end_keeps_the_row(settings):
    """Nobody recorded when the relationship ended: the clock has not started, and nothing is guessed."""
    add_customer(settings, "ann", NOW - 6 * YEARS)
    with open_lake(settings) as connection:
        connection.execute("update lake.raw.customers set updated_at = null")
    apply_retention(settings, NOW, "t")
    assert left(settings, "customers") == [raw(settings, "ann")]


def files_that_hold(settings: Settings, text: str) -> list[Path]:
    return [path for path in settings.catalog.parent.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_the_bytes_go_too(settings):
    """The catalogue keeps minima and maxima of columns in plain text: the victim's must be gone, the control's found."""
    add_customer(settings, "aaa-victim", NOW - 6 * YEARS)
    add_customer(settings, "bbb-control")
    assert files_that_hold(settings, "country-of-aaa-victim"), "the positive control before the deletion"
    apply_retention(settings, NOW, "t")
    assert files_that_hold(settings, "country-of-bbb-control"), "the positive control after it"
    assert not files_that_hold(settings, "country-of-aaa-victim")


def test_what_is_removed_with_aggregation_leaves_a_count_by_month(settings):
    add_customer(settings, "ann", NOW - 6 * YEARS)
    add_event(settings, "transactions", "ann", datetime(2019, 3, 5))
    apply_retention(settings, NOW, "t")
    with open_lake(settings, read_only=True) as connection:
        found = connection.execute("select relation, sum(row_count) from lake.ops.retention_aggregates group by 1").fetchall()
    assert found == [("raw.transactions", 1)]


def test_a_delivery_that_brings_expired_rows_again_does_not_bring_them_back(settings):
    add_customer(settings, "ann")
    add_event(settings, "web_events", "ann", NOW - 3 * YEARS)
    add_event(settings, "web_events", "ann", NOW)
    with open_lake(settings) as connection:
        lines = {line.relation: line for line in enforce_at_landing(connection, settings, NOW, "run1")}
    assert lines["raw.web_events"].rows_removed == 1
    assert len(left(settings, "web_events")) == 1
    with open_lake(settings, read_only=True) as connection:
        counted = connection.execute(
            "select rules, rows_removed from lake.ops.retention_report where relation = 'raw.web_events'"
        ).fetchall()
    assert counted == [("T111", 1)]


def test_the_report_of_nothing_older_than_policy_can_fail(settings):
    add_customer(settings, "ann")
    add_event(settings, "web_events", "ann", NOW - 3 * YEARS)
    assert [line.relation for line in older_than_policy(plan(settings, NOW))] == ["raw.web_events"]


def test_a_removal_that_removes_nothing_is_an_error(settings, monkeypatch):
    """The job looks again after itself, and does not take its own word for it."""
    add_customer(settings, "ann")
    add_event(settings, "web_events", "ann", NOW - 3 * YEARS)
    monkeypatch.setattr(retention, "_delete", lambda *arguments: None)
    with pytest.raises(RetentionError, match="older than policy"):
        apply_retention(settings, NOW, "t")


def test_a_table_without_a_rule_stops_the_job(settings):
    with open_lake(settings) as connection:
        connection.execute("create table lake.ops.something_new as select 1 as x")
    with pytest.raises(RetentionError, match="something_new"):
        plan(settings, NOW)


def test_another_profiles_rows_are_not_judged_by_this_ones_rules(settings):
    """A shop's periods are shorter than a bank's: the wrong profile on the command line would delete what law keeps."""
    add_customer(settings, "ann", NOW - 4 * YEARS)
    with open_lake(settings) as connection:
        record_delivery(connection, "run1", "m", "fintech", NOW)
    other = settings.model_copy(update={"profile": "childrens_retail"})
    for attempt in (plan, lambda chosen, instant: apply_retention(chosen, instant, "t")):
        with pytest.raises(SourceError, match="profile"):
            attempt(other, NOW)
    assert left(settings, "customers")


@pytest.mark.parametrize("profile", ["fintech", "childrens_retail"])
def test_every_contract_has_a_rule_for_all_tiers(profile):
    rules = load_rules(profile)
    for entity in load_contracts():
        mine = rules_for(rules, f"raw.{entity}")
        for purpose in {rule.purpose for rule in mine}:
            assert [rule.tier for rule in mine if rule.purpose == purpose].count("*") == 1, (entity, purpose)
        assert mine, entity


def test_rules_say_their_law():
    for profile in ("fintech", "childrens_retail"):
        assert all(rule.legal_reference for rule in load_rules(profile))


def test_where_nothing_was_landed_there_is_nothing_to_judge(tmp_path):
    empty = Settings(home=tmp_path / "empty")
    with open_lake(empty) as connection:
        ensure_zones(connection)
    assert plan(empty, NOW) == []
