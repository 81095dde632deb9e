"""Opt-outs carried out: within a minute in what is published, without a full run, and again in every run.

Two ways lead to the same row. Directly: `apply_opt_outs` asks the gate again for the few who opted out and brings their
published rows into line, in one transaction, also while a run is writing. By the next run: the landing puts every opt-out
on record beside the delivered requests, and what arrived too late for that run's gate is applied again inside the
publication's transaction, so that no run can undo an opt-out.

While no run is at work the ledger enters the decisions that an opt-out changes in the same transaction, and whatever was
computed about those who may no longer be segmented goes; beside a run, both are that run's publication's to do.

Belongs here: which opt-outs are due, the two ways, the log. Does not belong here: receiving them (`intake`), what the gate
makes of them (`regating`), files of exports (`export_files`).
"""

import contextlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from orchestration.identity.keys import load_keys
from orchestration.lake import open_lake, table_exists, transaction
from orchestration.ledger.entry import Entry, enter_decisions, finish_entry
from orchestration.ledger.errors import LedgerError
from orchestration.ledger.store import is_kept
from orchestration.publication import last_publication
from orchestration.rights.export_files import remove_subjects
from orchestration.rights.intake import read_opt_outs
from orchestration.rights.published_sql import Model, manifest_at, published_models, record_models
from orchestration.rights.regating import Regated, bring_into_line, forget_denied, recount, regate, write_consent
from orchestration.run_lock import RunLocked, run_lock
from orchestration.settings import Settings
from orchestration.transformation import run_manifest
from orchestration.turns import sole_turn

FEED = "rights_intake"
ATTEMPTS = 5
APPLICATIONS_DDL = (
    "create table if not exists lake.ops.opt_out_applications (request_id varchar, received_at timestamp, "
    "arrived_at timestamp, applied_at timestamp, seconds double, route varchar, run_id varchar, subjects_moved bigint, "
    "export_files_changed bigint)"
)
PEOPLE, REQUESTS = "opt_out_people", "opt_out_requests"


@dataclass
class OptOutResult:
    """What one application did.

    `applied`: request ids that now hold in what is published. `pending`: request ids of persons whom no delivery has
    brought yet, or all where nothing is published. `moved`: subjects whose rows changed, by relation. `export_files`:
    files of exports rewritten or withdrawn. `ledger_error`: why the ledger could not enter what changed; the opt-outs hold.
    """

    applied: list[str] = field(default_factory=list)
    pending: list[str] = field(default_factory=list)
    moved: dict[str, int] = field(default_factory=dict)
    export_files: int = 0
    beside_a_run: bool = False
    ledger_error: str | None = None


@contextlib.contextmanager
def _run_lock_if_free(settings: Settings) -> Iterator[bool]:
    """Whether no run is at work; if so none starts while the block runs."""
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(run_lock(settings.model_copy(update={"lock_wait_seconds": 0})))
            free = True
        except RunLocked:
            free = False
        yield free


def apply_opt_outs(settings: Settings) -> OptOutResult:
    """Carry out every opt-out on record that has not been carried out yet. Safe to repeat, and beside a run.

    Waits for open transactions of a run, not for its end. Raises `TurnTimeout` if the store stays busy for
    `settings.lock_wait_seconds`, `RegatingError` if the last publication left no SQL of its gate.
    """
    result = OptOutResult()
    intake = read_opt_outs(settings)
    if not len(intake) or not settings.catalog.exists():
        result.pending = intake["request_id"].to_pylist()
        return result
    try:
        return _carry_out(settings, intake)
    except LedgerError as error:  # nobody's opt-out waits until a damaged ledger is mended; no run publishes until then
        result = _carry_out(settings, intake, enters=False)
        result.ledger_error = str(error)
        return result


# Whoever writes without a turn (an older dbt, an administrator's shell) makes the commit fail and nothing else; the
# requests are still on record, so it is done again from the start.
@retry(
    retry=retry_if_exception_type(duckdb.TransactionException),
    stop=stop_after_attempt(ATTEMPTS), wait=wait_random_exponential(max=5), reraise=True,
)  # fmt: skip
def _carry_out(settings: Settings, intake: pa.Table, enters: bool = True) -> OptOutResult:
    result = OptOutResult()
    entry: Entry | None = None
    with (
        open_lake(settings, holds_turn=False) as connection,
        _run_lock_if_free(settings) as no_run,
        sole_turn(settings.turn_file, settings.lock_wait_seconds),
    ):
        result.beside_a_run = not no_run
        publication = last_publication(connection)
        connection.execute("create schema if not exists lake.ops")
        connection.execute(APPLICATIONS_DDL)
        with transaction(connection):
            _register(connection, intake)
            due = _due(connection, publication is not None)
            result.applied = [row[0] for row in due if row[1]]
            result.pending = [row[0] for row in due if not row[1]]
            if result.applied and publication:
                entry = _apply(connection, settings, publication, result, no_run, enters)
        if entry:
            finish_entry(connection, settings, entry)
    return result


def _register(connection: duckdb.DuckDBPyConnection, intake: pa.Table) -> None:
    connection.register("opt_out_intake", intake)
    connection.execute(f"create or replace temp table {REQUESTS} as select * from opt_out_intake")
    connection.unregister("opt_out_intake")


def _due(connection: duckdb.DuckDBPyConnection, is_published: bool) -> list[tuple[str, bool]]:
    """Request ids without an application, and whether the person is a customer of the newest delivery."""
    known = "false"
    if is_published and table_exists(connection, "raw", "customers"):
        known = "requests.subject_token in (select subject_token from lake.raw.customers)"
    return connection.execute(
        f"select request_id, {known} from {REQUESTS} as requests "
        "where request_id not in (select request_id from lake.ops.opt_out_applications) order by 1"
    ).fetchall()


def _apply(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    publication: Any,
    result: OptOutResult,
    no_run: bool,
    enters: bool,
) -> Entry | None:
    run_id, profile, as_of, _ = publication
    models = published_models(connection)
    regated, instant = _regate(connection, models, result.applied, as_of)
    entry = None
    if no_run:
        _settle(connection, models, regated, as_of, instant)
        newest = connection.execute("select run_id from lake.ops.deliveries order by landed_at desc limit 1").fetchone()
        if newest and newest[0] == run_id:  # else the gate's other rows are not those that were published
            recount(connection, models, regated)
            entry = _enter(connection, settings, (run_id, profile, as_of), instant) if enters else None
    result.moved = regated.changed
    result.export_files = remove_subjects(settings, connection, "regated_persons", "not is_allowed")
    _log(connection, result.applied, "direct", run_id, sum(regated.changed.values()), result.export_files)
    return entry


def _settle(
    connection: duckdb.DuckDBPyConnection, models: list[Model], regated: Regated, as_of: datetime, instant: datetime
) -> None:
    """Bring what lies behind the publication into line too: else publishing again what was built would undo the opt-out."""
    write_consent(connection, models, regated)
    bring_into_line(connection, models, regated, as_of, instant, zone="candidate")
    forget_denied(connection)


def _enter(
    connection: duckdb.DuckDBPyConnection, settings: Settings, run: tuple[str, str, datetime], instant: datetime
) -> Entry | None:
    """Enter what changed of the people asked about; the next run does where the published run's SQL is no longer at hand."""
    run_id, profile, as_of = run
    manifest = run_manifest(settings, run_id)
    if manifest is None or not is_kept(connection):
        return None
    asked = (f"opt-outs-{secrets.token_hex(8)}", profile, instant)
    compiled = manifest_at(manifest, as_of, instant)
    among = f"select subject_token from {PEOPLE}"
    return enter_decisions(connection, settings, load_keys(settings), compiled, *asked, zone="published", among=among)


def _regate(
    connection: duckdb.DuckDBPyConnection, models: list[Model], request_ids: list[str], as_of: datetime
) -> tuple[Regated, datetime]:
    """The published rows of who asked, brought into line; and the instant as of which the gate was asked."""
    connection.register("opt_out_chosen", pa.table({"request_id": pa.array(request_ids, pa.string())}))
    connection.execute(
        f"create or replace temp table {PEOPLE} as "
        f"select distinct subject_token, risk_subject_token, audience_subject_token from {REQUESTS} "
        "where request_id in (select request_id from opt_out_chosen)"
    )
    latest = connection.execute(
        f"select max(received_at) from {REQUESTS} where request_id in (select request_id from opt_out_chosen)"
    ).fetchone()[0]
    connection.unregister("opt_out_chosen")
    # A publication may be older than the request: the gate is asked as of the later of the two.
    instant = max(as_of, latest)
    chosen = f"(select * from {REQUESTS} where subject_token in (select subject_token from {PEOPLE}))"
    regated = regate(connection, models, PEOPLE, chosen, as_of, instant)
    bring_into_line(connection, models, regated, as_of, instant)
    return regated, instant


def _log(
    connection: duckdb.DuckDBPyConnection, request_ids: list[str], route: str, run_id: str, moved: int, files: int
) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    connection.register("opt_out_done", pa.table({"request_id": pa.array(request_ids, pa.string())}))
    connection.execute(
        "insert into lake.ops.opt_out_applications "
        "select request_id, received_at, arrived_at, $now::timestamp, "
        "date_diff('microsecond', arrived_at, $now::timestamp) / 1e6, $route, $run, $moved, $files "
        f"from {REQUESTS} where request_id in (select request_id from opt_out_done)",
        {"now": now, "route": route, "run": run_id, "moved": moved, "files": files},
    )
    connection.unregister("opt_out_done")


def add_received_opt_outs(connection: duckdb.DuckDBPyConnection, settings: Settings, run_id: str) -> int:
    """Put the opt-outs on record beside the delivered requests, so that this run's gate reads them; returns how many.

    Those of persons whom the delivery does not hold stay in the intake, for a later one.
    """
    _register(connection, read_opt_outs(settings))
    return connection.execute(
        "insert into lake.raw.privacy_requests by name "
        "select request_id, subject_token, 'opt_out' as request_type, received_at, 'received' as status, "
        f"$feed as feed, $run as load_id from {REQUESTS} as requests "
        "where subject_token in (select subject_token from lake.raw.customers) "
        "and request_id not in (select request_id from lake.raw.privacy_requests)",
        {"feed": FEED, "run": run_id},
    ).fetchone()[0]


def apply_within_publication(
    connection: duckdb.DuckDBPyConnection, settings: Settings, models: list[Model], run_id: str, as_of: datetime
) -> dict[str, int]:
    """Apply again what this run's gate did not read, inside the publication's transaction; subjects moved by relation.

    Also leaves the SQL by which later opt-outs ask this publication's gate, and logs what the run itself carried out.
    """
    record_models(connection, models)
    connection.execute(APPLICATIONS_DDL)
    _register(connection, read_opt_outs(settings))
    known = connection.execute(
        "select requests.request_id, not exists (select 1 from lake.raw.privacy_requests as delivered "
        "where delivered.request_id = requests.request_id and delivered.received_at <= $as_of), "
        "requests.request_id in (select request_id from lake.ops.opt_out_applications) "
        f"from {REQUESTS} as requests where subject_token in (select subject_token from lake.raw.customers)",
        {"as_of": as_of},
    ).fetchall()
    unread = [request_id for request_id, is_unread, _ in known if is_unread]
    moved: dict[str, int] = {}
    files = 0
    if unread:
        regated, instant = _regate(connection, models, unread, as_of)
        _settle(connection, models, regated, as_of, instant)
        recount(connection, models, regated)
        moved = regated.changed
    fresh = [request_id for request_id, _, is_logged in known if not is_logged]
    if fresh:
        connection.execute(
            "create or replace temp table opt_out_tokens as "
            "select case purpose_role when 'risk' then risk_subject_token else audience_subject_token end as token, "
            "bool_and(gate_outcome = 'ALLOW') as is_allowed from lake.consent.gate "
            f"where subject_token in (select subject_token from {REQUESTS}) "
            "and purpose_role in ('risk', 'audience') and consent_status <> 'not_applicable' group by 1"
        )
        files = remove_subjects(settings, connection, "opt_out_tokens", "not is_allowed")
        _log(connection, fresh, "publication", run_id, sum(moved.values()), files)
    return moved


@dataclass(frozen=True)
class ProcessingTime:
    """Seconds from an opt-out's arrival to its being in force in what is published, over a number of requests."""

    requests: int
    p50_seconds: float
    p99_seconds: float
    longest_seconds: float


def processing_time(settings: Settings) -> ProcessingTime | None:
    """The processing times on record; `None` if no opt-out was ever carried out."""
    with open_lake(settings, read_only=True) as connection:
        if not table_exists(connection, "ops", "opt_out_applications"):
            return None
        row = connection.execute(
            "select count(*), quantile_cont(seconds, 0.5), quantile_cont(seconds, 0.99), max(seconds) "
            "from lake.ops.opt_out_applications"
        ).fetchone()
    return ProcessingTime(*row) if row and row[0] else None
