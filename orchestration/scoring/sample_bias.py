"""The bias that consent brings: a model learns from those who may be trained on, and scores everybody who may be rated.

Whoever objected is in no training row. If the objectors are other people than the rest, a model knows them badly, and no figure
on its own test rows can show it; the features of both can.

Belongs here: the comparison of both parts of the book. Does not belong here: who is in which (the gate).
"""

from typing import Any

import numpy as np

from orchestration.lake import identifier, open_lake, table_exists
from orchestration.scoring.curves import wilson
from orchestration.scoring.drift import counts, judged_counts, score_counts
from orchestration.scoring.errors import ScoringError
from orchestration.scoring.fairness import FEWEST_IN_GROUP, pooled
from orchestration.scoring.features import FEATURES
from orchestration.scoring.points import PointsTable
from orchestration.scoring.training_set import PROTECTED, coerced
from orchestration.settings import Settings

_BOOK_SQL = """
select {columns}, {protected}, trainable.risk_subject_token is not null as is_trainable
from lake.features.risk_features as features
left join (
    select distinct risk_subject_token from lake.consent.gate where purpose = $purpose and gate_outcome = 'ALLOW'
) as trainable on features.risk_subject_token = trainable.risk_subject_token
order by features.risk_subject_token
"""


def measured(settings: Settings, table: PointsTable) -> dict[str, Any]:
    """The book of the newest run parted into those who may be trained on and those who may not: {purpose, book, trainable,
    low, high, groups: {attribute: [...]}, features: [PSI of both parts against each other]}.

    Fewer than fifty in either part give no comparison of features. Raises `ScoringError` before a run.
    """
    purpose = table.record["lineage"]["training_purpose"]
    columns = ", ".join(f"features.{identifier(feature.name)}" for feature in FEATURES)
    protected = ", ".join(f"features.{identifier(name)} as {identifier(f'protected_{name}')}" for name in PROTECTED)
    with open_lake(settings, read_only=True) as connection:
        if not table_exists(connection, "features", "risk_features") or not table_exists(connection, "consent", "gate"):
            raise ScoringError("there are no features yet: run `segline run` first")
        rows = connection.execute(_BOOK_SQL.format(columns=columns, protected=protected), {"purpose": purpose}).df()
    rows = coerced(rows)
    return compared(table, rows, rows["is_trainable"].to_numpy(dtype=bool), purpose)


def compared(table: PointsTable, rows: Any, trainable: np.ndarray, purpose: str) -> dict[str, Any]:
    """The same over a frame of features and `protected_` columns."""
    book, allowed = len(rows), int(trainable.sum())
    share = allowed / book if book else 0.0
    low, high = wilson(share, book)
    found: dict[str, Any] = {"purpose": purpose, "book": book, "trainable": allowed, "share": share, "low": low, "high": high}
    found["groups"] = {name: _groups(pooled(rows[f"protected_{name}"]), trainable) for name in PROTECTED}
    found["features"] = []
    if min(allowed, book - allowed) >= FEWEST_IN_GROUP:
        scores, _ = table.score_columns(rows)
        edges = [float(edge) for edge in np.unique(np.quantile(scores[trainable], np.linspace(0, 1, 11)[1:-1]))]
        found["features"] = [
            judged_counts("score", score_counts(scores[trainable], edges), score_counts(scores[~trainable], edges))
        ]
        for term in table.terms:
            values = rows[term.feature].to_numpy()
            found["features"].append(
                judged_counts(term.feature, counts(term, values[trainable]), counts(term, values[~trainable]))
            )
    return found


def _groups(names: np.ndarray, trainable: np.ndarray) -> list[dict[str, Any]]:
    rows = []
    for name in sorted(set(names)):
        mask = names == name
        size, share = int(mask.sum()), float(trainable[mask].mean())
        if size < FEWEST_IN_GROUP:
            continue
        low, high = wilson(share, size)
        rows.append({"group": name, "book": size, "trainable_share": share, "low": low, "high": high})
    return rows
