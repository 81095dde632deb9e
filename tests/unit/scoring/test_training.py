"""A training end to end on invented rows, and the guards that stop one."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orchestration.scoring import metrics, models, training
from orchestration.scoring.card import card
from orchestration.scoring.drift import drift, null_limit, profile_of, psi
from orchestration.scoring.errors import ScoringError, SuspectedLeakage, TooFewLabels
from orchestration.scoring.features import FEATURES
from orchestration.scoring.points import from_json
from tests.unit.scoring.conftest import small_table, training_rows, training_set


@pytest.fixture(scope="module")
def data():
    return training_set(1500)


@pytest.fixture(scope="module")
def trained(data):
    return training.train(data)


def test_a_training_finds_what_the_rows_hold_and_judges_four_models_on_the_same_rows(trained):
    assert set(trained.judgements) == {"additive_ebm", "logistic", "woe_scorecard", "boosted_trees"}
    for figures in trained.judgements.values():
        assert 0.6 < figures["auc"]["value"] < 0.95
        for value in figures.values():
            assert value["low"] <= value["value"] <= value["high"] or value["high"] - value["low"] < 0.1
    assert from_json(trained.table.to_json()) == trained.table
    assert from_json(trained.scorecard.to_json()) == trained.scorecard


def test_the_score_is_a_calibrated_probability(trained, data):
    """Within the interval, as many incidents came as the probabilities announced."""
    ratio = trained.judgements["additive_ebm"]["observed_to_expected"]
    assert ratio["low"] <= 1.25 and ratio["high"] >= 0.75


def test_the_same_rows_give_the_same_table_to_the_bit(data):
    """A reviewer trains again and compares fingerprints."""
    rows = data.split("train")
    labels = rows["label"].to_numpy(dtype=float)
    features = [feature for feature in FEATURES if feature.family in ("cash", "flow", "profile")]

    def fingerprint(seed: int) -> str:
        model = models.fit_additive(rows, labels, features, seed, bags=2)
        document = {"version": "v", "algorithm": "additive_ebm", "trained_as_of": "2026-01-01 00:00:00", "valid_days": 1}
        return models.export(model, features, 0.0, 1.0, (50.0, 50.0), **document).sha256

    assert fingerprint(1) == fingerprint(1)
    assert fingerprint(1) != fingerprint(2)


def test_a_fit_that_outlasts_its_time_gives_no_model(data):
    """A half-fitted model would differ from machine to machine."""
    rows = data.split("train")
    with pytest.raises(ScoringError, match="did not end"):
        models.fit_additive(rows, rows["label"].to_numpy(dtype=float), list(FEATURES), 1, bags=2, seconds=0)


def test_the_card_shows_every_bin_and_no_row(trained, data):
    text = card(trained, "Alice")
    for row in trained.table.rows():
        assert repr(row["points"]) in text
    for heading in ("Headline", "Figures", "Stability", "Reasons", "Fairness", "Limits", "Prohibited"):
        assert heading in text
    assert "Low confidence" not in text or "wanted" in text
    assert "Alice" in text and trained.table.sha256 in text


def test_protected_attributes_are_audited_and_never_scored_by(trained):
    assert set(trained.report["fairness"]) == {"age_band", "customer_type"}
    assert not set(trained.table.features) & {"age_band", "country_code", "region_code"}


def test_a_feature_that_knows_the_outcome_stops_the_training(data):
    """The label let into a feature: the surest sign that a figure is too good."""
    leaked = training_set(1500)
    noise = np.random.default_rng(1).normal(0, 0.05, len(leaked.rows))
    leaked.rows["tenure_days"] = leaked.rows["label"] + noise
    with pytest.raises(SuspectedLeakage, match="tenure_days"):
        training.train(leaked)


def test_a_model_that_is_too_good_stops_the_training():
    labels = np.array([0, 1] * 50)
    metrics.guard_against_leakage(labels, {"x": np.arange(100)}, 0.95)
    with pytest.raises(SuspectedLeakage):
        metrics.guard_against_leakage(labels, {}, 0.951)
    with pytest.raises(SuspectedLeakage, match="y alone"):
        metrics.guard_against_leakage(labels, {"y": np.where(labels > 0, np.nan, 1.0)}, 0.5)


def test_too_few_incidents_give_no_model(data):
    few = training_set(600)
    few.rows["label"] = 0
    few.rows.loc[few.rows.index[:5], "label"] = 1
    with pytest.raises(TooFewLabels, match="5 confirmed incidents"):
        training.train(few)


def test_one_changed_value_changes_the_fingerprint(data):
    other = training_set(1500)
    assert other.fingerprint == data.fingerprint
    other.rows.loc[7, "cash_share_90d"] = 0.123
    assert other.fingerprint != data.fingerprint


def test_features_are_declared_once_and_none_shows_the_label():
    from orchestration.scoring.features import FAMILIES, forbidden

    assert len({feature.name for feature in FEATURES}) == len(FEATURES)
    for feature in FEATURES:
        assert feature.family in FAMILIES and not forbidden(feature.name)


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.tuples(st.booleans(), st.floats(-3, 3)), min_size=4, max_size=60))
def test_auc_is_the_share_of_pairs_in_order(rows):
    """Against the definition, pair by pair."""
    labels = np.array([label for label, _ in rows], dtype=float)
    scores = np.array([score for _, score in rows])
    if not 0 < labels.sum() < len(labels):
        return
    pairs = [(bad > good) + 0.5 * (bad == good) for bad in scores[labels > 0] for good in scores[labels == 0]]
    assert metrics.auc(labels, scores) == pytest.approx(np.mean(pairs))


def test_capture_counts_ties_at_the_limit_in_part():
    """A constant score flags nobody in particular: it captures its share and no more."""
    labels = np.array([1.0, 0, 0, 0, 0, 0, 0, 0, 0, 1])
    assert metrics.capture(labels, np.zeros(10), 0.10) == pytest.approx(0.1)
    assert metrics.capture(labels, np.arange(10.0), 0.10) == pytest.approx(0.5)


def test_audits_are_weighted_by_their_selection():
    """One issue drawn with a probability of a tenth stands for ten; not to weigh it would flatter the flags."""
    found = metrics.audited_capture(np.array([1.0, 1.0, 0.0]), np.array([1.0, 0.1, 0.1]), np.array([1.0, 0.0, 0.0]))
    assert found["value"] == pytest.approx(1 / 11)
    assert metrics.audited_capture(np.zeros(2), np.ones(2), np.ones(2)) is None


@pytest.mark.parametrize("rows", [150, 2_000, 20_000])
def test_chance_alone_is_no_drift_at_any_size(rows):
    """A fixed limit of 0.10 would alarm on every small book."""
    rng = np.random.default_rng(rows)
    limit = null_limit(10, rows, rows)
    alarms = [
        psi(np.bincount(rng.integers(0, 10, rows), minlength=10).astype(float), np.bincount(rng.integers(0, 10, rows), minlength=10).astype(float)) > limit
        for _ in range(200)
    ]
    assert sum(alarms) <= 4


def test_a_shifted_book_drifts_and_the_same_one_does_not():
    table, rows = small_table(), training_rows(3000)
    profile = profile_of(table, rows)
    assert not any(entry["drifted"] for entry in drift(table, profile, training_rows(3000, seed=11)))
    shifted = training_rows(3000, seed=12)
    shifted["forward_days_90d"] = shifted["forward_days_90d"] + 3
    assert {entry["name"] for entry in drift(table, profile, shifted) if entry["drifted"]} >= {"forward_days_90d", "score"}


def test_the_store_counts_drift_of_scores_as_the_columns_do(settings):
    """The daily check counts in SQL, the evaluation in numpy: one figure."""
    from dataclasses import replace

    from orchestration.lake import open_lake
    from orchestration.scoring.drift import score_drift
    from orchestration.scoring.errors import BadModel

    table, rows = small_table(), training_rows(1200)
    profile = profile_of(table, rows)
    shifted = training_rows(900, seed=5)
    shifted["forward_days_90d"] = shifted["forward_days_90d"] + 3
    scores, _ = table.score_columns(shifted)
    with open_lake(settings) as connection:
        connection.execute("create table lake.risk.model_scores (score double)")
        connection.execute("insert into lake.risk.model_scores select unnest(?::double[])", [[float(score) for score in scores[:300]]])
        with pytest.raises(BadModel, match="train again"):
            score_drift(connection, table)
        known = replace(table, record={"score_profile": {name: profile[name] for name in ("score_edges", "score_counts")}})
        found = score_drift(connection, known)
    expected = next(entry for entry in drift(table, profile, shifted.iloc[:300]) if entry["name"] == "score")
    assert found["rows"] == 300 and found["drifted"] and found["psi"] == pytest.approx(expected["psi"])


def test_a_feature_that_is_missing_everywhere_is_left_out_of_the_model(data):
    """A feed that was never delivered: the model is made of the rest, and later values of it change nobody's score."""
    rows = data.split("train").copy()
    rows["volume_eur_90d"] = np.nan
    rows["customer_type"] = None
    names = [feature.name for feature in models.usable_features(rows)]
    assert "volume_eur_90d" not in names and "customer_type" not in names and len(names) == len(FEATURES) - 2


def test_an_all_null_feature_scores_with_the_points_of_its_missing_bin_and_is_told_as_drift():
    """A feed that stops after training: nobody's score is made up, and the day's check names the feature."""
    table, rows = small_table(), training_rows(1500)
    profile = profile_of(table, rows)
    gone = training_rows(1500, seed=8)
    gone["cash_share_90d"] = np.nan
    gone["onboarding_channel"] = None
    _, families = table.score_columns(gone)
    assert set(families["cash"]) == {0.2} and set(families["profile"]) == {0.03}
    assert {entry["name"] for entry in drift(table, profile, gone) if entry["drifted"]} >= {"cash_share_90d", "onboarding_channel"}


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_amount_stops_a_training_with_its_name(value):
    """The libraries would end in a traceback, or fit a bound that no amount reaches."""
    spoilt = training_set(600)
    spoilt.rows.loc[3, "volume_eur_90d"] = value
    with pytest.raises(ScoringError, match="volume_eur_90d"):
        training.train(spoilt)
