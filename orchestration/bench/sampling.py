"""One command in a process of its own: how long it takes and how much memory it and its children need at once.

Belongs here: clock, processor time and memory of a process tree. Does not belong here: what the command does.
psutil: https://psutil.readthedocs.io/
"""

import resource
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

INTERVAL_SECONDS = 0.2
MEGABYTE = 1_000_000


class CommandFailed(RuntimeError):
    """A measured command ended with an error; the message ends with what it said last."""


@dataclass(frozen=True)
class Measured:
    """Wall-clock and processor seconds of a command, and the most memory (MB) that its process tree held at once."""

    seconds: float
    cpu_seconds: float
    peak_memory_mb: float


class PeakMemory:
    """The most memory that a process tree was seen to hold.

    Resident pages are cheap to count but pages shared by two processes count twice; proportional shares are right but
    the kernel walks every page for them. So shares are read only when the resident sum reaches a new height.
    """

    def __init__(self) -> None:
        self.highest_resident = 0
        self.peak = 0

    def look(self, processes: Sequence[psutil.Process]) -> None:
        """Take one sample; processes that ended meanwhile count as nothing."""
        resident = sum(_resident(process) for process in processes)
        if resident > 1.01 * self.highest_resident:
            self.highest_resident = resident
            self.peak = max(self.peak, sum(_proportional(process) for process in processes))


def _resident(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0


def _proportional(process: psutil.Process) -> int:
    """Proportional share in bytes; the resident size where the system does not tell it."""
    try:
        full = process.memory_full_info()
    except psutil.AccessDenied:
        return _resident(process)
    except psutil.Error:
        return 0
    return getattr(full, "pss", 0) or full.rss


def run_measured(command: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path) -> Measured:
    """Run a command in `folder` to its end, its output into `log`. Raises `CommandFailed` unless it ends with 0."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with log.open("wb") as output:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=dict(environment), cwd=folder, stdout=output, stderr=subprocess.STDOUT)
        peak = PeakMemory()
        try:
            root = psutil.Process(process.pid)
            while True:
                try:
                    process.wait(INTERVAL_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    peak.look(_tree(root))
            seconds = time.perf_counter() - started
        except BaseException:
            _end(process)
            raise
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        said = log.read_text(encoding="utf-8", errors="replace").strip()[-2000:]
        raise CommandFailed(f"{' '.join(command[1:5])} … ended with exit code {process.returncode}:\n{said}")
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Measured(seconds, cpu_seconds, peak.peak / MEGABYTE)


def _tree(root: psutil.Process) -> list[psutil.Process]:
    try:
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the command and what it started; nobody waits for their result any more."""
    try:
        family = _tree(psutil.Process(process.pid))
    except psutil.Error:
        family = []
    for member in family:
        try:
            member.terminate()
        except psutil.Error:
            continue
    _, alive = psutil.wait_procs(family, timeout=5)
    for member in alive:
        try:
            member.kill()
        except psutil.Error:
            continue
    process.wait()
