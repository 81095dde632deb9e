"""Publication: the only asset that writes what analysts see, and the decisions behind it to the ledger.

Belongs here: its place behind every blocking check. Does not belong here: the transaction (`orchestration.publication`),
how decisions are entered (`orchestration.ledger`).
It depends on each relation that carries a blocking check, since Dagster holds back only direct and indirect dependants
of the asset whose check failed.
"""

from collections.abc import Callable, Iterator
from datetime import timedelta

import dagster as dg

from orchestration import progress
from orchestration.defs.connectors import drift_keys
from orchestration.defs.ledger import DECISIONS_KEY, compiled_manifest, decisions_spec
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.deliveries import newest_delivery
from orchestration.identity.keys import load_keys
from orchestration.lake import open_lake
from orchestration.ledger.entry import Entry, enter_decisions, finish_entry
from orchestration.ledger.store import prepare_tables
from orchestration.publication import publish, tidy
from orchestration.quality.suites import BOUNDARIES, check_specs
from orchestration.rights.canary import remove_canaries
from orchestration.rights.opt_out import apply_within_publication
from orchestration.rights.published_sql import models_of
from orchestration.settings import Settings
from orchestration.transformation import clear_old_builds, project_manifest


def candidate_models(manifest: dict) -> dict[str, dict]:
    """Name and properties of the models whose tables are published."""
    return {
        node["name"]: node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["schema"] == "candidate"
    }


def published_specs(manifest: dict) -> list[dg.AssetSpec]:
    """One asset per published relation, behind its candidate and behind every relation that is checked."""
    checked = {dg.AssetKey(spec.relation.split(".")) for name in BOUNDARIES for spec in check_specs(name)}
    checked |= drift_keys() | {dg.AssetKey(["candidate", name]) for name in candidate_models(manifest)}
    specs = []
    for name, node in sorted(candidate_models(manifest).items()):
        candidate = dg.AssetKey(["candidate", name])
        columns = [
            dg.TableColumn(column["name"], type=column.get("data_type") or "?", description=column.get("description"))
            for column in node["columns"].values()
        ]
        lineage = {column.name: [dg.TableColumnDep(candidate, column.name)] for column in columns}
        specs.append(
            dg.AssetSpec(
                dg.AssetKey(["published", name]),
                deps=sorted({candidate, *checked}),
                group_name="published",
                description=node["description"],
                owners=["team:compliance"],
                kinds={"duckdb", "python"},
                tags={"zone": "published"},
                freshness_policy=dg.FreshnessPolicy.time_window(
                    fail_window=timedelta(hours=48), warn_window=timedelta(hours=26)
                ),
                metadata={
                    "dagster/column_schema": dg.TableSchema(columns=columns),
                    "dagster/column_lineage": dg.TableColumnLineage(lineage),
                },
            )
        )
    return specs


def after_publication(check_name: str, work: Callable[[], dict[str, object]]) -> dg.MaterializeResult:
    """The result of a step that comes after the publication and undoes nothing: its metadata, or why there is none.

    `work` returns metadata. Whatever it raises, the publication stands, and the check of that name tells.
    """
    metadata: dict[str, object] = {"dagster/row_count": 0, "reason": "none"}
    try:
        metadata |= work()
    except Exception as error:
        metadata["reason"] = f"{type(error).__name__}: {error}"
    check = dg.AssetCheckResult(
        check_name=check_name,
        passed=metadata["reason"] == "none",
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"reason": metadata["reason"]},
    )
    return dg.MaterializeResult(metadata=metadata, check_results=[check])


@dg.definitions
def defs() -> dg.Definitions:
    """The publication step."""
    manifest = project_manifest(Settings())

    published_assets = published_specs(manifest)
    specs = [*published_assets, decisions_spec({dep.asset_key for spec in published_assets for dep in spec.deps})]

    @dg.multi_asset(name="publication", specs=specs, pool=LAKE_POOL)
    def publication(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[dg.MaterializeResult]:
        settings = platform.settings()
        progress.report("publishing")
        keys = load_keys(settings)
        with open_lake(settings) as connection:
            delivery = newest_delivery(connection, settings)
            compiled = compiled_manifest(settings, context.run_id)
            built = models_of(compiled)
            run = (context.run_id, delivery.profile, delivery.as_of)
            entered: list[Entry] = []

            def amend() -> None:
                remove_canaries(connection, keys, built)
                apply_within_publication(connection, settings, built, context.run_id, delivery.as_of)
                # Last, so that the ledger says what is published.
                entered.append(enter_decisions(connection, settings, keys, compiled, *run, zone="published"))

            prepare_tables(connection)  # in a transaction of its own, for inside another there is none
            published = publish(connection, candidate_models(manifest), *run, amend)
            (entry,) = entered
            finish_entry(connection, settings, entry)
            tidy(connection)
        clear_old_builds(settings)
        for relation in published:
            key = dg.AssetKey(relation.relation.split("."))
            yield dg.MaterializeResult(key, metadata={"dagster/row_count": relation.rows})
        yield dg.MaterializeResult(
            DECISIONS_KEY,
            metadata={
                "dagster/row_count": entry.decisions,
                "totals": dg.MetadataValue.json(entry.totals),
                "checkpoint": entry.checkpoint,
            },
        )

    return dg.Definitions(assets=[publication])
