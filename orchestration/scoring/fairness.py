"""Fairness: the same figures per protected group, with the smallest cell that may be spoken of.

Belongs here: group figures by Fairlearn's MetricFrame. Does not belong here: features; protected attributes are never
scored by, they lie beside the rows for this audit alone. https://fairlearn.org/main/user_guide/assessment/
"""

from typing import Any

import numpy as np

from orchestration.scoring.training_set import TrainingSet

FEWEST_IN_GROUP = 50


def group_figures(data: TrainingSet, flags: np.ndarray, probabilities: np.ndarray) -> dict[str, list[dict[str, Any]]]:
    """Per protected attribute and group of the test windows: rows, bad rows, share flagged with its 90 % interval, share
    of the good flagged, mean probability and observed rate. Groups under fifty rows are pooled as `(small groups)`."""
    from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate

    test = data.split("test")
    labels = test["label"].to_numpy(dtype=int)
    protected = data.protected.loc[test.index]
    found: dict[str, list[dict[str, Any]]] = {}
    for attribute in protected.columns:
        names = protected[attribute].astype(str)
        sizes = names.map(names.value_counts())
        groups = names.where(sizes >= FEWEST_IN_GROUP, "(small groups)").to_numpy(dtype=object)
        frame = MetricFrame(
            metrics={"flagged_share": selection_rate, "good_flagged_share": false_positive_rate},
            y_true=labels, y_pred=flags.astype(int), sensitive_features=groups,
        )  # fmt: skip
        rows = []
        for group, figures in frame.by_group.iterrows():
            mask = groups == group
            share, size = float(figures["flagged_share"]), int(mask.sum())
            margin = 1.645 * float(np.sqrt(share * (1 - share) / size))
            rows.append(
                {
                    "group": str(group), "rows": size, "bad": int(labels[mask].sum()), "flagged_share": share,
                    "low": max(0.0, share - margin), "high": min(1.0, share + margin),
                    "good_flagged_share": float(figures["good_flagged_share"]),
                    "mean_probability": float(probabilities[mask].mean()), "observed_rate": float(labels[mask].mean()),
                }
            )  # fmt: skip
        found[attribute] = rows
    return found
