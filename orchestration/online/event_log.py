"""The log of accepted events: durable before they are acknowledged, kept until the deliveries bring them themselves.

An SQLite file under the home. Each row is one event under the person's pseudonym of zone raw, minimised as landing would:
the contract's columns without identifiers, typed, as JSON. An event is known by its entity and key: sent again with the same
content it is the same event, with other content it is refused. Nothing is changed; an erasure and the end of its retention
are the two things that remove a row.

Belongs here: writing, finding, removing rows. Does not belong here: judging events (`bodies`, `service`), landing them
(`receiving`).
"""

import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa

from orchestration.ingestion.contracts import load_contracts
from orchestration.lake import private_folder
from orchestration.settings import Settings

FEED = "online"
DDL = """
create table if not exists events (
    sequence integer primary key autoincrement,
    entity text not null,
    event_key text not null,
    subject_token text not null,
    counterparty_token text,
    accepted_at text not null,
    content_sha256 text not null,
    content text not null,
    unique (entity, event_key)
);
create index if not exists events_by_subject on events (subject_token);
"""
MOST_WAL_PAGES = 50_000  # 200 MB, if nobody ever folds back
_COLUMNS = "sequence, entity, event_key, subject_token, counterparty_token, accepted_at, content"


@dataclass(frozen=True)
class Event:
    """One event under its pseudonym. `row` has the columns of the raw table but tokens and provenance; times are UTC."""

    entity: str
    key: str
    subject_token: str
    counterparty_token: str | None
    accepted_at: datetime
    row: dict[str, Any]
    sequence: int = 0

    @property
    def content(self) -> str:
        """The row as JSON, the same text for the same row."""
        return json.dumps(self.row, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=_text)

    @property
    def sha256(self) -> str:
        """Fingerprint of what the source said, whoever it is about included; when it was received is not part of it."""
        said = {name: value for name, value in self.row.items() if name not in _OURS.get(self.entity, ())}
        told = [self.subject_token, self.counterparty_token, json.dumps(said, sort_keys=True, default=_text)]
        return sha256(json.dumps(told).encode()).hexdigest()

    @property
    def happened_at(self) -> datetime:
        """When it happened, UTC."""
        moment = self.row[str(load_contracts()[self.entity].event_time)]
        return datetime.fromisoformat(moment) if isinstance(moment, str) else moment

    @property
    def raw(self) -> dict[str, Any]:
        """The row as the raw table has it, provenance aside."""
        there = load_contracts()[self.entity].raw_columns()
        found = self.row | {"subject_token": self.subject_token, "counterparty_token": self.counterparty_token}
        return {name: found.get(name) for name in there if name not in ("feed", "load_id")}


# What the service may have added: two sendings of one event may differ in it.
_OURS = {"consent_events": ("received_at", "is_capable_at_collection")}


@dataclass(frozen=True)
class Accepted:
    """What became of one event: its place in the log, and whether it was there before or contradicts what was."""

    sequence: int
    is_replay: bool = False
    contradicts: bool = False


def _text(value: Any) -> str:
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError(type(value).__name__)


def log_path(settings: Settings) -> Path:
    """The log's file."""
    return settings.online_dir / "events.sqlite"


def has_events(settings: Settings) -> bool:
    """Whether a service ever accepted events in this home."""
    return log_path(settings).exists()


@contextmanager
def open_log(settings: Settings) -> Iterator[sqlite3.Connection]:
    """The log, made on first use. What is committed survives a loss of power (full synchronisation)."""
    path = log_path(settings)
    private_folder(path.parent)
    if not path.exists():
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)) as log:
        log.execute("pragma journal_mode = wal")
        log.execute("pragma synchronous = full")
        log.execute("pragma secure_delete = on")
        # Folding the log back costs as much as many commits, and whoever commits would wait for it: see `fold_back`.
        log.execute(f"pragma wal_autocheckpoint = {MOST_WAL_PAGES}")
        log.executescript(DDL)
        yield log


def fold_back(settings: Settings) -> None:
    """Write what was committed from the write-ahead log into the file, beside a writer and without holding him up.

    A passive checkpoint: https://www.sqlite.org/pragma.html#pragma_wal_checkpoint
    """
    with closing(sqlite3.connect(log_path(settings), timeout=30)) as log:
        log.execute("pragma wal_checkpoint(passive)")


def append(log: sqlite3.Connection, groups: Sequence[Sequence[Event]]) -> list[list[Accepted]]:
    """Append groups of events in one transaction that is on the disk when this returns; one answer per event, in order.

    Of a group in which an event contradicts one of the same key nothing is kept; the other groups are not touched by it.
    """
    answers = []
    log.execute("begin immediate")
    try:
        for events in groups:
            log.execute("savepoint of_group")
            found = [_append(log, event) for event in events]
            if any(one.contradicts for one in found):
                log.execute("rollback to of_group")
            log.execute("release of_group")
            answers.append(found)
        log.execute("commit")
    except BaseException:
        if log.in_transaction:
            log.execute("rollback")
        raise
    return answers


def _append(log: sqlite3.Connection, event: Event) -> Accepted:
    digest = event.sha256
    done = log.execute(
        "insert into events (entity, event_key, subject_token, counterparty_token, accepted_at, content_sha256, content) "
        "values (?, ?, ?, ?, ?, ?, ?) on conflict (entity, event_key) do nothing",
        (event.entity, event.key, event.subject_token, event.counterparty_token,
         event.accepted_at.isoformat(), digest, event.content),
    )  # fmt: skip
    if done.rowcount:
        return Accepted(int(done.lastrowid or 0))
    sequence, held = log.execute(
        "select sequence, content_sha256 from events where entity = ? and event_key = ?", (event.entity, event.key)
    ).fetchone()
    return Accepted(sequence, is_replay=held == digest, contradicts=held != digest)


def read(log: sqlite3.Connection, after: int = 0) -> list[Event]:
    """The events behind that sequence, in order."""
    return [_event(row) for row in log.execute(f"select {_COLUMNS} from events where sequence > ? order by sequence", (after,))]


def _event(row: tuple[Any, ...]) -> Event:
    sequence, entity, key, subject, counterparty, accepted, content = row
    return Event(entity, key, subject, counterparty, datetime.fromisoformat(accepted), json.loads(content), sequence)


def raw_tables(events: Iterable[Event]) -> dict[str, pa.Table]:
    """The events as rows of the raw tables, by entity; values are text, for whoever inserts them to cast."""
    rows: dict[str, list[dict[str, str | None]]] = {}
    for event in events:
        plain = {name: None if value is None else value if isinstance(value, str) else _as_text(value)
                 for name, value in event.raw.items()}  # fmt: skip
        rows.setdefault(event.entity, []).append(plain)
    return {
        entity: pa.table({name: pa.array([row[name] for row in found], pa.string()) for name in found[0]})
        for entity, found in rows.items()
    }


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value) if isinstance(value, float) else str(_plain(value))


def _plain(value: Any) -> Any:
    return value if isinstance(value, int) else _text(value)


def insert_sql(entity: str, source: str) -> str:
    """`insert into … ` of such a table into `raw`, typed; `source` is a relation, `$load` and `$feed` the provenance."""
    columns = load_contracts()[entity].raw_columns()
    given = {"feed": "$feed", "load_id": "$load"}
    picked = ", ".join(f"cast({given.get(name, 'arriving.' + name)} as {kind}) as {name}" for name, kind in columns.items())
    return f"insert into lake.raw.{entity} by name select {picked} from {source} as arriving"


def remove(log: sqlite3.Connection, sequences: Iterable[int]) -> None:
    """Take events out."""
    log.execute("begin immediate")
    log.executemany("delete from events where sequence = ?", [(sequence,) for sequence in sequences])
    log.execute("commit")


def replace_tokens(log: sqlite3.Connection, renewed: Callable[[set[str]], Mapping[str, str]], version: int) -> int:
    """Put new pseudonyms in place of old ones, in one transaction, and fingerprint what changed; returns how many events did.

    `renewed` says, of a set of pseudonyms, which are old and what stands in their place. `version` is the new keys': the log
    notes it in the same transaction, so that a rotation that goes on after a kill does not renew what is new.
    """
    if log.execute("pragma user_version").fetchone()[0] >= version:
        return 0
    events = read(log)
    tokens = {token for event in events for token in (event.subject_token, event.counterparty_token) if token}
    new = renewed(tokens)
    rows = []
    for event in events:
        other = event.counterparty_token
        subject, counterparty = new.get(event.subject_token, event.subject_token), new.get(other, other) if other else None
        if (subject, counterparty) != (event.subject_token, other):
            again = replace(event, subject_token=subject, counterparty_token=counterparty)
            rows.append((subject, counterparty, again.sha256, event.sequence))
    log.execute("begin immediate")
    log.executemany("update events set subject_token = ?, counterparty_token = ?, content_sha256 = ? where sequence = ?", rows)
    log.execute(f"pragma user_version = {int(version)}")
    log.execute("commit")
    return len(rows)
