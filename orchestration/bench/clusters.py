"""How long it takes to cluster a book of made people: choosing the number, the fit of all, the second look by density.

Belongs here: made features and the clock. Does not belong here: fitting (`orchestration.clustering`).
"""

import resource
import time
from typing import Any

import numpy as np

from orchestration import progress
from orchestration.bench.measure import BenchError
from orchestration.clustering import fitting, stability
from orchestration.clustering.density import dense_groups
from orchestration.clustering.sides import AUDIENCE

GROUPS = 5


def made_people(people: int, seed: int = 1) -> np.ndarray:
    """People in five overlapping groups over the features of the marketing side (float32)."""
    rng = np.random.default_rng(seed)
    width = len(AUDIENCE.features)
    centres = rng.normal(0, 2.2, (GROUPS, width))
    return (centres[rng.integers(0, GROUPS, people)] + rng.normal(0, 1, (people, width))).astype(np.float32)


def measure_clusters(people: int) -> dict[str, Any]:
    """Wall and processor seconds of a fit and of its parts, and the highest memory (MB). Raises `BenchError` if it found none."""
    values = made_people(people)
    stages: dict[str, tuple[float, float]] = {}

    def timed(name: str, work: Any) -> Any:
        progress.report(name)
        wall, processor = time.perf_counter(), time.process_time()
        found = work()
        stages[name] = (round(time.perf_counter() - wall, 2), round(time.process_time() - processor, 2))
        return found

    timed("choosing the number", lambda: stability.trials(values, fitting.SEED))
    timed("K-means over all", lambda: stability.kmeans(values, GROUPS, fitting.STARTS, fitting.SEED))
    timed("density, the rest assigned", lambda: dense_groups(values, fitting.SEED))
    found = timed("a whole fit", lambda: fitting.fit(values, AUDIENCE, "bench", "2026-11-01 00:00:00"))
    if found.state != fitting.CURRENT:
        raise BenchError(f"the made people came out as {found.state}: {found.reason}")
    return {
        "people": people,
        "clusters": len(found.document["clusters"]),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "stages": stages,
    }
