"""The ways to disturb a run: each takes a home and a delivery and returns how the disturbed run ended.

Belongs here: how a fault is done. Does not belong here: where, and what is expected (`fault_list`).
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from orchestration.lake import open_lake
from orchestration.settings import Settings
from tests.faults.driving import Missed, Ran, Tampering, Watched, call
from tests.faults.looking import published

MEGABYTE = 1_000_000
BACKUP = "backup"  # the home as it was before the fault, beside it


class Disturbance(Protocol):
    """Something that goes wrong with a run over `sources` in `home`."""

    def __call__(self, home: Path, sources: Path) -> Ran: ...


@contextlib.contextmanager
def running(home: Path, sources: Path, extra: dict[str, str] | None = None) -> Iterator[Watched]:
    """A run, and nothing left of it afterwards."""
    run = Watched(home, sources, home.parent / "disturbed.log", extra or {}).start()
    try:
        yield run
    finally:
        run.clear()


@dataclass(frozen=True)
class Kill:
    """SIGKILL as soon as a step's event is recorded, to the whole group or to the run's own process alone."""

    step: str
    event: str = "STEP_START"
    alone: bool = False

    def __call__(self, home: Path, sources: Path) -> Ran:
        with running(home, sources) as run:
            run.wait_for(self.step, self.event)
            return run.kill(whole_group=not self.alone)


@dataclass(frozen=True)
class KillAtWords:
    """SIGKILL when the run says what it does."""

    words: str
    seconds_later: float = 0.0

    def __call__(self, home: Path, sources: Path) -> Ran:
        with running(home, sources) as run:
            run.wait_for_words(self.words)
            time.sleep(self.seconds_later)
            return run.kill()


@dataclass(frozen=True)
class Orphaned:
    """The run's own process is killed while dbt works, and the next run begins at once beside what is left of the first."""

    seconds_later: float = 6.0

    def __call__(self, home: Path, sources: Path) -> Ran:
        with running(home, sources) as run:
            run.wait_for("transformation")
            time.sleep(self.seconds_later)
            run.kill(whole_group=False)
            return call(home, "run", "--sources", str(sources))


@dataclass(frozen=True)
class Tamper:
    """A system call on a file, from a step's beginning on: the so-manieth ends in a signal or in an error."""

    step: str
    file: str
    call_name: str
    when: str
    effect: str

    def __call__(self, home: Path, sources: Path) -> Ran:
        with running(home, sources) as run:
            run.wait_for(self.step)
            tampering = Tampering(run, self.file, self.call_name, self.when, self.effect)
            if "signal" in self.effect and run.reaches(self.step, "STEP_SUCCESS"):
                run.clear()
                tampering.ended()
                raise Missed(f"{self.call_name} number {self.when} on {self.file} never came")
            return tampering.ended()


@dataclass(frozen=True)
class Interrupt:
    """What an operator or a service manager sends to the run's own process."""

    step: str
    number: signal.Signals
    seconds_later: float = 0.0

    def __call__(self, home: Path, sources: Path) -> Ran:
        with running(home, sources) as run:
            run.wait_for(self.step)
            time.sleep(self.seconds_later)
            os.kill(run.pid, self.number)
            return run.ended()


@dataclass(frozen=True)
class FullDisk:
    """The home's volume has so much left (MB). The volume is a memory file system that `harness` has mounted."""

    free_mb: float

    def __call__(self, home: Path, sources: Path) -> Ran:
        resize(home.parent, used(home.parent) + int(self.free_mb * MEGABYTE))
        return call(home, "run", "--sources", str(sources))


def used(volume: Path) -> int:
    """Bytes in use on a volume."""
    state = os.statvfs(volume)
    return (state.f_blocks - state.f_bfree) * state.f_frsize


def resize(volume: Path, size: int) -> None:
    """Give a memory file system another size."""
    subprocess.run(["mount", "-o", f"remount,size={size}", str(volume)], check=True)


def more_room(home: Path) -> None:
    """What the message tells to do."""
    resize(home.parent, 500 * MEGABYTE)


@dataclass(frozen=True)
class Damage:
    """Files of the home are damaged, then a run is started. `how`: flip, pages, cut, empty, garbage, gone."""

    files: str
    how: str
    runs: bool = True

    def __call__(self, home: Path, sources: Path) -> Ran:
        found = sorted(path for path in home.glob(self.files) if path.is_file())
        if not found:
            raise Missed(f"there is no {self.files}")
        for path in found:
            for side in ("-wal", "-shm"):  # a SQLite file at rest has none, or an empty one
                path.with_name(path.name + side).unlink(missing_ok=True) if path.suffix == ".sqlite" else None
            spoil(path, self.how)
        return call(home, "run", "--sources", str(sources)) if self.runs else Ran(0, "")


def spoil(path: Path, how: str) -> None:
    """Damage one file."""
    content = bytearray(path.read_bytes())
    if how == "gone":
        path.unlink()
        return
    if how == "flip":
        for at in range(len(content) // 3, len(content), max(1, len(content) // 3)):
            content[at] ^= 0x10
    elif how == "pages":  # of SQLite: a bit of each page's kind, for a bit anywhere else may be one that means nothing
        for at in range(4096, len(content), 4096):
            content[at] ^= 0x10
    elif how == "cut":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = bytearray()
    elif how == "garbage":
        content = bytearray(os.urandom(len(content)))
    else:
        raise ValueError(how)
    path.write_bytes(content)


@dataclass(frozen=True)
class Changed:
    """Somebody changes the ledger's tables with SQL, then a run is started."""

    statement: str

    def __call__(self, home: Path, sources: Path) -> Ran:
        with open_lake(Settings(home=home)) as connection:
            connection.execute(self.statement)
        return call(home, "run", "--sources", str(sources))


def restore(*parts: str):
    """What the message tells to do: the parts of the home come back from the backup."""

    def mend(home: Path) -> None:
        for part in parts:
            for path in home.glob(part):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            for path in (home.parent / BACKUP).glob(part):
                target = home / path.relative_to(home.parent / BACKUP)
                shutil.copytree(path, target) if path.is_dir() else shutil.copy2(path, target)

    return mend


HOLD = """
import fcntl, sqlite3, sys, time
kind, path = sys.argv[1:]
if kind == "flock":
    stream = open(path, "a")
    fcntl.flock(stream, fcntl.LOCK_EX)
else:
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("begin immediate" if kind == "write" else "begin")
    db.execute("select count(*) from sqlite_master").fetchone()
print("held", flush=True)
time.sleep(600)
"""


@dataclass(frozen=True)
class Held:
    """Another process holds a file: `flock`, or a SQLite transaction to `write` or `read`."""

    file: str
    kind: str
    wait_seconds: int = 0

    def __call__(self, home: Path, sources: Path) -> Ran:
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, self.kind, str(home / self.file)], stdout=subprocess.PIPE, text=True
        )
        try:
            if holder.stdout.readline() != "held\n":
                raise Missed(f"{self.file} could not be held")
            return call(home, "run", "--sources", str(sources), extra={"SEGLINE_LOCK_WAIT_SECONDS": str(self.wait_seconds)})
        finally:
            holder.kill()
            holder.wait()
            holder.stdout.close()


@dataclass(frozen=True)
class TwoAtOnce:
    """Two runs over the same delivery; the second does not wait. What the second said; the first must have ended well."""

    def __call__(self, home: Path, sources: Path) -> Ran:
        with running(home, sources) as first:
            first.wait_for("landing")
            second = call(home, "run", "--sources", str(sources), extra={"SEGLINE_LOCK_WAIT_SECONDS": "0"})
            if str(first.pid) not in second.said:
                raise Missed("the second run did not name the first")
            while first.process.poll() is None:
                published(home)  # readers are served all the while
            if first.ended().code:
                raise Missed(f"the first run failed beside the second: {first.said()[-1500:]}")
            return second


@dataclass(frozen=True)
class Clock:
    """The run's clock is wrong by so much, in libfaketime's words; `later` is what it changes to when dbt begins."""

    offset: str
    later: str | None = None

    def __call__(self, home: Path, sources: Path) -> Ran:
        told = home.parent / "clock"
        told.write_text(self.offset + "\n")
        extra = {
            "LD_PRELOAD": str(faketime_library()), "FAKETIME_TIMESTAMP_FILE": str(told), "FAKETIME_CACHE_DURATION": "1",
            "DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
        }  # fmt: skip
        with running(home, sources, extra) as run:
            if self.later:
                run.wait_for("transformation")
                told.write_text(self.later + "\n")
            return run.ended()


def faketime_library() -> Path:
    """The library of libfaketime, from its package."""
    import libfaketime

    return Path(libfaketime.__file__).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"


