"""How good a score is, with intervals: order, capture at capacity, calibration, the same across segments.

Belongs here: figures over (label, probability) arrays. Does not belong here: fitting, thresholds of release.
Intervals are 90 % percentile bootstraps over rows (Efron 1979) with a fixed seed.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from orchestration.scoring.errors import SuspectedLeakage, TooFewLabels

MOST_AUC = 0.95
FEWEST_TEST_POSITIVES = 10
RESAMPLES = 200
SHARES = (0.01, 0.05, 0.10)
Measure = Callable[[np.ndarray, np.ndarray], float]


def auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Probability that a random bad row scores above a random good one (ties count half)."""
    from scipy.stats import rankdata

    bad = labels > 0
    count = int(bad.sum())
    ranks = rankdata(scores)
    return float((ranks[bad].sum() - count * (count + 1) / 2) / (count * (len(labels) - count)))


def pr_auc(labels: np.ndarray, scores: np.ndarray) -> float:
    """Average precision."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels, scores))


def flagged(scores: np.ndarray, share: float) -> np.ndarray:
    """Weight 0 to 1 of each row among the highest `share`; rows tied at the limit share what is left of it."""
    capacity = share * len(scores)
    order = np.sort(scores)[::-1]
    limit = order[min(int(np.ceil(capacity)), len(order)) - 1]
    above, tied = scores > limit, scores == limit
    return above + tied * np.clip((capacity - above.sum()) / tied.sum(), 0, 1)


def capture(labels: np.ndarray, scores: np.ndarray, share: float, weights: np.ndarray | None = None) -> float:
    """Share of the bad rows (weighted) among the highest `share` of scores."""
    mass = labels * (np.ones(len(labels)) if weights is None else weights)
    return float((mass * flagged(scores, share)).sum() / mass.sum())


def brier(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Mean squared error of the probability."""
    return float(np.mean((probabilities - labels) ** 2))


def observed_to_expected(labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Bad rows that came, for each that the probabilities announced; 1 is right, above 1 means understated."""
    return float(labels.sum() / probabilities.sum())


def measures() -> dict[str, Measure]:
    """Name and function of every measure of a model."""
    found: dict[str, Measure] = {"auc": auc, "pr_auc": pr_auc}
    for share in SHARES:
        found[f"capture_{share:.0%}"] = lambda labels, scores, share=share: capture(labels, scores, share)
    return {**found, "brier": brier, "observed_to_expected": observed_to_expected}


def resamples(labels: np.ndarray, seed: int, count: int = RESAMPLES) -> list[np.ndarray]:
    """Row positions of bootstrap samples that hold both good and bad rows."""
    rng = np.random.default_rng(seed)
    drawn: list[np.ndarray] = []
    while len(drawn) < count:
        rows = rng.integers(0, len(labels), len(labels))
        if 0 < labels[rows].sum() < len(labels):
            drawn.append(rows)
    return drawn


def judged(labels: np.ndarray, probabilities: np.ndarray, seed: int = 7) -> dict[str, dict[str, float]]:
    """Every measure with its 90 % interval: {name: {value, low, high}}. Raises `TooFewLabels` below ten bad rows."""
    labels, probabilities = np.asarray(labels, dtype=float), np.asarray(probabilities, dtype=float)
    if labels.sum() < FEWEST_TEST_POSITIVES or (labels == 0).sum() < FEWEST_TEST_POSITIVES:
        raise TooFewLabels(
            f"{int(labels.sum())} confirmed incidents in the test windows, {FEWEST_TEST_POSITIVES} are the least: "
            "deliver more history or more customers"
        )
    drawn = resamples(labels, seed)
    found = {}
    for name, measure in measures().items():
        spread = [measure(labels[rows], probabilities[rows]) for rows in drawn]
        low, high = np.quantile(spread, [0.05, 0.95])
        found[name] = {"value": measure(labels, probabilities), "low": float(low), "high": float(high)}
    return found


def difference(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray, measure: Measure, seed: int = 7
) -> dict[str, float]:
    """Measure of `first` less that of `second` on the same rows, with its paired 90 % interval."""
    labels = np.asarray(labels, dtype=float)
    spread = [
        measure(labels[rows], first[rows]) - measure(labels[rows], second[rows]) for rows in resamples(labels, seed)
    ]
    low, high = np.quantile(spread, [0.05, 0.95])
    return {"value": measure(labels, first) - measure(labels, second), "low": float(low), "high": float(high)}


def audited_capture(
    issues: np.ndarray, selection: np.ndarray, flags: np.ndarray, seed: int = 7
) -> dict[str, float] | None:
    """The source document's measure: of the audited issues, the share among the flagged, each audit weighted by one over
    its probability of selection (Horvitz and Thompson 1952). `None` without an audited issue.

    `issues` 0/1, `selection` (0, 1], `flags` weight 0 to 1 of each audited row among the flagged.
    """
    mass = issues / selection
    if mass.sum() == 0:
        return None
    rng = np.random.default_rng(seed)
    spread = []
    for _ in range(RESAMPLES):
        rows = rng.integers(0, len(mass), len(mass))
        if mass[rows].sum() > 0:
            spread.append((mass[rows] * flags[rows]).sum() / mass[rows].sum())
    low, high = np.quantile(spread, [0.05, 0.95])
    value = float((mass * flags).sum() / mass.sum())
    return {"value": value, "low": float(low), "high": float(high), "issues": float(issues.sum()), "audits": float(len(mass))}


def by_segment(labels: np.ndarray, probabilities: np.ndarray, segments: np.ndarray) -> list[dict[str, Any]]:
    """Rows, bad rows, AUC and observed to expected per segment; figures are left out where fewer than ten are bad."""
    found = []
    for name in sorted({str(value) for value in segments}):
        rows = np.array([str(value) == name for value in segments])
        entry: dict[str, Any] = {"segment": name, "rows": int(rows.sum()), "bad": int(labels[rows].sum())}
        if entry["bad"] >= FEWEST_TEST_POSITIVES and entry["bad"] < entry["rows"]:
            entry["auc"] = auc(labels[rows], probabilities[rows])
            entry["observed_to_expected"] = observed_to_expected(labels[rows], probabilities[rows])
        found.append(entry)
    return found


def guard_against_leakage(labels: np.ndarray, columns: Mapping[str, np.ndarray], model_auc: float) -> None:
    """Raise `SuspectedLeakage` if the model or any single numeric feature orders outcomes better than `MOST_AUC`.

    Honest behaviour does not foretell an investigation's outcome that well; a column that knows it does.
    """
    labels = np.asarray(labels, dtype=float)
    if 0 < labels.sum() < len(labels):
        for name, values in columns.items():
            values = np.asarray(values, dtype=float)
            values = np.where(np.isnan(values), np.nanmin(values) - 1 if np.isfinite(values).any() else 0.0, values)
            alone = auc(labels, values)
            if max(alone, 1 - alone) > MOST_AUC:
                raise SuspectedLeakage(f"{name} alone reaches an AUC of {max(alone, 1 - alone):.3f}: it knows the outcome")
    if model_auc > MOST_AUC:
        raise SuspectedLeakage(f"an AUC of {model_auc:.3f} is too good: look for a feature that knows the outcome")
