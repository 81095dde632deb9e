"""Accepted events on their way: into the book at every landing, out of the log with their person or their time."""

from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from orchestration.lake import open_lake
from orchestration.online import event_log
from orchestration.online.event_log import Event
from orchestration.online.receiving import add_received_events, forget_past
from orchestration.rights import receiving
from orchestration.rights.stores import unnamed_files
from tests.unit.rights.conftest import AS_OF, Home, apply

NOW = datetime(2026, 11, 1, 9)


def movement(home: Home, key: str, customer: str, happened: datetime = AS_OF - timedelta(days=1), other: str | None = None) -> Event:
    row = {
        "transaction_id": key, "booked_at": happened, "direction": "credit", "amount": Decimal("12.30"), "currency": "EUR",
        "payment_method": "cash", "channel": None, "counterparty_country": None, "category": None,
    }  # fmt: skip
    tokens = [home.subject(name).tokens["raw"] if name else None for name in (customer, other)]
    return Event("transactions", key, str(tokens[0]), tokens[1], NOW, row)


def accept(home: Home, *events: Event) -> None:
    with event_log.open_log(home.settings) as log:
        event_log.append(log, [[event] for event in events])


def logged(home: Home) -> list[str]:
    with event_log.open_log(home.settings) as log:
        return [event.key for event in event_log.read(log)]


def landed(home: Home, run_id: str = "online"):
    with open_lake(home.settings) as connection:
        received = add_received_events(connection, home.settings, AS_OF, run_id)
        return received, forget_past(connection, home.settings, AS_OF, received)


def held(home: Home, *keys: str) -> list[tuple]:
    return home.rows(
        "select transaction_id, amount, feed, load_id from lake.raw.transactions where list_contains(?, transaction_id) order by 1",
        list(keys),
    )


def test_every_landing_puts_due_events_into_the_book_and_accounts_for_all(retail):
    """A delivery replaces the raw tables: what it does not bring must be put there again, and counts reconcile."""
    people = [row["customer_id"] for row in retail.customers()[:3]]
    (delivered,) = retail.rows("select transaction_id, subject_token from lake.raw.transactions limit 1")
    again = Event("transactions", delivered[0], delivered[1], None, NOW, movement(retail, "x", people[0]).row)
    accept(
        retail, movement(retail, "o1", people[0]), movement(retail, "o2", people[1]), again,
        movement(retail, "later", people[0], AS_OF + timedelta(seconds=1)), movement(retail, "o3", "nobody-here"),
    )  # fmt: skip
    for run in ("one", "two"):
        retail.land(run)
        received, _ = landed(retail, run)
        assert held(retail, "o1", "o2", "o3", "later") == [(key, Decimal("12.30"), "online", run) for key in ("o1", "o2")]
        assert (received.kept["transactions"], received.delivered["transactions"]) == (2, 1)
        assert (received.quarantined["transactions"], received.not_due["transactions"]) == (1, 1)
        (row,) = retail.rows(
            "select rows_in_file, rows_excluded, rows_read, rows_kept, duplicates, quarantined from lake.ops.reconciliation "
            "where run_id = ? and feed = 'online:transactions'",
            run,
        )
        assert row == (5, 1, 4, 2, 1, 1)
    assert len(held(retail, delivered[0])) == 1, "the delivered row counts, once"


def test_what_has_had_its_time_leaves_the_log_too_and_nothing_else_does(retail):
    """A log that outlives the retention of what it holds would be the way around it."""
    people = [row["customer_id"] for row in retail.customers()[:2]]
    accept(retail, movement(retail, "kept", people[0]), movement(retail, "expired", people[1]), movement(retail, "unknown", "nobody"))
    with open_lake(retail.settings) as connection:
        received = add_received_events(connection, retail.settings, AS_OF, "run")
        connection.execute("delete from lake.raw.transactions where transaction_id = 'expired'")  # as the retention policy does
        accept(retail, movement(retail, "between", people[0]))
        assert forget_past(connection, retail.settings, AS_OF, received) == 1
    assert logged(retail) == ["kept", "unknown", "between"]


def test_an_event_of_nobody_is_kept_as_long_as_the_policy_says(retail):
    """Acknowledged is acknowledged: a delivery may be late with its customer, but not for ever."""
    old = movement(retail, "old", "nobody")
    accept(retail, Event(old.entity, "old", old.subject_token, None, datetime(2020, 1, 1), old.row), movement(retail, "new", "nobody"))
    with event_log.open_log(retail.settings) as log:
        log.execute("update events set accepted_at = ? where event_key = 'new'", [datetime.now().isoformat()])
    landed(retail)
    assert logged(retail) == ["new"]


def test_an_erased_persons_events_go_with_her_and_her_name_leaves_other_peoples(retail):
    """Deletion is complete: a log of events is a place like any other, and a search finds nothing afterwards."""
    victim, other = (row["customer_id"] for row in retail.customers()[:2])
    accept(retail, movement(retail, "hers", victim), movement(retail, "his", other, other=victim))
    assert not unnamed_files(retail.settings)
    receiving.receive(retail.settings, retail.keys, victim, "deletion", "test", "officer")
    applied = apply(retail)
    assert applied.requests[-1].state == "proven"
    with event_log.open_log(retail.settings) as log:
        (left,) = event_log.read(log)
    assert left.key == "his" and left.counterparty_token is None
    token = retail.subject(victim).tokens["raw"].encode()
    assert all(token not in path.read_bytes() for path in retail.settings.online_dir.iterdir())


def test_of_somebody_whom_a_duty_keeps_only_what_it_keeps_is_landed(bank):
    """A bank keeps movements after a deletion, and no web visits or consents of hers."""
    customer = bank.customers()[0]["customer_id"]
    receiving.receive(bank.settings, bank.keys, customer, "deletion", "test", "officer")
    apply(bank)
    row = {"response_id": "s1", "survey_id": None, "question_type": "nps", "score": 3.0, "responded_at": AS_OF - timedelta(days=2)}
    answer = Event("survey_feedback", "s1", bank.subject(customer).tokens["raw"], None, NOW, row)
    accept(bank, movement(bank, "m1", customer), answer)
    bank.land("after")
    received, _ = landed(bank, "after")
    assert len(held(bank, "m1")) == 1
    assert received.quarantined["survey_feedback"] == 1
    assert bank.rows("select * from lake.raw.survey_feedback where response_id = 's1'") == []


@pytest.mark.parametrize("reading", [add_received_events])
def test_a_home_without_a_service_is_left_alone(retail, reading):
    """No log, no table, no row."""
    with open_lake(retail.settings) as connection:
        assert reading(connection, retail.settings, AS_OF, "run") is None
        assert forget_past(connection, retail.settings, AS_OF, None) == 0
    assert not event_log.has_events(retail.settings)
