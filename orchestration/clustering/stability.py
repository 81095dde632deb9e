"""How many clusters: as many as come out again when the people are drawn again.

For each number a reference is fitted on a sample; then the sample is resampled with replacement, fitted anew, and both
assignments of the sample are compared: by the adjusted Rand index as a whole, by Jaccard per cluster. A number stands if the
mean index reaches `LEAST_RAND`, every cluster's mean Jaccard `LEAST_JACCARD`, and no cluster is too small. Of those that stand
the largest within `MARGIN` of the most stable is chosen: detail that costs no stability.

Belongs here: choosing. Does not belong here: the fit of the whole book (`fitting`).
Hennig, «Cluster-wise assessment of cluster stability», Computational Statistics & Data Analysis 52 (2007).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

LEAST_RAND, LEAST_JACCARD, MARGIN = 0.85, 0.75, 0.03
SAMPLE, RESAMPLES = 10_000, 12
FEWEST, MOST = 2, 8
LEAST_PEOPLE, LEAST_SHARE = 100, 0.02
THREADS, THREADED_FROM = 2, 200_000


@dataclass(frozen=True)
class Trial:
    """What one number of clusters came to: means over the resamples, and the size of the smallest cluster in the sample."""

    count: int
    rand: float
    jaccard: float
    smallest_share: float

    def is_stable(self, people: int) -> bool:
        """Whether the number stands in a book of so many people."""
        return (
            self.rand >= LEAST_RAND and self.jaccard >= LEAST_JACCARD and self.smallest_share * people >= least_size(people)
        )


def least_size(people: int) -> float:
    """The fewest people that a cluster may have: two in a hundred, and a hundred."""
    return max(LEAST_PEOPLE, LEAST_SHARE * people)


@contextmanager
def bounded(rows: int) -> Iterator[None]:
    """At most `THREADS` threads in the numeric libraries, whatever the machine has; one for few rows.

    With two threads a fit of ten thousand rows took twenty times as long on a busy machine: they wait for each other.
    """
    from threadpoolctl import threadpool_limits

    with threadpool_limits(THREADS if rows >= THREADED_FROM else 1):
        yield


def kmeans(points: np.ndarray, count: int, starts: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Centres (count by features, float64) and labels of full K-means (Lloyd), the best of so many starts."""
    from sklearn.cluster import KMeans

    with bounded(len(points)):
        fitted = KMeans(count, n_init=starts, random_state=seed, max_iter=100).fit(points)
    return fitted.cluster_centers_.astype(np.float64), fitted.labels_


def assigned(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The nearest centre of each point; of two alike the first. In slices, so that no large table of distances is made."""
    found = np.empty(len(points), dtype=np.int32)
    lengths = (centres**2).sum(axis=1)
    for start in range(0, len(points), 100_000):
        part = points[start : start + 100_000].astype(np.float64)
        found[start : start + len(part)] = (lengths - 2 * part @ centres.T).argmin(axis=1)
    return found


def overlaps(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Jaccard index of every cluster of the first labels with every one of the second; rows and columns by label."""
    shared = np.zeros((int(first.max()) + 1, int(second.max()) + 1))
    np.add.at(shared, (first, second), 1)
    union = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared
    return shared / np.maximum(union, 1)


def sample_of(points: np.ndarray, size: int, seed: int) -> np.ndarray:
    """At most so many of the points, in their own order."""
    if len(points) <= size:
        return points
    chosen = np.sort(np.random.default_rng(seed).choice(len(points), size, replace=False))
    return points[chosen]


def trials(points: np.ndarray, seed: int, counts: range = range(FEWEST, MOST + 1)) -> list[Trial]:
    """Every number of clusters, tried on a sample of the points (standardised, float32)."""
    from sklearn.metrics import adjusted_rand_score

    sample = sample_of(points, SAMPLE, seed)
    found = []
    for count in counts:
        if count > len(sample) // 2:
            break
        _, labels = kmeans(sample, count, 5, seed)
        rng = np.random.default_rng([seed, count])
        rands, jaccards = [], []
        for _ in range(RESAMPLES):
            drawn = sample[rng.integers(0, len(sample), len(sample))]
            again = assigned(sample, kmeans(drawn, count, 4, int(rng.integers(2**31)))[0])
            rands.append(adjusted_rand_score(labels, again))
            jaccards.append(overlaps(labels, again).max(axis=1))
        smallest = np.bincount(labels, minlength=count).min() / len(sample)
        found.append(Trial(count, float(np.mean(rands)), float(np.mean(jaccards, axis=0).min()), float(smallest)))
    return found


def eligible(found: list[Trial], people: int) -> list[Trial]:
    """The numbers that stand, the chosen one first."""
    standing = [trial for trial in found if trial.is_stable(people)]
    if not standing:
        return []
    best = max(trial.rand for trial in standing)
    near = sorted((trial for trial in standing if trial.rand >= best - MARGIN), key=lambda trial: -trial.count)
    return near + sorted((trial for trial in standing if trial.rand < best - MARGIN), key=lambda trial: -trial.rand)
