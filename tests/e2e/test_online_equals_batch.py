"""Online = batch: however a person's rows are divided between the book and events that came since, the decision is the batch's.

What the batch decided is what a real run published; the online side is the service's own evaluator over the same rows.
"""

from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from orchestration.ingestion.contracts import load_contracts
from orchestration.online import event_log
from orchestration.online.bodies import EVENTS
from orchestration.online.event_log import Event
from orchestration.online.generation import Generation, load_generation
from orchestration.online.reconciling import compare
from orchestration.settings import Settings
from tests import effort

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=["fintech", "retail"])
def generation(request, tmp_path_factory) -> Generation:
    published = request.getfixturevalue(request.param)
    cli = published.cli.copy(tmp_path_factory.mktemp("compared") / "home")
    found = load_generation(Settings(home=cli.home, profile=cli.profile), lambda text, share: None, sample=20)
    yield found
    found.close()


def as_event(entity: str, row: dict) -> Event:
    """A raw row as the event that it would have been."""
    tokens = {"subject_token", "counterparty_token"}
    said = {name: value for name, value in row.items() if name not in (*tokens, "feed", "load_id")}
    return Event(entity, row[load_contracts()[entity].key], row["subject_token"], row.get("counterparty_token"), None, said)


def persons(generation: Generation) -> list[dict]:
    customers = generation.published.customers
    found = [customers.rows(token)[0] for token in customers.sample(10_000)]
    # The canary's twins are taken out of what is published.
    return [person for person in found if generation.published.of("risk_segments", person["risk_subject_token"])]


def test_any_division_of_anybodys_rows_into_book_and_events_is_decided_as_the_batch_did(generation):
    """A random handful of people, each of their rows in the book or come since: tier, points, reasons, basis, segments, all of it."""
    published, everybody = generation.published, persons(generation)
    named = 0

    @settings(max_examples=effort.examples(45), deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(st.lists(st.sampled_from(everybody), min_size=1, max_size=8, unique_by=lambda one: one["subject_token"]), st.randoms())
    def check(chosen: list[dict], chance) -> None:
        nonlocal named
        rows = generation.rows([person["subject_token"] for person in chosen])
        events: list[Event] = []
        for entity in EVENTS.values():
            if entity in rows:
                came = [chance.random() < 0.5 for _ in range(rows[entity].num_rows)]
                events += [as_event(entity, row) for row, is_event in zip(rows[entity].to_pylist(), came, strict=True) if is_event]
                rows[entity] = rows[entity].filter(pa.array([not is_event for is_event in came], pa.bool_()))
        chance.shuffle(events)
        made = generation.evaluator.evaluate(rows, event_log.raw_tables(events), published.as_of)
        found = compare(made, published.of, list(published.relations), chosen)
        assert found.passed, found
        named += sum(row["segment"] != "default" for person in chosen for row in published.of("audience_segments", person["audience_subject_token"]))

    check()
    assert named, "nobody in a named segment was compared"


def test_a_plan_that_decides_otherwise_is_found(generation):
    """The comparison must be able to fail: another number in one step is enough."""
    chosen = persons(generation)[:150]
    tokens = [person["subject_token"] for person in chosen]
    plan, published = generation.evaluator.plan, generation.published
    step = next(step for step in plan.steps if "risk_ratings" in step.relation)
    assert ">=" in step.sql
    changed = tuple(replace(one, sql=one.sql.replace(">=", ">")) if one is step else one for one in plan.steps)
    generation.evaluator.plan = replace(plan, steps=changed)
    try:
        made = generation.evaluate(tokens, {}, published.as_of)
    finally:
        generation.evaluator.plan = plan
    found = compare(made, published.of, list(published.relations), chosen)
    assert "risk_segments" in found.differing and not found.passed


def test_nothing_is_left_of_an_evaluation(generation):
    """The engine serves one person after another: a row that stayed would be somebody else's."""
    chosen = persons(generation)[:5]
    first = generation.evaluate([chosen[0]["subject_token"]], {}, generation.published.as_of)
    second = generation.evaluate([chosen[1]["subject_token"]], {}, generation.published.as_of)
    assert first.rows["risk_segments"].keys() == {chosen[0]["risk_subject_token"]}
    assert second.rows["risk_segments"].keys() == {chosen[1]["risk_subject_token"]}
    nobody = generation.evaluate(["nobody"], {}, generation.published.as_of)
    assert not any(nobody.rows.values())
