"""One writer at a time, across processes: the command line, the scheduler and the UI take the same lock.

The kernel releases the lock when its holder dies, so a killed run never blocks the next one.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from orchestration.lake import private_folder
from orchestration.settings import Settings


class RunLocked(RuntimeError):
    """Another run writes, and it did not end within the time that this one was willing to wait."""


@contextmanager
def run_lock(settings: Settings, on_wait: Callable[[str], None] = lambda message: None) -> Iterator[None]:
    """Hold the home's lock; wait up to `settings.lock_wait_seconds` and say so once through `on_wait`."""
    private_folder(settings.root)
    deadline = time.monotonic() + settings.lock_wait_seconds
    with settings.lock_file.open("a+", encoding="utf-8") as stream:
        said = False
        while True:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                stream.seek(0)
                holder = stream.read().strip() or "unknown"
                if not said:
                    on_wait(f"another run writes to {settings.root} (process {holder}); waiting for it")
                    said = True
                if time.monotonic() >= deadline:
                    raise RunLocked(
                        f"process {holder} still writes to {settings.root} after {settings.lock_wait_seconds} s; "
                        "wait for it, end it, or set SEGLINE_LOCK_WAIT_SECONDS"
                    ) from None
                time.sleep(0.2)
        stream.seek(0)
        stream.truncate()
        stream.write(str(os.getpid()))
        stream.flush()
        try:
            yield
        finally:
            stream.seek(0)
            stream.truncate()
