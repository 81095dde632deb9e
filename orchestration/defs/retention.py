"""Retention: a daily job, and a check that stands behind every landing.

Belongs here: when it runs, its place in the graph. Does not belong here: what is due (`orchestration.rights.retention`).
https://docs.dagster.io/guides/automate/schedules
"""

from datetime import UTC, datetime

import dagster as dg

from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.deliveries import newest_delivery
from orchestration.lake import open_lake
from orchestration.rights.retention import apply_retention, judge, older_than_policy
from orchestration.settings import Settings

JOB_NAME = "enforce_retention"


@dg.op(pool=LAKE_POOL, description="Delete what the policy lets go, take it out of the bytes, look again, and report.")
def remove_what_is_due(context: dg.OpExecutionContext) -> None:
    """The one step. It waits for a run by the home's lock, as every writer does."""
    for line in apply_retention(Settings(), datetime.now(UTC).replace(tzinfo=None), context.run_id):
        if line.rows_due or line.rows_held:
            context.log.info(f"{line.relation}: {line.rows_removed} removed, {line.rows_held} held, by {line.rules}")


@dg.definitions
def defs() -> dg.Definitions:
    """Job, schedule and check."""

    @dg.job(name=JOB_NAME, executor_def=dg.in_process_executor, description="Nothing is kept longer than the policy says.")
    def job() -> None:
        remove_what_is_due()

    @dg.asset_check(
        asset=dg.AssetKey(["raw", "customers"]),
        name="nothing_delivered_is_older_than_policy",
        blocking=True,
        pool=LAKE_POOL,
        description="Whatever the retention policy lets go was removed at landing, in every raw table.",
    )
    def nothing_older(platform: Platform) -> dg.AssetCheckResult:
        settings = platform.settings()
        with open_lake(settings, read_only=True) as connection:
            delivery = newest_delivery(connection, settings)
            lines = judge(connection, settings, delivery.as_of, ("raw",))
        left = older_than_policy(lines)
        return dg.AssetCheckResult(
            passed=not left,
            metadata={
                "rows_older_than_policy": sum(line.rows_due for line in left),
                "relations": [line.relation for line in left],
                "rows_kept_by_a_legal_hold": sum(line.rows_held for line in lines),
            },
        )

    daily = dg.ScheduleDefinition(
        name=f"{JOB_NAME}_daily",
        job=job,
        cron_schedule="0 5 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return dg.Definitions(jobs=[job], schedules=[daily], asset_checks=[nothing_older])
