"""Fairness: the same figures per protected group, with the smallest cell that may be spoken of.

Belongs here: group figures by Fairlearn's MetricFrame, their intervals, and which groups differ beyond chance. Does not belong
here: features; protected attributes lie beside the rows for this audit alone. What a difference leads to (`thresholds`).
https://fairlearn.org/main/user_guide/assessment/
"""

from statistics import NormalDist
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from orchestration.lake import identifier
from orchestration.scoring.curves import FEWEST, wilson
from orchestration.scoring.points import PointsTable
from orchestration.scoring.training_set import PROTECTED, TrainingSet

FEWEST_IN_GROUP = 50
POOLED = "(small groups)"
CONFIDENCE = 0.90
# Four fifths: a group whose share is beyond that ratio of the others' is looked at (29 CFR 1607.4(D)), if it is so beyond chance
# and by a hundredth at least: of two tiny shares one is always a multiple of the other.
WORST_RATIO, LEAST_DIFFERENCE = 1.25, 0.01


def group_figures(data: TrainingSet, flags: np.ndarray, probabilities: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    """Per protected attribute and group of the test windows: rows, share flagged and share of the good flagged, each with its
    90 % interval, mean probability, and where ten or more are bad their number, share caught and observed rate. With fewer bad
    rows the share of the good is used for the comparison and not shown.

    Groups under fifty rows are pooled as `(small groups)`, and left out where they are fewer than fifty even so.
    """
    from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate

    test = data.split("test")
    labels = test["label"].to_numpy(dtype=int)
    protected = data.protected.loc[test.index]
    measured = {
        "flagged_share": selection_rate, "good_flagged_share": false_positive_rate, "bad_caught_share": true_positive_rate
    }  # fmt: skip
    found: dict[str, list[dict[str, Any]]] = {}
    for attribute in protected.columns:
        groups = pooled(protected[attribute])
        frame = MetricFrame(metrics=measured, y_true=labels, y_pred=flags.astype(int), sensitive_features=groups)
        rows, goods = [], []
        for group, figures in frame.by_group.iterrows():
            mask = groups == group
            size, bad = int(mask.sum()), int(labels[mask].sum())
            if size < FEWEST_IN_GROUP:
                continue
            row = {"group": str(group), "rows": size, "mean_probability": float(probabilities[mask].mean())}
            row |= _share("flagged", float(figures["flagged_share"]), size)
            row |= _share("good_flagged", float(figures["good_flagged_share"]), size - bad)
            if bad >= FEWEST:
                row |= {"bad": bad, "observed_rate": bad / size} | _share("bad_caught", float(figures["bad_caught_share"]), bad)
            rows.append(row)
            goods.append(size - bad)
        rows = _compared(rows, "good_flagged", goods)
        for row in rows:
            if "bad" not in row:  # the shares of all and of the good together would tell how many are bad
                row |= dict.fromkeys(("good_flagged_share", "good_flagged_low", "good_flagged_high"))
        found[attribute] = rows
    return found


def book_figures(connection: duckdb.DuckDBPyConnection, table: PointsTable) -> dict[str, list[dict[str, Any]]]:
    """Per protected attribute and group of the scored book: rows, and the share whose score asks for medium or more, with its
    90 % interval. Outcomes of today's book are not known yet."""
    found = {}
    for attribute in PROTECTED:
        column = identifier(attribute)
        counted = connection.execute(
            f"""
            with scored as (
                select coalesce(cast(features.{column} as varchar), 'unknown') as name, scores.score >= $limit as is_flagged
                from lake.features.risk_features as features
                inner join lake.risk.model_scores as scores on features.risk_subject_token = scores.risk_subject_token
            ),
            sized as (select *, count(*) over (partition by name) as size from scored)
            select case when size >= $fewest then name else $pooled end as name, count(*), count(*) filter (where is_flagged)
            from sized group by 1 order by 1
            """,
            {"limit": table.medium_from, "fewest": FEWEST_IN_GROUP, "pooled": POOLED},
        ).fetchall()
        rows = [
            {"group": name, "rows": size} | _share("flagged", flagged / size, size)
            for name, size, flagged in counted
            if size >= FEWEST_IN_GROUP
        ]
        found[attribute] = _compared(rows, "flagged", [row["rows"] for row in rows])
    return found


def pooled(values: pd.Series) -> np.ndarray:
    """Group names (rows,), the small ones under one name."""
    names = values.astype(object).where(values.notna(), "unknown").astype(str)
    sizes = names.map(names.value_counts())
    return names.where(sizes >= FEWEST_IN_GROUP, POOLED).to_numpy(dtype=object)


def _share(name: str, share: float, rows: int) -> dict[str, Any]:
    if rows < FEWEST:
        return {f"{name}_share": None, f"{name}_low": None, f"{name}_high": None}
    low, high = wilson(share, rows)
    return {f"{name}_share": share, f"{name}_low": low, f"{name}_high": high}


def _compared(rows: list[dict[str, Any]], name: str, sizes: list[int]) -> list[dict[str, Any]]:
    """Each group beside all others together: ratio of shares with its interval (Katz and others 1978, half a case added to
    each), widened for the number of groups (Bonferroni), and whether it is unequal beyond chance and beyond four fifths."""
    if len(rows) < 2:
        return rows
    # Two tails per group, all groups together at 90 %.
    z = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / (2 * len(rows)))
    cases = [0.0 if row[f"{name}_share"] is None else row[f"{name}_share"] * size for row, size in zip(rows, sizes, strict=True)]
    for row, case, size in zip(rows, cases, sizes, strict=True):
        others, their_size = sum(cases) - case, sum(sizes) - size
        mine, theirs = (case + 0.5) / (size + 1), (others + 0.5) / (their_size + 1)
        spread = z * np.sqrt(max(0.0, (1 - mine) / (case + 0.5) + (1 - theirs) / (others + 0.5)))
        low, high = mine / theirs * np.exp(-spread), mine / theirs * np.exp(spread)
        beyond = low > WORST_RATIO or high < 1 / WORST_RATIO
        row |= {
            "ratio": float(mine / theirs), "ratio_low": float(low), "ratio_high": float(high),
            "unequal": bool(beyond and abs(mine - theirs) >= LEAST_DIFFERENCE),
        }  # fmt: skip
    return rows
