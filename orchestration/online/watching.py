"""What changes in the home while a service runs: publications, opt-outs by other ways, erasures, keys.

Asked every second, so it reads the few SQLite rows that tell, and opens no lake.

Belongs here: noticing. Does not belong here: what follows (`service`).
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import pyarrow as pa

from orchestration.ingestion.contracts import load_contracts
from orchestration.rights.intake import intake_path
from orchestration.rights.requests import has_log, token_hash
from orchestration.settings import Settings


@dataclass(frozen=True)
class Change:
    """What was noticed: whether another publication stands (or other keys do), and who opted out (pseudonyms of zone raw)."""

    is_new: bool
    opted_out: tuple[str, ...] = ()


@dataclass
class Watch:
    """The home as it was last seen. `erased` are the hashes of the pseudonyms of whom nothing may be said any more."""

    settings: Settings
    erased: frozenset[str] = frozenset()
    _seen: tuple[object, ...] | None = None
    _opt_outs: set[str] = field(default_factory=set)
    _is_first: bool = True

    def change(self) -> Change:
        """What changed since the last time. Raises `FileNotFoundError` if there is no lake yet."""
        now = (self._publication(), _stamp(self.settings.key_file))
        is_new, self._seen = now != self._seen, now
        self.erased = self._erased()
        held = {request: token for request, token in self._requests()}
        fresh = [] if self._is_first else [token for request, token in held.items() if request not in self._opt_outs]
        self._opt_outs, self._is_first = set(held), False
        return Change(is_new, tuple(dict.fromkeys(fresh)))

    def is_erased(self, token: str) -> bool:
        """Whether whoever has that pseudonym was erased."""
        return bool(self.erased) and token_hash(token) in self.erased

    def _publication(self) -> object:
        """Each publication makes the table anew, under a new number. https://ducklake.select/docs/stable/specification"""
        if not self.settings.catalog.exists():
            raise FileNotFoundError(f"there is no store under {self.settings.root} yet: start one with `segline run`")
        with _reading(self.settings.catalog) as catalog:
            return catalog.execute(
                "select max(table_id) from ducklake_table where table_name = 'publication' and end_snapshot is null"
            ).fetchone()

    def _erased(self) -> frozenset[str]:
        if not has_log(self.settings):
            return frozenset()
        with _reading(self.settings.rights_dir / "rights.sqlite") as log:
            rows = log.execute("select token_hash from suppressions where duty is null and zone = 'raw'")
            return frozenset(row[0] for row in rows)

    def _requests(self) -> Sequence[tuple[str, str]]:
        path = intake_path(self.settings)
        if not path.exists():
            return []
        with _reading(path) as intake:
            return intake.execute("select request_id, subject_token from opt_outs").fetchall()


def opt_outs_of(settings: Settings, tokens: Sequence[str], now: datetime) -> pa.Table | None:
    """The opt-outs on record of these persons as rows of raw.privacy_requests in text; `None` if there are none.

    Whatever is on record has happened: what a clock says to be later is taken as `now` (UTC), as the intake itself does.
    """
    path = intake_path(settings)
    if not path.exists():
        return None
    marks = ", ".join("?" * len(tokens))
    sql = f"select request_id, subject_token, min(received_at, ?) from opt_outs where subject_token in ({marks})"
    with _reading(path) as intake:
        rows = intake.execute(sql, [now.isoformat(" "), *tokens]).fetchall()
    if not rows:
        return None
    columns = [name for name in load_contracts()["privacy_requests"].raw_columns() if name not in ("feed", "load_id")]
    given = dict(zip(("request_id", "subject_token", "received_at"), zip(*rows, strict=True), strict=True))
    given |= {"request_type": ["opt_out"] * len(rows), "status": ["received"] * len(rows)}
    return pa.table({name: pa.array(given.get(name, [None] * len(rows)), pa.string()) for name in columns})


def _stamp(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


@contextmanager
def _reading(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as database:
        yield database
