"""The life of a request: an append-only log of states, in a small SQLite file apart from lake and vault.

received → verified → planned → applied → propagated → proven, or refused. `planned` decides what the law keeps,
`applied` means that no live row is left, `propagated` that every store has reported its bytes gone, `proven` that a
search of every file found nothing while it found somebody else. The log names a person by a hash of a keyed pseudonym
only. While a deletion is open, the customer's identifier and pseudonyms lie beside it, sealed under the master key, for
the search; the row goes with the proof.

Belongs here: the file, states, transitions, duplicates, pauses. Does not belong here: what a request does (`erasure`,
`access`), deadlines (`clocks`).
"""

import hashlib
import json
import os
import secrets
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestration.identity.keys import MasterKeys
from orchestration.identity.pseudonyms import person_tokens, zone_of
from orchestration.lake import private_folder
from orchestration.rights.clocks import Clock, clocks
from orchestration.rights.errors import RightsError, TransitionError, UnknownRequestError
from orchestration.settings import Settings

KINDS = ("deletion", "access", "correction", "portability", "opt_out")
STEPS = ("received", "verified", "planned", "applied", "propagated", "proven")
CLOSED = ("proven", "refused")
HASH_LABEL = "segline suppression:"
_NONCE_BYTES = 12
_IN_FORCE = "lifted_at is null and (until is null or until > ?)"
_DDL = """
create table if not exists request_events (
    seq integer primary key, request_id text not null, at text not null, state text not null, detail text not null
);
create index if not exists request_events_by_request on request_events (request_id);
create index if not exists request_events_by_subject on request_events (json_extract(detail, '$.subject'));
create trigger if not exists request_events_are_never_changed before update on request_events
    begin select raise(abort, 'the log of requests is append-only'); end;
create trigger if not exists request_events_are_never_deleted before delete on request_events
    begin select raise(abort, 'the log of requests is append-only'); end;
create table if not exists batch_events (
    seq integer primary key, batch_id text not null, at text not null, phase text not null, detail text not null
);
create trigger if not exists batch_events_are_never_changed before update on batch_events
    begin select raise(abort, 'the log of batches is append-only'); end;
create trigger if not exists batch_events_are_never_deleted before delete on batch_events
    begin select raise(abort, 'the log of batches is append-only'); end;
create table if not exists pending (request_id text primary key, sealed blob not null) without rowid;
create table if not exists suppressions (
    token_hash text primary key, zone text not null, subject_hash text not null, duty text, request_id text not null,
    since text not null
) without rowid;
create table if not exists holds (
    hold_id text primary key, subject_hash text not null, reason text not null, placed_by text not null,
    placed_at text not null, until text, lifted_by text, lifted_at text
) without rowid;
create table if not exists marks (name text primary key, value integer not null) without rowid;
"""


def now() -> datetime:
    """The present instant, naive UTC, whole seconds."""
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0)


def token_hash(value: str) -> str:
    """SHA-256 of a pseudonym, in hex: a keyed hash of the identifier, for the pseudonym is one (HMAC). Not the pseudonym.

    DuckDB computes the same: `sha256('segline suppression:' || token)`.
    """
    return hashlib.sha256((HASH_LABEL + value).encode()).hexdigest()


@dataclass(frozen=True)
class Subject:
    """A person as a request needs them: the identifier that the tenant uses, and the pseudonym of every zone."""

    customer: str
    tokens: dict[str, str]

    @classmethod
    def of(cls, keys: MasterKeys, customer: str) -> "Subject":
        """The person of that customer identifier. Raises `RightsError` if it is blank."""
        try:
            return cls(customer, dict(person_tokens(keys, customer)))
        except ValueError:
            raise RightsError("a blank identifier names nobody; write it as the source system does") from None

    @property
    def hash(self) -> str:
        """By which the log and the suppression list know the person."""
        return token_hash(self.tokens["raw"])

    @property
    def hashes(self) -> list[str]:
        """The same under every key that pseudonyms were ever made with: what was logged before a re-keying stays as it is."""
        return [token_hash(value) for name, value in self.tokens.items() if zone_of(name) == "raw"]


@dataclass
class Request:
    """A request as its log tells it. `state` is a step or `refused`; `events` are (instant, state, detail)."""

    request_id: str
    kind: str
    subject_hash: str
    received_at: datetime
    source: str
    state: str = "received"
    is_paused: bool = False
    paused: timedelta = timedelta(0)
    paused_since: datetime | None = None
    closed_at: datetime | None = None
    events: list[tuple[datetime, str, dict[str, Any]]] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        """Whether something is still to be done."""
        return self.state not in CLOSED

    def detail(self, state: str) -> dict[str, Any]:
        """What the log says of the newest event of that name; empty if there is none."""
        return next((detail for _, name, detail in reversed(self.events) if name == state), {})

    def instant_of(self, state: str) -> datetime | None:
        """When the newest event of that name was noted; `None` if there is none."""
        return next((instant for instant, name, _ in reversed(self.events) if name == state), None)

    def clocks(self, moment: datetime) -> tuple[Clock, Clock]:
        """Own and statutory clock at an instant; both stand still once the request is closed."""
        end = self.closed_at or moment
        standing = end - self.paused_since if self.paused_since else timedelta(0)
        return clocks(self.kind, self.received_at, self.paused + standing, end)


class RightsLog:
    """The log, the suppression list and the holds of one home."""

    def __init__(self, store: sqlite3.Connection) -> None:
        self.store = store

    # requests

    def open(self, kind: str, subject: Subject, keys: MasterKeys, source: str, received_at: datetime | None = None) -> Request:
        """Record a request, or join it to the open one of the same kind and person, which is returned instead."""
        if kind not in KINDS:
            raise RightsError(f"{kind!r} is no kind of request: {', '.join(KINDS)}")
        moment = now()
        received_at = min(received_at or moment, moment)
        with self.transaction():
            for request in self.of_subject(*subject.hashes):
                if request.kind == kind and request.is_open:
                    self.note(request.request_id, "duplicate_joined", {"source": source, "received_at": received_at.isoformat()})
                    return self.get(request.request_id)
            request_id = f"RR-{received_at:%Y%m%d}-{secrets.token_hex(4)}"
            self.note(
                request_id,
                "received",
                {"kind": kind, "subject": subject.hash, "source": source, "received_at": received_at.isoformat()},
            )
            text = json.dumps({"customer": subject.customer, "tokens": subject.tokens}).encode()
            nonce = os.urandom(_NONCE_BYTES)
            sealed = nonce + AESGCM(keys.kek).encrypt(nonce, text, request_id.encode())
            self.store.execute("insert into pending values (?, ?)", [request_id, sealed])
        return self.get(request_id)

    def note(self, request_id: str, state: str, detail: dict[str, Any] | None = None) -> None:
        """Append an event. `detail` must hold no identifier and no pseudonym."""
        self.store.execute(
            "insert into request_events (request_id, at, state, detail) values (?, ?, ?, ?)",
            [request_id, now().isoformat(), state, json.dumps(detail or {}, default=str)],
        )

    def note_batch(self, batch_id: str, phase: str, detail: dict[str, Any]) -> None:
        """Append what became of a batch as a whole, store by store."""
        self.store.execute(
            "insert into batch_events (batch_id, at, phase, detail) values (?, ?, ?, ?)",
            [batch_id, now().isoformat(), phase, json.dumps(detail, default=str)],
        )

    def batch(self, batch_id: str) -> dict[str, dict[str, Any]]:
        """What the log says of a batch, by phase; the newest counts."""
        rows = self.store.execute("select phase, detail from batch_events where batch_id = ? order by seq", [batch_id])
        return {phase: json.loads(detail) for phase, detail in rows.fetchall()}

    def advance(self, request: Request, state: str, detail: dict[str, Any] | None = None) -> None:
        """Move a request one step on, or refuse it. Going over a step again after a crash is allowed, leaving one out is not."""
        if state == "refused":
            allowed = request.is_open and request.state in ("received", "verified", "planned")
        else:
            reached = STEPS.index(request.state) if request.state in STEPS else len(STEPS)
            allowed = request.is_open and not request.is_paused and STEPS.index(state) <= reached + 1
        if not allowed:
            paused = " (paused)" if request.is_paused else ""
            raise TransitionError(f"{request.request_id} is {request.state}{paused}; it cannot become {state}")
        if state == "refused" or STEPS.index(state) > STEPS.index(request.state):
            self.note(request.request_id, state, detail)
            request.state = state
            request.events.append((now(), state, detail or {}))
        if state in CLOSED:
            self.store.execute("delete from pending where request_id = ?", [request.request_id])

    def pause(self, request_id: str, reason: str) -> None:
        """Stand still, for example while the person is asked to prove who they are."""
        request = self.get(request_id)
        if not request.is_open or request.is_paused or STEPS.index(request.state) > STEPS.index("verified"):
            raise TransitionError(f"{request_id} is {request.state}; only a request that nothing was done for can be paused")
        self.note(request_id, "paused", {"reason": reason})

    def resume(self, request_id: str) -> None:
        """Go on after a pause."""
        request = self.get(request_id)
        if not request.is_paused or not request.is_open:
            raise TransitionError(f"{request_id} is not paused")
        self.note(request_id, "resumed")

    def get(self, request_id: str) -> Request:
        """One request. Raises `UnknownRequestError`."""
        found = self._fold("where request_id = ?", [request_id])
        if not found:
            raise UnknownRequestError(f"there is no request {request_id}: `segline rights status` lists them")
        return found[0]

    def all(self) -> list[Request]:
        """Every request, oldest first."""
        return self._fold("", [])

    def of_subject(self, *subject_hashes: str) -> list[Request]:
        """The requests of one person, by any of the hashes."""
        marks = ", ".join("?" for _ in subject_hashes)
        named = f"select request_id from request_events where json_extract(detail, '$.subject') in ({marks})"
        where = f"where request_id in ({named})"
        return self._fold(where, subject_hashes)

    def open_requests(self, kind: str) -> list[Request]:
        """Requests of a kind that are not closed."""
        return [request for request in self.all() if request.kind == kind and request.is_open]

    def _fold(self, where: str, values: Sequence[Any]) -> list[Request]:
        requests: dict[str, Request] = {}
        rows = self.store.execute(f"select request_id, at, state, detail from request_events {where} order by seq", values)
        for request_id, at, state, text in rows.fetchall():
            moment, detail = datetime.fromisoformat(at), json.loads(text)
            if state == "received":
                received_at = datetime.fromisoformat(detail["received_at"])
                requests[request_id] = Request(request_id, detail["kind"], detail["subject"], received_at, detail["source"])
            request = requests[request_id]
            request.events.append((moment, state, detail))
            if state == "paused":
                request.is_paused, request.paused_since = True, moment
            elif state == "resumed":
                request.paused += moment - (request.paused_since or moment)
                request.is_paused, request.paused_since = False, None
            elif state in STEPS or state == "refused":
                request.state = state
                request.closed_at = moment if state in CLOSED else None
        return list(requests.values())

    def subject(self, request: Request, keys: MasterKeys) -> Subject:
        """Whom an open request is about. Raises `RightsError` if the master key does not open the entry."""
        row = self.store.execute("select sealed from pending where request_id = ?", [request.request_id]).fetchone()
        if row is None:
            raise TransitionError(f"{request.request_id} is {request.state}: it no longer says whom it was about")
        nonce, sealed = row[0][:_NONCE_BYTES], row[0][_NONCE_BYTES:]
        try:
            fields = json.loads(AESGCM(keys.kek).decrypt(nonce, sealed, request.request_id.encode()))
        except InvalidTag:
            raise RightsError(
                f"{request.request_id} does not open with this master key, or was altered: restore the key file that belongs "
                "to this home"
            ) from None
        return Subject(**fields)

    # legal holds

    def hold(self, subject_hash: str, reason: str, placed_by: str, until: datetime | None) -> str:
        """Keep everything of a person until an instant, or until lifted, whatever they ask for; returns the hold's id."""
        hold_id = f"hold-{secrets.token_hex(6)}"
        self.store.execute(
            "insert into holds values (?, ?, ?, ?, ?, ?, null, null)",
            [hold_id, subject_hash, reason, placed_by, now().isoformat(), until and until.isoformat()],
        )
        return hold_id

    def lift(self, hold_id: str, lifted_by: str) -> bool:
        """End one hold; whether it was in force."""
        return self._lift("hold_id", hold_id, lifted_by)

    def release(self, subject_hash: str, lifted_by: str = "") -> bool:
        """End a person's holds; whether there was one."""
        return self._lift("subject_hash", subject_hash, lifted_by)

    def _lift(self, column: str, value: str, lifted_by: str) -> bool:
        lifted = self.store.execute(
            f"update holds set lifted_by = ?, lifted_at = ? where {column} = ? and lifted_at is null",
            [lifted_by, now().isoformat(), value],
        )
        return bool(lifted.rowcount)

    def hold_on(self, subject_hash: str, moment: datetime) -> tuple[str, str | None] | None:
        """Reason and end (None until lifted) of the hold in force that ends last."""
        return self.store.execute(
            f"select reason, until from holds where subject_hash = ? and {_IN_FORCE} order by until is null desc, until desc",
            [subject_hash, moment.isoformat()],
        ).fetchone()

    def held_on(self, moment: datetime) -> list[str]:
        """The hash of every person on whom a hold is in force."""
        rows = self.store.execute(f"select distinct subject_hash from holds where {_IN_FORCE}", [moment.isoformat()])
        return [row[0] for row in rows.fetchall()]

    # the file

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; inside another one it is part of that."""
        if self.store.in_transaction:
            yield
            return
        self.store.execute("begin immediate")
        try:
            yield
        except BaseException:
            self.store.execute("rollback")
            raise
        self.store.execute("commit")

    def compact(self) -> None:
        """Leave nothing of deleted rows in the file or beside it."""
        self.store.execute("vacuum")
        self.store.execute("pragma wal_checkpoint(truncate)")


@contextmanager
def open_log(settings: Settings) -> Iterator[RightsLog]:
    """The log of a home, made on first use."""
    path = private_folder(settings.rights_dir) / "rights.sqlite"
    path.touch(mode=0o600, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as store:
        store.execute("pragma journal_mode = wal")
        store.execute("pragma secure_delete = on")
        store.executescript(_DDL)
        yield RightsLog(store)


def has_log(settings: Settings) -> bool:
    """Whether anybody ever made a request here; without one nothing has to be looked up."""
    return (settings.rights_dir / "rights.sqlite").exists()
