"""Legal holds: who may not be deleted for the time being, by whose word, why and until when.

A hold keeps rows that retention would remove; it never brings anything into a segment. Holds are kept in an SQLite file
under the home, so that one can be placed while a run is writing; a hold is lifted, never deleted.

Belongs here: placing, lifting and reading holds. Does not belong here: what they keep (`retention`, erasure).
"""

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa

from orchestration.identity.keys import load_keys
from orchestration.identity.pseudonyms import token
from orchestration.lake import private_folder
from orchestration.settings import Settings

COLUMNS = ("hold_id", "subject_token", "reason", "placed_by", "placed_at", "until", "lifted_by", "lifted_at")
DDL = (
    "create table if not exists holds (hold_id text primary key, subject_token text not null, reason text not null, "
    "placed_by text not null, placed_at text not null, until text, lifted_by text, lifted_at text)"
)


class HoldError(ValueError):
    """A hold that cannot be placed or lifted as asked."""


def _path(settings: Settings) -> Path:
    return settings.root / "rights" / "legal_holds.sqlite"


@contextmanager
def _open(settings: Settings) -> Iterator[sqlite3.Connection]:
    private_folder(_path(settings).parent)
    _path(settings).touch(mode=0o600, exist_ok=True)
    with closing(sqlite3.connect(_path(settings), timeout=30, isolation_level=None)) as holds:
        holds.execute("pragma synchronous = full")
        holds.execute(DDL)
        yield holds


def _now() -> str:
    return datetime.now(UTC).replace(tzinfo=None).isoformat(" ", "seconds")


def place_hold(settings: Settings, customer: str, reason: str, placed_by: str, until: date | None = None) -> str:
    """Keep everything of that customer, to the end of the day `until` or until lifted; returns the hold's id."""
    if not reason.strip() or not placed_by.strip():
        raise HoldError("a hold needs a reason and the one who places it")
    hold_id = f"hold-{secrets.token_hex(6)}"
    row = [hold_id, token(load_keys(settings), "raw", customer), reason, placed_by, _now(), until and until.isoformat()]
    with _open(settings) as holds:
        holds.execute("insert into holds values (?, ?, ?, ?, ?, ?, null, null)", row)
    return hold_id


def lift_hold(settings: Settings, hold_id: str, lifted_by: str) -> None:
    """End a hold now. Raises `HoldError` if there is none of that id in force."""
    with _open(settings) as holds:
        lifted = holds.execute(
            "update holds set lifted_by = ?, lifted_at = ? where hold_id = ? and lifted_at is null",
            [lifted_by, _now(), hold_id],
        ).rowcount
    if not lifted:
        raise HoldError(f"there is no hold {hold_id} in force")


def holds_in_force(settings: Settings, instant: datetime) -> pa.Table:
    """The holds in force at that instant (UTC), as text columns."""
    rows: list[tuple] = []
    if _path(settings).exists():
        with _open(settings) as holds:
            rows = holds.execute(
                f"select {', '.join(COLUMNS)} from holds where lifted_at is null and (until is null or until >= ?)",
                [instant.date().isoformat()],
            ).fetchall()
    columns = list(zip(*rows, strict=True)) or [()] * len(COLUMNS)
    return pa.table({name: pa.array(values, pa.string()) for name, values in zip(COLUMNS, columns, strict=True)})
