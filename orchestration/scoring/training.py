"""One training: fit, calibrate, export, prove the export, judge beside the other models.

Belongs here: the order of those steps and what they hand over. Does not belong here: each step's own work, storing
(`registry`), who may promote (`deployment`).
"""

import hashlib
import platform
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from orchestration import progress
from orchestration.scoring import metrics, models
from orchestration.scoring.drift import profile_of
from orchestration.scoring.errors import ScoringError
from orchestration.scoring.fairness import group_figures
from orchestration.scoring.features import Feature
from orchestration.scoring.points import PointsTable
from orchestration.scoring.scorecard import fit_scorecard
from orchestration.scoring.training_set import TrainingSet

SEED = 7
VALID_DAYS = 180
PARITY = 1e-12
FAR = 1e6  # limits of a table that is never to ask for a tier
FOLDS_NOTE = "Calibrated on held-out parts of the training windows; nothing was chosen on the test windows."
# The score may ask for more work than capacity allows only by a decision: these shares of the training rows lie above.
MEDIUM_SHARE, HIGH_SHARE = 0.05, 0.01
LIBRARIES = ("interpret-core", "scikit-learn", "numpy", "pandas", "scipy", "duckdb")


@dataclass
class Training:
    """What one training made. `judgements`: per model its measures with intervals; `report`: everything a card shows."""

    table: PointsTable
    scorecard: PointsTable
    boosted: models.Fitted
    features: list[Feature]
    judgements: dict[str, dict[str, dict[str, float]]]
    report: dict[str, Any] = field(default_factory=dict)


def train(data: TrainingSet, seed: int = SEED) -> Training:
    """Fit everything on the training windows and judge it on the test windows of the same set.

    Raises `TooFewLabels`, `SuspectedLeakage`, or `ScoringError` if the exported table does not equal the library.
    """
    fit_rows, test_rows = data.split("train"), data.split("test")
    labels, test_labels = fit_rows["label"].to_numpy(dtype=float), test_rows["label"].to_numpy(dtype=float)
    features = models.usable_features(fit_rows)
    numbers = {feature.name: fit_rows[feature.name].to_numpy() for feature in features if feature.kind == "number"}
    metrics.guard_against_leakage(labels, numbers, 0.5)
    parts = models.folds(fit_rows, labels, seed)
    held_out, refits = np.zeros(len(fit_rows)), []
    for number, (fitted_on, left_out) in enumerate(parts):
        progress.report("fitting for calibration", number / (len(parts) + 3))
        refit = models.fit_additive(fit_rows.iloc[fitted_on], labels[fitted_on], features, seed + number, bags=4)
        held_out[left_out] = models.raw_scores(refit, fit_rows.iloc[left_out], features)
        refits.append(refit)
    offset, slope = models.calibration(held_out, labels)
    progress.report("fitting the additive model", len(parts) / (len(parts) + 3))
    model = models.fit_additive(fit_rows, labels, features, seed)
    calibrated = offset + slope * models.raw_scores(model, fit_rows, features)
    limits = tuple(float(np.quantile(calibrated, 1 - share)) for share in (MEDIUM_SHARE, HIGH_SHARE))
    document = {
        "version": f"ebm-{data.as_of:%Y%m%d}-{hashlib.sha256((data.fingerprint + code_digest()).encode()).hexdigest()[:8]}",
        "trained_as_of": f"{data.as_of:%Y-%m-%d %H:%M:%S}",
        "valid_days": VALID_DAYS,
        "record": record_of(data, seed, features, offset, slope),
    }
    table = models.export(model, features, offset, slope, limits, algorithm="additive_ebm", **document)
    profile = profile_of(table, fit_rows)
    kept = {name: profile[name] for name in ("score_edges", "score_counts")}
    table = replace(table, record={**table.record, "score_profile": kept})
    test_scores, _ = table.score_columns(test_rows)
    prove_parity(test_scores, offset + slope * models.raw_scores(model, test_rows, features))
    progress.report("fitting the models beside it", (len(parts) + 1) / (len(parts) + 3))
    card_document = {**document, "version": document["version"].replace("ebm", "woe")}
    scorecard = fit_scorecard(fit_rows, labels, features, seed, (MEDIUM_SHARE, HIGH_SHARE), **card_document)
    logistic = models.fit_logistic(fit_rows, labels, features, seed)
    boosted = models.fit_boosted(fit_rows, labels, features, seed)
    predicted = {
        "additive_ebm": probabilities(test_scores),
        "logistic": logistic.predict(test_rows),
        "woe_scorecard": probabilities(scorecard.score_columns(test_rows)[0]),
        "boosted_trees": boosted.predict(test_rows),
    }
    progress.report("judging", (len(parts) + 2) / (len(parts) + 3))
    judgements = {name: metrics.judged(test_labels, values, seed) for name, values in predicted.items()}
    for judgement in judgements.values():
        metrics.guard_against_leakage(test_labels, {}, judgement["auc"]["value"])
    report = {
        "headline": headline(data, predicted),
        "differences": {
            name: metrics.difference(test_labels, predicted["additive_ebm"], predicted[name], metrics.auc)
            for name in predicted
            if name != "additive_ebm"
        },
        "segments": segments(data, predicted["additive_ebm"]),
        "agreement": agreement(table, refits, features, test_rows, test_scores, slope),
        "fairness": group_figures(data, test_scores >= table.medium_from, predicted["additive_ebm"]),
        "calibration": {"offset": offset, "slope": slope},
        "windows": window_counts(data),
        "profile": profile,
    }
    return Training(table, scorecard, boosted, features, judgements, report)


def probabilities(scores: np.ndarray) -> np.ndarray:
    """Logistic of log-odds."""
    return 1 / (1 + np.exp(-scores))


def prove_parity(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Raise `ScoringError` unless the table's scores equal the library's within `PARITY`."""
    worst = float(np.max(np.abs(ours - theirs), initial=0.0))
    if not worst <= PARITY:
        raise ScoringError(f"the points table differs from the library by {worst:.3g}: it must not be used")


def record_of(
    data: TrainingSet, seed: int, features: list[Feature], offset: float, slope: float
) -> dict[str, Any]:
    """Where the table comes from: data, code, library versions, settings. Nothing that another training on the same
    delivery would not repeat: who trained is the registry's to know."""
    return {
        "data_sha256": data.fingerprint,
        "code_sha256": code_digest(),
        "lineage": data.lineage,
        "windows": {"label_days": data.windows.label_days, "maturity_days": data.windows.maturity_days},
        "rows": {"train": len(data.split("train")), "test": len(data.split("test"))},
        "seed": seed,
        "settings": {"bins": models.BINS, "bags": models.BAGS, "rounds": models.ROUNDS, "interactions": 0},
        "calibration": {"offset": offset, "slope": slope},
        "columns": {feature.name: feature.kind for feature in features},
        "libraries": {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}},
        "segline": metadata.version("segline") if _installed("segline") else "source",
    }


def code_digest() -> str:
    """SHA-256 over this package's modules: which code fitted."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def headline(data: TrainingSet, predicted: dict[str, np.ndarray]) -> dict[str, dict[str, float] | None]:
    """Per model: of the issues that audits found in the test windows, the share among the 5 % flagged of each window."""
    test = data.split("test")
    first = int(test.index[0])
    audits = data.audits[data.audits["row"] >= first]
    places = audits["row"].to_numpy(dtype=int) - first
    issues = audits["has_issue"].to_numpy(dtype=float)
    selection = audits["selection_probability"].to_numpy(dtype=float)
    found = {}
    for name, values in predicted.items():
        flags = np.zeros(len(test))
        for start in test["window_start"].unique():
            rows = (test["window_start"] == start).to_numpy()
            flags[rows] = metrics.flagged(values[rows], MEDIUM_SHARE)
        found[name] = metrics.audited_capture(issues, selection, flags[places])
    return found


def segments(data: TrainingSet, predicted: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    """Stability: the same figures per test window and per type of customer."""
    test = data.split("test")
    labels = test["label"].to_numpy(dtype=float)
    return {
        name: metrics.by_segment(labels, predicted, test[name].to_numpy(dtype=object))
        for name in ("window_start", "customer_type")
    }


def agreement(
    table: PointsTable, refits: list[Any], features: list[Feature], rows: Any, scores: np.ndarray, slope: float
) -> dict[str, float]:
    """How far refits on other parts of the data give the same reasons: share of the riskiest decile whose top family is
    the same, and overlap of the 5 % flagged; means over the refits."""
    top = scores >= np.quantile(scores, 0.9)
    mine = top_family(table, rows)[top]
    flags = metrics.flagged(scores, MEDIUM_SHARE)
    same, overlap = [], []
    for refit in refits:
        other = models.export(
            refit, features, 0.0, slope, (FAR, FAR), version="refit", algorithm="additive_ebm",
            trained_as_of=table.trained_as_of, valid_days=1,
        )  # fmt: skip
        same.append(float(np.mean(top_family(other, rows)[top] == mine)))
        theirs = metrics.flagged(other.score_columns(rows)[0], MEDIUM_SHARE)
        overlap.append(float(np.minimum(flags, theirs).sum() / flags.sum()))
    return {"top_family_riskiest_decile": float(np.mean(same)), "flagged_overlap": float(np.mean(overlap))}


def top_family(table: PointsTable, rows: Any) -> np.ndarray:
    """The family that adds most to each row's score."""
    _, families = table.score_columns(rows)
    names = np.array(list(families))
    return names[np.argmax(np.column_stack(list(families.values())), axis=1)]


def window_counts(data: TrainingSet) -> list[dict[str, Any]]:
    """Rows and labels of each window."""
    grouped = data.rows.groupby(["split", "window_start"])["label"].agg(["size", "sum"]).reset_index()
    return [
        {"split": row.split, "window_start": row.window_start, "rows": int(row.size_), "bad": int(row.bad)}
        for row in grouped.rename(columns={"size": "size_", "sum": "bad"}).itertuples()
    ]
