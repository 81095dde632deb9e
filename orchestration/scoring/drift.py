"""Drift: how far today's book lies from the rows that a model was trained on.

Belongs here: PSI per feature and of the score, against what chance alone gives at that size. Does not belong here: what an
alarm leads to. PSI over K bins of two samples of one distribution, n and m rows, is about chi-square with K - 1 degrees
of freedom times (1/n + 1/m) (Yurdakul and Naranjo 2020, «Statistical properties of the population stability index»): a
fixed limit alarms on every small book and sleeps on large ones.
"""

from collections.abc import Mapping
from typing import Any

import duckdb
import numpy as np

from orchestration.lake import identifier
from orchestration.scoring.errors import BadModel
from orchestration.scoring.points import PointsTable, Term

SIGNIFICANCE = 0.999
LEAST_EFFECT = 0.10
DECILES = 10


def psi(expected: np.ndarray, actual: np.ndarray) -> float:
    """Population stability index of two vectors of counts over the same bins; empty bins count half a row."""
    first = np.where(expected > 0, expected, 0.5) / max(expected.sum(), 1)
    second = np.where(actual > 0, actual, 0.5) / max(actual.sum(), 1)
    return float(np.sum((second - first) * np.log(second / first)))


def null_limit(bins: int, first_rows: float, second_rows: float, significance: float = SIGNIFICANCE) -> float:
    """PSI that two samples of those sizes from one distribution exceed with probability 1 - significance."""
    from scipy.stats import chi2

    if bins < 2 or not first_rows or not second_rows:
        return float("inf")
    return float(chi2.ppf(significance, bins - 1) * (1 / first_rows + 1 / second_rows))


def bin_numbers(term: Term, values: Any) -> np.ndarray:
    """The bin of each value: 0 missing, 1.. ranges or categories, last unseen."""
    if term.kind == "number":
        numbers = np.asarray(values, dtype=float)
        return np.where(np.isnan(numbers), 0, np.searchsorted(np.asarray(term.cuts), numbers, side="right") + 1)
    places = {name: number + 1 for number, name in enumerate(term.categories)}
    return np.array(
        [0 if value is None or value != value else places.get(value, len(places) + 1) for value in values], dtype=int
    )


def counts(term: Term, values: Any) -> np.ndarray:
    """Rows per bin of a feature."""
    return np.bincount(bin_numbers(term, values), minlength=len(term.points) + 2).astype(float)


def profile_of(table: PointsTable, rows: Any) -> dict[str, Any]:
    """What drift is later measured against: counts per bin of each feature, and the score's deciles with their counts.

    Bins hold counts only; with at most 64 bins nobody can be singled out by more than lying in one.
    """
    scores, _ = table.score_columns(rows)
    edges = [float(edge) for edge in np.unique(np.quantile(scores, np.linspace(0, 1, DECILES + 1)[1:-1]))]
    return {
        "features": {term.feature: [int(count) for count in counts(term, rows[term.feature])] for term in table.terms},
        "score_edges": edges,
        "score_counts": [int(count) for count in score_counts(scores, edges)],
    }


def score_counts(scores: np.ndarray, edges: list[float]) -> np.ndarray:
    """Scores per bin between the edges."""
    return np.bincount(np.searchsorted(edges, scores, side="right"), minlength=len(edges) + 1).astype(float)


def drift(table: PointsTable, profile: Mapping[str, Any], rows: Any) -> list[dict[str, Any]]:
    """Per feature and for the score: PSI, the limit that chance gives, and whether it drifted.

    Drifted means beyond chance at that size and also beyond a PSI of 0.10: on a large book any difference is significant.
    """
    scores, _ = table.score_columns(rows)
    pairs = {"score": (np.array(profile["score_counts"], dtype=float), score_counts(scores, profile["score_edges"]))}
    for term in table.terms:
        pairs[term.feature] = (
            np.array(profile["features"][term.feature], dtype=float), counts(term, rows[term.feature])
        )  # fmt: skip
    return [judged_counts(name, then, now) for name, (then, now) in pairs.items()]


def judged_counts(name: str, then: np.ndarray, now: np.ndarray) -> dict[str, Any]:
    """PSI of two counts over the same bins, the limit that chance gives, from where it is an alarm, and whether it is one."""
    value = psi_of_used(then, now)
    limit = null_limit(int(np.sum((then > 0) | (now > 0))), then.sum(), now.sum())
    alarm_from = max(limit, LEAST_EFFECT)
    return {"name": name, "psi": value, "limit": limit, "alarm_from": alarm_from, "drifted": bool(value > alarm_from)}


def score_drift(connection: duckdb.DuckDBPyConnection, table: PointsTable) -> dict[str, Any]:
    """Drift of the scores in risk.model_scores against those of the training rows, counted by the store. Raises `BadModel`
    if the table does not know its training scores."""
    profile = table.record.get("score_profile")
    if not profile:
        raise BadModel("the points table does not hold its training scores; train again")
    edges = ", ".join(f"cast('{float(edge)!r}' as double)" for edge in profile["score_edges"])
    # Bin = number of edges at or below the score, as `score_counts` counts.
    rows = connection.execute(
        f"select len(list_filter([{edges}]::double[], lambda edge: edge <= score)) as bin, count(*) "
        "from lake.risk.model_scores group by 1"
    ).fetchall()
    now = np.zeros(len(profile["score_edges"]) + 1)
    for place, count in rows:
        now[place] = count
    return {"rows": int(now.sum()), **judged_counts("score", np.array(profile["score_counts"], dtype=float), now)}


def feature_drift(
    connection: duckdb.DuckDBPyConnection, table: PointsTable, relation: str = "lake.features.risk_features"
) -> list[dict[str, Any]]:
    """Drift of every feature of the book against the training rows, counted by the store in one pass. Raises `BadModel` if the
    table does not know its training rows."""
    then = table.record.get("feature_counts")
    if not then:
        raise BadModel("the points table does not hold its training rows' bins; train again")
    wanted = []
    for term in table.terms:
        column = identifier(term.feature)
        if term.kind == "category":
            wanted.append(f"histogram(cast({column} as varchar))")
            continue
        number = f"cast({column} as double)"
        # The store's bins are closed on the right and ours on the left: both turned round, they are the same.
        bounds = ", ".join(f"cast('{-cut!r}' as double)" for cut in reversed(term.cuts))
        wanted.append(f"histogram(-{number}, [{bounds}]::double[]) filter (where not isnan({number}))")
        wanted.append(f"count(*) filter (where not isnan({number}))")
    (total, *answers) = connection.execute(f"select count(*), {', '.join(wanted)} from {relation}").fetchone()
    found, place = [], 0
    for term in table.terms:
        now = np.zeros(len(term.points) + 2)
        by_key = answers[place] or {}
        if term.kind == "category":
            places = {name: number + 1 for number, name in enumerate(term.categories)}
            for name, count in by_key.items():
                now[places.get(name, len(places) + 1)] += count
            now[0] = total - sum(by_key.values())
        else:
            present = answers[place + 1]
            for number, cut in enumerate(term.cuts):
                now[number + 2] = by_key.get(-cut, 0)
            now[0], now[1] = total - present, present - now[2:].sum()
        place += 1 if term.kind == "category" else 2
        found.append(judged_counts(term.feature, np.array(then[term.feature], dtype=float), now))
    return found


def psi_of_used(then: np.ndarray, now: np.ndarray) -> float:
    """PSI over the bins that either sample uses."""
    used = (then > 0) | (now > 0)
    return psi(then[used], now[used]) if used.any() else 0.0
