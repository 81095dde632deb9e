"""Fitting: the additive model that scores, and the models that stand beside it on the same rows.

Belongs here: calls to the libraries and the export to a points table. Does not belong here: rows (`training_set`), judging
(`metrics`), storing (`registry`). Nothing here runs when anybody is scored.
Additive model: Lou, Caruana, Gehrke, Hooker 2013, «Accurate intelligible models with pairwise interactions», without the
pairs; library https://interpret.ml/docs/ebm.html
"""

import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from orchestration.scoring.errors import BadModel, ScoringError, TooFewLabels
from orchestration.scoring.features import FEATURES, Feature
from orchestration.scoring.points import PointsTable, Term

BINS = 32
BAGS = 8
ROUNDS = 5_000
FIT_SECONDS = 300
FOLDS = 3
FEWEST_POSITIVES = 20
MOST_SLOPE = 3.0


@dataclass
class Fitted:
    """One fitted model: `predict` gives the probability of each row of a frame of features."""

    name: str
    predict: Any
    model: Any
    seconds: float


def usable_features(rows: pd.DataFrame) -> list[Feature]:
    """The declared features that tell any two rows apart; one that is missing everywhere is none. Raises `ScoringError` for a
    number that is infinite: a fit on it would not be one, and the contracts let none in."""
    numbers = [feature.name for feature in FEATURES if feature.kind == "number"]
    infinite = [name for name in numbers if np.isinf(rows[name].to_numpy(dtype=float)).any()]
    if infinite:
        raise ScoringError(f"{', '.join(infinite)} holds infinite values: correct the amounts that were delivered")
    return [feature for feature in FEATURES if rows[feature.name].nunique(dropna=True) > 1]


def fit_additive(
    rows: pd.DataFrame, labels: np.ndarray, features: list[Feature], seed: int, bags: int = BAGS, seconds: float = FIT_SECONDS
) -> Any:
    """An additive explainable boosting machine, monotone where the features say so; bins, rounds and time are bounded.

    Rows must come in a stable order: another order gives another model. Raises `ScoringError` when time runs out: a
    half-fitted model would differ from machine to machine.
    """
    from interpret.glassbox import ExplainableBoostingClassifier

    deadline = time.monotonic() + seconds
    late = False

    def stop(*progress: Any) -> bool:
        nonlocal late
        late = late or time.monotonic() > deadline
        return late

    model = ExplainableBoostingClassifier(
        feature_names=[feature.name for feature in features],
        feature_types=["continuous" if feature.kind == "number" else "nominal" for feature in features],
        max_bins=BINS,
        interactions=0,
        outer_bags=bags,
        max_rounds=ROUNDS,
        min_samples_leaf=10,
        monotone_constraints=[feature.monotone for feature in features],
        callback=stop,
        n_jobs=1,
        random_state=seed,
    )
    with warnings.catch_warnings():
        # The library's plots leave the missing bin out, and it says so; our table prints that bin.
        warnings.filterwarnings("ignore", message="Missing values detected")
        model.fit(rows[[feature.name for feature in features]], labels)
    if late:
        raise ScoringError(f"the fit did not end within {seconds:.0f} s; nothing was kept")
    return model


def raw_scores(model: Any, rows: pd.DataFrame, features: list[Feature]) -> np.ndarray:
    """The library's own log-odds of each row."""
    return np.asarray(model.decision_function(rows[[feature.name for feature in features]]), dtype=float)


def folds(rows: pd.DataFrame, labels: np.ndarray, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Positions to fit on and to hold out, `FOLDS` times, positives spread evenly."""
    from sklearn.model_selection import StratifiedKFold

    if int(labels.sum()) < FEWEST_POSITIVES:
        raise TooFewLabels(
            f"{int(labels.sum())} confirmed incidents in the training windows, {FEWEST_POSITIVES} are the least: "
            "deliver more history or more customers"
        )
    return list(StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(rows, labels))


def calibration(held_out: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Offset and slope that make held-out log-odds probabilities (Platt 1999). Raises `ScoringError` without any signal."""
    from sklearn.linear_model import LogisticRegression

    fitted = LogisticRegression(C=1e6, max_iter=1000).fit(held_out.reshape(-1, 1), labels)
    slope, offset = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if not 0 < slope <= MOST_SLOPE:
        raise ScoringError(f"held-out scores do not order the outcomes (calibration slope {slope:.2f}): no model was made")
    return offset, slope


def export(
    model: Any, features: list[Feature], offset: float, slope: float, limits: tuple[float, float], **document: Any
) -> PointsTable:
    """The points table of a fitted additive model, calibrated: score = offset + slope * the library's log-odds.

    `limits`: log-odds from which the score asks for medium and for high. Raises `BadModel` if a term is not monotone.
    """
    terms = []
    for position, (columns, scores) in enumerate(zip(model.term_features_, model.term_scores_, strict=True)):
        if len(columns) != 1:
            raise BadModel("a pair of features cannot be printed as one column of points")
        feature = features[columns[0]]
        points = [float(value) * slope for value in scores]
        bins = model.bins_[columns[0]][0]
        common = {"feature": feature.name, "family": feature.family, "kind": feature.kind, "monotone": feature.monotone}
        if feature.kind == "number":
            cuts = tuple(float(cut) for cut in bins)
            ranges = _straightened(points[1 : len(cuts) + 2], feature)
            terms.append(Term(points=ranges, cuts=cuts, missing=points[0], **common))
        else:
            names = sorted(bins, key=bins.get)
            terms.append(
                Term(
                    points=tuple(points[bins[name]] for name in names),
                    categories=tuple(names),
                    missing=points[0],
                    unseen=points[-1],
                    **common,
                )
            )
        assert position == columns[0]
    intercept = offset + slope * float(np.asarray(model.intercept_).reshape(-1)[0])
    return PointsTable(intercept=intercept, terms=tuple(terms), medium_from=limits[0], high_from=limits[1], **document)


def _straightened(points: list[float], feature: Feature) -> tuple[float, ...]:
    """Averaging bags may leave steps of 1e-17 against the direction; anything larger is a fault and is refused later."""
    for place in range(1, len(points)):
        step = (points[place] - points[place - 1]) * feature.monotone
        if -1e-13 < step < 0:
            points[place] = points[place - 1]
    return tuple(points)


def fit_logistic(rows: pd.DataFrame, labels: np.ndarray, features: list[Feature], seed: int) -> Fitted:
    """A plain logistic regression: medians for what is missing, standardised numbers, one column per category."""
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    started = time.monotonic()
    names = [feature.name for feature in features]
    numbers = [feature.name for feature in features if feature.kind == "number"]
    categories = [feature.name for feature in features if feature.kind == "category"]
    prepared = ColumnTransformer(
        [
            ("numbers", make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()), numbers),
            (
                "categories",
                make_pipeline(
                    SimpleImputer(strategy="constant", fill_value="(missing)", missing_values=None),
                    OneHotEncoder(handle_unknown="ignore"),
                ),
                categories,
            ),
        ]
    )
    model = make_pipeline(prepared, LogisticRegression(C=1.0, max_iter=2000, random_state=seed)).fit(rows[names], labels)
    return Fitted("logistic", lambda frame: model.predict_proba(frame[names])[:, 1], model, time.monotonic() - started)


def category_codes(rows: pd.DataFrame, features: list[Feature]) -> dict[str, tuple[str, ...]]:
    """The categories of each category feature, in the order of the alphabet."""
    return {
        feature.name: tuple(sorted(value for value in rows[feature.name].unique() if value is not None))
        for feature in features
        if feature.kind == "category"
    }


def coded(rows: pd.DataFrame, features: list[Feature], codes: dict[str, tuple[str, ...]]) -> np.ndarray:
    """Features as one float matrix: a category by its place, NaN where missing or unseen."""
    columns = []
    for feature in features:
        values = rows[feature.name]
        if feature.kind == "category":
            places = {name: float(place) for place, name in enumerate(codes[feature.name])}
            values = np.array([places.get(value, np.nan) for value in values], dtype=float)
        columns.append(np.asarray(values, dtype=float))
    return np.column_stack(columns)


def fit_boosted(rows: pd.DataFrame, labels: np.ndarray, features: list[Feature], seed: int) -> Fitted:
    """The challenger that marks the ceiling: monotone gradient-boosted trees, which no table can print.

    Categories enter as codes: native ones bring functions into the stored file that the allow-list refuses.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    started = time.monotonic()
    codes = category_codes(rows, features)
    model = HistGradientBoostingClassifier(
        learning_rate=0.05,
        max_iter=150,
        max_leaf_nodes=8,
        min_samples_leaf=30,
        l2_regularization=1.0,
        early_stopping=False,
        monotonic_cst=[feature.monotone for feature in features],
        random_state=seed,
    ).fit(coded(rows, features, codes), labels)
    fitted = Fitted(
        "boosted_trees",
        lambda frame: model.predict_proba(coded(frame, features, codes))[:, 1],
        model,
        time.monotonic() - started,
    )
    return fitted
