"""The life of a request: clocks that nobody can stop unseen, no step left out, no name in the log."""

import sqlite3
from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.identity.keys import load_keys
from orchestration.rights.clocks import a_month_later, business_days_later, clocks
from orchestration.rights.errors import RightsError, TransitionError, UnknownRequestError
from orchestration.rights.requests import STEPS, RightsLog, Subject, has_log, open_log
from orchestration.settings import Settings

MONDAY = datetime(2026, 11, 2, 9)


@pytest.fixture
def home(tmp_path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def keys(home):
    return load_keys(home)


@pytest.fixture
def log(home):
    with open_log(home) as opened:
        yield opened


def person(keys, customer: str = "CU-PLANTED-77") -> Subject:
    return Subject.of(keys, customer)


@pytest.mark.parametrize(
    ("hours", "own", "statutory"),
    [(0, 0, 0), (23, 0, 0), (24, 50, 0), (36, 75, 0), (44, 90, 0), (48, 100, 0), (24 * 15, 100, 50), (24 * 23, 100, 75),
     (24 * 27, 100, 90), (24 * 30, 100, 100)],
)  # fmt: skip
def test_each_clock_alerts_at_half_three_quarters_and_nine_tenths(hours, own, statutory):
    """A deadline that passes unseen is the failure that an officer must never meet."""
    marks = clocks("deletion", MONDAY, timedelta(0), MONDAY + timedelta(hours=hours))
    assert [clock.alert for clock in marks] == [own, statutory]


def test_a_pause_stops_our_clock_and_not_the_laws():
    own, law = clocks("deletion", MONDAY, timedelta(hours=24), MONDAY + timedelta(hours=48))
    assert own.due == MONDAY + timedelta(hours=72) and own.alert == 50
    assert law.due == a_month_later(MONDAY)


def test_a_month_ends_in_the_next_months_last_day_at_the_latest():
    assert a_month_later(datetime(2027, 1, 31)) == datetime(2027, 2, 28)
    assert a_month_later(datetime(2026, 12, 5)) == datetime(2027, 1, 5)


def test_fifteen_business_days_leave_weekends_out():
    assert business_days_later(MONDAY, 15) == MONDAY + timedelta(days=21)


def test_a_second_request_joins_the_first_and_neither_is_lost(log, keys):
    first = log.open("deletion", person(keys), keys, "mail")
    second = log.open("deletion", person(keys, " CU-PLANTED-77 "), keys, "telephone")
    assert second.request_id == first.request_id
    assert [state for _, state, _ in second.events] == ["received", "duplicate_joined"]
    assert log.open("access", person(keys), keys, "mail").request_id != first.request_id
    assert log.open("deletion", person(keys, "CU-OTHER-1"), keys, "mail").request_id != first.request_id


def test_a_closed_request_is_not_joined(log, keys):
    first = log.open("deletion", person(keys), keys, "mail")
    log.advance(first, "refused", {"reason": "not the person"})
    assert log.open("deletion", person(keys), keys, "mail").request_id != first.request_id


def test_a_request_cannot_be_back_dated_into_the_future(log, keys):
    assert log.open("deletion", person(keys), keys, "mail", datetime(2999, 1, 1)).received_at < datetime(2999, 1, 1)


@given(steps=st.lists(st.sampled_from([*STEPS, "refused", "pause", "resume"]), max_size=12))
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_nothing_is_ever_proven_but_after_every_step(log, keys, steps):
    """Whatever is called in whatever order: the log shows each step once and in order, and nothing after the end."""
    request = log.open("deletion", Subject.of(keys, f"CU-{id(steps)}-{len(log.all())}"), keys, "mail")
    for step in steps:
        try:
            if step == "pause":
                log.pause(request.request_id, "asked for papers")
            elif step == "resume":
                log.resume(request.request_id)
            else:
                log.advance(log.get(request.request_id), step)
        except TransitionError:
            continue
    told = [state for _, state, _ in log.get(request.request_id).events]
    reached = [state for state in told if state in STEPS]
    assert reached == list(STEPS[: len(reached)])
    if "refused" in told:
        assert told[-1] == "refused" and "applied" not in told


def test_the_log_cannot_be_rewritten(log, keys):
    """An officer's log that can be edited proves nothing."""
    log.open("deletion", person(keys), keys, "mail")
    for statement in ("update request_events set state = 'proven'", "delete from request_events"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            log.store.execute(statement)


def test_the_file_names_nobody_while_open_nor_after(home, keys):
    with open_log(home) as log:
        subject = person(keys)
        request = log.open("deletion", subject, keys, "mail")
        assert log.subject(request, keys) == subject
    secrets = [subject.customer, *subject.tokens.values()]

    def bytes_beside() -> bytes:
        return b"".join(path.read_bytes() for path in home.rights_dir.iterdir())

    assert not any(secret.encode() in bytes_beside() for secret in secrets)
    assert subject.hash.encode() in bytes_beside()  # the search finds what is there
    with open_log(home) as log:
        log.advance(request, "refused", {"reason": "not the person"})
        assert log.store.execute("select count(*) from pending").fetchone() == (0,)
        with pytest.raises(TransitionError, match="no longer says"):
            log.subject(request, keys)


def test_only_the_right_master_key_says_whom_a_request_is_about(home, keys, tmp_path):
    with open_log(home) as log:
        request = log.open("deletion", person(keys), keys, "mail")
        with pytest.raises(RightsError, match="master key"):
            log.subject(request, load_keys(Settings(home=tmp_path / "other")))


def test_mistakes_are_named(log, keys, home):
    with pytest.raises(UnknownRequestError, match="status"):
        log.get("RR-0")
    with pytest.raises(RightsError, match="blank"):
        person(keys, "  ")
    with pytest.raises(RightsError, match="no kind"):
        log.open("forgetting", person(keys), keys, "mail")
    assert has_log(home) and isinstance(log, RightsLog)


def test_a_hold_ends_on_its_day(log, keys):
    log.hold(person(keys).hash, "court order", "counsel", datetime(2027, 1, 1))
    assert log.hold_on(person(keys).hash, datetime(2026, 12, 31)) == ("court order", "2027-01-01T00:00:00")
    assert log.hold_on(person(keys).hash, datetime(2027, 1, 2)) is None
    assert log.release(person(keys).hash) and not log.release(person(keys).hash)
