"""One run of the whole job from the command line, recorded in the same instance that the UI shows.

Belongs here: the Dagster home, executing the job in this process, what came of it. Does not belong here: drawing
(`cli`), the stages themselves (`defs`).
"""

import contextlib
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from importlib import import_module
from threading import Thread

import yaml

from orchestration.ingestion.examining import FeedCount
from orchestration.lake import open_lake, private_folder, table_exists
from orchestration.publication import last_publication
from orchestration.remains import PROCESS_TAG, this_process
from orchestration.settings import PROJECT_ROOT, Settings
from orchestration.transformation import prepare


@dataclass
class RunOutcome:
    """What a run did: success or not, failed checks by name, the error that ended it, warnings."""

    run_id: str
    succeeded: bool
    failed_checks: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    error: str | None = None


def prepare_dagster_home(settings: Settings) -> None:
    """Make Dagster's home with the project's instance settings and point the environment to it."""
    from orchestration.event_log import event_log_config

    home = private_folder(settings.dagster_home)
    config = yaml.safe_load((PROJECT_ROOT / "dagster.yaml").read_text(encoding="utf-8"))
    config["event_log_storage"] = event_log_config(str(home / "history" / "runs"))
    (home / "dagster.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ["DAGSTER_DISABLE_TELEMETRY"] = "1"


def export_settings(settings: Settings) -> None:
    """Put the settings into the environment, where the definitions and every subprocess read them."""
    os.environ["SEGLINE_HOME"] = str(settings.root)
    os.environ["SEGLINE_PROFILE"] = settings.profile
    os.environ["SEGLINE_MEMORY_LIMIT_MB"] = str(settings.memory_limit_mb)
    os.environ["SEGLINE_LOCK_WAIT_SECONDS"] = str(settings.lock_wait_seconds)
    if settings.openlineage:
        os.environ["SEGLINE_OPENLINEAGE"] = settings.openlineage
    for name, value in (("SOURCES", settings.sources), ("DATA", settings.data), ("AS_OF", settings.as_of)):
        if value is not None:
            os.environ[f"SEGLINE_{name}"] = str(value if name == "AS_OF" else value.resolve())
        else:
            os.environ.pop(f"SEGLINE_{name}", None)


def execute(settings: Settings, as_of: datetime) -> RunOutcome:
    """Run the job as of an instant (UTC). Errors of a stage come back in the outcome, without any customer's value."""
    settings = settings.model_copy(update={"as_of": as_of.isoformat()})
    export_settings(settings)
    prepare_dagster_home(settings)
    with ThreadPoolExecutor(1) as aside:
        # dbt reads its project in a process of its own for ten seconds: time enough for Dagster's imports.
        prepared = aside.submit(prepare, settings, as_of)
        import dagster as dg

        from orchestration.definitions import defs
        from orchestration.defs.jobs import JOB_NAME

        import_module("orchestration.defs.transformation")
        prepared.result()

    private_folder(settings.runs_dir)
    # The terminal belongs to the progress bar and the summary: dbt's lines go to a file, Dagster's into its event log.
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    with (
        (settings.runs_dir / "output.log").open("a", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        dg.DagsterInstance.get() as instance,
    ):
        job = defs().resolve_job_def(JOB_NAME)
        # Five seconds of imports that the first checks need, beside landing, which works in the engine.
        Thread(target=import_module, args=("great_expectations",), daemon=True).start()
        result = job.execute_in_process(
            instance=instance, raise_on_error=False, run_config=quiet, tags={PROCESS_TAG: this_process()}
        )
    outcome = RunOutcome(result.run_id, result.success)
    for evaluation in result.get_asset_check_evaluations():
        if not evaluation.passed:
            name = f"{evaluation.asset_key.to_user_string()}: {evaluation.check_name}"
            blocking = evaluation.severity == dg.AssetCheckSeverity.ERROR
            (outcome.failed_checks if blocking else outcome.warnings).append(name)
    if not result.success:
        outcome.error = _first_error(result)
    return outcome


def _first_error(result) -> str | None:
    """What ended the run: a stage's error, or one before the first stage, such as the lock that another run holds."""
    for event in result.all_events:
        error = None
        if event.is_step_failure:
            error = event.step_failure_data.error
        elif event.event_type_value in ("PIPELINE_FAILURE", "RUN_FAILURE"):
            error = event.job_failure_data.error
        while error is not None and error.cause is not None:
            error = error.cause
        if error is not None:
            return f"{error.cls_name}: {error.message.split(': ', 1)[-1].strip()}"
    return None


def reconciliation(settings: Settings, run_id: str) -> list[FeedCount]:
    """The reconciliation of a run."""
    with open_lake(settings, read_only=True) as connection:
        if not table_exists(connection, "ops", "reconciliation"):
            return []
        rows = connection.execute(
            "select feed, entity, rows_in_file, rows_excluded, rows_kept, duplicates, quarantined "
            "from lake.ops.reconciliation where run_id = ? order by entity = 'lookup', feed",
            [run_id],
        ).fetchall()
    return [FeedCount(*row) for row in rows]


@dataclass
class Standing:
    """What stands published now: tiers with counts, audience segments with counts, quarantine by reason."""

    run_id: str
    profile: str
    as_of: datetime
    published_at: datetime
    tiers: list[tuple[str, str, int]]
    audiences: list[tuple[str, str, str, int]]
    quarantine: list[tuple[str, str, int]]


def standing(settings: Settings) -> Standing | None:
    """The last publication in numbers, `None` if nothing was ever published."""
    with open_lake(settings, read_only=True) as connection:
        publication = last_publication(connection)
        if publication is None:
            return None
        tiers = connection.execute(
            "select segment, gate_reason, count(*) from lake.published.risk_segments group by all order by 3 desc"
        ).fetchall()
        audiences = connection.execute(
            "select segment_family, segment, gate_reason, count(*) from lake.published.audience_segments "
            "group by all order by 1, 4 desc"
        ).fetchall()
        quarantine = connection.execute(
            "select feed, reason, count(*) from lake.ops.quarantine group by all order by 1, 3 desc"
        ).fetchall()
    return Standing(*publication, tiers, audiences, quarantine)
