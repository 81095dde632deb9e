"""Clusters: the clustering on record, which the daily run reads, and fitting, which is a job of its own.

Belongs here: asset keys, lineage, metadata, checks. Does not belong here: fitting, naming (`orchestration.clustering`).
https://docs.dagster.io/guides/build/assets/metadata-and-tags
"""

import json
from dataclasses import asdict

import dagster as dg

from orchestration import progress
from orchestration.clustering.sides import AUDIENCE
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.lake import open_lake
from orchestration.settings import Settings
from orchestration.transformation import prepare

CLUSTERING = dg.AssetKey(["audience", "clustering"])
CLUSTER_MODEL = dg.AssetKey(["audience", "cluster_model"])
PROFILES = dg.AssetKey(["candidate", "cluster_profiles"])
MODEL_COLUMNS = {
    "status": "Whether a clustering stands, or why not.",
    "reason": "The same in a sentence.",
    "document": "Centres, scales and profiles as JSON.",
    "names": "Approved names by cluster as JSON.",
}


class FitConfig(dg.Config):
    """Who fits; another person has to approve the names."""

    fitted_by: str


def input_columns(manifest: dict) -> dict[str, str]:
    """Columns and types that the marketing side's gated relation declares."""
    node = next(
        node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and (node["schema"], node["name"]) == AUDIENCE.relation
    )
    return {column["name"]: column.get("data_type") or "" for column in node["columns"].values()}


def _schema(columns: dict[str, str]) -> dg.TableSchema:
    return dg.TableSchema([dg.TableColumn(name, "varchar", description=text) for name, text in columns.items()])


@dg.definitions
def defs() -> dg.Definitions:
    """Fitting, the clustering that assigns, and the checks that it still fits the book."""
    columns = input_columns(json.loads(prepare(Settings()).read_text(encoding="utf-8")))

    @dg.asset(
        key=CLUSTERING,
        deps=[dg.AssetKey(list(AUDIENCE.relation))],
        group_name="audience",
        description="The newest fit of the marketing clusters: only people whom the gate allows, as many clusters as come out "
        "again when people are drawn again, or the reason why none. It assigns from the next run on.",
        owners=["team:marketing"],
        kinds={"python", "scikitlearn"},
        tags={"zone": "audience"},
        metadata={"dagster/column_schema": _schema({"document": "Centres, scales and profiles as JSON."})},
        pool=LAKE_POOL,
    )
    def clustering(config: FitConfig, platform: Platform) -> dg.MaterializeResult:
        from orchestration.clustering.lifecycle import fit_and_record

        found = fit_and_record(platform.settings(), AUDIENCE, config.fitted_by)
        return dg.MaterializeResult(
            metadata={
                "state": found.state,
                "reason": found.reason,
                "people": found.people,
                "trials": dg.MetadataValue.json(found.report["trials"]),
                "clusters": dg.MetadataValue.json(found.document["clusters"]),
                "sha256": found.document["sha256"],
            },
            data_version=dg.DataVersion(found.document["sha256"]),
        )

    @dg.asset(
        key=CLUSTER_MODEL,
        deps=[CLUSTERING],
        group_name="audience",
        description="The clustering that assigns: the newest fit, checked against its fingerprint and against the columns of "
        "the features. One that fails either is refused, and nobody is clustered.",
        owners=["team:marketing"],
        kinds={"duckdb", "python"},
        tags={"zone": "audience"},
        metadata={"dagster/column_schema": _schema(MODEL_COLUMNS)},
        pool=LAKE_POOL,
    )
    def cluster_model(platform: Platform) -> dg.MaterializeResult:
        from orchestration.clustering.record import refresh

        progress.report("reading the clustering on record")
        with open_lake(platform.settings()) as connection:
            found = refresh(connection, AUDIENCE, columns)
        return dg.MaterializeResult(
            metadata={"status": found.status, "reason": found.reason, "names": dg.MetadataValue.json(dict(found.names))}
        )

    @dg.multi_asset_check(
        name="clusters_fit_the_book",
        specs=[
            dg.AssetCheckSpec(
                "every_cluster_is_on_record",
                asset=PROFILES,
                blocking=True,
                description="Nobody is in a cluster that is not on record, or in any while none stands; there are not too many.",
            ),
            dg.AssetCheckSpec(
                "clusters_still_fit",
                asset=PROFILES,
                description="The clusters' shares are those of the fit as far as chance goes at this size, few people lie far "
                "from every centre, and no cluster has shrunk to a handful.",
            ),
        ],
        pool=LAKE_POOL,
    )
    def clusters_fit_the_book(platform: Platform):
        from orchestration.clustering.guards import on_record, still_fit

        with open_lake(platform.settings(), read_only=True) as connection:
            recorded, fitting = on_record(connection), still_fit(connection)
        yield dg.AssetCheckResult(
            check_name="every_cluster_is_on_record", asset_key=PROFILES, passed=recorded.passed, metadata=asdict(recorded)
        )
        yield dg.AssetCheckResult(
            check_name="clusters_still_fit",
            asset_key=PROFILES,
            passed=fitting.passed,
            severity=dg.AssetCheckSeverity.WARN,
            metadata=asdict(fitting),
        )

    fit = dg.define_asset_job(
        "fit_clusters",
        selection=dg.AssetSelection.assets(CLUSTERING),
        executor_def=dg.in_process_executor,
        description="Fit the marketing clusters on the newest build and put the result on record.",
    )
    return dg.Definitions(assets=[clustering, cluster_model], asset_checks=[clusters_fit_the_book], jobs=[fit])
