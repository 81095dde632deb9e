"""The log of accepted events: nothing twice, nothing half, nothing changed behind a sender's back."""

import json
import sqlite3
import stat
from dataclasses import replace
from datetime import datetime
from decimal import Decimal

import pytest

from orchestration.online import event_log
from orchestration.online.event_log import Event
from orchestration.settings import Settings

NOW = datetime(2026, 11, 2, 9)


def movement(key: str, subject: str = "a", amount: str = "10.00", other: str | None = None) -> Event:
    row = {
        "transaction_id": key, "booked_at": datetime(2026, 11, 1, 12), "direction": "credit", "amount": Decimal(amount),
        "currency": "EUR", "payment_method": "card", "channel": None, "counterparty_country": "DE", "category": None,
    }  # fmt: skip
    return Event("transactions", key, subject, other, NOW, row)


@pytest.fixture
def log(tmp_path):
    with event_log.open_log(Settings(home=tmp_path / "home")) as opened:
        yield opened


def keys(log: sqlite3.Connection) -> list[str]:
    return [event.key for event in event_log.read(log)]


def test_the_same_event_is_kept_once_and_answered_with_its_first_place(log):
    """A sender that got no answer sends again."""
    ((first,),) = event_log.append(log, [[movement("m1")]])
    ((again,),) = event_log.append(log, [[movement("m1")]])
    assert again.is_replay and again.sequence == first.sequence and keys(log) == ["m1"]


@pytest.mark.parametrize("other", [movement("m1", amount="10.01"), movement("m1", subject="b"), movement("m1", other="c")])
def test_another_content_under_a_known_key_contradicts(log, other):
    """Amount, person or other side: nobody could say which of the two is right."""
    event_log.append(log, [[movement("m1")]])
    ((answer,),) = event_log.append(log, [[other]])
    assert answer.contradicts and event_log.read(log)[0].row["amount"] == "10.00"


def test_a_group_with_a_contradiction_leaves_nothing_and_touches_no_other_group(log):
    """Groups of different senders share a commit; one's mistake is not the others'."""
    event_log.append(log, [[movement("m1")]])
    good, bad, late = [movement("m2")], [movement("m3"), movement("m1", amount="5.00")], [movement("m4")]
    answers = event_log.append(log, [good, bad, late])
    assert [any(one.contradicts for one in group) for group in answers] == [False, True, False]
    assert keys(log) == ["m1", "m2", "m4"]


def test_a_failing_write_leaves_nothing_of_its_commit(log):
    """An error in the middle must not leave a part that somebody was not told of."""
    broken = replace(movement("m2"), row={"amount": object()})
    with pytest.raises(TypeError):
        event_log.append(log, [[movement("m1")], [broken]])
    assert keys(log) == []
    event_log.append(log, [[movement("m3")]])
    assert keys(log) == ["m3"], "the log must take the next one"


def test_what_is_read_back_is_what_came(log):
    """The raw row of an event from the log is that of the event itself, value by value."""
    event = movement("m1", other="x")
    event_log.append(log, [[event]])
    (held,) = event_log.read(log)
    assert event_log.raw_tables([held])["transactions"].equals(event_log.raw_tables([event])["transactions"])
    assert held.sha256 == event.sha256 and held.happened_at == event.happened_at


def test_the_time_of_receipt_is_ours_and_makes_no_other_event():
    """The same withdrawal sent twice is received twice."""
    row = {"event_id": "e", "purpose": "analytics", "action": "withdrawn", "effective_at": NOW, "actor": "self"}
    first = Event("consent_events", "e", "a", None, NOW, row | {"received_at": NOW, "is_capable_at_collection": True})
    again = replace(first, row=row | {"received_at": datetime(2026, 11, 3), "is_capable_at_collection": False})
    other = replace(first, row=first.row | {"action": "granted"})
    assert first.sha256 == again.sha256 != other.sha256


def test_no_identifier_and_no_stranger_can_open_it(log, tmp_path):
    """Pseudonyms only, in a file for its owner."""
    path = event_log.log_path(Settings(home=tmp_path / "home"))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    event_log.append(log, [[movement("m1")]])
    (content,) = log.execute("select content from events").fetchone()
    assert "customer_id" not in json.loads(content) and "counterparty_id" not in json.loads(content)


def test_new_pseudonyms_take_the_old_ones_places_and_a_replay_is_still_known(log):
    """After a rotation of keys a sender may send again what it sent before."""
    event_log.append(log, [[movement("m1", "old", other="side")], [movement("m2", "stays")]])
    changed = event_log.replace_tokens(log, lambda tokens: {"old": "new", "side": "other"}, 2)
    assert changed == 1
    assert event_log.replace_tokens(log, lambda tokens: dict.fromkeys(tokens, "again"), 2) == 0, "a rotation that goes on renews nothing twice"
    ((again,),) = event_log.append(log, [[movement("m1", "new", other="other")]])
    assert again.is_replay
