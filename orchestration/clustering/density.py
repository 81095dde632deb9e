"""A second look without centres: DBSCAN on a sample, everybody else at the nearest core person within reach, the rest noise.

It tells what K-means cannot: how many dense groups there are at all, and how many people lie in none. It publishes no
segment: the share of noise, as a whole and per cluster, stands in the report of the fit.

Belongs here: this look. Does not belong here: the clusters that are published (`fitting`).
Ester, Kriegel, Sander, Xu, «A density-based algorithm for discovering clusters», KDD 1996.
"""

from dataclasses import dataclass

import numpy as np

from orchestration.clustering.stability import THREADS, bounded, sample_of

LARGEST_SAMPLE = 50_000  # memory grows with the square: a million at once would need hundreds of gigabytes
SAMPLE = 10_000
NEIGHBOURS = 16  # twice the number of features, as its authors advise for many
REACH_QUANTILE = 0.9


@dataclass(frozen=True)
class Density:
    """Groups found, people in the sample, reach (standard deviations), label per person: -1 is noise."""

    groups: int
    sample: int
    reach: float
    labels: np.ndarray

    @property
    def noise_share(self) -> float:
        """The share of all people who lie in no group."""
        return float((self.labels < 0).mean()) if len(self.labels) else 0.0


def dense_groups(points: np.ndarray, seed: int, size: int = SAMPLE) -> Density:
    """The dense groups of standardised points, every person assigned. Raises `ValueError` for a sample that is too large.

    The reach is where nine in ten of the sample have `NEIGHBOURS` neighbours.
    """
    from scipy.spatial import cKDTree
    from sklearn.cluster import DBSCAN

    if size > LARGEST_SAMPLE:
        raise ValueError(f"at most {LARGEST_SAMPLE:,} people are looked at together, not {size:,}")
    sample = sample_of(points, size, seed)
    near = min(NEIGHBOURS, len(sample))
    distances, _ = cKDTree(sample).query(sample, k=[near])
    reach = max(float(np.quantile(distances, REACH_QUANTILE)), 1e-6)
    with bounded(len(sample)):
        fitted = DBSCAN(eps=reach, min_samples=near, algorithm="kd_tree").fit(sample)
    labels = np.full(len(points), -1, dtype=np.int32)
    core = fitted.core_sample_indices_
    if len(core):
        # The bound prunes the search; whoever has no core person within reach gets a place past the end: noise.
        _, nearest = cKDTree(sample[core]).query(points, k=1, distance_upper_bound=reach * (1 + 1e-9), workers=THREADS)
        labels = np.append(fitted.labels_[core], -1)[nearest].astype(np.int32)
    return Density(int(fitted.labels_.max()) + 1, len(sample), reach, labels)
