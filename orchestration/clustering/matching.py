"""Identifiers that last: a new cluster is an old one if it holds, by and large, the same people.

Both clusterings assign the very same people as they are now, so that only the clustering differs and nothing about anybody
has to be kept from the earlier fit. The pairing is the one with the largest sum of overlaps (Kuhn, «The Hungarian method»,
1955); a pair with less than `LEAST_OVERLAP` of its people in common is no pair, and a cluster without one gets a number that
was never used before.

Belongs here: pairing and numbering. Does not belong here: names (`record`).
"""

import re
from collections.abc import Iterable, Sequence

import numpy as np

from orchestration.clustering.stability import overlaps

LEAST_OVERLAP = 0.5


def lasting_identifiers(
    labels: np.ndarray, earlier: Sequence[str] | None, used: Iterable[str], prefix: str
) -> tuple[list[str], dict[str, float]]:
    """An identifier per new label, and the overlap of those that are kept.

    `earlier` gives the earlier identifier of each person, `used` all identifiers that were ever given. New ones are numbered
    on, the largest cluster first.
    """
    count = int(labels.max()) + 1
    kept: dict[int, tuple[str, float]] = {}
    if earlier is not None and len(earlier):
        from scipy.optimize import linear_sum_assignment

        names, codes = np.unique(np.asarray(earlier), return_inverse=True)
        shared = overlaps(labels, codes)
        for new, old in zip(*linear_sum_assignment(-shared), strict=True):
            if shared[new, old] >= LEAST_OVERLAP:
                kept[int(new)] = (str(names[old]), float(shared[new, old]))
    numbers = [int(found[1]) for name in used if (found := re.fullmatch(rf"{re.escape(prefix)}(\d+)", name))]
    following = max(numbers, default=0) + 1
    found = {}
    for label in np.argsort(-np.bincount(labels, minlength=count), kind="stable"):
        if int(label) in kept:
            found[int(label)] = kept[int(label)][0]
        else:
            found[int(label)] = f"{prefix}{following}"
            following += 1
    return [found[label] for label in range(count)], {name: round(overlap, 4) for name, overlap in kept.values()}
