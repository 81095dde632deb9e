"""The model in charge and the jobs around models: scoring reads it in the daily run, training is a job of its own.

Belongs here: asset keys, metadata, checks. Does not belong here: fitting, change control (`orchestration.scoring`).
https://docs.dagster.io/guides/build/assets/metadata-and-tags
"""

import json

import dagster as dg

from orchestration import progress
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.lake import open_lake
from orchestration.scoring.deployment import refresh
from orchestration.settings import Settings
from orchestration.transformation import prepare


def feature_columns(manifest: dict) -> dict[str, str]:
    """Columns and types that features.risk_features declares."""
    node = next(node for node in manifest["nodes"].values() if node["name"] == "risk_features" and node["resource_type"] == "model")
    return {column["name"]: column.get("data_type") or "" for column in node["columns"].values()}


@dg.definitions
def defs() -> dg.Definitions:
    """The deployed points table."""
    manifest = json.loads(prepare(Settings()).read_text(encoding="utf-8"))
    columns = feature_columns(manifest)

    @dg.asset(
        key=dg.AssetKey(["risk", "score_model"]),
        group_name="risk",
        description="The points table that scores: the newest promotion, checked against its fingerprint and against the "
        "columns of the features. One that fails either is refused, and the rules stand alone.",
        owners=["team:compliance"],
        kinds={"duckdb", "python"},
        tags={"zone": "risk"},
        pool=LAKE_POOL,
    )
    def score_model(platform: Platform) -> dg.MaterializeResult:
        progress.report("reading the model in charge")
        settings = platform.settings()
        with open_lake(settings) as connection:
            found = refresh(settings, connection, columns)
        metadata: dict[str, object] = {"status": found.status, "reason": found.reason}
        if found.table:
            metadata |= {"version": found.table.version, "sha256": found.table.sha256, "bins": len(found.table.rows())}
        return dg.MaterializeResult(metadata=metadata)

    return dg.Definitions(assets=[score_model])
