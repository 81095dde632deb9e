"""A weight-of-evidence scorecard: the classical benchmark, printed as the same kind of points table.

Belongs here: coarse bins, weights of evidence, and the logistic regression over them. Does not belong here: the additive
model. Weight of evidence: Siddiqi 2006, «Credit Risk Scorecards», ch. 6. A bin of our own rather than a package: the usual
one brings nineteen packages and 375 MB.
"""

import math
from typing import Any

import numpy as np
import pandas as pd

from orchestration.scoring.features import Feature
from orchestration.scoring.points import PointsTable, Term, term_points

MOST_RANGES = 8
FEWEST_ROWS_SHARE = 0.03
FEWEST_POSITIVES = 3
SMOOTHING = 0.5


def weight(bad: float, good: float, all_bad: float, all_good: float) -> float:
    """Log ratio of the bin's share of the bad to its share of the good, smoothed; positive means riskier."""
    share_bad = (bad + SMOOTHING) / (all_bad + 2 * SMOOTHING)
    share_good = (good + SMOOTHING) / (all_good + 2 * SMOOTHING)
    return math.log(share_bad / share_good)


def cuts_of(values: np.ndarray, labels: np.ndarray, monotone: int) -> list[float]:
    """Cuts between coarse bins: from octiles, merged until each bin holds enough rows and positives and the weights keep
    the feature's direction."""
    known = ~np.isnan(values)
    values, labels = values[known], labels[known]
    quantiles = np.quantile(values, np.linspace(0, 1, MOST_RANGES + 1)[1:-1]) if len(values) else np.array([])
    cuts = [float(cut) for cut in np.unique(quantiles) if cut > values.min()]
    fewest = FEWEST_ROWS_SHARE * len(values)
    while cuts:
        place = np.searchsorted(cuts, values, side="right")
        rows = np.bincount(place, minlength=len(cuts) + 1)
        bad = np.bincount(place, weights=labels, minlength=len(cuts) + 1)
        thin = np.flatnonzero((rows < fewest) | (bad < FEWEST_POSITIVES))
        if len(thin):
            cuts.pop(min(int(thin[0]), len(cuts) - 1))
            continue
        rates = bad / rows
        against = np.flatnonzero(np.diff(rates) * monotone < 0) if monotone else np.array([], dtype=int)
        if not len(against):
            break
        cuts.pop(int(against[0]))
    return cuts


def weighted_term(rows: pd.DataFrame, labels: np.ndarray, feature: Feature) -> Term:
    """One feature's bins with their weights of evidence."""
    all_bad, all_good = float(labels.sum()), float(len(labels) - labels.sum())
    common: dict[str, Any] = {"feature": feature.name, "family": feature.family, "kind": feature.kind}

    def of(mask: np.ndarray) -> float:
        bad = float(labels[mask].sum())
        return weight(bad, float(mask.sum()) - bad, all_bad, all_good) if mask.any() else 0.0

    if feature.kind == "number":
        values = rows[feature.name].to_numpy(dtype=float)
        cuts = cuts_of(values, labels, feature.monotone)
        place = np.searchsorted(cuts, values, side="right")
        known = ~np.isnan(values)
        points = [of(known & (place == number)) for number in range(len(cuts) + 1)]
        return Term(points=tuple(_ordered(points, feature.monotone)), cuts=tuple(cuts), missing=of(~known),
                    monotone=feature.monotone, **common)  # fmt: skip
    values = rows[feature.name].to_numpy(dtype=object)
    names = sorted({value for value in values if value is not None})
    absent = np.array([value is None for value in values])
    return Term(points=tuple(of(values == name) for name in names), categories=tuple(names), missing=of(absent), **common)


def _ordered(points: list[float], monotone: int) -> list[float]:
    """Smoothing may turn a step of equal rates; the running maximum (minimum) keeps the direction."""
    if not monotone:
        return points
    return [float(value) * monotone for value in np.maximum.accumulate(np.array(points) * monotone)]


def fit_scorecard(
    rows: pd.DataFrame, labels: np.ndarray, features: list[Feature], seed: int, shares: tuple[float, float], **document: Any
) -> PointsTable:
    """A scorecard: logistic regression over weights of evidence; a feature whose weight would count against its own
    evidence is dropped. `shares` of the rows lie above medium and high; `document`: version and record of the table."""
    from sklearn.linear_model import LogisticRegression

    terms = [weighted_term(rows, labels, feature) for feature in features]
    while True:
        design = np.column_stack([term_points(term, rows[term.feature]) for term in terms])
        fitted = LogisticRegression(C=1.0, max_iter=2000, random_state=seed).fit(design, labels)
        kept = [term for term, factor in zip(terms, fitted.coef_[0], strict=True) if factor > 1e-6]
        if len(kept) == len(terms) or not kept:
            break
        terms = kept
    scaled = [
        Term(**{**term.__dict__, "points": tuple(value * float(factor) for value in term.points),
                "missing": term.missing * float(factor), "unseen": term.unseen * float(factor)})
        for term, factor in zip(terms, fitted.coef_[0], strict=True)
    ]  # fmt: skip
    intercept = float(fitted.intercept_[0])
    score = intercept + sum(term_points(term, rows[term.feature]) for term in scaled)
    medium, high = (max(float(np.quantile(score, 1 - share)), float(np.nextafter(intercept, np.inf))) for share in shares)
    return PointsTable(
        intercept=intercept, terms=tuple(scaled), algorithm="woe_scorecard", medium_from=medium, high_from=high, **document
    )
