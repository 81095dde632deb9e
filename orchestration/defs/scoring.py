"""The models of the risk score: the one in charge, which the daily run reads, and training, which is a job of its own.

Belongs here: asset keys, lineage, metadata, checks. Does not belong here: fitting, change control (`orchestration.scoring`).
https://docs.dagster.io/guides/build/assets/metadata-and-tags
"""


import dagster as dg

from orchestration import progress
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.lake import open_lake
from orchestration.scoring import thresholds
from orchestration.scoring.deployment import refresh, standing
from orchestration.settings import Settings
from orchestration.transformation import project_manifest

TRAINED_MODEL = dg.AssetKey(["risk", "trained_model"])
SCORE_MODEL = dg.AssetKey(["risk", "score_model"])
MODEL_SCORES = dg.AssetKey(["risk", "model_scores"])
MODEL_EVALUATION = dg.AssetKey(["risk", "model_evaluation"])
SCORE_COLUMNS = {
    "status": "Whether a model may score: current, no_model, or why not.",
    "reason": "The same in a sentence.",
    "document": "The points table as JSON.",
}
PLOT_OF = {
    "scores_are_calibrated": "calibration",
    "scores_tell_good_from_bad": "capture",
    "groups_are_flagged_alike": "fairness",
    "features_have_not_drifted": "drift",
    "scores_have_not_drifted": "drift",
}
TRAINED_ON = ("transactions", "customers", "incidents", "audit_outcomes", "complaints")


class TrainingConfig(dg.Config):
    """Who trains; another person has to promote."""

    trained_by: str


class EvaluationConfig(dg.Config):
    """Which registered model: number, version or alias."""

    model: str = "champion"


def asked(asset: dg.AssetKey, names: tuple[str, ...]) -> list[dg.AssetCheckSpec]:
    """The checks of those names. None blocks an asset: what is graver keeps a model from promotion."""
    return [dg.AssetCheckSpec(name, asset=asset, description=thresholds.NAMES[name]) for name in names]


def answered(asset: dg.AssetKey, finding: thresholds.Finding, pictures: dict[str, str]) -> dg.AssetCheckResult:
    """A finding as Dagster's result, with the plot of what it is about."""
    metadata: dict[str, object] = {"found": finding.said}
    metadata |= {name: value for name, value in finding.figures.items() if isinstance(value, int | float)}
    if finding.name in PLOT_OF and PLOT_OF[finding.name] in pictures:
        metadata["plot"] = dg.MetadataValue.md(pictures[PLOT_OF[finding.name]])
    severity = dg.AssetCheckSeverity.ERROR if finding.blocks else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        check_name=finding.name, asset_key=asset, passed=finding.passed, severity=severity, metadata=metadata
    )


def plot_metadata(pictures: dict[str, str]) -> dict[str, object]:
    """Pictures as Markdown, one entry each; Dagster's pages draw them."""
    return {f"plot_{name}": dg.MetadataValue.md(picture) for name, picture in pictures.items()}


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
    manifest = project_manifest(Settings())
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
        check_specs=asked(TRAINED_MODEL, thresholds.OF_TRAINING),
        pool=LAKE_POOL,
    )
    def trained_model(config: TrainingConfig, platform: Platform) -> dg.MaterializeResult:
        from orchestration.scoring import plots, registry
        from orchestration.scoring.lifecycle import train_and_register

        entry, is_new, training = train_and_register(platform.settings(), config.trained_by)
        figures = {f"additive_ebm/{name}": value["value"] for name, value in training.judgements["additive_ebm"].items()}
        pictures = plots.pictures(training.report)
        card = plots.within(registry.read(entry, registry.CARD), pictures)
        facts = {"version": entry.version, "sha256": entry.sha256, "is_new": is_new}
        findings = [thresholds.Finding(**finding) for finding in training.report["findings"]]
        return dg.MaterializeResult(
            metadata={**figures, **facts, "card": dg.MetadataValue.md(card), **plot_metadata(pictures)},
            data_version=dg.DataVersion(training.table.record["data_sha256"]),
            check_results=[answered(TRAINED_MODEL, finding, pictures) for finding in findings],
        )

    @dg.asset(
        key=MODEL_EVALUATION,
        # Its rows are a training set like the model's own, gated in the same way; nothing rests on what it says.
        deps=[TRAINED_MODEL, dg.AssetKey(["features", "risk_features"])],
        group_name="risk",
        description="A registered model on the newest delivery: calibration on outcomes that matured since, audits with their "
        "choice undone, groups, who may be trained on, drift. Changes nothing.",
        owners=["team:compliance"],
        kinds={"python"},
        tags={"zone": "risk"},
        metadata={"dagster/column_schema": column_schema({"report": "Figures and findings as JSON."})},
        check_specs=asked(MODEL_EVALUATION, thresholds.OF_EVALUATION),
        pool=LAKE_POOL,
    )
    def model_evaluation(config: EvaluationConfig, platform: Platform) -> dg.MaterializeResult:
        from orchestration.scoring import plots
        from orchestration.scoring.lifecycle import evaluate

        found = evaluate(platform.settings(), config.model)
        pictures = plots.pictures(found)
        figures = {name: value["value"] for name, value in found["measures"].items()}
        findings = [thresholds.Finding(**finding) for finding in found["findings"]]
        facts = {"version": found["version"], "is_out_of_time": found["is_out_of_time"]}
        return dg.MaterializeResult(
            metadata={**figures, **facts, **plot_metadata(pictures)},
            check_results=[answered(MODEL_EVALUATION, finding, pictures) for finding in findings],
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
        from orchestration.scoring import plots

        progress.report("reading the model in charge")
        settings = platform.settings()
        with open_lake(settings) as connection:
            found = refresh(settings, connection, columns)
        metadata: dict[str, object] = {"status": found.status, "reason": found.reason}
        if found.table:
            metadata |= {"version": found.table.version, "sha256": found.table.sha256, "bins": len(found.table.rows())}
            # The table itself knows how it was judged: asking the registry would load MLflow in every run.
            metadata |= plot_metadata(plots.pictures(found.table.record.get("judged", {})))
        return dg.MaterializeResult(metadata=metadata)

    @dg.multi_asset_check(
        name="scores_are_watched",
        specs=asked(MODEL_SCORES, thresholds.OF_EVERY_RUN),
        pool=LAKE_POOL,
    )
    def scores_are_watched(platform: Platform):
        from orchestration.scoring import plots
        from orchestration.scoring.watching import watched

        report: dict = {}
        with open_lake(platform.settings(), read_only=True) as connection:
            found = standing(platform.settings(), connection, columns)
            if found.table is None:
                # No model is the normal state of a new store; one that is refused is worth a warning.
                said = f"{found.status}: {found.reason}"
                findings = {
                    name: thresholds.Finding(name, found.status == "no_model", said) for name in thresholds.OF_EVERY_RUN
                }
            else:
                findings, report = watched(connection, found.table)
        pictures = plots.pictures(report)
        for name in thresholds.OF_EVERY_RUN:
            yield answered(MODEL_SCORES, findings[name], pictures)

    train = dg.define_asset_job(
        "train_score_model",
        selection=dg.AssetSelection.assets(TRAINED_MODEL),
        executor_def=dg.in_process_executor,
        description="Fit, judge and register a model; nothing is put in charge by it.",
    )
    evaluate = dg.define_asset_job(
        "evaluate_score_model",
        selection=dg.AssetSelection.assets(MODEL_EVALUATION),
        executor_def=dg.in_process_executor,
        description="Look at the model in charge again, on outcomes that matured since it was trained; nothing is changed by it.",
    )
    return dg.Definitions(
        assets=[trained_model, score_model, model_evaluation], asset_checks=[scores_are_watched], jobs=[train, evaluate]
    )
