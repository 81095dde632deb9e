"""A run as a process of its own, watched and disturbed from outside.

The place of a kill is read from Dagster's event log, as anybody could who looks on; a kill or an error inside a commit is made
by strace at a system call on a named file (`apt-get install strace`). Nothing of the product is changed or replaced.

Belongs here: starting, watching, stopping, ending. Does not belong here: which faults there are (`fault_list`).
strace's injection: https://man7.org/linux/man-pages/man1/strace.1.html
"""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE_SECONDS = 900  # for a run that takes forty of a core
POLL_SECONDS = 0.004


class Missed(AssertionError):
    """The fault did not happen: what the run was to be disturbed at never came."""


@dataclass(frozen=True)
class Ran:
    """How a disturbed run ended: exit code (negative: the signal that ended it) and what it said on standard error."""

    code: int
    said: str


@dataclass
class Watched:
    """A `segline run` in a session of its own."""

    home: Path
    sources: Path
    log: Path
    extra: Mapping[str, str] = field(default_factory=dict)
    known: frozenset[str] = frozenset()
    process: subprocess.Popen[bytes] | None = None

    @property
    def events(self) -> Path:
        return self.home / "dagster" / "history" / "runs"

    def start(self) -> "Watched":
        self.known = frozenset(path.name for path in self.events.glob("*-*.db"))
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command("run", "--sources", str(self.sources)), env=environment(self.home, self.extra),
                stdout=subprocess.DEVNULL, stderr=log, start_new_session=True,
            )  # fmt: skip
        return self

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_for(self, step: str, event: str = "STEP_START") -> None:
        """Until Dagster has recorded that event of that step."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self._has(step, event):
            if self.process.poll() is not None:
                raise Missed(f"the run ended with {self.process.returncode} before {event} of {step}:\n{self.said()[-1500:]}")
            if time.monotonic() > deadline:
                raise Missed(f"no {event} of {step} within {PATIENCE_SECONDS} s")
            time.sleep(POLL_SECONDS)

    def reaches(self, step: str, event: str) -> bool:
        """Whether the run records that event before it ends."""
        while self.process.poll() is None:
            if self._has(step, event):
                return True
            time.sleep(POLL_SECONDS)
        return False

    def wait_for_words(self, words: str) -> None:
        """Until the run has said so on standard error."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while words not in self.said():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise Missed(f"the run never said {words!r}:\n{self.said()[-1500:]}")
            time.sleep(POLL_SECONDS)

    def _has(self, step: str, event: str) -> bool:
        for path in self.events.glob("*-*.db"):
            if path.name not in self.known:
                with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as db:
                    query = "select 1 from event_logs where step_key = ? and dagster_event_type = ?"
                    if db.execute(query, [step, event]).fetchone():
                        return True
        return False

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def kill(self, whole_group: bool = True) -> Ran:
        """SIGKILL, to all that the run started or to its own process alone."""
        os.killpg(self.pid, signal.SIGKILL) if whole_group else os.kill(self.pid, signal.SIGKILL)
        return self.ended()

    def ended(self) -> Ran:
        """The end of the run, waited for."""
        try:
            code = self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            raise Missed(f"the run took longer than {PATIENCE_SECONDS} s: a machine this busy tells nothing") from None
        return Ran(code, self.said())

    def clear(self) -> None:
        """Whatever is left of the session is ended."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait()


def command(*arguments: str) -> list[str]:
    """The command line of this environment."""
    return [sys.executable, "-m", "orchestration.cli", *arguments]


def environment(home: Path, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment with a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SEGLINE_", "DAGSTER_", "DBT_"))}
    return kept | {"SEGLINE_HOME": str(home), "SEGLINE_PROFILE": "fintech", "COLUMNS": "200"} | dict(extra or {})


def call(home: Path, *arguments: str, extra: Mapping[str, str] | None = None) -> Ran:
    """A command to its end."""
    try:
        done = subprocess.run(
            command(*arguments), env=environment(home, extra), capture_output=True, text=True, check=False,
            timeout=PATIENCE_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Missed(f"`segline {arguments[0]}` took longer than {PATIENCE_SECONDS} s: a machine this busy tells nothing") from None
    return Ran(done.returncode, done.stderr)


def has_strace() -> bool:
    """Whether system calls of a process can be disturbed here."""
    return shutil.which("strace") is not None


class Tampering:
    """strace on a running process: the so-manieth call of a name on a file of the home ends in a signal or an error.

    The process is stopped while strace takes hold of it, so that no call is missed; counting begins there, per thread.
    """

    def __init__(self, run: Watched, file: str, call_name: str, when: str, effect: str) -> None:
        self.run = run
        os.kill(run.pid, signal.SIGSTOP)
        self.strace = subprocess.Popen(
            ["strace", "-f", "-o", os.devnull, "-p", str(run.pid), "-P", str(run.home / file), "-e", f"trace={call_name}",
             "-e", f"inject={call_name}:{effect}:when={when}"],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        line = self.strace.stderr.readline()
        if "attached" not in line:
            run.clear()
            raise Missed(f"strace did not take hold: {line}")
        os.kill(run.pid, signal.SIGCONT)

    def ended(self) -> Ran:
        """The end of the run, and of strace with it."""
        ran = self.run.ended()
        with suppress(ProcessLookupError):
            os.killpg(self.run.pid, signal.SIGKILL)
        self.strace.stderr.close()
        self.strace.terminate()
        self.strace.wait()
        return ran
