"""The order of things in the service: nobody is answered from before an event that was acknowledged to them.

The log is the real one; a generation stands in whose evaluations end when the test says so.
"""

import asyncio
import threading
from collections.abc import Sequence
from datetime import datetime, timedelta

import pyarrow as pa
import pytest

from orchestration.identity.keys import MasterKeys
from orchestration.identity.pseudonyms import few_tokens
from orchestration.online import service as online
from orchestration.online.errors import Problem
from orchestration.online.evaluating import Evaluation
from orchestration.online.reconciling import Reconciliation
from orchestration.online.service import Service
from orchestration.online.standing import Published, Sorted
from orchestration.settings import Settings

KEYS = MasterKeys(1, b"k" * 32, bytes(range(32)), b"f" * 32)
AS_OF = datetime(2026, 11, 1)
PEOPLE = ("ann", "bob", "eve")


class StandIn:
    """A generation of three customers. `gate` holds evaluations up; whoever is in `poison` cannot be evaluated."""

    def __init__(self, passes: bool = True) -> None:
        tokens = sorted(few_tokens(KEYS, ["raw", "risk", "audience"], PEOPLE))
        names = ("subject_token", "risk_subject_token", "audience_subject_token")
        columns = dict(zip(names, (pa.array(column) for column in zip(*tokens, strict=True)), strict=True))
        customers = Sorted(pa.table({**columns, "is_self_consent_capable": pa.array([True] * len(PEOPLE))}))
        self.published = Published("run", "fintech", AS_OF, AS_OF, {}, {}, customers)
        self.reconciliation = Reconciliation(3, {} if passes else {"risk_segments": 1})
        self.waiting, self.read_up_to, self.opted_out, self.model_valid_until = [], 0, [], None
        self.gate = threading.Event()
        self.gate.set()
        self.poison: set[str] = set()
        self.evaluated: list[tuple[int, int]] = []

    def evaluate(self, tokens: Sequence[str], events: dict[str, pa.Table], as_of: datetime) -> Evaluation:
        assert self.gate.wait(30)
        if self.poison & set(tokens):
            raise ValueError("poison")
        self.evaluated.append((len(tokens), sum(table.num_rows for table in events.values())))
        return Evaluation(as_of, {"risk_segments": {token: [{"events": self.evaluated[-1][1]}] for token in tokens}})

    def close(self) -> None:
        self.gate.set()


@pytest.fixture
def running(tmp_path, monkeypatch):
    """Runs a test's coroutine against a started service."""
    monkeypatch.setattr(online.Watch, "_publication", lambda self: 1)
    monkeypatch.setattr(online, "load_keys", lambda settings: KEYS)

    def run(test, generation: StandIn, max_age: timedelta = timedelta(days=1)) -> None:
        clock = Moving(AS_OF)
        service = Service(Settings(home=tmp_path / "home"), KEYS, clock, max_age, lambda settings, report: generation)

        async def whole() -> None:
            await service.start()
            try:
                async with asyncio.timeout(60):
                    while service.generation is None:
                        await asyncio.sleep(0.01)
                    await test(service, clock)
            finally:
                generation.gate.set()
                await service.stop()

        asyncio.run(whole())

    return run


class Moving:
    """A clock that stands until it is set."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def movement(customer: str, key: str) -> tuple[str, dict]:
    data = {
        "transaction_id": key, "customer_id": customer, "booked_at": AS_OF, "direction": "credit", "amount": 1, "currency": "EUR",
        "payment_method": "card", "channel": None, "counterparty_id": None, "counterparty_country": None, "category": None,
    }  # fmt: skip
    return "transaction", data


def test_nobody_is_answered_from_before_an_acknowledged_event(running):
    """While the evaluation lasts the request waits; another event that comes meanwhile is waited for as well."""
    generation = StandIn()

    async def test(service: Service, clock: Moving) -> None:
        generation.gate.clear()
        _, (ann,) = await service.accept([movement("ann", "1")])
        asked = asyncio.create_task(service.standing(ann))
        (bob,) = service.persons(["bob"])
        assert (await service.standing(bob))[1] is None, "whoever has no event is answered at once"
        await asyncio.sleep(0.05)
        assert not asked.done()
        await service.accept([movement("ann", "2")])
        generation.gate.set()
        _, evaluation = await asked
        assert evaluation.of("risk_segments", ann.raw) == [{"events": 2}]

    running(test, generation)


def test_an_answer_that_does_not_come_in_time_is_refused_and_not_made_up(running, monkeypatch):
    """Never what was published instead."""
    monkeypatch.setattr(online, "WAIT_SECONDS", 0.1)
    generation = StandIn()

    async def test(service: Service, clock: Moving) -> None:
        generation.gate.clear()
        _, (ann,) = await service.accept([movement("ann", "1")])
        with pytest.raises(Problem) as refused:
            await service.standing(ann)
        assert (refused.value.status, refused.value.kind) == (503, "evaluation_pending")

    running(test, generation)


def test_one_person_whom_nothing_can_evaluate_keeps_no_other_waiting(running):
    """The others of a batch that failed are evaluated without that one."""
    generation = StandIn()

    async def test(service: Service, clock: Moving) -> None:
        ann, bob, eve = service.persons(PEOPLE)
        generation.poison.add(bob.raw)
        generation.gate.clear()
        await service.accept([movement(name, f"{name}-1") for name in PEOPLE])
        generation.gate.set()
        for person in (ann, eve):
            assert (await service.standing(person))[1] is not None
        assert service.pending == 1 and service.tally.failed_evaluations

    running(test, generation)


def test_an_old_publication_answers_nobody_and_still_takes_a_withdrawal_in(running):
    """Old data is no basis for an answer; refusing to hear a withdrawal would be worse."""
    generation = StandIn()

    async def test(service: Service, clock: Moving) -> None:
        clock.now = AS_OF + timedelta(days=1, seconds=1)
        with pytest.raises(Problem) as refused:
            service.require_ready()
        assert refused.value.kind == "stale_publication"
        accepted, _ = await service.accept([movement("ann", "1")])
        assert accepted[0].sequence
        clock.now = AS_OF + timedelta(hours=1)
        generation.model_valid_until = AS_OF
        with pytest.raises(Problem) as refused:
            service.require_ready()
        assert refused.value.kind == "stale_model"

    running(test, generation)


def test_an_evaluator_that_disagrees_with_the_batch_answers_nobody_with_an_event(running, monkeypatch):
    """And leaves whoever has none with what was published."""
    monkeypatch.setattr(online, "WAIT_SECONDS", 0.1)
    generation = StandIn(passes=False)

    async def test(service: Service, clock: Moving) -> None:
        _, (ann,) = await service.accept([movement("ann", "1")])
        with pytest.raises(Problem, match="not evaluated"):
            await service.standing(ann)
        assert (await service.standing(service.persons(["bob"])[0]))[1] is None and not generation.evaluated

    running(test, generation)


def test_a_batch_with_an_unknown_customer_leaves_nothing(running):
    """All or none, before anything is written."""

    async def test(service: Service, clock: Moving) -> None:
        with pytest.raises(Problem) as refused:
            await service.accept([movement("ann", "1"), movement("nobody", "2")])
        assert refused.value.kind == "unknown_subject"
        again, _ = await service.accept([movement("ann", "1")])
        assert not again[0].is_replay

    running(test, StandIn())
