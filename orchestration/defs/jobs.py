"""Jobs, schedule and sensor.

Belongs here: when things run. Does not belong here: what they do. Every schedule and sensor runs by default: none does anything
until somebody starts the daemon, on purpose (`segline schedule`).
https://docs.dagster.io/guides/automate
"""

import hashlib

import dagster as dg

from orchestration.defs.clustering import CLUSTERINGS
from orchestration.defs.scoring import MODEL_EVALUATION, TRAINED_MODEL
from orchestration.deliveries import source_folders
from orchestration.ingestion.errors import SourceError
from orchestration.ingestion.mapping import load_mapping, paths
from orchestration.settings import Settings

JOB_NAME = "publish_segments"


def delivery_cursor(settings: Settings) -> str | None:
    """A text that changes when a file of the mapping appears, grows or is replaced; `None` without a readable mapping."""
    sources, data = source_folders(settings)
    try:
        mapping = load_mapping(sources)
        found = [path for feed in mapping.feeds for path in paths(feed.files, data)]
    except (SourceError, OSError):
        return None
    stamps = sorted(f"{path.relative_to(data)}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in found)
    return hashlib.sha256("|".join(stamps).encode()).hexdigest()


@dg.definitions
def defs() -> dg.Definitions:
    """One daily job over everything, and a sensor that starts it when a new delivery lies there."""
    # One process: on a small machine each further one costs five to nine seconds of imports.
    publish_segments = dg.define_asset_job(
        JOB_NAME,
        # Training and clustering are jobs of their own (`defs.scoring`, `defs.clustering`): a daily run fits nothing.
        selection=dg.AssetSelection.all() - dg.AssetSelection.assets(TRAINED_MODEL, MODEL_EVALUATION, *CLUSTERINGS),
        executor_def=dg.in_process_executor,
        description="Land a delivery, gate it by consent, rate it by rules, check it, publish it in one transaction.",
    )

    @dg.sensor(
        job=publish_segments,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts the job on new or changed files.",
    )
    def new_delivery(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        cursor = delivery_cursor(Settings())
        if cursor is None:
            return dg.SkipReason("there is no readable mapping file in the sources folder")
        if cursor == context.cursor:
            return dg.SkipReason("no file changed since the last delivery")
        return dg.SensorResult(run_requests=[dg.RunRequest()], cursor=cursor)

    daily = dg.ScheduleDefinition(
        name=f"{JOB_NAME}_daily",
        job=publish_segments,
        cron_schedule="0 4 * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    return dg.Definitions(jobs=[publish_segments], schedules=[daily], sensors=[new_delivery])
