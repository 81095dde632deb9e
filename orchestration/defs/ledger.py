"""The decision ledger in the graph: its place beside the publication, its checks, its anchors.

Belongs here: asset keys, checks, the anchor job and its schedule. Does not belong here: entering, verifying, replaying,
anchoring (`orchestration.ledger`).
https://docs.dagster.io/guides/test/asset-checks
"""

from collections.abc import Iterable
from typing import Any

import dagster as dg

from orchestration import progress
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.deliveries import newest_delivery
from orchestration.identity.keys import load_keys
from orchestration.lake import open_lake
from orchestration.ledger.anchoring import anchor_newest, held_anchors, overdue
from orchestration.ledger.bundles import make_bundle
from orchestration.ledger.errors import LedgerError
from orchestration.ledger.inputs import families_of, map_people
from orchestration.ledger.replay import SAMPLE, replay, replay_candidates, sample_decisions
from orchestration.ledger.signing_key import verifier_key
from orchestration.ledger.verification import verify, verify_head
from orchestration.settings import Settings
from orchestration.transformation import run_manifest

DECISIONS_KEY = dg.AssetKey(["ops", "decisions"])
ANCHORS_KEY = dg.AssetKey(["ops", "ledger_anchors"])
ANCHOR_JOB, VERIFY_JOB = "anchor_ledger", "verify_ledger"


def compiled_manifest(settings: Settings, run_id: str) -> dict[str, Any]:
    """dbt's manifest of this very run, with the SQL that ran. Raises `LedgerError` if dbt did not run in it."""
    manifest = run_manifest(settings, run_id)
    if manifest is None:
        raise LedgerError("dbt did not run in this run, so what decided is not on record: run the whole job")
    return manifest


def decisions_spec(deps: Iterable[dg.AssetKey]) -> dg.AssetSpec:
    """The ledger's asset. It is written in the publication's transaction, so it waits for the same checks."""
    return dg.AssetSpec(
        DECISIONS_KEY,
        deps=sorted(deps),
        group_name="ops",
        description="The decision ledger: one row per decision that is new or changed, default and excluded subjects too; "
        "a Merkle tree over the rows, a signed checkpoint per run. Verify with `segline verify`.",
        owners=["team:compliance"],
        kinds={"duckdb", "python"},
        tags={"zone": "ops"},
    )


@dg.asset_check(
    asset=dg.AssetKey(["candidate", "risk_segments"]),
    additional_deps=[dg.AssetKey(["candidate", "audience_segments"])],
    name="replayed_decisions_agree",
    blocking=True,
    pool=LAKE_POOL,
    description="A random sample, of this run and of the whole ledger, is decided again from stored inputs and gives the same.",
)
def replayed_decisions_agree(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
    """What cannot be replayed later is not published now."""
    settings = platform.settings()
    progress.report("replaying a sample of decisions")
    with open_lake(settings) as connection:
        delivery = newest_delivery(connection, settings)
        manifest = compiled_manifest(settings, context.run.run_id)
        bundle = make_bundle(connection, manifest, delivery.profile, delivery.as_of, families_of(manifest))
        map_people(connection, load_keys(settings), sample=SAMPLE)
        differing = replay_candidates(connection, bundle)
        past = replay(connection, sample_decisions(connection))
    wrong = [f"leaf {one.decision.leaf_index}: {', '.join(one.differences)}" for one in past if one.differences]
    return dg.AssetCheckResult(
        passed=not differing and not wrong,
        metadata={
            "past_decisions_replayed": len(past),
            "differing": dg.MetadataValue.json((differing + wrong)[:20]),
        },
    )


@dg.asset_check(
    asset=DECISIONS_KEY,
    name="newest_entry_verifies",
    blocking=True,
    pool=LAKE_POOL,
    description="The rows of the newest run (a random share of very many) fit their leaves; the tree's root is the signed one.",
)
def newest_entry_verifies(platform: Platform) -> dg.AssetCheckResult:
    """The head after every run; all of it once a week (`verify_ledger`) and by `segline verify`."""
    settings = platform.settings()
    progress.report("verifying the ledger's head")
    with open_lake(settings, read_only=True) as connection:
        report = verify_head(connection, verifier_key(connection, settings))
    return _as_result(report)


@dg.asset_check(
    asset=ANCHORS_KEY,
    name="no_anchor_is_overdue",
    blocking=False,
    pool=LAKE_POOL,
    description="Every configured target outside the operator's reach has taken a checkpoint within the stated interval.",
)
def no_anchor_is_overdue(platform: Platform) -> dg.AssetCheckResult:
    """The alarm: without anchors, truncation and a rewrite with the key go unseen."""
    settings = platform.settings()
    with open_lake(settings, read_only=True) as connection:
        late = overdue(connection, settings)
    return dg.AssetCheckResult(
        passed=not late,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"interval_hours": settings.anchor_hours, "overdue": dg.MetadataValue.json(late)},
    )


@dg.asset(
    key=ANCHORS_KEY,
    deps=[DECISIONS_KEY],
    group_name="ops",
    pool=LAKE_POOL,
    description="Checkpoints handed to whoever keeps them outside the operator's reach: folder, webhook, mail, time stamp.",
    owners=["team:compliance"],
    kinds={"python"},
    tags={"zone": "ops"},
)
def ledger_anchors(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
    """Send the newest checkpoint. A target that fails does not fail the run: the check beside this one raises the alarm."""
    settings = platform.settings()
    with open_lake(settings) as connection:
        outcomes = anchor_newest(connection, settings)
    for outcome in outcomes:
        if outcome.error:
            context.log.warning(f"{outcome.target}: {outcome.error}")
    return dg.MaterializeResult(metadata={outcome.target: outcome.error or "anchored" for outcome in outcomes})


@dg.op(pool=LAKE_POOL)
def verify_all(platform: Platform) -> None:
    """All of the ledger, against the anchors; fails the run if anything is found."""
    settings = platform.settings()
    with open_lake(settings, read_only=True) as connection:
        report = verify(connection, verifier_key(connection, settings), held_anchors(settings))
    if not report.is_good:
        raise dg.Failure(f"the ledger does not verify, {len(report.findings)} found: " + "; ".join(report.findings[:5]))


def _as_result(report: Any) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=report.is_good,
        metadata={**report.checked, "found": dg.MetadataValue.json(report.findings[:20])},
    )


@dg.definitions
def defs() -> dg.Definitions:
    """Anchors and checks; hourly anchoring, so that a target that failed is tried again; the whole ledger every Sunday."""
    anchor = dg.define_asset_job(
        ANCHOR_JOB,
        selection=dg.AssetSelection.assets(ANCHORS_KEY),
        executor_def=dg.in_process_executor,
        description="Hand the newest checkpoint to every target that lacks it, and raise the alarm where one is overdue.",
    )

    @dg.job(name=VERIFY_JOB, executor_def=dg.in_process_executor, description="Verify every row of the ledger.")
    def verify_ledger() -> None:
        verify_all()

    times = ((f"{ANCHOR_JOB}_hourly", anchor, "30 * * * *"), (f"{VERIFY_JOB}_weekly", verify_ledger, "0 2 * * 0"))
    schedules = [
        dg.ScheduleDefinition(
            name=name,
            job=job,
            cron_schedule=cron,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.RUNNING,
        )
        for name, job, cron in times
    ]
    return dg.Definitions(
        assets=[ledger_anchors],
        asset_checks=[replayed_decisions_agree, newest_entry_verifies, no_anchor_is_overdue],
        jobs=[anchor, verify_ledger],
        schedules=schedules,
    )
