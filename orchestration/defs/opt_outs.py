"""Opt-outs as they arrive: a sensor that looks every few seconds, and a job of one small step.

Belongs here: when it runs. Does not belong here: receiving opt-outs and carrying them out (`orchestration.rights`). The job
does not take the platform's lock and is in no pool: it has to work while a run is writing.
https://docs.dagster.io/guides/automate/sensors
"""

import hashlib
import time

import dagster as dg

from orchestration.lake import open_lake, table_exists
from orchestration.rights.intake import intake_folder, read_opt_outs, take_in_files
from orchestration.rights.opt_out import apply_opt_outs
from orchestration.settings import Settings

JOB_NAME = "apply_opt_outs"
INTERVAL_SECONDS = 10
RETRY_SECONDS = 300


def waiting(settings: Settings) -> str | None:
    """A text that changes when another opt-out waits: dropped files, and requests on record that are not in force yet."""
    folder = intake_folder(settings)
    files = sorted(path.name for path in folder.glob("*.csv") if not path.name.startswith(".")) if folder.is_dir() else []
    recorded = set(read_opt_outs(settings)["request_id"].to_pylist())
    if recorded and settings.catalog.exists():
        with open_lake(settings, read_only=True) as connection:
            if table_exists(connection, "ops", "opt_out_applications"):
                done = connection.execute("select request_id from lake.ops.opt_out_applications").fetchall()
                recorded -= {row[0] for row in done}
    if not files and not recorded:
        return None
    return hashlib.sha256("|".join([*files, "", *sorted(recorded)]).encode()).hexdigest()


@dg.op(description="Take in dropped files of opt-outs, and bring what is published into line with every opt-out on record.")
def carry_out_opt_outs(context: dg.OpExecutionContext) -> None:
    """The one step; numbers only go into the log."""
    settings = Settings()
    files = take_in_files(settings)
    result = apply_opt_outs(settings)
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
        found = waiting(Settings())
        if found is None:
            return dg.SkipReason("no opt-out waits")
        # The same ones are tried again after a while: a job may have failed, or a run brought a customer unknown so far.
        cursor = f"{found}@{int(time.time() // RETRY_SECONDS)}"
        if cursor == context.cursor:
            return dg.SkipReason(f"the opt-outs that wait were tried within {RETRY_SECONDS} s")
        return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=cursor)

    return dg.Definitions(jobs=[job], sensors=[new_opt_outs])
