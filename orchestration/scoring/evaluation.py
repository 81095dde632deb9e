"""A registered model looked at again: on today's training set, on today's book, beside the model in charge.

Belongs here: shadow scoring, drift, paired comparison. Does not belong here: putting anything in charge (`deployment`).
"""

from typing import Any

import numpy as np
import pandas as pd

from orchestration.lake import identifier, open_lake, table_exists
from orchestration.scoring import metrics
from orchestration.scoring.curves import capture_curve
from orchestration.scoring.drift import drift, psi_of_used, score_counts
from orchestration.scoring.errors import ScoringError
from orchestration.scoring.points import PointsTable
from orchestration.scoring.training import MEDIUM_SHARE, families_of, judged_report, probabilities
from orchestration.scoring.training_set import TrainingSet, coerced
from orchestration.settings import Settings


def book(settings: Settings) -> pd.DataFrame:
    """The features of everybody whom the gate allows to be rated, as the last run built them; sorted, without tokens."""
    from orchestration.scoring.features import FEATURES

    with open_lake(settings, read_only=True) as connection:
        if not table_exists(connection, "features", "risk_features"):
            raise ScoringError("there are no features yet: run `segline run` first")
        columns = ", ".join(identifier(feature.name) for feature in FEATURES)
        rows = connection.execute(f"select {columns} from lake.features.risk_features order by risk_subject_token").df()
    return coerced(rows)


def shadow(champion: PointsTable, challenger: PointsTable, rows: pd.DataFrame) -> dict[str, Any]:
    """Both models over the same book: how many of the flagged agree, how many of the riskiest tenth have the same
    first reason, how far the scores lie apart, who asks for what."""
    first, _ = champion.score_columns(rows)
    second, _ = challenger.score_columns(rows)
    mine, theirs = metrics.flagged(first, MEDIUM_SHARE), metrics.flagged(second, MEDIUM_SHARE)
    edges = [float(edge) for edge in np.unique(np.quantile(first, np.linspace(0, 1, 11)[1:-1]))]
    moves: dict[str, int] = {}
    for before, after in zip(tiers(champion, first), tiers(challenger, second), strict=True):
        moves[f"{before} -> {after}"] = moves.get(f"{before} -> {after}", 0) + 1
    top = first >= np.quantile(first, 0.9)
    same = families_of(champion, rows)[top].argmax(axis=1) == families_of(challenger, rows)[top].argmax(axis=1)
    return {
        "rows": len(rows),
        "same_first_reason": float(same.mean()),
        "flagged_overlap": float(np.minimum(mine, theirs).sum() / mine.sum()),
        "score_psi": psi_of_used(score_counts(first, edges), score_counts(second, edges)),
        "moves": dict(sorted(moves.items())),
    }


def tiers(table: PointsTable, scores: np.ndarray) -> np.ndarray:
    """The tier that each score asks for."""
    return np.where(scores >= table.high_from, "high", np.where(scores >= table.medium_from, "medium", "low"))


def compared(champion: PointsTable, challenger: PointsTable, data: TrainingSet) -> dict[str, dict[str, float]]:
    """Challenger less champion on the same test windows, with paired intervals. Whichever was trained on a later delivery
    may have seen rows of these windows: read a difference together with `trained_as_of` of both."""
    test = data.split("test")
    labels = test["label"].to_numpy(dtype=float)
    first = probabilities(champion.score_columns(test)[0])
    second = probabilities(challenger.score_columns(test)[0])
    return {
        "auc": metrics.difference(labels, second, first, metrics.auc),
        "capture_5%": metrics.difference(labels, second, first, metrics.measures()["capture_5%"]),
    }


def evaluated(table: PointsTable, profile: dict[str, Any], data: TrainingSet, rows: pd.DataFrame) -> dict[str, Any]:
    """One model now: measures, calibration, groups and audits on the present test windows, and drift of the book against its
    training rows. `is_out_of_time` says whether every test window began after the last data that the model knew: only then is
    its calibration that of matured, unseen outcomes."""
    test = data.split("test")
    labels = test["label"].to_numpy(dtype=float)
    scores, _ = table.score_columns(test)
    found = metrics.judged(labels, probabilities(scores))
    return {
        "measures": found,
        "is_out_of_time": bool(test["window_start"].min() >= table.trained_as_of[:19]),
        "capture_curves": {table.algorithm: capture_curve(labels, scores)},
        "capture_headline": found["capture_5%"],
        "drift": drift(table, profile, rows),
        **judged_report(data, table, scores),
    }
