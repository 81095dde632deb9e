"""Connectors in the graph: the drift check before publication, and a job that pulls. Only where a vendor is configured.

Belongs here: keys, check results, the schedule. Does not belong here: pulling or comparing (`orchestration.connectors`).
Pulling is a job of its own: it changes files of the mapping, and the sensor on new deliveries starts the rest.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from orchestration import progress
from orchestration.connectors.settings import configured
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.settings import Settings

DRIFT_KEY = dg.AssetKey(["ops", "consent_drift"])
WITH_STATE = ("onetrust", "trustarc")  # a survey tool holds no consent state


def compared() -> list[str]:
    """The configured vendors whose state is compared before every publication."""
    return [name for name in configured() if name in WITH_STATE]


def drift_keys() -> set[dg.AssetKey]:
    """What a publication has to wait for."""
    return {DRIFT_KEY} if compared() else set()


def drift_asset(names: list[str]) -> dg.AssetsDefinition:
    """The comparison with each CMP, and a blocking check for each."""

    @dg.asset(
        key=DRIFT_KEY,
        deps=[dg.AssetKey(["consent", "gate"]), dg.AssetKey(["consent", "consent_states"])],
        group_name="ops",
        description="What the CMP's full state and the platform's consent state disagree on, one row per run and purpose.",
        owners=["team:privacy"],
        kinds={"duckdb", "python"},
        tags={"zone": "ops"},
        pool=LAKE_POOL,
        check_specs=[
            dg.AssetCheckSpec(
                f"no_grant_stands_that_{name}_does_not_hold",
                asset=DRIFT_KEY,
                blocking=True,
                description="Permissive drift or a stale pull blocks; restrictive drift beyond the tolerated share warns.",
            )
            for name in names
        ],
    )
    def consent_drift(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[object]:
        from orchestration.connectors.drift import DriftLimits
        from orchestration.connectors.registry import drift_in_run

        reports = []
        for name in names:
            progress.report(f"comparing consent with {name}")
            reports.append(drift_in_run(platform.settings(), name, context.run_id))
        yield dg.MaterializeResult(DRIFT_KEY, metadata={"pairs_compared": sum(r.total.compared for r in reports)})
        for report in reports:
            verdict, reasons = report.verdict(DriftLimits())
            yield dg.AssetCheckResult(
                check_name=f"no_grant_stands_that_{report.connector}_does_not_hold",
                asset_key=DRIFT_KEY,
                passed=verdict == "in_step",
                severity=dg.AssetCheckSeverity.ERROR if verdict == "blocked" else dg.AssetCheckSeverity.WARN,
                metadata={
                    "permissive": report.total.permissive,
                    "restrictive": report.total.restrictive,
                    "drift_share": report.total.drift_share,
                    "reasons": "; ".join(reasons) or "none",
                },
            )

    return consent_drift


def pull_job(names: list[str]) -> dg.JobDefinition:
    """One step per vendor; one that fails stops no other."""

    def step(name: str) -> dg.OpDefinition:
        @dg.op(name=f"pull_{name}", description=f"Pulls what is new at {name} into the data folder.")
        def run_pull() -> None:
            from orchestration.connectors.registry import pull_into_data

            pull_into_data(Settings(), name, datetime.now(UTC).replace(tzinfo=None))

        return run_pull

    steps = [step(name) for name in names]

    @dg.job(
        name="pull_consent",
        executor_def=dg.in_process_executor,
        description="Pulls from every configured vendor; new files start the publication through its sensor.",
    )
    def pull_consent() -> None:
        for each in steps:
            each()

    return pull_consent


@dg.definitions
def defs() -> dg.Definitions:
    """Nothing where no vendor is configured."""
    names = configured()
    if not names:
        return dg.Definitions()
    job = pull_job(names)
    hourly = dg.ScheduleDefinition(
        name="pull_consent_hourly",
        job=job,
        cron_schedule="10 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    assets = [drift_asset(compared())] if compared() else []
    return dg.Definitions(assets=assets, jobs=[job], schedules=[hourly])
