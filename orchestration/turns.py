"""Turns at the store: a short commit never falls into somebody else's open transaction.

The laptop's catalogue is SQLite. A transaction that began before another process committed cannot commit any more
(«database is locked», verified on DuckDB 1.5.5 in WAL mode, even for different tables), and the one that loses would be
the run. So whoever writes at length holds a shared turn while its transaction is open (`lake.open_lake`, dbt through
`dbt_turns`), and whoever commits beside a run (an opt-out) takes the sole turn: it waits for the transactions that are
open, no new one begins meanwhile, and then it has the store for itself for as long as its own transaction lasts.

The run lock (`run_lock`) is another thing: it keeps runs apart, from their first stage to their last.
Belongs here: the two turns. Does not belong here: what is written.
"""

import fcntl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

POLL_SECONDS = 0.02


class TurnTimeout(RuntimeError):
    """The store was not free within the time that the caller was willing to wait."""


@dataclass
class _Held:
    stream: TextIO
    holders: int


_held: dict[Path, _Held] = {}
_guard = threading.Lock()


def _lock(stream: TextIO, kind: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(stream, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= deadline:
                raise TurnTimeout(
                    f"the store is busy: {stream.name} was not free in time; wait for the writer, or set "
                    "SEGLINE_LOCK_WAIT_SECONDS"
                ) from None
            time.sleep(POLL_SECONDS)


def _open(path: Path) -> TextIO:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    return path.open("a", encoding="utf-8")


def take_shared(path: Path, wait_seconds: float) -> Callable[[], None]:
    """Take a shared turn; returns what gives it back. A process that holds one already gets it at once.

    At once, for it would otherwise wait for a sole turn that waits for itself.
    """
    with _guard:
        held = _held.get(path)
        if held:
            held.holders += 1
        else:
            deadline = time.monotonic() + wait_seconds
            with _open(path.with_suffix(".gate")) as gate:  # whoever waits for the sole turn holds it: nobody overtakes
                _lock(gate, fcntl.LOCK_SH, deadline)
                stream = _open(path)
                try:
                    _lock(stream, fcntl.LOCK_SH, deadline)
                except BaseException:
                    stream.close()
                    raise
            _held[path] = _Held(stream, 1)

    def give_back() -> None:
        with _guard:
            held = _held[path]
            held.holders -= 1
            if not held.holders:
                _held.pop(path).stream.close()

    return give_back


@contextmanager
def shared_turn(path: Path, wait_seconds: float) -> Iterator[None]:
    """Keep sole turns away while the block runs."""
    give_back = take_shared(path, wait_seconds)
    try:
        yield
    finally:
        give_back()


@contextmanager
def sole_turn(path: Path, wait_seconds: float) -> Iterator[None]:
    """Have the store for oneself while the block runs; waits for the transactions that are open.

    Raises `TurnTimeout`; `RuntimeError` if this very process holds a shared turn, which would wait for itself.
    """
    with _guard:
        if path in _held:
            raise RuntimeError("this process has the store open for writing: close it before asking for the sole turn")
    deadline = time.monotonic() + wait_seconds
    with _open(path.with_suffix(".gate")) as gate, _open(path) as stream:
        _lock(gate, fcntl.LOCK_EX, deadline)
        _lock(stream, fcntl.LOCK_EX, deadline)
        yield
