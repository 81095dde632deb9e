"""Who read the ledger: every reading leaves a line, and the next run binds the lines into the ledger.

Readers append to a file and need no lock of the store; a run takes the lines into `ops.ledger_readings` and states their
number and SHA-256, so that what was read before it cannot be unsaid after it. A reading that cannot be logged does not take
place. A line names the user of the operating system, the command and the leaves looked at, never a customer.

Belongs here: writing and taking in lines. Does not belong here: counting them (the audit query volume is a query).
"""

import fcntl
import getpass
import json
import os
import re
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256

import duckdb
import pyarrow as pa

from orchestration.lake import private_folder, table_exists
from orchestration.ledger.errors import LedgerError
from orchestration.settings import Settings

DDL = (
    "create table if not exists lake.ops.ledger_reading_lines (run_id varchar, position bigint, line varchar)",
    "create or replace view lake.ops.ledger_readings as select cast(line ->> 'read_at' as timestamp) as read_at, "
    "line ->> 'reader' as reader, line ->> 'action' as action, cast(line ->> 'leaf_count' as bigint) as leaf_count, "
    "cast(line -> 'leaves' as bigint[]) as leaves, run_id from lake.ops.ledger_reading_lines",
)
MAX_LEAVES = 100  # named one by one; of larger readings only the number is kept
_LEDGER_WORDS = re.compile(r"decision|ledger|\bquery(_table)?\s*\(", re.IGNORECASE)


@dataclass(frozen=True)
class Readings:
    """Lines that wait to be taken in, and where they end in the file (bytes)."""

    lines: tuple[str, ...]
    end: int

    @property
    def sha256(self) -> str:
        """Hash over the lines, each with its newline."""
        return digest_of_lines(self.lines)


def digest_of_lines(lines: Iterable[str]) -> str:
    """SHA-256 over lines, each with its newline."""
    return sha256("".join(line + "\n" for line in lines).encode()).hexdigest()


def log_reading(settings: Settings, action: str, leaves: Sequence[int] = (), leaf_count: int | None = None) -> None:
    """Note a reading before its result is shown. Raises `LedgerError` if it cannot be noted."""
    line = json.dumps(
        {
            "reading_id": uuid.uuid4().hex,
            "read_at": datetime.now(UTC).replace(tzinfo=None).isoformat(),
            "reader": _reader(),
            "action": action,
            "leaves": list(leaves)[:MAX_LEAVES],
            "leaf_count": len(leaves) if leaf_count is None else leaf_count,
        },
        sort_keys=True,
    )
    path = settings.ledger_readings
    try:
        private_folder(path.parent)
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise LedgerError(
            f"this reading of the ledger cannot be logged in {path} ({error.strerror}), so it does not take place"
        ) from None


def reads_ledger(sql: str) -> bool:
    """Whether a query may read the ledger: it names one of its relations, or builds names that cannot be known."""
    return bool(_LEDGER_WORDS.search(sql))


def read_pending(connection: duckdb.DuckDBPyConnection, settings: Settings) -> Readings:
    """The lines that no run has taken in yet: a run that was killed after its commit may have left some in the file."""
    try:
        content = settings.ledger_readings.read_bytes()
    except FileNotFoundError:
        return Readings((), 0)
    end = content.rfind(b"\n") + 1
    lines = content[:end].decode().splitlines()
    held: set[str] = set()
    if lines and table_exists(connection, "ops", "ledger_reading_lines"):
        query = "select line from lake.ops.ledger_reading_lines where list_contains(?, line)"
        held = {row[0] for row in connection.execute(query, [lines]).fetchall()}
    return Readings(tuple(line for line in lines if line not in held), end)


def store(connection: duckdb.DuckDBPyConnection, readings: Readings, run_id: str) -> None:
    """Take lines in; runs inside the caller's transaction."""
    if not readings.lines:
        return
    rows = [{"run_id": run_id, "position": position, "line": line} for position, line in enumerate(readings.lines)]
    connection.register("ledger_arriving", pa.Table.from_pylist(rows))
    try:
        connection.execute("insert into lake.ops.ledger_reading_lines by name select * from ledger_arriving")
    finally:
        connection.unregister("ledger_arriving")


def forget(settings: Settings, readings: Readings) -> None:
    """Take the stored lines out of the file; what was appended meanwhile stays."""
    if not readings.end:
        return
    with settings.ledger_readings.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(readings.end)
        rest = file.read()
        file.seek(0)
        file.write(rest)
        file.truncate()
        file.flush()
        os.fsync(file.fileno())


def _reader() -> str:
    """The user of the operating system: `SUDO_USER` where root acts for a person."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = f"uid {os.getuid()}"
    behind = os.environ.get("SUDO_USER")
    return f"{name} for {behind}" if behind and behind != name else name
