"""Drift: the CMP's full state against a real landing, with every direction, and the one that blocks."""

from datetime import datetime, timedelta

import pytest

from orchestration.connectors.drift import DriftLimits, DriftReport, PurposeDrift, measure_drift, record_drift
from orchestration.connectors.errors import ConnectorError
from orchestration.connectors.registry import connector
from orchestration.connectors.vocabulary import load_vocabulary
from orchestration.identity.keys import load_keys
from orchestration.ingestion.errors import SourceError
from orchestration.ingestion.mapping import load_mapping
from orchestration.lake import open_lake
from tests.unit.connectors.conftest import MAPPING, NOW, Answer, consent, profile, state

LIMITS = DriftLimits(tolerated_share=0.2, oldest_pull_hours=24)


def measure(desk, now: datetime = NOW) -> DriftReport:
    vocabulary = load_vocabulary(desk.sources / "onetrust.yml", "onetrust")
    vendor = connector("onetrust", vocabulary, desk.patience, desk.settings)
    with open_lake(desk.settings) as connection:
        return measure_drift(
            connection, desk.settings, load_keys(desk.settings), vendor, load_mapping(desk.sources), desk.sources,
            desk.folder("onetrust"), now,
        )  # fmt: skip


def kinds(report: DriftReport) -> dict[str, int]:
    """What is not zero."""
    return {name: value for name, value in vars(report.total).items() if value and name != "purpose"}


def test_a_state_that_was_pulled_and_landed_is_in_step(desk, landed):
    desk.vendor.records["profiles"] = [state(1), state(2, "OPT_OUT"), state(3, "WITHDRAWN")]
    assert landed().rows("consent_events") == 3
    report = measure(desk)
    assert kinds(report) == {"equal": 3}
    assert report.verdict(LIMITS) == ("in_step", [])


@pytest.mark.parametrize("status", ["WITHDRAWN", "OPT_OUT", "PENDING", "EXPIRED", "NEW_WORD"])
def test_a_grant_that_the_cmp_does_not_hold_blocks_at_once(desk, landed, status):
    """One person is enough: an opt-out that is silently lost is what regulators test."""
    desk.vendor.records["profiles"] = [state(number) for number in range(1, 6)]
    landed()
    desk.vendor.records["profiles"][0] = state(1, status)
    report = measure(desk)
    assert kinds(report) == {"equal": 4, "permissive": 1}
    assert report.verdict(LIMITS)[0] == "blocked"


def test_a_grant_whose_record_is_gone_at_the_cmp_blocks(desk, landed):
    """It can no longer be proven."""
    desk.vendor.records["profiles"] = [state(1), state(2)]
    landed()
    desk.vendor.records["profiles"].pop()
    report = measure(desk)
    assert kinds(report) == {"equal": 1, "permissive": 1}
    assert report.verdict(LIMITS)[0] == "blocked"


def test_an_open_gate_without_any_record_of_ours_blocks_where_the_cmp_refuses(desk, landed):
    """Where the law lets use begin without consent, a refusal that never arrived leaves the gate open."""
    desk.vendor.records["profiles"] = [state(1)]
    landed()
    with open_lake(desk.settings) as connection:
        connection.execute("update lake.consent.gate set gate_outcome = 'ALLOW'")
        connection.execute("delete from lake.consent.consent_states")
    desk.vendor.records["profiles"] = [state(1, "OPT_OUT")]
    assert kinds(measure(desk)) == {"permissive": 1}


def test_a_grant_that_has_expired_at_the_cmp_is_none(desk, landed):
    desk.vendor.records["profiles"] = [state(1)]
    landed()
    desk.vendor.records["profiles"] = [state(1, expiryDate="2026-11-01T11:00:00Z")]
    assert kinds(measure(desk)) == {"permissive": 1}


def test_restrictive_drift_warns_and_never_blocks(desk, landed):
    """That we refuse what the CMP grants harms nobody."""
    desk.vendor.records["profiles"] = [state(number, "OPT_OUT") for number in range(1, 6)]
    landed()
    desk.vendor.records["profiles"] = [state(number) for number in range(1, 6)]
    report = measure(desk)
    assert kinds(report) == {"restrictive": 5}
    assert report.verdict(LIMITS)[0] == "warning"
    assert report.verdict(DriftLimits(tolerated_share=1))[0] == "in_step"


def test_what_one_side_lacks_is_counted_on_its_side(desk, landed):
    desk.vendor.records["profiles"] = [state(1), state(2, "OPT_OUT")]
    landed()
    desk.vendor.records["profiles"] = [state(1), state(3)]
    assert kinds(measure(desk)) == {"equal": 1, "missing_here": 1, "missing_there": 1}


def test_what_changed_after_the_last_pull_is_under_way_and_not_drift(desk, landed):
    """Else every busy tenant would be blocked by the withdrawals of the last minutes; the pull's age has its own limit."""
    desk.vendor.records["profiles"] = [state(1)]
    landed()
    later = "2026-11-01T12:30:00Z"
    desk.vendor.records["profiles"] = [state(1, "WITHDRAWN", lastUpdatedDate=later)]
    report = measure(desk, NOW + timedelta(hours=1))
    assert kinds(report) == {"in_flight": 1}


@pytest.mark.parametrize(("hours", "verdict"), [(1, "in_step"), (30, "warning"), (60, "blocked")])
def test_the_age_of_the_last_pull_warns_and_then_blocks(desk, landed, hours, verdict):
    """A comparison with a CMP that nobody reads any more proves nothing."""
    desk.vendor.records["profiles"] = [state(1)]
    landed()
    assert measure(desk, NOW + timedelta(hours=hours)).verdict(LIMITS)[0] == verdict


def test_without_any_complete_pull_the_verdict_is_blocked(desk, landed):
    report = DriftReport("onetrust", NOW, None, None)
    assert report.verdict(LIMITS)[0] == "blocked"


def test_a_status_without_a_will_is_not_judged(desk, landed):
    desk.vendor.records["profiles"] = [state(1), state(2, "ALWAYS_ACTIVE")]
    landed()
    desk.vendor.records["profiles"] = [state(1, "EXTEND"), state(2, "ALWAYS_ACTIVE")]
    assert kinds(measure(desk)) == {"unjudged": 2}


def test_two_entries_of_one_person_count_as_the_more_restrictive_one(desk, landed):
    (desk.sources / "mapping.yml").write_text(MAPPING.replace("on: subject", "on: \"replace(subject, '+2', '')\""))
    desk.vendor.records["profiles"] = [state(1)]
    landed()
    desk.vendor.records["profiles"] = [state(1), profile("c1+2@planted.example", "OPT_OUT")]
    assert kinds(measure(desk)) == {"permissive": 1}


def test_people_unknown_here_and_unreadable_entries_are_counted_and_judge_nothing(desk, landed):
    desk.vendor.records["profiles"] = [state(1)]
    landed()
    desk.vendor.records["profiles"] += [state(99), state(2, id="p-new", name="New"), state(3, identifier=None)]
    report = measure(desk)
    assert (kinds(report), report.unresolved) == ({"equal": 1}, 1)
    assert report.unreadable == {"unknown_purpose": 1, "missing_field": 1}
    assert report.verdict(LIMITS)[0] == "warning"


def test_a_full_state_that_breaks_off_is_an_error_and_no_comparison(desk, landed):
    """Half a state would show everybody else as missing, or as in step."""
    desk.vendor.records["profiles"] = [state(number) for number in range(1, 6)]
    landed()
    desk.vendor.faults = [None, Answer({}, 500), Answer({}, 500), Answer({}, 500)]
    with pytest.raises(ConnectorError, match="unavailable"):
        measure(desk)


def test_no_identifier_of_the_cmp_stays_in_the_data_folder_or_the_home(desk, landed):
    desk.vendor.records["profiles"] = [state(4, "OPT_OUT")]
    landed()
    before = {path for path in desk.folder("onetrust").iterdir()}
    measure(desk)
    assert {path for path in desk.folder("onetrust").iterdir()} == before
    content = b"".join(path.read_bytes() for path in desk.settings.root.rglob("*") if path.is_file())
    assert b"SQLite format 3" in content  # the search does see what lies there
    assert b"planted.example" not in content


def test_every_measurement_is_appended_per_purpose_and_in_total(desk, landed):
    desk.vendor.records["profiles"] = [state(1), state(2, "OPT_OUT"), state(1, id="p-ads", name="Ads")]
    landed()
    report = measure(desk)
    with open_lake(desk.settings) as connection:
        for run in ("run-1", "run-2"):
            record_drift(connection, report, LIMITS, run)
        rows = connection.execute(
            "select run_id, purpose, compared, equal, permissive, verdict, unresolved from lake.ops.consent_drift order by all"
        ).fetchall()
    of_one = [("ads_sale_share", 1, 1, 0, "in_step", None), ("personalisation", 2, 2, 0, "in_step", None)]
    assert rows == [(run, *row) for run in ("run-1", "run-2") for row in [("*", 3, 3, 0, "in_step", 0), *of_one]]


def test_the_share_is_of_the_pairs_that_were_compared():
    part = PurposeDrift("analytics", equal=8, restrictive=1, missing_here=1, in_flight=90, unjudged=90)
    assert (part.compared, round(part.drift_share, 6)) == (10, 0.2)
    assert PurposeDrift("analytics").drift_share == 0


def test_a_mapping_without_the_feed_and_a_home_without_state_are_named(desk, landed):
    desk.vendor.records["profiles"] = [state(1)]
    with pytest.raises(ConnectorError, match="no_state"):
        measure(desk)
    landed()
    (desk.sources / "mapping.yml").write_text(MAPPING.replace("pulled/onetrust/", "elsewhere/"))
    with pytest.raises(SourceError, match="no_feed"):
        measure(desk)


def test_the_full_state_of_trustarc_is_the_latest_record_of_each_person(desk):
    desk.vendor.records["consents"] = [consent(1), consent(2, "C2", "OPTED_OUT"), consent(3, "C3", status="PENDING")]
    vocabulary = load_vocabulary(desk.sources / "trustarc.yml", "trustarc")
    items = [item for page in connector("trustarc", vocabulary, desk.patience, desk.settings).full_state(NOW) for item in page]
    assert [(item.subject, item.state) for item in items] == [("C1", "granted"), ("C2", "refused"), ("C3", "refused")]
    assert desk.vendor.data_requests[0].query["isFetchLatest"] == "true"


def test_a_survey_tool_has_no_state_to_compare(desk):
    vocabulary = load_vocabulary(desk.sources / "zigpoll.yml", "zigpoll")
    with pytest.raises(ConnectorError, match="no consent state"):
        connector("zigpoll", vocabulary, desk.patience, desk.settings).full_state(NOW)
