"""A fit: from a matrix of gated people to centres with lasting identifiers and readable profiles, or to the reason why none.

Belongs here: the steps of one fit over plain arrays. Does not belong here: reading people (`lifecycle`), the record.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from orchestration.clustering import stability
from orchestration.clustering.density import Density, dense_groups
from orchestration.clustering.matching import lasting_identifiers
from orchestration.clustering.sides import Feature, Side

CURRENT, UNSTABLE, TOO_FEW = "current", "no_stable_clustering", "too_few_people"
SEED, STARTS = 20_261_101, 3
VALID_DAYS = 180
LEAST_BOOK = 4 * stability.LEAST_PEOPLE
MERGED_BELOW = 0.3  # standard deviations: centres that differ by less in every feature are one cluster
RADIUS_QUANTILE = 0.99
STANDS_OUT = 0.5
MOST_PHRASES = 3


@dataclass(frozen=True)
class Clustering:
    """What a fit came to. `document` is what dbt assigns with, `report` what people read; both are JSON values."""

    state: str
    reason: str
    people: int
    document: Mapping[str, Any]
    report: Mapping[str, Any] = field(default_factory=dict)


def fingerprint(document: Mapping[str, Any]) -> str:
    """SHA-256 of a document as canonical JSON, its own fingerprint apart."""
    kept = {name: value for name, value in document.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def fit(
    values: np.ndarray,
    side: Side,
    version: str,
    fitted_as_of: str,
    earlier: Mapping[str, Any] | None = None,
    used: Iterable[str] = (),
    seed: int = SEED,
) -> Clustering:
    """Cluster people: one row each, the side's features in order, sorted by a stable key.

    `earlier` is the document of the clustering before, `used` every identifier ever given. Raises `ValueError` for a matrix
    that has another width or holds what is no number.
    """
    if values.ndim != 2 or values.shape[1] != len(side.features) or not np.isfinite(values).all():
        raise ValueError(f"clusters need {len(side.features)} finite features per person")
    people = len(values)
    heading = {"side": side.name, "version": version, "fitted_as_of": fitted_as_of, "valid_days": VALID_DAYS}
    if people < LEAST_BOOK:
        return _without(TOO_FEW, f"{people} people may be clustered; fewer than {LEAST_BOOK} make no clusters", people, heading)
    means, spreads = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64)
    varying = np.flatnonzero(spreads > 1e-9 * np.maximum(np.abs(means), 1))
    features = [side.features[place] for place in varying]
    if len(features) < 2:
        return _without(UNSTABLE, "fewer than two features vary at all: there is nothing to group by", people, heading)
    means, spreads = means[varying], spreads[varying]
    points = np.ascontiguousarray((values[:, varying] - means) / spreads, dtype=np.float32)
    tried = stability.trials(points, seed)
    report: dict[str, Any] = {"trials": [asdict(trial) for trial in tried], "people": people}
    for trial in stability.eligible(tried, people):
        centres, _ = stability.kmeans(points, trial.count, STARTS, seed)
        centres, owners, labels = _merged(points, centres)
        sizes = np.bincount(labels, minlength=int(owners.max()) + 1)
        if len(sizes) < 2 or sizes.min() < stability.least_size(people):
            continue
        kept = _earlier_labels(points, means, spreads, features, earlier)
        names, overlap = lasting_identifiers(labels, kept, used, side.prefix)
        profiles = _profiles(points, labels, features, means, spreads)
        document = heading | {
            "features": [
                {"name": feature.name, "mean": float(mean), "scale": float(spread)}
                for feature, mean, spread in zip(features, means, spreads, strict=True)
            ],
            "centres": _centres(points, centres, owners, labels, names, means, spreads),
            "clusters": sorted(
                (
                    {"cluster_id": name, "people": int(size), "profile": profile["text"]}
                    for name, size, profile in zip(names, sizes, profiles, strict=True)
                ),
                key=lambda cluster: _place(cluster["cluster_id"]),
            ),
        }
        even, nested = (_density_report(found, labels, names) for found in dense_groups(points, seed))
        report |= {
            "count": len(sizes),
            "kept": overlap,
            "profiles": {name: profile["features"] for name, profile in zip(names, profiles, strict=True)},
            "density": even,
            "nested_density": nested,
            "left_out": [feature.name for place, feature in enumerate(side.features) if place not in varying],
        }
        reason = f"{len(sizes)} clusters of {people} people, adjusted Rand index {trial.rand:.2f} over resamples"
        return Clustering(CURRENT, reason, people, _sealed(document), report)
    best = max(tried, key=lambda trial: trial.rand)
    return _without(
        UNSTABLE,
        f"no number of clusters from {stability.FEWEST} to {stability.MOST} comes out again when people are drawn again: the "
        f"best is {best.count} with an adjusted Rand index of {best.rand:.2f}, smallest Jaccard {best.jaccard:.2f} and "
        f"smallest share {best.smallest_share:.1%}; needed are {stability.LEAST_RAND}, {stability.LEAST_JACCARD} and "
        f"{stability.least_size(people) / people:.1%}",
        people,
        heading,
        report,
    )


def _without(state: str, reason: str, people: int, heading: dict, report: Mapping[str, Any] | None = None) -> Clustering:
    document = heading | {"features": [], "centres": [], "clusters": []}
    return Clustering(state, reason, people, _sealed(document), report or {"trials": [], "people": people})


def _sealed(document: dict[str, Any]) -> dict[str, Any]:
    return document | {"sha256": fingerprint(document)}


def _merged(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Centres, the cluster that each belongs to, and each person's cluster: centres that hardly differ are one cluster."""
    owners = np.arange(len(centres))
    for first in range(len(centres)):
        for second in range(first + 1, len(centres)):
            if np.abs(centres[first] - centres[second]).max() < MERGED_BELOW:
                owners[owners == owners[second]] = owners[first]
    owners = np.unique(owners, return_inverse=True)[1]
    return centres, owners, owners[stability.assigned(points, centres)]


def _centres(
    points: np.ndarray, centres: np.ndarray, owners: np.ndarray, labels: np.ndarray, names: Sequence[str],
    means: np.ndarray, spreads: np.ndarray,
) -> list[dict[str, Any]]:  # fmt: skip
    """Centres on the features' own scale, each with its cluster and the distance that 99 in 100 of the cluster stay within."""
    nearest = stability.assigned(points, centres)
    distances = np.linalg.norm(points - centres[nearest].astype(np.float32), axis=1)
    radii = [float(np.quantile(distances[labels == owner], RADIUS_QUANTILE)) for owner in range(len(names))]
    order = sorted(range(len(centres)), key=lambda place: (_place(names[owners[place]]), place))
    return [
        {
            "cluster_id": names[owners[place]],
            "values": [float(value) for value in centres[place] * spreads + means],
            "radius": radii[owners[place]],
        }
        for place in order
    ]


def _place(cluster_id: str) -> tuple[int, str]:
    """Identifiers in the order of their numbers."""
    return len(cluster_id), cluster_id


def _earlier_labels(
    points: np.ndarray, means: np.ndarray, spreads: np.ndarray, features: list[Feature], earlier: Mapping[str, Any] | None
) -> np.ndarray | None:
    """The earlier clustering's answer about these people; None if there is none, or it was made of other features."""
    if not earlier or not earlier["centres"]:
        return None
    places = {feature.name: place for place, feature in enumerate(features)}
    if not all(feature["name"] in places for feature in earlier["features"]):
        return None
    chosen = [places[feature["name"]] for feature in earlier["features"]]
    scales = np.array([feature["scale"] for feature in earlier["features"]])
    centres = np.array([centre["values"] for centre in earlier["centres"]]) / scales
    values = (points[:, chosen].astype(np.float64) * spreads[chosen] + means[chosen]) / scales
    return np.array([centre["cluster_id"] for centre in earlier["centres"]])[stability.assigned(values, centres)]


def _profiles(
    points: np.ndarray, labels: np.ndarray, features: list[Feature], means: np.ndarray, spreads: np.ndarray
) -> list[dict[str, Any]]:
    """Per cluster the features' typical values beside the book's, and in words what stands out most."""
    found = []
    for label in range(int(labels.max()) + 1):
        inside = points[labels == label].mean(axis=0, dtype=np.float64)
        rows = [
            {
                "feature": feature.label,
                "here": _natural(feature, inside[place] * spreads[place] + means[place]),
                "book": _natural(feature, means[place]),
                "deviations": round(float(inside[place]), 2),
            }
            for place, feature in enumerate(features)
        ]
        order = sorted(range(len(features)), key=lambda place: -abs(inside[place]))
        phrases = [
            features[place].high if inside[place] > 0 else features[place].low
            for place in order[:MOST_PHRASES]
            if abs(inside[place]) >= STANDS_OUT
        ]
        found.append({"text": ", ".join(phrases) or "near the middle of the book", "features": rows})
    return found


def _natural(feature: Feature, value: float) -> float:
    return abs(round(float(np.expm1(value) if feature.is_log else value), 1))  # a rounded mean of nothing is no -0.0


def _density_report(found: Density, labels: np.ndarray, names: Sequence[str]) -> dict[str, Any]:
    from sklearn.metrics import adjusted_rand_score

    noise = found.labels < 0
    compared = np.flatnonzero(~noise)[:: max(1, len(labels) // stability.SAMPLE)]
    agreement = float(adjusted_rand_score(labels[compared], found.labels[compared])) if len(compared) else 0.0
    return {
        "method": found.method,
        "agreement": round(agreement, 4),
        "groups": found.groups,
        "sample": found.sample,
        "reach": round(found.reach, 4),
        "noise_share": round(found.noise_share, 4),
        "noise_by_cluster": {name: round(float(noise[labels == place].mean()), 4) for place, name in enumerate(names)},
    }
