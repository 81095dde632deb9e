"""The one writer of the event log: many senders' events per commit, each told only once theirs is on the disk.

Belongs here: the queue before the disk. Does not belong here: the log's form (`event_log`), what an event changes (`service`).
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass

from orchestration.online import event_log
from orchestration.online.errors import Problem
from orchestration.online.event_log import Accepted, Event
from orchestration.settings import Settings

LOG = logging.getLogger("segline.online")
MOST_QUEUED = 20_000


@dataclass
class _Group:
    """Events that are kept all or none, whom to tell in the loop's thread, and who waits."""

    events: Sequence[Event]
    kept: Callable[[list[Accepted]], None]
    done: asyncio.Future[list[Accepted]]


class LogWriter:
    """The log of a home, open for writing in a thread of its own; used from one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stack = ExitStack()
        self._log: sqlite3.Connection | None = None
        self._queue: list[_Group] = []
        self._queued = 0
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, "segline-log")
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Open the log."""
        self._log = self._stack.enter_context(event_log.open_log(self._settings))
        self._task = asyncio.create_task(self._write_forever(), name="log writer")

    async def stop(self) -> None:
        """Write what is queued, then close."""
        self._stopping = True
        self._wake.set()
        if self._task:
            await self._task
        await asyncio.to_thread(self._thread.shutdown, wait=True)
        self._stack.close()

    async def append(self, events: Sequence[Event], kept: Callable[[list[Accepted]], None]) -> list[Accepted]:
        """Append events, all or none; when this returns they are on the disk. `kept` hears of it before anybody else does.

        Raises `Problem` 503 if too many wait, or the disk refuses them.
        """
        if self._stopping or self._queued + len(events) > MOST_QUEUED:
            raise Problem(503, "too_busy", "too many events wait to be written", retry_after=1)
        done: asyncio.Future[list[Accepted]] = asyncio.get_running_loop().create_future()
        self._queue.append(_Group(events, kept, done))
        self._queued += len(events)
        self._wake.set()
        return await done

    async def read(self, after: int) -> list[Event]:
        """The events behind that sequence; whatever is appended later is told of later."""
        assert self._log is not None
        return await asyncio.get_running_loop().run_in_executor(self._thread, event_log.read, self._log, after)

    async def _write_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while not (self._stopping and not self._queue):
            await self._wake.wait()
            self._wake.clear()
            batch, self._queue = self._queue, []
            if not batch:
                continue
            self._queued -= sum(len(group.events) for group in batch)
            try:
                assert self._log is not None
                groups = [group.events for group in batch]
                written = await loop.run_in_executor(self._thread, event_log.append, self._log, groups)
            except Exception as error:
                LOG.error("the log of events cannot be written: %s", type(error).__name__)
                refusal = Problem(503, "log_unwritable", "the event could not be made durable; send it again", retry_after=5)
                for group in batch:
                    if not group.done.done():
                        group.done.set_exception(refusal)
                continue
            for group, answers in zip(batch, written, strict=True):
                group.kept(answers)
                # A caller that went away has no future to answer; its events are in force all the same.
                if not group.done.done():
                    group.done.set_result(answers)
