"""The lineage proof as a check before publication, and OpenLineage events after it.

Belongs here: their places in the graph. Does not belong here: proving, making events (`lineage`).
The proof reads the SQL that this very run executed, so that nothing is published under another proof than its own.
https://docs.dagster.io/guides/test/asset-checks
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from orchestration import progress
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.defs.publication import candidate_models
from orchestration.lineage.graph import python_steps
from orchestration.lineage.openlineage import Span
from orchestration.lineage.reporting import deliver_events, keep_passports, prove_manifest
from orchestration.quality.suites import BOUNDARIES, check_specs
from orchestration.settings import Settings
from orchestration.transformation import project_manifest, run_manifest

DELIVERED = "lineage_events_are_delivered"
DELIVERED_TEXT = "Whoever collects the events has taken them. A collector that is down stops no publication."
EVENTS_KEY = dg.AssetKey(["ops", "lineage_events"])
CHECK = "every_path_passes_the_gate"
DESCRIPTION = (
    "Proven from the SQL of this run: no row or value depends on people whom the gate did not let through; nothing of the "
    "compliance side reaches marketing; no identifier leaves the vault; every column rests on the consent evidence."
)


@dg.definitions
def defs() -> dg.Definitions:
    """One verdict, shown on the candidates that every publication waits for; the events follow what is published."""
    manifest = project_manifest(Settings())
    names = sorted(candidate_models(manifest))
    waited = {spec.relation for boundary in BOUNDARIES for spec in check_specs(boundary)}
    keys = [dg.AssetKey(["candidate", name]) for name in names if f"candidate.{name}" in waited]
    specs = [dg.AssetCheckSpec(CHECK, asset=key, blocking=True, description=DESCRIPTION) for key in keys]

    @dg.multi_asset_check(name="lineage_proof", specs=specs)
    def lineage_proof(context: dg.AssetCheckExecutionContext, platform: Platform) -> Iterator[dg.AssetCheckResult]:
        progress.report("proving the lineage")
        settings, run_id = platform.settings(), context.run.run_id
        ran = run_manifest(settings, run_id)
        if ran is None:
            raise dg.Failure("this run has compiled no SQL, so there is nothing to prove: run the whole job")
        project, proof = prove_manifest(ran, settings.profile, python_steps(context.job_def.asset_layer.asset_graph))
        keep_passports(settings, run_id, ran, project, proof)
        metadata = {
            "violations": [str(one) for one, _ in proof.first_violations][:50],
            "waived": [str(one) for one, _ in proof.waived],
            "relations_proven": len(proof.proven),
        }
        for key in keys:
            yield dg.AssetCheckResult(check_name=CHECK, asset_key=key, passed=proof.holds, metadata=metadata)

    @dg.asset(
        key=EVENTS_KEY,
        deps=[dg.AssetKey(["published", name]) for name in names],
        check_specs=[dg.AssetCheckSpec(DELIVERED, asset=EVENTS_KEY, description=DELIVERED_TEXT)],
        group_name="ops",
        description="OpenLineage events of the run, column by column, sent to `SEGLINE_OPENLINEAGE`: an address or a file.",
        owners=["team:data-platform"],
        kinds={"python"},
        tags={"zone": "ops"},
        pool=LAKE_POOL,
    )
    def lineage_events(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        settings, made, reason = platform.settings(), 0, ""
        if settings.openlineage:
            compiled = run_manifest(settings, context.run_id)
            if compiled is None:
                reason = "this run has compiled no SQL"
            else:
                started, steps = _times(context.instance, context.run_id)
                proved = prove_manifest(compiled, settings.profile, python_steps(context.job_def.asset_layer.asset_graph))
                made, reason = deliver_events(settings, context.run_id, started, steps, *proved)
        check = dg.AssetCheckResult(
            check_name=DELIVERED, passed=not reason, severity=dg.AssetCheckSeverity.WARN, metadata={"reason": reason or "none"}
        )
        return dg.MaterializeResult(metadata={"dagster/row_count": made, "events_delivered": made}, check_results=[check])

    return dg.Definitions(assets=[lineage_events], asset_checks=[lineage_proof])


def _times(instance: dg.DagsterInstance, run_id: str) -> tuple[datetime, dict[str, Span]]:
    """When the run began, and from when to when each step of it that has ended ran (UTC)."""

    def utc(stamp: float) -> datetime:
        return datetime.fromtimestamp(stamp, UTC)

    steps = {
        step.step_key: (utc(step.start_time), utc(step.end_time))
        for step in instance.get_run_step_stats(run_id)
        if step.start_time and step.end_time
    }
    return utc(instance.get_run_stats(run_id).start_time), steps
