"""The service: events in, decisions out, and never an answer that an acknowledged event should have changed.

An event is on the disk before it is acknowledged, and its person counts as *pending* from before the acknowledgement until
the evaluation that has seen it. Who is pending gets no answer from what was published: the request waits for the evaluation,
and where that does not come in time it is refused. So a withdrawal is in force for the very next request.

All state is changed by the event loop's thread. Others work for it: one writes the log (`writing`), one evaluates, many persons
at once, one loads publications.

Belongs here: that order. Does not belong here: HTTP (`api`), the log (`writing`, `event_log`), SQL (`evaluating`).
"""

import asyncio
import itertools
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from orchestration.identity.keys import MasterKeys, load_keys
from orchestration.identity.pseudonyms import few_tokens
from orchestration.ingestion.contracts import load_contracts
from orchestration.online import event_log
from orchestration.online.bodies import EVENTS
from orchestration.online.errors import Problem, ServeError
from orchestration.online.evaluating import Evaluation
from orchestration.online.event_log import Accepted, Event
from orchestration.online.generation import Generation, load_generation
from orchestration.online.watching import Watch, opt_outs_of
from orchestration.online.writing import LogWriter
from orchestration.settings import Settings

LOG = logging.getLogger("segline.online")
MOST_AT_ONCE = 500
WAIT_SECONDS = 10.0
SKEW = timedelta(seconds=60)
WATCH_SECONDS = 1.0
FOLD_BACK_EVERY = 5  # looks


@dataclass(frozen=True)
class Person:
    """One customer's pseudonyms of the three zones."""

    raw: str
    risk: str
    audience: str


@dataclass
class _Pending:
    """An acknowledged event's person, until an evaluation has seen it."""

    person: Person
    sequence: int
    done: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass
class Tally:
    """Figures for the metrics; counted up, but for `pending`."""

    accepted: int = 0
    replayed: int = 0
    evaluated: int = 0
    evaluations: int = 0
    failed_evaluations: int = 0
    loads: int = 0


class Clock:
    """Now, in UTC without zone; or from a given instant on, for a publication of another day."""

    def __init__(self, begins: datetime | None = None) -> None:
        self._begins, self._started = begins, time.monotonic()

    def __call__(self) -> datetime:
        if self._begins is None:
            return datetime.now(UTC).replace(tzinfo=None)
        return self._begins + timedelta(seconds=time.monotonic() - self._started)


class Service:
    """Everything behind the API. Make it, `await start()`, and `await stop()` at the end; all within one event loop."""

    def __init__(
        self, settings: Settings, keys: MasterKeys, clock: Clock, max_age: timedelta,
        load: Callable[..., Generation] = load_generation,
    ) -> None:  # fmt: skip
        self.settings, self.keys, self.clock, self.max_age = settings, keys, clock, max_age
        self.tally = Tally()
        self.generation: Generation | None = None
        self.trouble = "the publication is being read"
        self.load_progress = 0.0
        self._load = load
        self._writer = LogWriter(settings)
        self._wake_evaluator = asyncio.Event()
        self._pending: dict[str, _Pending] = {}
        self._events: dict[str, list[Event]] = {}
        self._overlay: dict[str, Evaluation] = {}
        self._watch = Watch(settings)
        self._tasks: list[asyncio.Task[None]] = []
        self._worker = ThreadPoolExecutor(1, "segline-evaluation")
        self._loader = ThreadPoolExecutor(1, "segline-loading")
        self._at_once = MOST_AT_ONCE

    # -- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the log and begin to load; events and look-ups are served as soon as the publication is in memory."""
        await self._writer.start()
        works = (self._evaluate_forever, self._watch_forever)
        self._tasks = [asyncio.create_task(work(), name=work.__name__) for work in works]

    async def stop(self) -> None:
        """Write what is queued, then end. Nothing acknowledged is lost by it, nor by a kill."""
        await self._writer.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for pool in (self._worker, self._loader):
            await asyncio.to_thread(pool.shutdown, wait=True)
        if self.generation:
            self.generation.close()

    def is_erased(self, person: Person) -> bool:
        """Whether nothing may be said about somebody any more, whatever is still in memory."""
        return self._watch.is_erased(person.raw)

    @property
    def pending(self) -> int:
        """Persons whose newest event no evaluation has seen."""
        return len(self._pending)

    def require_ready(self) -> Generation:
        """The generation that may answer now. Raises `Problem` 503 where none may."""
        generation = self.generation
        if generation is None:
            raise Problem(503, "not_ready", self.trouble, retry_after=5)
        now = self.clock()
        age = now - generation.published.as_of
        if age > self.max_age:
            raise Problem(503, "stale_publication", "the publication is too old to answer from: run `segline run`")
        if generation.model_valid_until and now > generation.model_valid_until:
            raise Problem(503, "stale_model", "the model that scored is past its time: train and promote, and run `segline run`")
        return generation

    # -- events ----------------------------------------------------------------------------------------------------

    def persons(self, customers: Sequence[str]) -> list[Person]:
        """The pseudonyms of customers, in order. Raises `Problem` 422 for a blank identifier."""
        try:
            return [Person(*tokens) for tokens in few_tokens(self.keys, ["raw", "risk", "audience"], customers)]
        except ValueError:
            raise Problem(422, "malformed", "a subject's identifier is blank") from None

    def event(self, kind: str, data: Mapping[str, Any], generation: Generation) -> tuple[Event, Person]:
        """An event under its pseudonym. Raises `Problem` 422 for an unknown customer or a time that has not come."""
        contract = load_contracts()[EVENTS[kind]]
        now = self.clock()
        (person,) = self.persons([data[contract.subject_column.name]])
        held = generation.published.customers.rows(person.raw)
        if not held or self._watch.is_erased(person.raw):
            raise Problem(422, "unknown_subject", "no customer of that identifier is in the book that stands published")
        happened = data[str(contract.event_time)]
        if happened > now + SKEW:
            raise Problem(422, "in_future", f"{contract.event_time} lies in the future: set the sender's clock")
        row = {column.name: data[column.name] for column in contract.columns if not (column.subject or column.counterparty)}
        if contract.entity == "consent_events":
            row["received_at"] = row["received_at"] or now
            # Said of the day that the book stands for: an age only grows, so it holds from then on. Of before, nobody can say.
            row["is_capable_at_collection"] = bool(
                held[0]["is_self_consent_capable"] and happened >= generation.published.as_of
            )
        other = next((data[column.name] for column in contract.columns if column.counterparty), None)
        counterparty = few_tokens(self.keys, ["raw"], [other])[0][0] if other else None
        return Event(contract.entity, str(data[contract.key]), person.raw, counterparty, now, row), person

    async def accept(self, events: Sequence[tuple[str, Mapping[str, Any]]]) -> tuple[list[Accepted], list[Person]]:
        """Take events in, all or none; when this returns they are on the disk and their persons pending.

        Raises `Problem`: 422 as `event`, 409 if one contradicts an event of the same key, 503 if too many wait. A publication
        that is too old to answer from still knows its customers: a withdrawal is taken in all the same.
        """
        generation = self.generation
        if generation is None:
            raise Problem(503, "not_ready", self.trouble, retry_after=5)
        made = [self.event(kind, data, generation) for kind, data in events]

        def kept(answers: list[Accepted]) -> None:
            if any(answer.contradicts for answer in answers):
                return
            for (event, person), answer in zip(made, answers, strict=True):
                self.tally.replayed += answer.is_replay
                if not answer.is_replay:
                    self._remember(event, person, answer.sequence)

        accepted = await self._writer.append([event for event, _ in made], kept)
        if any(one.contradicts for one in accepted):
            raise Problem(409, "contradictory", "an event of that key was accepted with other content; nothing was kept of this")
        return accepted, [person for _, person in made]

    def _remember(self, event: Event, person: Person, sequence: int) -> None:
        self._events.setdefault(person.raw, []).append(event)
        self._overlay.pop(person.raw, None)
        self._mark(person, sequence)
        self.tally.accepted += 1

    def _mark(self, person: Person, sequence: int) -> None:
        held = self._pending.get(person.raw)
        if held:
            held.sequence = max(held.sequence, sequence)
        else:
            self._pending[person.raw] = _Pending(person, sequence)
        self._wake_evaluator.set()

    # -- decisions -------------------------------------------------------------------------------------------------

    async def standing(self, person: Person) -> tuple[Generation, Evaluation | None]:
        """What holds for a person: an evaluation of today, or `None` where what was published still does.

        Raises `Problem` 503 if the evaluation of an acknowledged event does not come in time.
        """
        self.require_ready()
        deadline = asyncio.get_running_loop().time() + WAIT_SECONDS
        # Again, because another event may have come while this one was evaluated; what is found then must not be older.
        while waiting := self._pending.get(person.raw):
            try:
                async with asyncio.timeout_at(deadline):
                    await waiting.done.wait()
            except TimeoutError:
                text = "an acknowledged event of this subject is not evaluated yet"
                raise Problem(503, "evaluation_pending", text, retry_after=2) from None
        return self.require_ready(), self._overlay.get(person.raw)

    async def _evaluate_forever(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake_evaluator.wait()
            generation = self.generation
            if generation is None or not self._pending or not self._agrees(generation):
                self._wake_evaluator.clear()
                continue
            some = dict(list(self._pending.items())[: self._at_once])
            sequences = {token: one.sequence for token, one in some.items()}
            events = [event for token in some for event in self._events.get(token, ())]
            try:
                made = await loop.run_in_executor(self._worker, self._evaluate, generation, list(some), events)
            except Exception as error:
                self.tally.failed_evaluations += 1
                LOG.error("an evaluation of %s persons failed: %s", len(some), type(error).__name__)
                self._set_back(some)
                await asyncio.sleep(0.1)
                continue
            self._at_once = min(MOST_AT_ONCE, 2 * self._at_once)
            self.tally.evaluations += 1
            if self.generation is not generation:
                continue
            for token, one in some.items():
                self._overlay[token] = made
                self.tally.evaluated += 1
                if one.sequence == sequences[token]:
                    del self._pending[token]
                    one.done.set()

    def _set_back(self, some: Mapping[str, _Pending]) -> None:
        """After a failure: fewer at once, these last, so that one person whom nothing can evaluate keeps no other waiting."""
        self._at_once = max(1, len(some) // 2)
        for token in some:
            if token in self._pending:
                self._pending[token] = self._pending.pop(token)

    def _evaluate(self, generation: Generation, tokens: list[str], events: list[Event]) -> Evaluation:
        # An event within the tolerated skew has happened: it must not wait until the clock reaches it.
        latest = max((event.happened_at for event in events), default=datetime.min)
        instant = max(self.clock(), latest, generation.published.as_of)
        came = event_log.raw_tables(events)
        refused = opt_outs_of(self.settings, tokens, instant)
        if refused is not None:
            came["privacy_requests"] = refused
        return generation.evaluate(tokens, came, instant)

    def _agrees(self, generation: Generation) -> bool:
        return generation.reconciliation is not None and generation.reconciliation.passed

    # -- publications ----------------------------------------------------------------------------------------------

    async def _watch_forever(self) -> None:
        """Load a publication as soon as it stands, and evaluate again whoever opted out by another way."""
        loop = asyncio.get_running_loop()
        for look in itertools.count():
            if look % FOLD_BACK_EVERY == 0:
                with suppress(sqlite3.Error):  # it is done again
                    await loop.run_in_executor(self._loader, event_log.fold_back, self.settings)
            try:
                change = await loop.run_in_executor(self._loader, self._watch.change)
                if change.is_new or self.generation is None:
                    await self._swap(await loop.run_in_executor(self._loader, self._loaded))
                elif change.opted_out and self.generation:
                    for token in change.opted_out:
                        self._reconsider(token)
            except (ServeError, FileNotFoundError) as error:
                self.trouble = str(error)
                LOG.warning("%s", error)
            except Exception as error:
                self.trouble = f"the publication cannot be read ({type(error).__name__}); see the service's log"
                LOG.exception("the publication cannot be read")
            await asyncio.sleep(WATCH_SECONDS)

    def _loaded(self) -> Generation:
        def report(text: str, share: float) -> None:
            self.load_progress = share
            LOG.info("%s", text)

        # Keys that were rotated make other pseudonyms, and come with a publication that has them.
        self.keys = load_keys(self.settings)
        return self._load(self.settings, report)

    async def _swap(self, fresh: Generation) -> None:
        """Put a generation in charge. Events that it knows are let go; those that it does not are evaluated on it."""
        loop = asyncio.get_running_loop()
        newer = await self._writer.read(fresh.read_up_to)
        old, self.generation = self.generation, fresh
        self._overlay, self._events = {}, {}
        held = self._pending
        self._pending = {}
        for event in (*fresh.waiting, *newer):
            self._events.setdefault(event.subject_token, []).append(event)
            self._reconsider(event.subject_token, event.sequence)
        for token, one in held.items():
            if token in self._pending:
                self._pending[token].done = one.done
                self._pending[token].sequence = max(one.sequence, self._pending[token].sequence)
            else:
                one.done.set()
        for token in fresh.opted_out:
            self._reconsider(token)
        self.tally.loads += 1
        self.trouble = ""
        self._wake_evaluator.set()
        if old:
            await loop.run_in_executor(self._worker, old.close)
        if not self._agrees(fresh):
            found = fresh.reconciliation
            LOG.error("online and batch decide differently: nobody is evaluated until the next publication (%s)", found)

    def _reconsider(self, token: str, sequence: int = 0) -> None:
        """Mark a customer, known by the pseudonym of zone raw, as to be evaluated."""
        assert self.generation is not None
        for row in self.generation.published.customers.rows(token):
            self._overlay.pop(token, None)
            self._mark(Person(token, row["risk_subject_token"], row["audience_subject_token"]), sequence)

