"""Opt-outs as they arrive: a sensor that looks every few seconds, and a job of one small step.

Belongs here: when it runs. Does not belong here: receiving opt-outs and carrying them out (`orchestration.rights`). The job
does not take the platform's lock and is in no pool: it has to work while a run is writing.
https://docs.dagster.io/guides/automate/sensors
"""

import hashlib
import time

import dagster as dg

from orchestration.access.bundles import refresh_bundles
from orchestration.lake import open_lake, table_exists
from orchestration.rights.intake import intake_folder, read_opt_outs, take_in_files
from orchestration.rights.opt_out import apply_opt_outs
from orchestration.rights.receiving import close_opt_outs
from orchestration.settings import Settings

JOB_NAME = "apply_opt_outs"
INTERVAL_SECONDS = 10
RETRY_SECONDS = 300


def arrived(settings: Settings) -> tuple[list[str], set[str]]:
    """Names of dropped files, and the ids of all requests on record; cheap, for it is asked every few seconds."""
    folder = intake_folder(settings)
    files = sorted(path.name for path in folder.glob("*.csv") if not path.name.startswith(".")) if folder.is_dir() else []
    return files, set(read_opt_outs(settings)["request_id"].to_pylist())


def not_in_force(settings: Settings, recorded: set[str]) -> set[str]:
    """Those of the requests that have not been carried out yet."""
    if not recorded or not settings.catalog.exists():
        return recorded
    with open_lake(settings, read_only=True) as connection:
        if not table_exists(connection, "ops", "opt_out_applications"):
            return recorded
        done = connection.execute("select request_id from lake.ops.opt_out_applications").fetchall()
    return recorded - {row[0] for row in done}


def _digest(word: str, files: list[str], requests: set[str]) -> str:
    return word + hashlib.sha256("|".join([*files, "", *sorted(requests)]).encode()).hexdigest()


@dg.op(description="Take in dropped files of opt-outs, and bring what is published into line with every opt-out on record.")
def carry_out_opt_outs(context: dg.OpExecutionContext) -> None:
    """The one step; numbers only go into the log."""
    settings = Settings()
    files = take_in_files(settings)
    result = apply_opt_outs(settings)
    close_opt_outs(settings)
    stale = refresh_bundles(settings) if result.applied else None
    if stale:
        context.log.error(f"the opt-outs are in force, but a role's bundle still holds what was published before: {stale}")
    if result.ledger_error:
        context.log.error(f"the opt-outs are in force, but the ledger could not enter them: {result.ledger_error}")
    context.log.info(
        f"{files.files} files with {files.recorded} new opt-outs, {len(files.refused)} rows refused; "
        f"{len(result.applied)} applied, {len(result.pending)} of unknown customers pending; "
        f"rows moved: {result.moved}; export files changed: {result.export_files}; beside a run: {result.beside_a_run}"
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The job and its sensor."""

    @dg.job(name=JOB_NAME, executor_def=dg.in_process_executor, description="Opt-outs into force, without a full run.")
    def job() -> None:
        carry_out_opt_outs()

    @dg.sensor(
        name="new_opt_outs",
        job=job,
        minimum_interval_seconds=INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts the job as soon as an opt-out arrives, by command or as a file.",
    )
    def new_opt_outs(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        settings = Settings()
        files, recorded = arrived(settings)
        idle = _digest("all in force ", files, recorded)
        if context.cursor == idle:  # nothing came since all was done: the store need not be asked
            return dg.SkipReason("no opt-out waits")
        waiting = not_in_force(settings, recorded)
        if not files and not waiting:
            context.update_cursor(idle)
            return dg.SkipReason("no opt-out waits")
        # The same ones are tried again after a while: a job may have failed, or a run brought a customer unknown so far.
        cursor = f"{_digest('waiting ', files, waiting)}@{int(time.time() // RETRY_SECONDS)}"
        if cursor == context.cursor:
            return dg.SkipReason(f"the opt-outs that wait were tried within {RETRY_SECONDS} s")
        return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=cursor)

    return dg.Definitions(jobs=[job], sensors=[new_opt_outs])
