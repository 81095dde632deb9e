"""The intake of opt-outs: durable at once, whoever is writing to the lake.

An opt-out needs no proof of identity (11 CCR 7060(b); consent may be withdrawn as easily as given, GDPR art. 7(3)), so it
is taken as it comes. It is kept in an SQLite file of its own, outside the run lock; each row holds the person's three
pseudonyms and never the customer identifier. Rows are only added; erasing a person is the one thing that removes one.

Belongs here: recording opt-outs, from a call or from dropped files. Does not belong here: carrying them out (`opt_out`).
"""

import csv
import hashlib
import os
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from orchestration.identity.keys import MasterKeys, load_keys
from orchestration.identity.pseudonyms import person_tokens, tokens_by_zone
from orchestration.identity.split import drop_tables, tokenise
from orchestration.lake import private_folder
from orchestration.settings import Settings

REQUEST_ID = re.compile(r"[A-Za-z0-9._:\-]{1,80}")
FILE_COLUMNS = ("customer_id", "request_id", "received_at")
MAX_FILE_BYTES = 50_000_000
DDL = """
create table if not exists opt_outs (
    request_id text primary key,
    subject_token text not null,
    risk_subject_token text not null,
    audience_subject_token text not null,
    received_at text not null,
    arrived_at text not null,
    source text not null
) without rowid
"""


class OptOutError(ValueError):
    """An opt-out that cannot be recorded as given; the message names no customer."""


@dataclass(frozen=True)
class OptOut:
    """One opt-out as it comes in: the tenant's customer identifier (never stored), times in UTC without zone.

    `received_at` is when the person asked, `arrived_at` when it reached the platform; neither may lie in the future: what
    does is taken as now. `request_id` is made from the person and the time where the source gives none.
    """

    customer: str
    source: str
    request_id: str | None = None
    received_at: datetime | None = None
    arrived_at: datetime | None = None


@dataclass(frozen=True)
class Receipt:
    """What the person may be told: the request's identifier, when it counts from, and whether it was known already."""

    request_id: str
    received_at: datetime
    is_new: bool


@dataclass
class FileIntake:
    """What came in dropped files: opt-outs recorded, and rows refused by reason, without any value."""

    files: int = 0
    recorded: int = 0
    refused: list[str] = field(default_factory=list)


def intake_path(settings: Settings) -> Path:
    """The intake's file."""
    return settings.root / "rights" / "opt_outs.sqlite"


def intake_folder(settings: Settings) -> Path:
    """Where files of opt-outs are dropped. Beside the home, not in it: they hold plain identifiers, the home never does."""
    return settings.root.parent / f"{settings.root.name}-intake" / "opt_outs"


@contextmanager
def open_intake(settings: Settings) -> Iterator[sqlite3.Connection]:
    """The intake, made on first use. What is committed survives a loss of power (full synchronisation)."""
    path = intake_path(settings)
    private_folder(path.parent)
    path.touch(mode=0o600, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as intake:
        intake.execute("pragma synchronous = full")
        intake.execute("pragma secure_delete = on")
        intake.execute(DDL)
        yield intake


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _not_later(moment: datetime | None, now: datetime) -> datetime:
    """In UTC without zone, and not in the future: a wrong clock must not put an opt-out off."""
    if moment is None:
        return now
    plain = moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
    return min(plain, now)


def record_opt_outs(settings: Settings, opt_outs: Sequence[OptOut]) -> list[Receipt]:
    """Record opt-outs, all or none; the same request twice is recorded once.

    Raises `OptOutError` for a blank customer, a request id that is no identifier, or one that is another person's already.
    """
    if not opt_outs:
        return []
    now = _now()
    names = pa.array([one.customer for one in opt_outs], pa.string())
    zones = [column.to_pylist() for column in tokens_by_zone(load_keys(settings), ["raw", "risk", "audience"], names)]
    rows = []
    for one, *tokens in zip(opt_outs, *zones, strict=True):
        if None in tokens:
            raise OptOutError("an opt-out names no customer: give the customer identifier as the source system writes it")
        received, arrived = _not_later(one.received_at, now), _not_later(one.arrived_at, now)
        made = hashlib.sha256(f"{tokens[0]}|{received.isoformat()}".encode()).hexdigest()[:24]
        request_id = one.request_id or f"optout-{made}"
        if not REQUEST_ID.fullmatch(request_id):
            raise OptOutError("a request id has 1 to 80 letters, digits or . _ : - and nothing else")
        rows.append((request_id, *tokens, received.isoformat(" "), arrived.isoformat(" "), one.source))
    receipts = []
    with open_intake(settings) as intake:
        intake.execute("begin immediate")
        try:
            for row in rows:
                added = intake.execute("insert or ignore into opt_outs values (?, ?, ?, ?, ?, ?, ?)", row).rowcount
                held = intake.execute("select subject_token, received_at from opt_outs where request_id = ?", row[:1])
                token, received_text = held.fetchone()
                if token != row[1]:
                    raise OptOutError(f"the request {row[0]} is on record for another person; give it another id")
                receipts.append(Receipt(row[0], datetime.fromisoformat(received_text), bool(added)))
            intake.execute("commit")
        except BaseException:
            intake.execute("rollback")
            raise
    return receipts


def record_opt_out(
    settings: Settings,
    customer: str,
    source: str = "command_line",
    request_id: str | None = None,
    received_at: datetime | None = None,
) -> Receipt:
    """Record one opt-out; errors as `record_opt_outs`. An unknown customer is recorded like any other."""
    return record_opt_outs(settings, [OptOut(customer, source, request_id, received_at)])[0]


def read_opt_outs(settings: Settings) -> pa.Table:
    """Every opt-out on record: request_id, the three tokens, received_at and arrived_at (timestamps), source."""
    names = ("request_id", "subject_token", "risk_subject_token", "audience_subject_token", "received_at", "arrived_at", "source")
    rows: list[tuple[str, ...]] = []
    if intake_path(settings).exists():
        with open_intake(settings) as intake:
            rows = intake.execute(f"select {', '.join(names)} from opt_outs order by request_id").fetchall()
    columns = list(zip(*rows, strict=True)) or [()] * len(names)
    table = pa.table({name: pa.array(values, pa.string()) for name, values in zip(names, columns, strict=True)})
    for name in ("received_at", "arrived_at"):
        moments = [datetime.fromisoformat(text) for text in table[name].to_pylist()]
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(moments, pa.timestamp("us")))
    return table


def renew_opt_outs(settings: Settings, keys: MasterKeys, connection: duckdb.DuckDBPyConnection, subjects: str) -> int:
    """Give opt-outs that were made under a retired key their person's pseudonyms of today; returns how many.

    Somebody may opt out before being a customer: at a re-keying the intake cannot say who that was, a later delivery can.
    `subjects` is a temporary table (value, token) of the delivered customers' identifiers.
    """
    if not keys.retired or not intake_path(settings).exists():
        return 0
    held = read_opt_outs(settings)
    if not held.num_rows:
        return 0
    renewed = 0
    connection.register("opt_outs_held", held.select(["subject_token"]))
    try:
        for past in keys.generations[1:]:
            name = tokenise(connection, subjects, "value", "raw", past, "opt_outs_past")
            rows = connection.execute(
                f"select distinct past.token, past.value from {name} as past "
                "inner join opt_outs_held as held on held.subject_token = past.token"
            ).fetchall()
            drop_tables(connection, name)
            renewed += replace_tokens(settings, [(old, person_tokens(keys, customer)) for old, customer in rows])
    finally:
        connection.unregister("opt_outs_held")
    return renewed


def replace_tokens(settings: Settings, persons: Iterable[tuple[str, dict[str, str]]]) -> int:
    """Put a person's pseudonyms (by zone) in place of the old one of zone raw, in one transaction; returns how many rows."""
    if not intake_path(settings).exists():
        return 0
    with open_intake(settings) as intake:
        intake.execute("begin immediate")
        changed = sum(
            intake.execute(
                "update opt_outs set subject_token = ?, risk_subject_token = ?, audience_subject_token = ? "
                "where subject_token = ?",
                [tokens["raw"], tokens["risk"], tokens["audience"], old],
            ).rowcount
            for old, tokens in persons
        )
        intake.execute("commit")
    return changed


def take_in_files(settings: Settings) -> FileIntake:
    """Record what the dropped files hold and delete them, for they name customers.

    A file is CSV with a header: customer_id, and if known request_id and received_at (ISO 8601). Write it under a name
    that starts with a dot or ends in .part, and rename it when it is whole. Rows that cannot be recorded stay behind in a
    file that ends in .refused; the others count none the less.
    """
    done = FileIntake()
    folder = intake_folder(settings)
    if not folder.is_dir():
        return done
    for path in sorted(folder.glob("*.csv")):
        if path.name.startswith("."):
            continue
        done.files += 1
        _take_in(settings, path, done)
    return done


def _take_in(settings: Settings, path: Path, done: FileIntake) -> None:
    if path.stat().st_size > MAX_FILE_BYTES:
        _set_aside(path, done, f"larger than {MAX_FILE_BYTES // 1_000_000} MB: split it")
        return
    arrived = datetime.fromtimestamp(path.stat().st_mtime, UTC).replace(tzinfo=None)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            rows = list(reader)
            header = reader.fieldnames or []
    except (UnicodeDecodeError, csv.Error):
        _set_aside(path, done, "no readable CSV in UTF-8")
        return
    if "customer_id" not in header or set(header) - set(FILE_COLUMNS):
        _set_aside(path, done, f"the columns must be customer_id and, if known, {' and '.join(FILE_COLUMNS[1:])}")
        return
    refused, good = [], []
    for number, row in enumerate(rows, start=2):
        try:
            if None in row or None in row.values():
                raise OptOutError("wrong number of columns")
            moment = datetime.fromisoformat(row["received_at"]) if row.get("received_at") else arrived
            good.append((number, row, OptOut(row["customer_id"], "file", row.get("request_id") or None, moment, arrived)))
        except ValueError as error:
            message = str(error) if isinstance(error, OptOutError) else "received_at is no ISO 8601 time"
            refused.append((number, row, message))
    try:
        receipts = record_opt_outs(settings, [one for _, _, one in good])
    except OptOutError:  # one of them is wrong: the others must not wait for it
        receipts = []
        for number, row, one in good:
            try:
                receipts += record_opt_outs(settings, [one])
            except OptOutError as error:
                refused.append((number, row, str(error)))
    done.recorded += sum(receipt.is_new for receipt in receipts)
    if refused:
        left = path.with_name(f"{path.name}.refused")
        with left.open("w", encoding="utf-8", newline="") as stream:
            os.fchmod(stream.fileno(), 0o600)
            writer = csv.writer(stream)
            writer.writerow(header)
            writer.writerows([row.get(name) for name in header] for _, row, _ in refused)
        done.refused += [f"{path.name}, line {number}: {message}" for number, _, message in sorted(refused, key=_line)]
    path.unlink()


def _line(refused: tuple[int, dict, str]) -> int:
    return refused[0]


def _set_aside(path: Path, done: FileIntake, message: str) -> None:
    path.rename(path.with_name(f"{path.name}.refused"))
    done.refused.append(f"{path.name}: {message}")
