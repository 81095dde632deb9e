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
from orchestration.scoring import curves, metrics, models
from orchestration.scoring.drift import profile_of
from orchestration.scoring.errors import ScoringError
from orchestration.scoring.fairness import group_figures
from orchestration.scoring.features import Feature
from orchestration.scoring.points import REASON_COUNT, PointsTable
from orchestration.scoring.scorecard import fit_scorecard
from orchestration.scoring.training_set import TrainingSet
from orchestration.scoring.verification import undone

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
    table = replace(table, record={**table.record, "score_profile": kept, "feature_counts": profile["features"]})
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
    report = judged_report(data, table, test_scores) | {
        "headline": headline(data, predicted),
        "capture_curves": {name: curves.capture_curve(test_labels, values) for name, values in predicted.items()},
        "capture_headline": judgements["additive_ebm"]["capture_5%"],
        "differences": {
            name: metrics.difference(test_labels, predicted["additive_ebm"], predicted[name], metrics.auc)
            for name in predicted
            if name != "additive_ebm"
        },
        "agreement": agreement(table, refits, features, test_rows, test_scores, slope),
        "calibration": {"offset": offset, "slope": slope},
        "profile": profile,
    }
    # So that whoever has the table alone, as every run, knows how it was judged.
    judged = {"calibration_bins": report["calibration_bins"], "capture_headline": report["capture_headline"]}
    judged["capture_curves"] = {"additive_ebm": report["capture_curves"]["additive_ebm"]}
    table = replace(table, record={**table.record, "judged": judged})
    return Training(table, scorecard, boosted, features, judgements, report)


def judged_report(data: TrainingSet, table: PointsTable, scores: np.ndarray) -> dict[str, Any]:
    """What is said of any table on the test windows, at its training or later: calibration per bin, segments, groups, audits
    with the choice of who is audited undone, windows. `scores` is the table's log-odds of each test row."""
    labels, predicted = data.split("test")["label"].to_numpy(dtype=float), probabilities(scores)
    return {
        "calibration_bins": curves.calibration_bins(labels, predicted),
        "segments": segments(data, predicted),
        "fairness": group_figures(data, scores >= table.medium_from, predicted),
        "verification": audited(data, predicted),
        "windows": window_counts(data),
    }


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
    places, issues, selection = _audits(data)
    return {
        name: metrics.audited_capture(issues, selection, _flagged_per_window(data, values)[places])
        for name, values in predicted.items()
    }


def audited(data: TrainingSet, predicted: np.ndarray) -> dict[str, Any] | None:
    """Figures over the audits of the test windows, the choice of who was audited undone; `None` without an issue."""
    places, issues, selection = _audits(data)
    return undone(issues, selection, _flagged_per_window(data, predicted)[places], predicted[places])


def _audits(data: TrainingSet) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Place among the test rows, issue (0/1) and probability of selection of each audit of a test window."""
    first = int(data.split("test").index[0])
    audits = data.audits[data.audits["row"] >= first]
    places = audits["row"].to_numpy(dtype=int) - first
    return places, audits["has_issue"].to_numpy(dtype=float), audits["selection_probability"].to_numpy(dtype=float)


def _flagged_per_window(data: TrainingSet, values: np.ndarray) -> np.ndarray:
    """Weight 0 to 1 of each test row among the 5 % flagged of its window."""
    starts = data.split("test")["window_start"].to_numpy()
    flags = np.zeros(len(starts))
    for start in np.unique(starts):
        rows = starts == start
        flags[rows] = metrics.flagged(values[rows], MEDIUM_SHARE)
    return flags


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
    """How far refits on other parts of the data give the same reasons: share of the riskiest decile whose first family is
    the same, overlap (Jaccard) of their families of reasons, and overlap of the 5 % flagged; means over the refits."""
    top = scores >= np.quantile(scores, 0.9)
    mine, flags = families_of(table, rows)[top], metrics.flagged(scores, MEDIUM_SHARE)
    same, shared, overlap = [], [], []
    for refit in refits:
        other = models.export(
            refit, features, 0.0, slope, (FAR, FAR), version="refit", algorithm="additive_ebm",
            trained_as_of=table.trained_as_of, valid_days=1,
        )  # fmt: skip
        theirs = families_of(other, rows)[top]
        same.append(float(np.mean(mine.argmax(axis=1) == theirs.argmax(axis=1))))
        first, second = _shown(mine), _shown(theirs)
        union = (first | second).sum(axis=1)
        shared.append(float(np.mean(np.where(union, (first & second).sum(axis=1) / np.maximum(union, 1), 1.0))))
        again = metrics.flagged(other.score_columns(rows)[0], MEDIUM_SHARE)
        overlap.append(float(np.minimum(flags, again).sum() / flags.sum()))
    return {
        "top_family_riskiest_decile": float(np.mean(same)),
        "reasons_overlap_riskiest_decile": float(np.mean(shared)),
        "flagged_overlap": float(np.mean(overlap)),
    }


def families_of(table: PointsTable, rows: Any) -> np.ndarray:
    """Points of each row by family (rows, families)."""
    return np.column_stack(list(table.score_columns(rows)[1].values()))


def _shown(points: np.ndarray) -> np.ndarray:
    """Which families are shown as reasons of each row: the most raising ones (rows, families)."""
    places = np.argsort(-points, axis=1, kind="stable").argsort(axis=1, kind="stable")
    return (places < REASON_COUNT) & (points > 0)


def window_counts(data: TrainingSet) -> list[dict[str, Any]]:
    """Rows and labels of each window."""
    grouped = data.rows.groupby(["split", "window_start"])["label"].agg(["size", "sum"]).reset_index()
    return [
        {"split": row.split, "window_start": row.window_start, "rows": int(row.size_), "bad": int(row.bad)}
        for row in grouped.rename(columns={"size": "size_", "sum": "bad"}).itertuples()
    ]
