"""Rights: the job that honours verified deletions, and the sensor that starts it when one waits.

Belongs here: when it runs. Does not belong here: erasing (`orchestration.rights`).
https://docs.dagster.io/guides/automate/sensors
"""

import dagster as dg

from orchestration import progress
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.identity.keys import load_keys
from orchestration.rights import erasure
from orchestration.rights.receiving import waiting_deletions
from orchestration.settings import Settings

JOB_NAME = "honour_rights"


@dg.definitions
def defs() -> dg.Definitions:
    """One job over all waiting deletions, and its sensor."""

    @dg.op(name="erase_and_prove", pool=LAKE_POOL)
    def erase_and_prove(context: dg.OpExecutionContext, platform: Platform) -> None:
        settings = platform.settings()
        progress.report("erasing")
        applied = erasure.apply(settings, load_keys(settings))
        unproven = [request.request_id for request in applied.requests if request.state != "proven"]
        context.log.info(f"{len(applied.requests)} deletions applied, {len(unproven)} not proven")
        if unproven:
            raise dg.Failure(f"erased, but not proven: {', '.join(unproven)}")

    @dg.job(
        name=JOB_NAME,
        executor_def=dg.in_process_executor,
        description="Erase everybody whose deletion is verified, in every store, and prove it.",
    )
    def honour_rights() -> None:
        erase_and_prove()

    @dg.sensor(
        job_name=JOB_NAME,
        minimum_interval_seconds=300,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts the job when a verified deletion waits.",
    )
    def waiting_rights(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        settings = Settings()
        # Before the first delivery there are no keys either, and none shall be made here.
        if not settings.vault_catalog.exists() or not waiting_deletions(settings, load_keys(settings)):
            return dg.SkipReason("no verified deletion waits")
        return dg.RunRequest(run_key=None)

    return dg.Definitions(jobs=[honour_rights], sensors=[waiting_rights])
