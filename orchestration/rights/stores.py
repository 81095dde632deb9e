"""The stores: every place under the home in which a person can lie, each with how to find them there and make them go.

A store answers for paths under the home and has three methods: `forget` takes the person's live rows away, at once;
`purge` makes the bytes go, snapshots, logs and free pages included; `survey` counts what is there and should go (a plan
before, nothing after). Each may be called again after a crash and does then what is left. A new place adds itself with one
line in `stores`; a file that no store names is still treated, by the last one.

Belongs here: the list, and the stores that are files. Does not belong here: lake, vault and keys (`databases`), the order
of the work (`erasure`), the proof (`scanner`).
"""

import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from orchestration.ingestion.delivery import clear_leftovers
from orchestration.lake import identifier
from orchestration.rights.duties import Duty
from orchestration.rights.errors import ErasureError
from orchestration.rights.needles import SHORTEST, Searcher
from orchestration.settings import Settings

ERASED, KEPT, ABSENT = "erased", "kept", "nothing held"


@dataclass(frozen=True)
class Batch:
    """Those who are erased together: cost hardly depends on how many they are.

    `full` holds the pseudonyms (of all zones) of whom nothing is kept, `restricted` of whom `duty` keeps a part. `texts`
    are identifiers and pseudonyms of all of them, to be searched for in files.
    """

    full: frozenset[str] = frozenset()
    restricted: frozenset[str] = frozenset()
    duty: Duty | None = None
    texts: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"Batch({len(self.full)} full, {len(self.restricted)} restricted)"

    @property
    def is_empty(self) -> bool:
        """Whether there is nobody in it."""
        return not self.full and not self.restricted


@dataclass(frozen=True)
class Outcome:
    """What came of a batch in one place of a store: rows (or entries, lines, files) erased, and kept under a duty."""

    store: str
    place: str
    erased: int = 0
    kept: int = 0
    note: str = ""

    @property
    def result(self) -> str:
        """In one word."""
        return ERASED if self.erased else KEPT if self.kept else ABSENT


class Store(Protocol):
    """A place in which a person can lie."""

    name: str
    holds: str

    def paths(self) -> tuple[Path, ...]:
        """Folders and files that it answers for."""
        ...

    def forget(self, batch: Batch) -> list[Outcome]:
        """Take live rows away."""
        ...

    def purge(self, batch: Batch) -> list[Outcome]:
        """Make the bytes go."""
        ...

    def survey(self, batch: Batch) -> list[Outcome]:
        """What is there: `erased` is what would go, `kept` what would stay. Changes nothing."""
        ...


@dataclass
class FileStore:
    """Artefacts: logs, reports, run storage. They hold no person by design; what a search finds in them goes.

    From a database the rows that hold it go, from text the lines, any other file as a whole: the next run makes it anew.
    """

    settings: Settings
    name: str
    holds: str
    folders: tuple[Path, ...]
    except_in: tuple[Path, ...] = field(default=())

    def paths(self) -> tuple[Path, ...]:
        """Its folders."""
        return self.folders

    def forget(self, batch: Batch) -> list[Outcome]:
        """Nothing: artefacts have no live rows."""
        return []

    def purge(self, batch: Batch) -> list[Outcome]:
        """Remove whatever holds one of the batch's texts."""
        outcomes = []
        for path in self._files_with(batch):
            erased, note = _remove(path, _searchable(batch))
            outcomes.append(Outcome(self.name, str(path.relative_to(self.settings.root)), erased, note=note))
        return outcomes or [Outcome(self.name, self._place())]

    def survey(self, batch: Batch) -> list[Outcome]:
        """Files that hold one of the texts."""
        return [Outcome(self.name, str(path.relative_to(self.settings.root)), 1) for path in self._files_with(batch)]

    def _place(self) -> str:
        return ", ".join(str(folder.relative_to(self.settings.root)) or "." for folder in self.folders)

    def _files(self) -> Iterator[Path]:
        for folder in self.folders:
            for path in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
                if path.is_file() and not path.is_symlink() and not any(path.is_relative_to(other) for other in self.except_in):
                    yield path

    def _files_with(self, batch: Batch) -> Iterable[Path]:
        from orchestration.rights.scanner import Scanner

        wanted = dict.fromkeys(_searchable(batch), "text")
        files = list(self._files())
        if not wanted or not files:
            return []
        scan = Scanner(self.settings, None, {"batch": wanted}).run(files)
        return sorted({self.settings.root / hit.file for hit in scan.of("batch")})


@dataclass
class SpillStore:
    """What the engine could not keep in memory: encrypted under a key that is never stored, and removed with its process."""

    settings: Settings
    name: str = "spill"
    holds: str = "spilled intermediate rows, encrypted under keys that exist in memory only"

    def paths(self) -> tuple[Path, ...]:
        """The temporary folder."""
        return (self.settings.temp,)

    def forget(self, batch: Batch) -> list[Outcome]:
        """Nothing."""
        return []

    def purge(self, batch: Batch) -> list[Outcome]:
        """Remove what killed processes left; what is younger than an hour may be in use, and its key is nowhere."""
        before = sum(1 for _ in self.settings.temp.glob("*")) if self.settings.temp.exists() else 0
        clear_leftovers(self.settings)
        after = sum(1 for _ in self.settings.temp.glob("*")) if self.settings.temp.exists() else 0
        return [Outcome(self.name, "tmp", before - after)]

    def survey(self, batch: Batch) -> list[Outcome]:
        """Nothing that anybody could read."""
        return []


@dataclass
class BundleStore:
    """The roles' bundles: copies of what is published, outside the home. Written anew once the lake's rows are gone."""

    settings: Settings
    name: str = "bundles of roles"
    holds: str = "who was given a role; the bundles, encrypted, lie where the grants say"

    def paths(self) -> tuple[Path, ...]:
        """The register of grants."""
        return (self.settings.access_dir,)

    def forget(self, batch: Batch) -> list[Outcome]:
        """Nothing: the bundles follow the lake."""
        return []

    def purge(self, batch: Batch) -> list[Outcome]:
        """Write every bundle anew; the files that held the rows are gone then."""
        from orchestration.access.bundles import write_bundles
        from orchestration.access.errors import AccessError

        try:
            written = write_bundles(self.settings) if self.settings.catalog.exists() else []
        except AccessError as error:
            raise ErasureError(f"a role's bundle still holds what was erased: {error}") from None
        return [Outcome(self.name, f"{len(written)} bundles", note="written anew" if written else "")]

    def survey(self, batch: Batch) -> list[Outcome]:
        """Nothing of its own: what stands in a bundle stands in the lake."""
        return []


def _searchable(batch: Batch) -> list[bytes]:
    return [text for text in batch.texts if len(text) >= SHORTEST]


def _remove(path: Path, needles: list[bytes]) -> tuple[int, str]:
    """Take the needles out of one file in the least harmful way; how many rows, lines or files went, and which it was."""
    with path.open("rb") as stream:
        head = stream.read(16)
    if head == b"SQLite format 3\0":
        return _remove_rows(path, needles), "rows removed"
    if path.suffix in (".log", ".txt", ".csv", ".jsonl", ".out", ".err", ".ndjson", ".md", ".tsv"):
        return _remove_lines(path, needles), "lines removed"
    path.unlink()
    return 1, "file removed; the next run makes it anew"


def _remove_lines(path: Path, needles: list[bytes]) -> int:
    searcher = Searcher(needles)
    content = path.read_bytes()
    lines = content.splitlines(keepends=True)
    ends = np.cumsum([len(line) for line in lines])
    hit = {int(np.searchsorted(ends, at, side="right")) for at, _ in searcher.find(content)}
    kept = [line for number, line in enumerate(lines) if number not in hit]
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(b"".join(kept))
    shutil.copymode(path, draft)
    os.replace(draft, path)
    return len(lines) - len(kept)


def _remove_rows(path: Path, needles: list[bytes]) -> int:
    """Rows of any table with a needle in any column; then the free pages and the write-ahead log."""
    searcher = Searcher(needles)
    removed = 0
    with closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as db:
        db.execute("pragma secure_delete = on")
        db.create_function("holds_needle", 1, lambda value: value is not None and bool(searcher.find(_cell(value))))
        for (table,) in db.execute("select name from sqlite_master where type = 'table' and name not like 'sqlite_%'").fetchall():
            columns = [row[1] for row in db.execute(f"pragma table_info({identifier(table)})").fetchall()]
            held = " or ".join(f"holds_needle({identifier(column)})" for column in columns)
            removed += db.execute(f"delete from {identifier(table)} where {held}").rowcount
        db.execute("vacuum")
        db.execute("pragma wal_checkpoint(truncate)")
    return removed


def _cell(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def stores(settings: Settings) -> list[Store]:
    """Every store, in the order in which they are erased: keys first, artefacts last, and what nobody named at the end."""
    from orchestration.online.erasing import EventStore
    from orchestration.rights.databases import KeyStore, LakeStore, VaultStore

    root = settings.root
    named: list[Store] = [
        KeyStore(settings),
        VaultStore(settings),
        LakeStore(settings),
        BundleStore(settings),
        FileStore(settings, "dbt", "compiled SQL, results and logs of dbt", (settings.dbt_dir,)),
        FileStore(
            settings,
            "dagster",
            "runs, events, results of expectations and checks, logs of computations",
            (settings.dagster_home,),
        ),
        FileStore(settings, "runs", "summaries and output of runs", (settings.runs_dir,)),
        FileStore(settings, "exports and reports", "files made for people", (root / "exports", root / "reports")),
        FileStore(settings, "documentation", "pages about the publication: counts, rules, policy", (settings.documentation_dir,)),
        FileStore(settings, "opt-outs", "the intake of opt-outs, by pseudonym", (settings.rights_dir / "opt_outs.sqlite",)),
        EventStore(settings),
        FileStore(settings, "models", "registered models: points, figures, cards", (settings.models_dir,)),
        FileStore(settings, "ledger readings", "who read the ledger, till a run takes it in", (settings.ledger_readings,)),
        SpillStore(settings),
    ]
    answered = tuple(path for store in named for path in store.paths())
    own = (settings.rights_dir, settings.key_file.parent)
    rest = FileStore(settings, "elsewhere", "files under the home that no store names", (root,), (*answered, *own))
    return [*named, rest]


def unnamed_files(settings: Settings) -> list[Path]:
    """Files under the home that no store names: a place that somebody added without saying how it is erased."""
    rest = stores(settings)[-1]
    assert isinstance(rest, FileStore)
    locks = {settings.lock_file, settings.turn_file, settings.turn_file.with_suffix(".gate")}
    return [path for path in rest._files() if path not in locks]
