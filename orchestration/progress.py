"""What a run is doing right now, told to whoever watches.

Belongs here: the channel between long work and the command line's progress bar. Does not belong here: drawing.
A run started by the scheduler has no watcher; then reports go nowhere.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Watcher = Callable[[str, float], None]
_watchers: list[Watcher] = []


def report(stage: str, fraction: float = 0.0) -> None:
    """Say which stage is at work and how far it is (0 to 1 within the stage)."""
    for watcher in _watchers:
        watcher(stage, fraction)


@contextmanager
def watched_by(watcher: Watcher) -> Iterator[None]:
    """Send this process's reports to `watcher` while the block runs."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)
