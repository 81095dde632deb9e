"""Accepted events on their way into the book: each landing puts those that are due beside what was delivered.

A delivery replaces the raw tables, so an event is put there again by every landing until a delivery brings it itself. Then the
delivered row counts, and the event is a duplicate. Events later than the delivery's `as_of` wait for a later one. What the
retention policy takes out of the raw tables goes out of the log too.

Belongs here: from the log to `raw`, and what leaves the log. Does not belong here: accepting events (`service`).
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from orchestration.ingestion.contracts import load_contracts
from orchestration.lake import transaction
from orchestration.online.book import held_keys
from orchestration.online.event_log import FEED, Event, has_events, insert_sql, open_log, raw_tables, read, remove
from orchestration.rights.duties import duties
from orchestration.rights.requests import token_hash
from orchestration.rights.retention_policy import load_rules, rules_for
from orchestration.rights.suppression import entries
from orchestration.settings import Settings

RETAINED = "online.events"


@dataclass(frozen=True)
class Received:
    """What became of the log's events at one landing, by entity: `kept` went to raw, `delivered` were there already,
    `quarantined` are about nobody in the book, or withheld; `not_due` lie behind the delivery's instant; `read_up_to` is the last
    sequence that was looked at."""

    kept: Counter[str]
    delivered: Counter[str]
    quarantined: Counter[str]
    not_due: Counter[str]
    read_up_to: int = 0


def add_received_events(
    connection: duckdb.DuckDBPyConnection, settings: Settings, as_of: datetime, run_id: str
) -> Received | None:
    """Put the events that are due into the raw tables, in one transaction with their reconciliation; `None` without a log."""
    if not has_events(settings):
        return None
    with open_log(settings) as log:
        events = read(log)
    due = [event for event in events if event.happened_at <= as_of]
    later = Counter(event.entity for event in events if event.happened_at > as_of)
    received = Received(Counter(), Counter(), Counter(), later, max((event.sequence for event in events), default=0))
    book = held_keys(connection, "customers", "subject_token", {event.subject_token for event in due})
    with transaction(connection):
        for entity, mine in _by_entity(due).items():
            key = load_contracts()[entity].key
            held = held_keys(connection, entity, key, {event.key for event in mine})
            fresh = [event for event in mine if event.key not in held]
            known = [event for event in fresh if event.subject_token in book]
            if known:
                _insert(connection, settings, entity, known, run_id)
            landed = len(held_keys(connection, entity, key, {event.key for event in known}))
            received.delivered[entity] = len(mine) - len(fresh)
            received.kept[entity] = landed
            received.quarantined[entity] = len(fresh) - landed
        _record(connection, received, run_id)
    return received


def forget_past(connection: duckdb.DuckDBPyConnection, settings: Settings, as_of: datetime, received: Received | None) -> int:
    """Take out of the log what has had its time; after the landing's retention. Returns how many events went.

    That is whatever is due, about somebody in the book, and not in `raw` (any more), and what is about nobody in the book for
    longer than the policy keeps it. What `received` did not look at stays: it came in between.
    """
    if received is None:
        return 0
    keep = max(rule.keep for rule in rules_for(load_rules(settings.profile), RETAINED))
    oldest = datetime.now(UTC).replace(tzinfo=None) - keep
    with open_log(settings) as log:
        due = [event for event in read(log) if event.happened_at <= as_of and event.sequence <= received.read_up_to]
        book = held_keys(connection, "customers", "subject_token", {event.subject_token for event in due})
        gone = []
        for entity, mine in _by_entity(due).items():
            held = held_keys(connection, entity, load_contracts()[entity].key, {event.key for event in mine})
            for event in mine:
                is_past = event.key not in held if event.subject_token in book else event.accepted_at < oldest
                if is_past:
                    gone.append(event.sequence)
        remove(log, gone)
    return len(gone)


def _by_entity(events: Iterable[Event]) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = {}
    for event in events:
        found.setdefault(event.entity, []).append(event)
    return found


def _insert(connection: duckdb.DuckDBPyConnection, settings: Settings, entity: str, events: list[Event], run_id: str) -> None:
    """Insert but for rows that a suppression withholds: of whom a duty keeps a part, only that part."""
    suppressed = {digest: duty for digest, zone, duty in entries(settings) if zone == "raw"}
    groups: dict[str | None, list[Event]] = {}
    for event in events:
        digest = token_hash(event.subject_token)
        duty = suppressed.get(digest)
        if duty or digest not in suppressed:
            groups.setdefault(duty, []).append(event)
    for duty, mine in groups.items():
        kept = next((one.kept("raw", entity) for one in duties() if one.duty == duty), True)
        if kept is False:
            continue
        connection.register("arriving_events", raw_tables(mine)[entity])
        condition = "" if kept is True else f" where coalesce({kept}, false)"
        connection.execute(insert_sql(entity, "arriving_events") + condition, {"feed": FEED, "load": run_id})
        connection.unregister("arriving_events")


def _record(connection: duckdb.DuckDBPyConnection, received: Received, run_id: str) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    for entity in sorted({*received.kept, *received.not_due}):
        kept, duplicates, quarantined = (
            counter[entity] for counter in (received.kept, received.delivered, received.quarantined)
        )
        read_rows, excluded = kept + duplicates + quarantined, received.not_due[entity]
        share = quarantined / read_rows if read_rows else 0.0
        connection.execute(
            "insert into lake.ops.reconciliation (run_id, feed, entity, rows_in_file, rows_excluded, rows_read, rows_kept, "
            f"duplicates, quarantined, quarantined_share, landed_at) values ({', '.join('?' * 11)})",
            [run_id, f"{FEED}:{entity}", entity, read_rows + excluded, excluded, read_rows, kept, duplicates, quarantined, share,
             now],
        )
