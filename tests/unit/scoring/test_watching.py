"""What a model is held to: each threshold with an input that passes and one that fails, and the figures against their definition."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orchestration.lake import open_lake
from orchestration.scoring import curves, thresholds
from orchestration.scoring.drift import drift, feature_drift, profile_of
from orchestration.scoring.errors import BadModel
from orchestration.scoring.fairness import FEWEST_IN_GROUP, POOLED, book_figures, group_figures
from orchestration.scoring.metrics import auc, capture
from orchestration.scoring.plots import files, pictures
from orchestration.scoring.sample_bias import compared
from orchestration.scoring.training_set import PROTECTED
from orchestration.scoring.verification import undone, weighted_auc
from orchestration.scoring.watching import watched
from tests.unit.scoring.conftest import small_table, training_rows, training_set

quick = hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


def interval(value, low, high):
    return {"value": value, "low": low, "high": high}


# thresholds -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratio", "passed", "blocks"),
    [
        (interval(1.0, 0.9, 1.1), True, False),
        (interval(3.0, 0.7, 6.0), True, False),  # a wide interval proves nothing against it
        (interval(1.5, 1.3, 1.8), False, False),
        (interval(0.6, 0.55, 0.75), False, False),
        (interval(3.0, 2.1, 4.0), False, True),
        (interval(0.3, 0.2, 0.45), False, True),
    ],
)
def test_only_a_gross_miscalibration_blocks(ratio, passed, blocks):
    finding = thresholds.calibrated(ratio)
    assert (finding.passed, finding.blocks) == (passed, blocks)
    assert bool(thresholds.blocked([finding])) is blocks


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (thresholds.separating(interval(0.7, 0.55, 0.8)), thresholds.separating(interval(0.6, 0.49, 0.7))),
        (thresholds.enough(50), thresholds.enough(49)),
        (
            thresholds.steady({"top_family_riskiest_decile": 0.70, "flagged_overlap": 0.6}),
            thresholds.steady({"top_family_riskiest_decile": 0.69, "flagged_overlap": 0.6}),
        ),
        (
            thresholds.catching({"figures": {"captured": interval(0, 0.0, 0.06) | {"naive": 1.0, "weighted": 0.03}}}),
            thresholds.catching({"figures": {"captured": interval(0, 0.0, 0.05) | {"naive": 1.0, "weighted": 0.03}}}),
        ),
    ],
)
def test_each_threshold_passes_and_fails_and_never_blocks(good, bad):
    assert good.passed and not bad.passed
    assert not good.blocks and not bad.blocks and bad.said


def test_what_was_not_measured_does_not_pass():
    """No audited issue, no two groups, no look at the objectors: nobody knows, and nobody may read it as well."""
    assert not thresholds.catching(None).passed
    assert not thresholds.alike({"age_band": []}).passed
    assert not thresholds.alike({"age_band": [{"group": "18+", "rows": 100}]}).passed
    assert not thresholds.representative(None).passed


def test_every_check_says_what_it_asks():
    asked = {*thresholds.OF_TRAINING, *thresholds.OF_EVALUATION, *thresholds.OF_EVERY_RUN}
    assert asked == set(thresholds.NAMES)


# curves -----------------------------------------------------------------------------------------------------------------------

rows_with_scores = st.integers(0, 2**31).map(
    lambda seed: (lambda rng, n: ((rng.random(n) < 0.15).astype(float), np.round(rng.random(n), 2)))(np.random.default_rng(seed), 600)
)


@quick
@given(rows_with_scores)
def test_no_point_of_a_plot_stands_for_fewer_than_ten_bad_rows(rows):
    """From a finer curve one could count who was found, and with what score."""
    labels, scores = rows
    bins = curves.calibration_bins(labels, scores)
    assert sum(one["rows"] for one in bins) in (0, len(labels))
    for one in bins:
        assert round(one["observed"] * one["rows"]) >= curves.FEWEST
        assert one["low"] <= one["observed"] <= one["high"]
    points = curves.capture_curve(labels, scores)
    caught = [round(point["captured"] * labels.sum()) for point in points]
    assert all(later - earlier >= curves.FEWEST for earlier, later in pairwise(caught))
    for point in points[1:-1]:
        assert point["captured"] == pytest.approx(capture(labels, scores, point["flagged"]))


def test_bins_of_a_score_without_bad_rows_are_none():
    assert curves.calibration_bins(np.zeros(100), np.linspace(0, 1, 100)) == []


def test_plots_are_drawn_of_aggregates_and_the_same_figures_give_the_same_picture():
    rng = np.random.default_rng(4)
    labels, scores = (rng.random(3000) < 0.1).astype(float), rng.random(3000)
    report = {
        "calibration_bins": curves.calibration_bins(labels, scores * 0.2),
        "capture_curves": {"additive_ebm": curves.capture_curve(labels, scores)},
        "capture_headline": interval(0.1, 0.05, 0.2),
        "fairness": {"age_band": [{"group": "18+", "rows": 100, "flagged_share": 0.1, "flagged_low": 0.05, "flagged_high": 0.2}]},
        "drift": [{"name": "score", "psi": 0.3, "limit": float("inf"), "alarm_from": float("inf"), "drifted": False},
                  {"name": "tenure_days", "psi": 0.1, "limit": 0.02, "alarm_from": 0.1, "drifted": False}],
    }
    drawn = files(report)
    assert set(drawn) == {"calibration.svg", "capture.svg", "fairness.svg", "drift.svg"}
    assert drawn == files(report)
    assert "10% captured (5% to 20%)" in drawn["capture.svg"] and "<script" not in "".join(drawn.values())
    for picture in pictures(report).values():
        assert picture.startswith("![") and "](data:image/svg+xml;base64," in picture
    assert files({"calibration_bins": [], "fairness": {"age_band": []}}) == {}


# audits -----------------------------------------------------------------------------------------------------------------------


def test_weighting_by_selection_undoes_the_choice_of_who_is_audited():
    """The flagged are all audited, of the others one in fifty: naively the score finds nearly everything."""
    rng = np.random.default_rng(11)
    people = 60_000
    flags = (np.arange(people) < people * 0.05).astype(float)
    issues = (rng.random(people) < np.where(flags > 0, 0.10, 0.02)).astype(float)
    truth = issues[flags > 0].sum() / issues.sum()
    selection = np.where(flags > 0, 1.0, 0.02)
    audited = rng.random(people) < selection
    found = undone(issues[audited], selection[audited], flags[audited], (flags * 0.5 + rng.random(people) * 0.5)[audited])
    captured = found["figures"]["captured"]
    assert captured["naive"] > 0.9
    assert captured["low"] <= truth <= captured["high"] and abs(captured["weighted"] - truth) < 0.08
    assert abs(found["figures"]["issue_rate"]["weighted"] - issues.mean()) < 0.01 < found["figures"]["issue_rate"]["naive"] - issues.mean()
    assert found["effective"] < found["audits"] / 2


def test_without_an_issue_or_with_an_impossible_probability_nothing_is_said():
    ones = np.ones(20)
    assert undone(np.zeros(20), ones, ones, ones) is None
    assert undone(ones, ones * 1.5, ones, ones) is None
    assert undone(ones, ones * 0, ones, ones) is None


@quick
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(1, 4)), min_size=2, max_size=30))
def test_a_weighted_row_counts_as_so_many(rows):
    labels = np.array([float(bad) for bad, _, _ in rows])
    scores, weights = np.array([float(score) for _, score, _ in rows]), np.array([weight for _, _, weight in rows])
    found = weighted_auc(labels, scores, weights.astype(float))
    if not 0 < labels.sum() < len(labels):
        assert found is None
    else:
        assert found == pytest.approx(auc(np.repeat(labels, weights), np.repeat(scores, weights)))


# groups -----------------------------------------------------------------------------------------------------------------------


def flagged_set(shares):
    """A training set whose test rows have the groups `a` and `b` and two of `c`, flagged in these shares."""
    data = training_set(6000)
    test = data.split("test")
    rng = np.random.default_rng(5)
    groups = rng.choice(["a", "b"], len(test)).astype(object)
    groups[:2] = "c"
    data.protected["age_band"] = "a"
    data.protected.loc[test.index, "age_band"] = groups
    flags = rng.random(len(test)) < np.array([shares.get(group, 0.0) for group in groups])
    return data, flags


def test_a_group_that_is_flagged_far_more_often_is_unequal_and_an_even_one_is_not():
    data, flags = flagged_set({"a": 0.05, "b": 0.05})
    even = group_figures(data, flags, np.full(len(flags), 0.05))
    assert thresholds.alike({"age_band": even["age_band"]}).passed
    data, flags = flagged_set({"a": 0.05, "b": 0.20})
    uneven = group_figures(data, flags, np.full(len(flags), 0.05))
    finding = thresholds.alike({"age_band": uneven["age_band"]})
    assert not finding.passed and "age_band b" in finding.said


def test_small_groups_are_pooled_and_never_shown_even_so_if_they_are_few():
    data, flags = flagged_set({"a": 0.05, "b": 0.05})
    found = group_figures(data, flags, np.full(len(flags), 0.05))["age_band"]
    assert {row["group"] for row in found} == {"a", "b"} and all(row["rows"] >= FEWEST_IN_GROUP for row in found)
    for row in found:
        assert row.get("bad") is None or row["bad"] >= curves.FEWEST
        assert "ratio" in row and ("bad" in row or row["good_flagged_share"] is None)
    assert POOLED not in str(found)


def test_chance_alone_makes_hardly_any_group_unequal():
    """Twenty groups at once: without Bonferroni some would always differ."""
    alarms = 0
    data = training_set(6000)
    test = data.split("test")
    data.protected = data.protected[["age_band"]].copy()
    for seed in range(10):
        rng = np.random.default_rng(seed)
        data.protected.loc[test.index, "age_band"] = rng.choice([f"g{number}" for number in range(20)], len(test))
        found = group_figures(data, rng.random(len(test)) < 0.05, np.full(len(test), 0.05))
        alarms += not thresholds.alike({"age_band": found["age_band"]}).passed
    assert alarms <= 2


# who may be trained on --------------------------------------------------------------------------------------------------------


def book(shift=0.0, objecting=0.2, rows=3000):
    frame = training_rows(rows)
    rng = np.random.default_rng(8)
    trainable = rng.random(rows) >= objecting
    frame.loc[~trainable, "forward_days_90d"] = frame.loc[~trainable, "forward_days_90d"] + shift
    for name in PROTECTED:
        frame[f"protected_{name}"] = rng.choice(["x", "y"], rows)
    return frame, trainable


def test_objectors_who_are_like_the_rest_are_no_bias_and_others_are():
    table = small_table()
    same = compared(table, *book(), "fraud_security")
    assert 0.7 < same["share"] < 0.9 and not any(row["drifted"] for row in same["features"])
    assert thresholds.representative(same).passed
    other = compared(table, *book(shift=3.0), "fraud_security")
    finding = thresholds.representative(other)
    assert not finding.passed and "forward_days_90d" in finding.said and "score" in finding.said


def test_few_objectors_are_not_compared_and_do_no_harm():
    found = compared(small_table(), *book(shift=3.0, objecting=0.01), "fraud_security")
    assert found["features"] == [] and thresholds.representative(found).passed


def test_a_group_of_whom_few_may_be_trained_on_is_named():
    frame, trainable = book(objecting=0.0)
    trainable = trainable & ~((frame["protected_age_band"] == "y") & (np.arange(len(frame)) % 2 == 0)).to_numpy()
    frame["cash_share_90d"] = np.where(trainable, frame["cash_share_90d"], 9.0)
    finding = thresholds.representative(compared(small_table(), frame, trainable, "analytics"))
    assert not finding.passed and "age_band y" in finding.said and "age_band x" not in finding.said


# drift in the store -----------------------------------------------------------------------------------------------------------


def stored(connection, rows: pd.DataFrame) -> None:
    """Features and their scores as a run leaves them."""
    table = small_table()
    wanted = rows[list(table.features)].copy()
    wanted["risk_subject_token"] = [f"r_{number}" for number in range(len(rows))]
    for name in PROTECTED:
        wanted[name] = np.where(np.arange(len(rows)) % 2 == 0, "even", "odd")
    scores = pd.DataFrame({"risk_subject_token": wanted["risk_subject_token"], "score": table.score_columns(rows)[0]})
    connection.register("wanted", wanted)
    connection.register("scored", scores)
    connection.execute("create or replace table lake.features.risk_features as from wanted")
    connection.execute("create or replace table lake.risk.model_scores as from scored")


def known_table(rows):
    profile = profile_of(small_table(), rows)
    record = {"score_profile": {name: profile[name] for name in ("score_edges", "score_counts")}, "feature_counts": profile["features"]}
    return replace(small_table(), record=record), profile


def test_the_store_counts_every_feature_as_the_columns_do(settings):
    """Left-closed bins, missing, infinite and unseen values: one figure, whoever counts."""
    table, profile = known_table(training_rows(1500))
    now = training_rows(700, seed=5)
    now.loc[now.index[:6], "cash_share_90d"] = [0.1, 0.30000000000000004, np.inf, -np.inf, np.nan, -0.0]
    now.loc[now.index[:40], "onboarding_channel"] = "pigeon"
    with open_lake(settings) as connection:
        stored(connection, now)
        counted = {row["name"]: row["psi"] for row in feature_drift(connection, table)}
    expected = {row["name"]: row["psi"] for row in drift(table, profile, now) if row["name"] != "score"}
    assert counted == pytest.approx(expected)


def test_a_run_is_asked_for_drift_and_groups_and_says_which_feature_drifted(settings):
    table, _ = known_table(training_rows(1500))
    with open_lake(settings) as connection:
        stored(connection, training_rows(1500, seed=6))
        findings, report = watched(connection, table)
        assert set(findings) == set(thresholds.OF_EVERY_RUN) and all(finding.passed for finding in findings.values())
        assert len(report["drift"]) == 4 and set(report["fairness"]) == set(PROTECTED)
        shifted = training_rows(1500, seed=7)
        shifted["forward_days_90d"] += 3
        stored(connection, shifted)
        findings, _ = watched(connection, table)
        assert not findings["features_have_not_drifted"].passed and "forward_days_90d" in findings["features_have_not_drifted"].said
        assert not findings["scores_have_not_drifted"].passed
        connection.execute("update lake.risk.model_scores set score = -9")
        connection.execute("update lake.risk.model_scores set score = 9 where risk_subject_token in (select risk_subject_token from lake.features.risk_features where age_band = 'odd')")
        assert not watched(connection, table)[0]["groups_are_flagged_alike"].passed
        assert {row["group"] for row in book_figures(connection, table)["age_band"]} == {"even", "odd"}


def test_a_table_that_does_not_know_its_training_rows_cannot_pass(settings):
    with open_lake(settings) as connection:
        stored(connection, training_rows(300))
        with pytest.raises(BadModel, match="train again"):
            feature_drift(connection, small_table())
        findings, _ = watched(connection, small_table())
    assert not findings["features_have_not_drifted"].passed and not findings["scores_have_not_drifted"].passed
