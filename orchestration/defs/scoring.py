"""The models of the risk score: the one in charge, which the daily run reads, and training, which is a job of its own.

Belongs here: asset keys, lineage, metadata, checks. Does not belong here: fitting, change control (`orchestration.scoring`).
https://docs.dagster.io/guides/build/assets/metadata-and-tags
"""

import json

import dagster as dg

from orchestration import progress
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.lake import open_lake
from orchestration.scoring.deployment import refresh, standing
from orchestration.settings import Settings
from orchestration.transformation import prepare

TRAINED_MODEL = dg.AssetKey(["risk", "trained_model"])
SCORE_MODEL = dg.AssetKey(["risk", "score_model"])
SCORE_COLUMNS = {
    "status": "Whether a model may score: current, no_model, or why not.",
    "reason": "The same in a sentence.",
    "document": "The points table as JSON.",
}
TRAINED_ON = ("transactions", "customers", "incidents", "audit_outcomes", "complaints")


class TrainingConfig(dg.Config):
    """Who trains; another person has to promote."""

    trained_by: str


def feature_columns(manifest: dict) -> dict[str, str]:
    """Columns and types that features.risk_features declares."""
    models = (node for node in manifest["nodes"].values() if node["resource_type"] == "model")
    node = next(node for node in models if node["name"] == "risk_features")
    return {column["name"]: column.get("data_type") or "" for column in node["columns"].values()}


def column_schema(columns: dict[str, str]) -> dg.TableSchema:
    """Text columns with their descriptions."""
    return dg.TableSchema([dg.TableColumn(name, "varchar", description=text) for name, text in columns.items()])


@dg.definitions
def defs() -> dg.Definitions:
    """Training, the deployed points table, and the check that the scores still look like those of the training."""
    manifest = json.loads(prepare(Settings()).read_text(encoding="utf-8"))
    columns = feature_columns(manifest)

    @dg.asset(
        key=TRAINED_MODEL,
        # From the raw tables, not from the features: a training builds features anew as of each window.
        deps=[dg.AssetKey(["raw", entity]) for entity in TRAINED_ON],
        group_name="risk",
        description="The newest registered model: fitted on features as they were before each label window, judged beside "
        "three others, with its card. Registered is not in charge: a second person promotes it.",
        owners=["team:compliance"],
        kinds={"python", "mlflow", "scikitlearn"},
        tags={"zone": "risk"},
        metadata={"dagster/column_schema": column_schema({"points": "The points table as JSON."})},
        pool=LAKE_POOL,
    )
    def trained_model(config: TrainingConfig, platform: Platform) -> dg.MaterializeResult:
        from orchestration.scoring import registry
        from orchestration.scoring.lifecycle import train_and_register

        entry, is_new, training = train_and_register(platform.settings(), config.trained_by)
        figures = {f"additive_ebm/{name}": value["value"] for name, value in training.judgements["additive_ebm"].items()}
        card = dg.MetadataValue.md(registry.read(entry, registry.CARD))
        return dg.MaterializeResult(
            metadata={**figures, "version": entry.version, "sha256": entry.sha256, "is_new": is_new, "card": card},
            data_version=dg.DataVersion(training.table.record["data_sha256"]),
        )

    @dg.asset(
        key=SCORE_MODEL,
        deps=[TRAINED_MODEL],
        group_name="risk",
        description="The points table that scores: the newest promotion, checked against its fingerprint and against the "
        "columns of the features. One that fails either is refused, and the rules stand alone.",
        owners=["team:compliance"],
        kinds={"duckdb", "python"},
        tags={"zone": "risk"},
        metadata={"dagster/column_schema": column_schema(SCORE_COLUMNS)},
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

    @dg.asset_check(
        asset=dg.AssetKey(["risk", "model_scores"]),
        name="scores_have_not_drifted",
        description="Scores lie where those of the training rows lay, as far as chance goes at this size (PSI).",
        pool=LAKE_POOL,
    )
    def scores_have_not_drifted(platform: Platform) -> dg.AssetCheckResult:
        from orchestration.scoring.drift import score_drift
        from orchestration.scoring.errors import BadModel

        settings, warn = platform.settings(), dg.AssetCheckSeverity.WARN
        with open_lake(settings, read_only=True) as connection:
            found = standing(settings, connection, columns)
            if found.table is None:
                # No model is the normal state of a new store; one that is refused is worth a warning.
                return dg.AssetCheckResult(
                    passed=found.status == "no_model", severity=warn, metadata={"status": found.status, "reason": found.reason}
                )
            try:
                drifted = score_drift(connection, found.table)
            except BadModel as error:
                return dg.AssetCheckResult(passed=False, severity=warn, metadata={"reason": str(error)})
        return dg.AssetCheckResult(passed=not drifted["drifted"], severity=warn, metadata=drifted)

    train = dg.define_asset_job(
        "train_score_model",
        selection=dg.AssetSelection.assets(TRAINED_MODEL),
        executor_def=dg.in_process_executor,
        description="Fit, judge and register a model; nothing is put in charge by it.",
    )
    return dg.Definitions(assets=[trained_model, score_model], asset_checks=[scores_have_not_drifted], jobs=[train])
