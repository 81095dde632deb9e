"""A second look without centres: dense groups of a sample, everybody else at the nearest of its people within reach, the rest
noise. By DBSCAN, which has one reach for all, and by HDBSCAN, whose groups may be of unlike density.

It tells what K-means cannot: how many dense groups there are at all, and how many people lie in none. It publishes no
segment: the share of noise, as a whole and per cluster, stands in the report of the fit.

Belongs here: this look. Does not belong here: the clusters that are published (`fitting`).
Ester, Kriegel, Sander, Xu, «A density-based algorithm for discovering clusters», KDD 1996. Campello, Moulavi, Sander,
«Density-based clustering based on hierarchical density estimates», PAKDD 2013.
"""

from dataclasses import dataclass

import numpy as np

from orchestration.clustering.stability import LEAST_SHARE, THREADS, bounded, sample_of

LARGEST_SAMPLE = 50_000  # memory grows with the square: a million at once would need hundreds of gigabytes
SAMPLE = 10_000
NEIGHBOURS = 16  # twice the number of features, as its authors advise for many
REACH_QUANTILE = 0.9


@dataclass(frozen=True)
class Density:
    """Method, groups found, people in the sample, reach (standard deviations; of HDBSCAN the largest), label per person: -1 is
    noise."""

    method: str
    groups: int
    sample: int
    reach: float
    labels: np.ndarray

    @property
    def noise_share(self) -> float:
        """The share of all people who lie in no group."""
        return float((self.labels < 0).mean()) if len(self.labels) else 0.0


def dense_groups(points: np.ndarray, seed: int, size: int = SAMPLE) -> tuple[Density, Density]:
    """The dense groups of standardised points by DBSCAN and by HDBSCAN, every person assigned. Raises `ValueError` for a sample
    that is too large.

    DBSCAN's reach is where nine in ten of the sample have `NEIGHBOURS` neighbours, HDBSCAN's the same within each group, and a
    group of HDBSCAN has at least one in fifty of the sample. Everybody is looked up once, for that is what takes long: at the
    nearest person of the sample who is in a group of either.
    """
    from scipy.spatial import cKDTree
    from sklearn.cluster import DBSCAN, HDBSCAN

    if size > LARGEST_SAMPLE:
        raise ValueError(f"at most {LARGEST_SAMPLE:,} people are looked at together, not {size:,}")
    sample = sample_of(points, size, seed)
    near = min(NEIGHBOURS, len(sample))
    least = max(2, near, round(LEAST_SHARE * len(sample)))
    spacing, _ = cKDTree(sample).query(sample, k=[near])
    spacing = spacing[:, 0]
    reach = max(float(np.quantile(spacing, REACH_QUANTILE)), 1e-6)
    with bounded(len(sample)):
        even = DBSCAN(eps=reach, min_samples=near, algorithm="kd_tree").fit(sample)
        nested = HDBSCAN(min_cluster_size=least, min_samples=near, algorithm="kd_tree", copy=True, n_jobs=1).fit(sample)
    groups = int(nested.labels_.max()) + 1
    reaches = np.array([max(float(np.quantile(spacing[nested.labels_ == one], REACH_QUANTILE)), 1e-6) for one in range(groups)])
    known = np.flatnonzero((even.labels_ >= 0) | (nested.labels_ >= 0))
    largest = max([reach, *reaches])
    nearest, distances = np.full(len(points), -1), np.full(len(points), np.inf)
    if len(known):
        # The bound prunes the search; whoever has nobody within it is given a place past the end.
        distances, places = cKDTree(sample[known]).query(
            points, k=1, distance_upper_bound=largest * (1 + 1e-9), workers=THREADS
        )
        nearest = np.append(known, -1)[places]
    by_even = np.where(distances <= reach * (1 + 1e-9), np.append(even.labels_, -1)[nearest], -1)
    by_nested = np.append(nested.labels_, -1)[nearest]
    by_nested = np.where(distances <= np.append(reaches, 0.0)[by_nested] * (1 + 1e-9), by_nested, -1)
    return (
        Density("DBSCAN", int(even.labels_.max()) + 1, len(sample), reach, by_even.astype(np.int32)),
        Density("HDBSCAN", groups, len(sample), float(max(reaches, default=0.0)), by_nested.astype(np.int32)),
    )
