"""Publication: the only asset that writes what analysts see.

Belongs here: its place behind every blocking check. Does not belong here: the transaction (`orchestration.publication`).
It depends on each relation that carries a blocking check, since Dagster holds back only direct and indirect dependants
of the asset whose check failed.
"""

import json
from collections.abc import Iterator
from datetime import timedelta

import dagster as dg

from orchestration import progress
from orchestration.defs.connectors import drift_keys
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.deliveries import newest_delivery
from orchestration.identity.keys import load_keys
from orchestration.lake import open_lake
from orchestration.publication import publish, tidy
from orchestration.quality.suites import BOUNDARIES, check_specs
from orchestration.rights.canary import remove_canaries
from orchestration.rights.opt_out import apply_within_publication
from orchestration.rights.regating import compiled_manifest, models_of
from orchestration.settings import Settings
from orchestration.transformation import clear_old_builds, prepare


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
    checked |= drift_keys()
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


@dg.definitions
def defs() -> dg.Definitions:
    """The publication step."""
    manifest = json.loads(prepare(Settings()).read_text(encoding="utf-8"))

    @dg.multi_asset(name="publication", specs=published_specs(manifest), pool=LAKE_POOL)
    def publication(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[dg.MaterializeResult]:
        settings = platform.settings()
        progress.report("publishing")
        keys = load_keys(settings)
        with open_lake(settings) as connection:
            delivery = newest_delivery(connection, settings)
            built = models_of(compiled_manifest(settings, context.run_id))

            def amend() -> None:
                remove_canaries(connection, keys, built)
                apply_within_publication(connection, settings, built, context.run_id, delivery.as_of)

            published = publish(
                connection, candidate_models(manifest), context.run_id, delivery.profile, delivery.as_of, amend
            )
            tidy(connection)
        clear_old_builds(settings)
        for relation in published:
            key = dg.AssetKey(relation.relation.split("."))
            yield dg.MaterializeResult(key, metadata={"dagster/row_count": relation.rows})

    return dg.Definitions(assets=[publication])
