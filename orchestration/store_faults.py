"""What a broken or busy store says, in words that tell how to mend it.

The engine's, SQLite's and the system's errors are known by their texts: a bit that flipped comes as «Computed AES tag differs»,
a program that holds the catalogue as «database is locked». A text that is not known stays as it is.

Belongs here: recognising and explaining. Does not belong here: preventing (`lake`), the ledger's own findings
(`ledger.verification`).
"""

import shutil
from dataclasses import dataclass

from orchestration.settings import Settings

DAMAGED = "damaged"
FULL = "full"
BUSY = "busy"
FAILING = "failing"
HISTORY = "history"
_OPENING = "Cannot open file"  # the store's or a delivery's: the path tells
_TEXTS = {
    FULL: ("No space left on device", "disk is full", "Errno 28", "Could not write all bytes"),
    BUSY: ("database is locked", "TurnTimeout"),
    FAILING: ("disk I/O error", "Input/output error", "Errno 5]"),
    DAMAGED: (
        "AES tag",
        "magic bytes",
        "not a database",
        "disk image is malformed",
        "Failed to load DuckLake",
        "Failed to attach",
        "read-only but it does not exist",
        _OPENING,
        "too small to be a Parquet file",
        "malformed database schema",
    ),
}
_LITTLE = 1_000_000  # bytes
_MODULES = ("duckdb", "_duckdb", "sqlite3", "sqlalchemy")  # by name: `segline --help` imports none of them
_MENDS = {
    FULL: "The disk is full. Make room on the volume of {home}, then run again.",
    BUSY: "Another program holds the store. End it (a backup, a database browser, another run) or wait for it, then run again.",
    FAILING: "The disk under {home} cannot be read or written. Check it, run `segline verify`, then run again.",
    HISTORY: "Dagster's record of runs under {home}/dagster is damaged. Move that folder away and run again: it is a record for "
    "people, and no proof rests on it.",
    DAMAGED: "A file of the store under {home} is damaged or gone. Restore `lake` and `vault` of one backup, run "
    "`segline verify`, then run again: what came after the backup is made anew from the delivery.",
}


class StoreFault(RuntimeError):
    """The store cannot be used; the message says how to mend it."""


@dataclass(frozen=True)
class Explained:
    """The kind of a fault, and what to do about it."""

    kind: str
    mend: str


def explain(text: str, settings: Settings) -> Explained | None:
    """What an error's text means for the store; None if it is not about the store."""
    for kind, texts in _TEXTS.items():
        if any(known in text and (known != _OPENING or str(settings.root) in text) for known in texts):
            # SQLite calls it an I/O error where it lacks the room for its shared memory.
            found = FULL if kind == FAILING and _is_full(settings) else kind
            if kind == DAMAGED and "(sqlite3." in text:  # SQLAlchemy's way of quoting, and only Dagster goes through it
                found = HISTORY
            return Explained(found, _MENDS[found].format(home=settings.root))
    return None


def known_words(text: str) -> str | None:
    """The words of an error's text by which a fault of the store is known, and nothing else of it: no value is among them."""
    return next((known for texts in _TEXTS.values() for known in texts if known in text and known != _OPENING), None)


def _is_full(settings: Settings) -> bool:
    return settings.root.exists() and shutil.disk_usage(settings.root).free < _LITTLE


def is_of_the_store(error: BaseException) -> bool:
    """Whether an exception comes from the engine, SQLite or the system, so that `explain` may know it."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _MODULES
