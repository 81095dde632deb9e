"""Clusters: the clustering on record, which the daily run reads, and fitting, which is a job of its own.

Belongs here: asset keys, lineage, metadata, checks. Does not belong here: fitting, naming (`orchestration.clustering`).
https://docs.dagster.io/guides/build/assets/metadata-and-tags
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import dagster as dg

from orchestration import progress
from orchestration.clustering.sides import AUDIENCE, SIDES, Side
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.lake import open_lake
from orchestration.settings import Settings
from orchestration.transformation import project_manifest

CLUSTERINGS = tuple(dg.AssetKey([side.zone, "clustering"]) for side in SIDES.values())
MODEL_COLUMNS = {
    "status": "Whether a clustering stands, or why not.",
    "reason": "The same in a sentence.",
    "document": "Centres, scales and profiles as JSON.",
    "names": "Approved names by cluster as JSON.",
}


class FitConfig(dg.Config):
    """Who fits; another person has to approve the names."""

    fitted_by: str


def input_columns(manifest: dict, side: Side) -> dict[str, str]:
    """Columns and types that the side's gated relation declares."""
    node = next(
        node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and (node["schema"], node["name"]) == side.relation
    )
    return {column["name"]: column.get("data_type") or "" for column in node["columns"].values()}


def _schema(columns: dict[str, str]) -> dg.TableSchema:
    return dg.TableSchema([dg.TableColumn(name, "varchar", description=text) for name, text in columns.items()])


def profiles_key(side: Side) -> dg.AssetKey:
    """The side's profiles before publication."""
    return dg.AssetKey(["candidate", side.published[1]])


def plot_metadata(report: Mapping[str, Any]) -> dict[str, dg.MarkdownMetadataValue]:
    """The fit's plots as pictures; none of a fit that found no clusters."""
    from orchestration.clustering import plots

    return {f"plot_{name}": dg.MetadataValue.md(picture) for name, picture in plots.pictures(report).items()}


def fitting_of(side: Side) -> dg.AssetsDefinition:
    """The asset that fits a side's clusters."""

    @dg.asset(
        key=[side.zone, "clustering"],
        deps=[dg.AssetKey(list(side.relation))],
        group_name=side.zone,
        description=f"The newest fit of the clusters of the side {side.name}: only people whom the gate allows, as many clusters "
        "as come out again when people are drawn again, or the reason why none. It assigns from the next run on.",
        owners=[side.owner],
        kinds={"python", "scikitlearn"},
        tags={"zone": side.zone},
        metadata={"dagster/column_schema": _schema({"document": "Centres, scales and profiles as JSON."})},
        pool=LAKE_POOL,
    )
    def clustering(config: FitConfig, platform: Platform) -> dg.MaterializeResult:
        from orchestration.clustering.lifecycle import fit_and_record

        found = fit_and_record(platform.settings(), side, config.fitted_by)
        return dg.MaterializeResult(
            metadata={
                "state": found.state,
                "reason": found.reason,
                "people": found.people,
                "trials": dg.MetadataValue.json(found.report["trials"]),
                "clusters": dg.MetadataValue.json(found.document["clusters"]),
                "sha256": found.document["sha256"],
                **plot_metadata(found.report),
            },
            data_version=dg.DataVersion(found.document["sha256"]),
        )

    return clustering


def standing_of(side: Side, columns: dict[str, str]) -> dg.AssetsDefinition:
    """The asset that lays a side's newest fit out for dbt."""

    @dg.asset(
        key=[side.zone, "cluster_model"],
        deps=[dg.AssetKey([side.zone, "clustering"])],
        group_name=side.zone,
        description=f"The clustering that assigns on the side {side.name}: the newest fit, checked against its fingerprint and "
        "against the columns of the features. One that fails either is refused, and nobody is clustered.",
        owners=[side.owner],
        kinds={"duckdb", "python"},
        tags={"zone": side.zone},
        metadata={"dagster/column_schema": _schema(MODEL_COLUMNS)},
        pool=LAKE_POOL,
    )
    def cluster_model(platform: Platform) -> dg.MaterializeResult:
        from orchestration.clustering.record import refresh

        progress.report("reading the clustering on record")
        with open_lake(platform.settings()) as connection:
            found = refresh(connection, side, columns)
        names = dg.MetadataValue.json(dict(found.names))
        pictures = plot_metadata(found.recorded.report if found.recorded else {})
        return dg.MaterializeResult(metadata={"status": found.status, "reason": found.reason, "names": names, **pictures})

    return cluster_model


def checks_of(side: Side) -> list[dg.AssetCheckSpec]:
    """What is asked of a side's clusters in every run."""
    return [
        dg.AssetCheckSpec(
            "every_cluster_is_on_record",
            asset=profiles_key(side),
            blocking=True,
            description="Nobody is in a cluster that is not on record, or in any while none stands; there are not too many.",
        ),
        dg.AssetCheckSpec(
            "clusters_still_fit",
            asset=profiles_key(side),
            description="The clusters' shares are those of the fit as far as chance goes at this size, few people lie far "
            "from every centre, and no cluster has shrunk to a handful.",
        ),
    ]


@dg.definitions
def defs() -> dg.Definitions:
    """Fitting, the clustering that assigns, and the checks that it still fits the book: of each side its own."""
    manifest = project_manifest(Settings())

    @dg.multi_asset_check(
        name="clusters_fit_the_book",
        specs=[spec for side in SIDES.values() for spec in checks_of(side)],
        pool=LAKE_POOL,
    )
    def clusters_fit_the_book(platform: Platform):
        from orchestration.clustering.guards import on_record, still_fit

        with open_lake(platform.settings(), read_only=True) as connection:
            found = [(side, on_record(connection, side), still_fit(connection, side)) for side in SIDES.values()]
        for side, recorded, fitting in found:
            key = profiles_key(side)
            yield dg.AssetCheckResult(
                check_name="every_cluster_is_on_record", asset_key=key, passed=recorded.passed, metadata=asdict(recorded)
            )
            yield dg.AssetCheckResult(
                check_name="clusters_still_fit",
                asset_key=key,
                passed=fitting.passed,
                severity=dg.AssetCheckSeverity.WARN,
                metadata=asdict(fitting),
            )

    jobs = [
        dg.define_asset_job(
            "fit_clusters" if side is AUDIENCE else f"fit_{side.name}_clusters",
            selection=dg.AssetSelection.assets([side.zone, "clustering"]),
            executor_def=dg.in_process_executor,
            description=f"Fit the clusters of the side {side.name} on the newest build and put the result on record.",
        )
        for side in SIDES.values()
    ]
    assets = [fitting_of(side) for side in SIDES.values()]
    assets += [standing_of(side, input_columns(manifest, side)) for side in SIDES.values()]
    return dg.Definitions(assets=assets, asset_checks=[clusters_fit_the_book], jobs=jobs)
