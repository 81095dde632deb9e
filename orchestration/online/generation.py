"""One publication made ready to serve: what stands, the evaluator with the SQL that made it, and the book behind it.

A service loads a generation in the background and swaps it in whole; answers never mix two publications. Each one first decides
a sample of customers and compares: an evaluator that does not decide as the batch did answers nobody.

Belongs here: loading, reconciling. Does not belong here: events and answers (`service`).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from orchestration.identity.keys import load_keys
from orchestration.ingestion.contracts import load_contracts
from orchestration.lake import open_lake, private_folder, table_exists
from orchestration.online.book import held_keys, make_book, rows_of
from orchestration.online.errors import ServeError
from orchestration.online.evaluating import Evaluation, Evaluator
from orchestration.online.event_log import Event, has_events, open_log, read
from orchestration.online.reconciling import Reconciliation, compare
from orchestration.online.sql import plan_of
from orchestration.online.standing import Published, load_published
from orchestration.publication import last_publication
from orchestration.rights.canary import canary_tokens
from orchestration.rights.intake import read_opt_outs
from orchestration.rights.published_sql import compiled_manifest
from orchestration.settings import Settings

SAMPLE = 200
Report = Callable[[str, float], None]


@dataclass
class Generation:
    """A publication that answers. `waiting` are the accepted events, up to sequence `read_up_to`, that its run did not read,
    `opted_out` who opted out since (pseudonyms of zone raw).

    `reconciliation` leaves out who opted out since: their published rows changed after the run.
    """

    published: Published
    evaluator: Evaluator
    waiting: Sequence[Event]
    read_up_to: int
    opted_out: Sequence[str]
    model_valid_until: datetime | None
    reconciliation: Reconciliation | None = None
    _connection: duckdb.DuckDBPyConnection | None = None
    _stack: ExitStack = field(default_factory=ExitStack)

    def rows(self, tokens: Sequence[str]) -> dict[str, pa.Table]:
        """Raw rows of these persons, by entity."""
        assert self._connection is not None
        return {entity: rows_of(self._connection, entity, tokens) for entity in self.evaluator.plan.entities}

    def evaluate(self, tokens: Sequence[str], events: Mapping[str, pa.Table], as_of: datetime) -> Evaluation:
        """Evaluate these persons with what came since; what the book holds by the same key is left out."""
        rows = self.rows(tokens)
        fresh = {}
        for entity, table in events.items():
            key = load_contracts()[entity].key
            fresh[entity] = table.filter(pc.invert(pc.is_in(table[key], value_set=rows[entity][key].combine_chunks())))
        return self.evaluator.evaluate(rows, fresh, as_of)

    def close(self) -> None:
        """Let engine, book and its file go."""
        self.evaluator.close()
        self._stack.close()


def load_generation(settings: Settings, report: Report, sample: int = SAMPLE) -> Generation:
    """Make the standing publication ready and reconcile it.

    Raises `ServeError` if nothing is published or its SQL is gone. Whether online and batch agree is for the caller to look at.
    """
    stack = ExitStack()
    try:
        connection = stack.enter_context(open_lake(settings, read_only=True))
        private_folder(settings.temp)
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="book-", dir=settings.temp, ignore_cleanup_errors=True)))
        publication = last_publication(connection)
        if publication is None:
            raise ServeError("nothing is published yet: run `segline run` first")
        report("reading what stands published", 0.0)
        published = load_published(connection, publication)
        plan = plan_of(compiled_manifest(settings, published.run_id), published.as_of)
        evaluator = Evaluator(connection, plan, published.as_of)
        stack.callback(evaluator.close)
        make_book(connection, folder, plan.entities, report)
        waiting, read_up_to = _waiting(settings, connection)
        moved = _opted_out_since(settings, connection)
        valid_until = _model_valid_until(connection)
        connection.execute("use memory.main; detach lake")
        # From here on one core is the answers'.
        connection.execute("set threads = 1")
        generation = Generation(published, evaluator, waiting, read_up_to, moved, valid_until, None, connection, stack)
        report("deciding a sample as the batch did", 0.95)
        # The canary's twins lie in the raw tables and are taken out of what is published.
        twins = {tokens[0] for tokens in canary_tokens(load_keys(settings)).values()}
        asked = sorted(set(published.customers.sample(sample)) - set(moved) - twins)
        persons = [published.customers.rows(token)[0] for token in asked]
        made = generation.evaluate(asked, {}, published.as_of)
        generation.reconciliation = compare(made, published.of, list(published.relations), persons)
        return generation
    except BaseException:
        stack.close()
        raise


def _waiting(settings: Settings, connection: duckdb.DuckDBPyConnection) -> tuple[list[Event], int]:
    """The accepted events that the lake does not hold yet, and the last sequence of all that were read."""
    if not has_events(settings):
        return [], 0
    with open_log(settings) as log:
        events = read(log)
    held: dict[str, set[str]] = {}
    for entity in {event.entity for event in events}:
        key = load_contracts()[entity].key
        held[entity] = held_keys(connection, entity, key, [event.key for event in events if event.entity == entity])
    waiting = [event for event in events if event.key not in held[event.entity]]
    return waiting, max((event.sequence for event in events), default=0)


def _opted_out_since(settings: Settings, connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Pseudonyms (zone raw) of whose opt-out the lake does not hold yet."""
    intake = read_opt_outs(settings)
    requests = dict(zip(intake["request_id"].to_pylist(), intake["subject_token"].to_pylist(), strict=True))
    held = held_keys(connection, "privacy_requests", "request_id", list(requests))
    return sorted({subject for request, subject in requests.items() if request not in held})


def _model_valid_until(connection: duckdb.DuckDBPyConnection) -> datetime | None:
    """Until when the points table that scores may; `None` where none does."""
    if not table_exists(connection, "risk", "score_model"):
        return None
    row = connection.execute("select status, document from lake.risk.score_model").fetchone()
    if row is None or row[0] != "current" or not row[1]:
        return None
    document = json.loads(row[1])
    return datetime.fromisoformat(document["trained_as_of"][:19]) + timedelta(days=document["valid_days"])
