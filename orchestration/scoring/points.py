"""The points table: an additive score as (feature, bin, points), the artefact of record.

Belongs here: its form, its checks, its fingerprint, and the look-up of one row or of whole columns. Does not belong here:
fitting (`models`), SQL (macro `risk_score`, which compiles the same document), storing (`registry`).
Score = intercept + sum over features of the points of the bin that its value lies in; probability = logistic(score).
"""

import hashlib
import json
import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestration.scoring.errors import BadModel
from orchestration.scoring.features import FAMILIES, Kind, forbidden

REASON_COUNT = 4
MOST_BINS = 64
MOST_POINTS = 20.0  # so that no sum can overflow the exponential, in any engine


@dataclass(frozen=True)
class Term:
    """Points of one feature. Number: `cuts` rise, bin i holds cuts[i-1] <= value < cuts[i]. Category: one bin each."""

    feature: str
    family: str
    kind: Kind
    points: tuple[float, ...]
    cuts: tuple[float, ...] = ()
    categories: tuple[str, ...] = ()
    missing: float = 0.0
    unseen: float = 0.0
    monotone: int = 0


@dataclass(frozen=True)
class Score:
    """One scored row: log-odds, probability, points by family, and the families that raise it most, most first."""

    score: float
    probability: float
    family_points: dict[str, float]
    reasons: tuple[str, ...]
    missing: int
    unseen: int


@dataclass(frozen=True)
class PointsTable:
    """A score's whole content. `medium_from`, `high_from`: log-odds from which the score asks for that tier.

    `trained_as_of` (UTC) is the last instant whose data it knows; `valid_days` after it the table is stale. `record` says
    what it came from: data fingerprint, windows, label, library versions, code.
    """

    version: str
    algorithm: str
    intercept: float
    terms: tuple[Term, ...]
    medium_from: float
    high_from: float
    trained_as_of: str
    valid_days: int
    record: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self)

    @property
    def features(self) -> tuple[str, ...]:
        """The columns it reads, in order."""
        return tuple(term.feature for term in self.terms)

    def to_json(self) -> str:
        """The document, the same text for the same table: sorted keys, shortest digits that read back to the same double."""
        return json.dumps(asdict(self), sort_keys=True, indent=1, allow_nan=False) + "\n"

    @property
    def sha256(self) -> str:
        """Fingerprint of the document."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()

    def score(self, row: Mapping[str, Any]) -> Score:
        """Score one row (feature to value; None or NaN is missing). Raises `BadModel` if a feature is absent."""
        families = dict.fromkeys(FAMILIES, 0.0)
        missing = unseen = 0
        for term in self.terms:
            if term.feature not in row:
                raise BadModel(f"the row has no feature {term.feature}: score rows of features.risk_features")
            bin_kind, points = look_up(term, row[term.feature])
            families[term.family] += points
            missing += bin_kind == "missing"
            unseen += bin_kind == "unseen"
        total = self.intercept
        for points in families.values():
            total += points
        return Score(total, logistic(total), families, reasons(families), missing, unseen)

    def score_columns(self, columns: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Log-odds and points by family of many rows: numpy arrays in, numpy arrays (rows,) out."""
        import numpy as np

        families: dict[str, Any] = {name: 0.0 for name in FAMILIES}
        for term in self.terms:
            families[term.family] = families[term.family] + term_points(term, columns[term.feature])
        size = len(columns[self.terms[0].feature])
        families = {name: np.broadcast_to(np.asarray(values, dtype=float), (size,)) for name, values in families.items()}
        total = np.full(size, self.intercept)
        for values in families.values():
            total = total + values
        return total, families

    def rows(self) -> list[dict[str, Any]]:
        """The table as rows (term, feature, bin, bounds or category, points), the missing and unseen bins included."""
        found = []
        for number, term in enumerate(self.terms, start=1):
            head = {"term_no": number, "feature": term.feature, "family": term.family}
            found.append({**head, "bin_kind": "missing", "lower": None, "upper": None, "category": None, "points": term.missing})
            for place, points in enumerate(term.points):
                if term.kind == "number":
                    lower = term.cuts[place - 1] if place else None
                    upper = term.cuts[place] if place < len(term.cuts) else None
                    cell = {"bin_kind": "range", "lower": lower, "upper": upper, "category": None}
                else:
                    cell = {"bin_kind": "category", "lower": None, "upper": None, "category": term.categories[place]}
                found.append({**head, **cell, "points": points})
            if term.kind == "category":
                cell = {"bin_kind": "unseen", "lower": None, "upper": None, "category": None}
                found.append({**head, **cell, "points": term.unseen})
        return found


def logistic(score: float) -> float:
    """Probability of log-odds, without overflow at either end."""
    if score >= 0:
        return 1 / (1 + math.exp(-score))
    raised = math.exp(score)
    return raised / (1 + raised)


def look_up(term: Term, value: Any) -> tuple[str, float]:
    """Kind of bin (missing, range, category, unseen) and points of one value."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "missing", term.missing
    if term.kind == "number":
        return "range", term.points[bisect_right(term.cuts, float(value))]
    if value in term.categories:
        return "category", term.points[term.categories.index(value)]
    return "unseen", term.unseen


def term_points(term: Term, values: Any) -> Any:
    """Points of a column: numbers as float array with NaN for missing, categories as object array with None."""
    import numpy as np

    if term.kind == "number":
        numbers = np.asarray(values, dtype=float)
        found = np.asarray(term.points)[np.searchsorted(np.asarray(term.cuts), numbers, side="right").clip(0, len(term.cuts))]
        return np.where(np.isnan(numbers), term.missing, found)
    known = dict(zip(term.categories, term.points, strict=True))
    return np.array([term.missing if _absent(value) else known.get(value, term.unseen) for value in values], dtype=float)


def reasons(families: Mapping[str, float]) -> tuple[str, ...]:
    """The families that raise a score most, most first; of two alike the later in the alphabet first, as in SQL."""
    raising = sorted(((points, name) for name, points in families.items() if points > 0), reverse=True)
    return tuple(name for _, name in raising[:REASON_COUNT])


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def check(table: PointsTable) -> None:
    """Raise `BadModel` unless the table is well formed: finite, in order, monotone where it says so, within its columns."""
    numbers = [table.intercept, table.medium_from, table.high_from]
    if not table.terms:
        raise BadModel("a points table without a term scores nobody")
    if len(set(table.features)) != len(table.terms):
        raise BadModel("a feature stands twice in the points table")
    if not table.intercept < table.medium_from <= table.high_from:
        raise BadModel("the limits must rise: everybody's points, medium_from, high_from; or a tier would rise without a reason")
    if table.valid_days <= 0:
        raise BadModel("valid_days must be positive")
    for term in table.terms:
        numbers += [*term.points, *term.cuts, term.missing, term.unseen]
        _check_term(term)
    if not all(isinstance(value, float) and math.isfinite(value) for value in numbers):
        raise BadModel("points, cuts and limits must be finite numbers")
    if any(abs(value) > MOST_POINTS for term in table.terms for value in (*term.points, term.missing, term.unseen)):
        raise BadModel(f"no bin may weigh more than {MOST_POINTS} points of log-odds")


def _check_term(term: Term) -> None:
    name = term.feature
    if not name.isidentifier() or not name.islower():
        raise BadModel(f"{name!r} is no column name")
    if forbidden(name):
        raise BadModel(f"a score must not look at {name}: see orchestration/scoring/features.py")
    if term.family not in FAMILIES:
        raise BadModel(f"{name}: {term.family!r} is no family of reasons ({', '.join(FAMILIES)})")
    if len(term.points) > MOST_BINS:
        raise BadModel(f"{name}: {len(term.points)} bins cannot be read on paper; {MOST_BINS} is the most")
    if term.kind == "number":
        if term.categories or len(term.points) != len(term.cuts) + 1:
            raise BadModel(f"{name}: a number has one bin more than cuts, and no categories")
        if any(low >= high for low, high in zip(term.cuts, term.cuts[1:], strict=False)):
            raise BadModel(f"{name}: cuts must rise")
        steps = [later - earlier for earlier, later in zip(term.points, term.points[1:], strict=False)]
        if term.monotone and any(step * term.monotone < 0 for step in steps):
            raise BadModel(f"{name}: points must only {'rise' if term.monotone > 0 else 'fall'} with the feature")
    elif term.kind == "category":
        if term.cuts or len(term.points) != len(term.categories) or len(set(term.categories)) != len(term.categories):
            raise BadModel(f"{name}: a category has one bin per distinct category, and no cuts")
    else:
        raise BadModel(f"{name}: kind is number or category, not {term.kind!r}")


def from_json(text: str) -> PointsTable:
    """The table of a document. Raises `BadModel` on anything that `to_json` would not have written."""
    try:
        document = json.loads(text)
        terms = tuple(
            Term(**{name: tuple(value) if isinstance(value, list) else value for name, value in term.items()})
            for term in document.pop("terms")
        )
        table = PointsTable(terms=terms, **document)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadModel(f"this is no points table ({type(error).__name__})") from error
    if table.to_json() != text:
        raise BadModel("the document is not in the form that the platform writes")
    return table


def verified(text: str, sha256: str) -> PointsTable:
    """The table of a document whose fingerprint is on record. Raises `BadModel` if a byte of it changed."""
    if hashlib.sha256(text.encode()).hexdigest() != sha256:
        raise BadModel("the model file is not the one on record: its SHA-256 differs; train again or roll back")
    return from_json(text)
