"""Anchoring: copies of checkpoints where the operator cannot take them back.

A signed head proves nothing against who has the key and the store: he can cut the ledger short, or write it anew. Heads that
somebody else holds can be compared with. So each checkpoint goes to whatever targets the settings name, after every
publication and again at least every `anchor_hours`; a target that has not taken one for longer raises an alarm.

| setting | target |
|---|---|
| `SEGLINE_ANCHOR_FOLDER` | a folder on another mount, object lock or write-once; it must be there, it is never made |
| `SEGLINE_ANCHOR_WEBHOOK` | a URL that takes the note by POST and answers 2xx |
| `SEGLINE_ANCHOR_EMAIL` | the auditor's address, by the server in `SEGLINE_ANCHOR_SMTP` (`smtp://user:password@host:port`) |
| `SEGLINE_ANCHOR_TIMESTAMP_URL` | an RFC 3161 authority; its token is kept as the receipt (needs the extra `timestamp`) |

Belongs here: sending, remembering, telling what is overdue. Does not belong here: comparing heads with the ledger
(`verification`), when it happens (`defs`).
"""

import base64
import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

from orchestration.lake import table_exists, transaction
from orchestration.ledger.checkpoint import Checkpoint, parse
from orchestration.ledger.errors import LedgerError
from orchestration.ledger.store import Head, newest_head, stored_tree
from orchestration.settings import Settings

DDL = (
    "create table if not exists lake.ops.ledger_anchors (tree_size bigint, target varchar, anchored_at timestamp, "
    "receipt varchar)"
)
SECONDS = 15
NO_TARGET = (
    "no anchor target is configured: that the ledger was cut short, or written anew with its key, would go unseen "
    "(docs/ledger.md, set SEGLINE_ANCHOR_FOLDER for example)"
)


class AnchorError(LedgerError):
    """A target did not take the checkpoint; the message says how to mend it and holds no password."""


@dataclass(frozen=True)
class Outcome:
    """What became of one target: a receipt, or what went wrong."""

    target: str
    receipt: str | None
    error: str | None = None


Sender = Callable[[str, Checkpoint], str]


def targets(settings: Settings) -> dict[str, Sender]:
    """The configured targets by name, each a function from a signed note to a receipt."""
    found: dict[str, Sender] = {}
    if settings.anchor_folder:
        folder = settings.anchor_folder
        found["folder"] = lambda note, head: to_folder(folder, note, head)
    if settings.anchor_webhook:
        url = settings.anchor_webhook
        found["webhook"] = lambda note, head: to_webhook(url, note)
    if settings.anchor_email:
        found["email"] = lambda note, head: by_email(settings, note, head)
    if settings.anchor_timestamp_url:
        authority = settings.anchor_timestamp_url
        found["timestamp"] = lambda note, head: by_time_stamp(authority, note)
    return found


def anchor_newest(connection: duckdb.DuckDBPyConnection, settings: Settings, now: datetime | None = None) -> list[Outcome]:
    """Send the newest checkpoint to each target that lacks it or is half way to being overdue, and remember who took it.

    The caller holds the home's lock. A ledger that does not continue what was anchored before is not anchored: every
    outcome is an error then.
    """
    head = newest_head(connection)
    if head is None:
        return []
    now = now or datetime.now(UTC).replace(tzinfo=None)
    connection.execute(DDL)
    last = _last(connection)
    outcomes = []
    broken = _broken(connection, settings)
    for name, send in targets(settings).items():
        size, at = last.get(name, (0, datetime.min))
        if size == head.checkpoint.size and now - at < timedelta(hours=settings.anchor_hours) / 2:
            continue
        outcomes.append(_send(name, send, head, broken))
    taken = [(head.checkpoint.size, outcome.target, now, outcome.receipt) for outcome in outcomes if outcome.error is None]
    if taken:
        with transaction(connection):
            connection.executemany("insert into lake.ops.ledger_anchors values (?, ?, ?, ?)", taken)
    return outcomes


def overdue(connection: duckdb.DuckDBPyConnection, settings: Settings, now: datetime | None = None) -> list[str]:
    """What is to be alarmed about, one sentence each; empty if every target took a checkpoint within the interval."""
    if newest_head(connection) is None:
        return []
    names = targets(settings)
    if not names:
        return [NO_TARGET]
    now = now or datetime.now(UTC).replace(tzinfo=None)
    last = _last(connection)
    late = []
    for name in names:
        if name not in last:
            late.append(f"{name}: no checkpoint was ever anchored there")
        elif now - last[name][1] > timedelta(hours=settings.anchor_hours):
            at = f"{last[name][1]:%Y-%m-%d %H:%M}"
            late.append(f"{name}: the last checkpoint was anchored at {at} UTC, due every {settings.anchor_hours:g} h")
    return late


def held_anchors(settings: Settings) -> list[tuple[str, str]]:
    """(file name, signed note) of the heads in the anchor folder. Raises `AnchorError` if it is configured and not there."""
    if not settings.anchor_folder:
        return []
    if not settings.anchor_folder.is_dir():
        raise AnchorError(f"the anchor folder {settings.anchor_folder} is not there: is it mounted?")
    paths = sorted(settings.anchor_folder.glob("*.checkpoint"))
    return [(path.name, path.read_text(encoding="utf-8", errors="replace")) for path in paths]


def to_folder(folder: Path, note: str, head: Checkpoint) -> str:
    """A file per head. Another head of the same size that lies there already is a fork of the ledger, and an error."""
    if not folder.is_dir():
        raise AnchorError(f"the anchor folder {folder} is not there: is it mounted?")
    path = folder / f"{re.sub(r'[^A-Za-z0-9.-]+', '_', head.origin)}.{head.size:015d}.checkpoint"
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        if parse(path.read_text(encoding="utf-8")) != head:
            raise AnchorError(f"{path} holds another head of the same size: the ledger was forked") from None
        return path.name
    except OSError as error:
        raise AnchorError(f"the anchor folder {folder} takes no file ({error.strerror})") from None
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(note)
        file.flush()
        os.fsync(file.fileno())
    return path.name


def to_webhook(url: str, note: str) -> str:
    """POST of the note as text; any answer but 2xx is an error."""
    return f"HTTP {_post(url, note.encode(), 'text/plain; charset=utf-8')[0]}"


def by_email(settings: Settings, note: str, head: Checkpoint) -> str:
    """A mail with the note, to be kept by the auditor."""
    import smtplib
    from email.message import EmailMessage
    from urllib.parse import unquote, urlsplit

    given = settings.anchor_smtp.get_secret_value() if settings.anchor_smtp else ""
    server = urlsplit(given)
    if server.scheme not in ("smtp", "smtps") or not server.hostname:
        raise AnchorError("SEGLINE_ANCHOR_SMTP must be like smtp://user:password@host:587 or smtps://host:465")
    message = EmailMessage()
    message["Subject"] = f"Checkpoint of {head.origin}: {head.size} leaves"
    message["From"] = message["To"] = settings.anchor_email
    message.set_content("Please keep this. `segline_verify.py --anchor FILE` compares the ledger with it.\n\n" + note)
    message.add_attachment(note.encode(), maintype="text", subtype="plain", filename=f"{head.size}.checkpoint")
    kind = smtplib.SMTP_SSL if server.scheme == "smtps" else smtplib.SMTP
    try:
        with kind(server.hostname, server.port or 0, timeout=SECONDS) as session:
            if server.username:
                if server.scheme == "smtp":
                    session.starttls()
                session.login(unquote(server.username), unquote(server.password or ""))
            session.send_message(message)
    except (OSError, smtplib.SMTPException) as error:
        raise AnchorError(f"the mail server did not take the checkpoint ({type(error).__name__})") from None
    return f"mail to {settings.anchor_email}"


def by_time_stamp(url: str, note: str) -> str:
    """An RFC 3161 time stamp over the note: the response (DER) in base64.

    That it answers this very request is checked here; who signed it is for the auditor, with the authority's certificate:
    `openssl ts -verify -data NOTE -in RESPONSE -CAfile AUTHORITY`.
    """
    try:
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, decode_timestamp_response
    except ImportError:
        raise AnchorError("time stamps need the extra `timestamp`: pip install 'segline[timestamp]'") from None
    request = TimestampRequestBuilder().data(note.encode()).hash_algorithm(HashAlgorithm.SHA512).build()
    _, body = _post(url, request.as_bytes(), "application/timestamp-query")
    try:
        response = decode_timestamp_response(body)
        info = response.tst_info
        answered = info.message_imprint.message == hashlib.sha512(note.encode()).digest() and info.nonce == request.nonce
    except ValueError:
        raise AnchorError("the time stamp authority refused, or sent no time stamp") from None
    if response.status not in (0, 1) or not answered:
        raise AnchorError("the time stamp authority answered something else than was asked")
    return base64.b64encode(body).decode()


def _send(name: str, send: Sender, head: Head, broken: str | None) -> Outcome:
    if broken:
        return Outcome(name, None, broken)
    try:
        return Outcome(name, send(head.note, head.checkpoint))
    except LedgerError as error:
        return Outcome(name, None, str(error))


def _post(url: str, body: bytes, kind: str) -> tuple[int, bytes]:
    from http.client import HTTPException
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    if not re.match(r"https?://", url):
        raise AnchorError("an anchor's URL begins with https://")
    try:
        with urlopen(Request(url, body, {"Content-Type": kind, "User-Agent": "segline"}), timeout=SECONDS) as answer:
            return answer.status, answer.read(1 << 20)
    except HTTPError as error:
        raise AnchorError(f"the anchor's server answered HTTP {error.code}") from None
    except (OSError, HTTPException) as error:
        raise AnchorError(f"the anchor's server cannot be reached ({type(error).__name__})") from None


def _last(connection: duckdb.DuckDBPyConnection) -> dict[str, tuple[int, datetime]]:
    """Size and time of the last anchor per target."""
    if not table_exists(connection, "ops", "ledger_anchors"):
        return {}
    rows = connection.execute(
        "select target, arg_max(tree_size, anchored_at), max(anchored_at) from lake.ops.ledger_anchors group by target"
    ).fetchall()
    return {name: (size, at) for name, size, at in rows}


def _broken(connection: duckdb.DuckDBPyConnection, settings: Settings) -> str | None:
    """Why the ledger does not continue the newest head in the anchor folder, if it does not."""
    try:
        kept = [parse(note) for _, note in held_anchors(settings)]
    except LedgerError as error:
        return str(error) if settings.anchor_folder and settings.anchor_folder.is_dir() else None
    if not kept:
        return None
    newest = max(kept, key=lambda checkpoint: checkpoint.size)
    tree = stored_tree(connection)
    if newest.size > tree.size or tree.root(newest.size) != newest.root:
        return f"the ledger does not continue the anchored head of {newest.size} leaves: run `segline verify`"
    return None
