"""What the plots of a model are drawn from: points that stand for many people each.

Belongs here: the figures behind a curve. Does not belong here: drawing (`plots`), single measures (`metrics`).
No point stands for fewer than `FEWEST` bad rows: from a finer curve one could count who was found.
"""


import numpy as np

FEWEST = 10
MOST_BINS = 10
Z_90 = 1.645


def wilson(share: float, rows: float, z: float = Z_90) -> tuple[float, float]:
    """Interval of a share, 90 % by default (Wilson 1927): it stays within 0 and 1, also for a share of nought."""
    if rows <= 0:
        return 0.0, 1.0
    middle = (share + z * z / (2 * rows)) / (1 + z * z / rows)
    half = z / (1 + z * z / rows) * np.sqrt(share * (1 - share) / rows + z * z / (4 * rows * rows))
    return max(0.0, float(middle - half)), min(1.0, float(middle + half))


def calibration_bins(labels: np.ndarray, probabilities: np.ndarray) -> list[dict[str, float]]:
    """Rows in the order of their probability, cut where the bad rows are many enough: per bin rows, expected and observed rate
    with its 90 % interval. Rows of one probability stay together; without `FEWEST` bad rows there is no bin."""
    labels, probabilities = np.asarray(labels, dtype=float), np.asarray(probabilities, dtype=float)
    order = np.argsort(probabilities, kind="stable")
    sorted_labels, sorted_values = labels[order], probabilities[order]
    least = max(FEWEST, int(np.ceil(labels.sum() / MOST_BINS)))
    ends, first, found_bad = [], 0, np.cumsum(sorted_labels)
    for last in np.flatnonzero(np.append(np.diff(sorted_values) > 0, True)):
        before = found_bad[first - 1] if first else 0.0
        if found_bad[last] - before >= least and last + 1 - first >= 2 * FEWEST:
            ends.append(int(last) + 1)
            first = int(last) + 1
    if not ends:
        return []
    ends[-1] = len(labels)  # what is left over belongs to the last bin
    bins = []
    for start, end in zip([0, *ends[:-1]], ends, strict=True):
        observed = float(sorted_labels[start:end].mean())
        low, high = wilson(observed, end - start)
        expected = float(sorted_values[start:end].mean())
        bins.append({"rows": end - start, "expected": expected, "observed": observed, "low": low, "high": high})
    return bins


def capture_curve(labels: np.ndarray, scores: np.ndarray) -> list[dict[str, float]]:
    """Share of the bad rows found (`captured`) among the `flagged` share of highest scores, from (0, 0) to (1, 1); one point
    for every ten bad rows or more."""
    labels, scores = np.asarray(labels, dtype=float), np.asarray(scores, dtype=float)
    order = np.argsort(-scores, kind="stable")
    ordered, total = scores[order], labels.sum()
    caught = np.cumsum(labels[order])
    step = max(FEWEST, int(np.ceil(total / 40)))
    points, reached = [{"flagged": 0.0, "captured": 0.0}], 0.0
    for last in np.flatnonzero(np.append(np.diff(ordered) < 0, True)):
        if caught[last] - reached >= step and total - caught[last] >= FEWEST:
            reached = float(caught[last])
            points.append({"flagged": (int(last) + 1) / len(labels), "captured": reached / float(total)})
    return [*points, {"flagged": 1.0, "captured": 1.0}]
