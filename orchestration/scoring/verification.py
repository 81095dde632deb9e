"""Verification bias: who is looked at was chosen, so what was found says more of the choice than of the book.

A part of the audits is drawn at random with a known probability. Weighting each audit by one over its probability of selection
undoes the choice (Horvitz and Thompson 1952; the ratio form of Hajek 1971).

Belongs here: weighted figures beside the naive ones. Does not belong here: who is audited.
"""

from typing import Any

import numpy as np

from orchestration.scoring.metrics import RESAMPLES


def undone(
    issues: np.ndarray, selection: np.ndarray, flags: np.ndarray, probabilities: np.ndarray, seed: int = 7
) -> dict[str, Any] | None:
    """Of the audits (arrays of one length; `issues` 0/1, `selection` (0, 1], `flags` 0 to 1): rate of issues, share of issues
    among the flagged, rate of issues of the flagged and of the others, area under the curve. Each as
    {naive, weighted, low, high}, the 90 % interval being that of the weighted figure.

    `effective` is the number of equally weighted audits that would tell as much (Kish 1965). `None` without an issue.
    """
    issues, selection = np.asarray(issues, dtype=float), np.asarray(selection, dtype=float)
    if not issues.sum() or not ((selection > 0) & (selection <= 1)).all():
        return None
    weights, even = 1 / selection, np.ones(len(issues))
    measures = {
        "issue_rate": lambda rows, mass: _rate(issues[rows], mass),
        "captured": lambda rows, mass: _rate(flags[rows], mass * issues[rows]),
        "issue_rate_of_flagged": lambda rows, mass: _rate(issues[rows], mass * flags[rows]),
        "issue_rate_of_others": lambda rows, mass: _rate(issues[rows], mass * (1 - flags[rows])),
        "auc": lambda rows, mass: weighted_auc(issues[rows], probabilities[rows], mass),
    }
    everybody = np.arange(len(issues))
    rng = np.random.default_rng(seed)
    drawn = [rng.integers(0, len(issues), len(issues)) for _ in range(RESAMPLES)]
    found: dict[str, Any] = {}
    for name, measure in measures.items():
        spread = [value for rows in drawn if (value := measure(rows, weights[rows])) is not None]
        naive, weighted = measure(everybody, even), measure(everybody, weights)
        if weighted is None or len(spread) < RESAMPLES / 2:
            continue
        low, high = np.quantile(spread, [0.05, 0.95])
        found[name] = {"naive": naive, "weighted": weighted, "low": float(low), "high": float(high)}
    return {
        "audits": len(issues), "issues": int(issues.sum()), "effective": float(weights.sum() ** 2 / (weights**2).sum()),
        "figures": found,
    }  # fmt: skip


def weighted_auc(labels: np.ndarray, scores: np.ndarray, weights: np.ndarray) -> float | None:
    """Weighted share of (bad, good) pairs in which the bad scores higher, ties half; `None` without both."""
    order = np.argsort(scores, kind="stable")
    labels, scores, weights = labels[order], scores[order], weights[order]
    good, bad = weights * (1 - labels), weights * labels
    if not good.sum() or not bad.sum():
        return None
    starts = np.flatnonzero(np.append(True, np.diff(scores) > 0))
    good_of, bad_of = np.add.reduceat(good, starts), np.add.reduceat(bad, starts)
    below = np.cumsum(good_of) - good_of
    return float((bad_of * (below + good_of / 2)).sum() / (good.sum() * bad.sum()))


def _rate(values: np.ndarray, mass: np.ndarray) -> float | None:
    total = float(mass.sum())
    return float((values * mass).sum() / total) if total else None
