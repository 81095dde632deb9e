"""The points table: the same score by look-up, by column, by SQL and by the library; a malformed one scores nobody."""

import json
import math
from dataclasses import replace

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orchestration.scoring import models
from orchestration.scoring.errors import BadModel
from orchestration.scoring.features import FAMILIES, FEATURES
from orchestration.scoring.points import Term, from_json, verified
from orchestration.scoring.training import prove_parity
from tests.unit.scoring.conftest import small_table, training_rows

numbers = st.one_of(st.none(), st.floats(allow_nan=True, allow_infinity=True), st.sampled_from([0.1, 0.30000000000000004, 0.3, 2.5, -0.0]))
channels = st.one_of(st.none(), st.sampled_from(["branch", "o'clock", "pigeon", "", "BRANCH"]))
rows_of_features = st.lists(
    st.fixed_dictionaries({"cash_share_90d": numbers, "forward_days_90d": numbers, "onboarding_channel": channels}), min_size=1, max_size=20
)


def by_sql(macros, table, rows):
    """Score, family points, reasons and counts by the model's own SQL."""
    frame = pd.DataFrame(rows, columns=["cash_share_90d", "forward_days_90d", "onboarding_channel"])
    with duckdb.connect() as connection:
        connection.execute(
            "create table features (risk_subject_token integer, cash_share_90d double, forward_days_90d double, onboarding_channel varchar, "
            "consent_event_id varchar, consent_status varchar, legal_basis varchar, legal_reference varchar, policy_version varchar, "
            "gate_outcome varchar, gate_reason varchar, as_of timestamp)"
        )
        for number, row in enumerate(rows):
            connection.execute(
                "insert into features (risk_subject_token, cash_share_90d, forward_days_90d, onboarding_channel) values (?, ?, ?, ?)",
                [number, row["cash_share_90d"], row["forward_days_90d"], row["onboarding_channel"]],
            )
        cursor = connection.execute(f"select * from ({macros.scores_sql(table, 'features')}) order by risk_subject_token")
        names = [column[0] for column in cursor.description]
        assert len(frame) == len(rows)
        return [dict(zip(names, values, strict=True)) for values in cursor.fetchall()]


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows=rows_of_features)
def test_look_up_columns_and_sql_give_the_same_score(macros, rows):
    """One evaluator: what the batch writes, the online look-up answers and a replay recomputes must be one number."""
    table = small_table()
    found = by_sql(macros, table, rows)
    columns = {
        "cash_share_90d": np.array([np.nan if row["cash_share_90d"] is None else row["cash_share_90d"] for row in rows]),
        "forward_days_90d": np.array([np.nan if row["forward_days_90d"] is None else row["forward_days_90d"] for row in rows]),
        "onboarding_channel": np.array([row["onboarding_channel"] for row in rows], dtype=object),
    }
    vector, families = table.score_columns(columns)
    for number, row in enumerate(rows):
        one = table.score(row)
        assert abs(one.score - found[number]["score"]) <= 1e-12
        assert abs(one.score - vector[number]) <= 1e-12
        assert abs(one.probability - found[number]["probability"]) <= 1e-12
        assert ",".join(one.reasons) == found[number]["reasons"]
        assert (one.missing, one.unseen) == (found[number]["missing_count"], found[number]["unseen_count"])
        for family in FAMILIES:
            assert abs(one.family_points[family] - found[number][f"{family}_points"]) <= 1e-12
            assert abs(one.family_points[family] - families[family][number]) <= 1e-12


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(rows=rows_of_features)
def test_reasons_add_up_to_the_score(macros, rows):
    """A reason that does not add up is an illustration, not an explanation."""
    for row in by_sql(macros, small_table(), rows):
        total = row["base_points"] + sum(row[f"{family}_points"] for family in FAMILIES)
        assert abs(total - row["score"]) <= 1e-12


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(low=st.floats(-5, 5), high=st.floats(-5, 5))
def test_a_rising_feature_never_lowers_the_score(low, high):
    """Monotone on the artefact itself, whatever the library promised."""
    row = {"forward_days_90d": 1.0, "onboarding_channel": "branch"}
    low, high = sorted((low, high))
    table = small_table()
    assert table.score({**row, "cash_share_90d": low}).score <= table.score({**row, "cash_share_90d": high}).score


def test_the_table_equals_the_library_for_numbers_categories_and_missing_values(macros):
    """Exported points and the library's own prediction, also for values beyond and categories outside of training."""
    rows = training_rows(1500)
    labels = rows["label"].to_numpy(dtype=float)
    features = [feature for feature in FEATURES if feature.name in ("cash_share_90d", "forward_days_90d", "onboarding_channel")]
    model = models.fit_additive(rows, labels, features, seed=1, bags=2)
    table = models.export(
        model, features, 0.25, 0.9, (50.0, 50.0), version="v", algorithm="additive_ebm", trained_as_of="2026-01-01 00:00:00", valid_days=1
    )
    asked = pd.concat(
        [
            rows[[feature.name for feature in features]],
            pd.DataFrame(
                {
                    "cash_share_90d": [np.inf, -np.inf, np.nan, 1e300, *table.terms[0].cuts],
                    "forward_days_90d": 1.0,
                    "onboarding_channel": "pigeon",
                }
            ),
        ],
        ignore_index=True,
    )
    ours, _ = table.score_columns(asked)
    theirs = 0.25 + 0.9 * models.raw_scores(model, asked, features)
    assert np.max(np.abs(ours - theirs)) <= 1e-12
    prove_parity(ours, theirs)
    with pytest.raises(Exception, match="differs from the library"):
        prove_parity(ours, theirs + 1e-9)
    plain = [{name: None if value != value else value for name, value in row.items()} for row in asked.to_dict("records")]
    few = plain[:100] + plain[-10:]
    sql = by_sql(macros, table, few)
    assert max(abs(row["score"] - score) for row, score in zip(sql, [*theirs[:100], *theirs[-10:]], strict=True)) <= 1e-12


def test_the_fitted_table_is_monotone_where_the_domain_says_so():
    rows = training_rows(1500, seed=9)
    features = [feature for feature in FEATURES if feature.monotone][:6]
    model = models.fit_additive(rows, rows["label"].to_numpy(dtype=float), features, seed=2, bags=2)
    table = models.export(
        model, features, 0.0, 1.0, (50.0, 50.0), version="v", algorithm="additive_ebm", trained_as_of="2026-01-01 00:00:00", valid_days=1
    )
    for term, feature in zip(table.terms, features, strict=True):
        assert all(step * feature.monotone >= 0 for step in np.diff(term.points)), term.feature


def test_row_values_of_the_wrong_shape_are_an_error_not_a_guess(table):
    with pytest.raises(BadModel, match="no feature forward_days_90d"):
        table.score({"cash_share_90d": 0.5, "onboarding_channel": "branch"})


def test_infinite_missing_and_unseen_values_have_bins_of_their_own(table):
    common = {"forward_days_90d": None, "onboarding_channel": "branch"}
    assert table.score({**common, "cash_share_90d": math.inf}).family_points["cash"] == 1.7
    assert table.score({**common, "cash_share_90d": -math.inf}).family_points["cash"] == -0.4
    assert table.score({**common, "cash_share_90d": math.nan}).family_points["cash"] == 0.2
    unseen = table.score({"cash_share_90d": 0.0, "forward_days_90d": 1.0, "onboarding_channel": "pigeon"})
    assert unseen.family_points["profile"] == 0.45 and unseen.unseen == 1


def test_a_document_reads_back_to_the_same_table(table):
    assert from_json(table.to_json()) == table
    assert from_json(table.to_json()).sha256 == table.sha256


@pytest.mark.parametrize("change", ['"intercept": -3.125', '"missing": 0.2', '"version": "t1"'])
def test_a_changed_document_is_refused_by_its_fingerprint(table, change):
    """Whoever edits a weight by hand leaves a table that no second person ever saw."""
    text = table.to_json()
    assert verified(text, table.sha256) == table
    tampered = text.replace(change, change.replace("t1", "t2").replace("-3.125", "-2.125").replace("0.2", "0.25"))
    assert tampered != text
    with pytest.raises(BadModel, match="SHA-256 differs"):
        verified(tampered, table.sha256)


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"terms": [1]}', '{"terms": []}', "\x00"])
def test_anything_else_is_no_points_table(text):
    with pytest.raises(BadModel):
        from_json(text)


def test_a_document_in_another_form_is_refused(table):
    with pytest.raises(BadModel, match="form"):
        from_json(json.dumps(json.loads(table.to_json())))


def number_term(**changes) -> Term:
    return replace(small_table().terms[0], **changes)


@pytest.mark.parametrize(
    "fault",
    [
        {"intercept": math.nan},
        {"intercept": 0},
        {"terms": ()},
        {"terms": (small_table().terms[0], small_table().terms[0])},
        {"medium_from": 1.0, "high_from": 0.5},
        {"medium_from": -3.5},
        {"valid_days": 0},
        {"terms": (number_term(points=(0.1, 0.0, 1.7)),)},
        {"terms": (number_term(cuts=(0.3, 0.3)),)},
        {"terms": (number_term(points=(0.1, 0.2)),)},
        {"terms": (number_term(family="marketing"),)},
        {"terms": (number_term(feature="confirmed_incident_count_365d"),)},
        {"terms": (number_term(feature="age_band"),)},
        {"terms": (number_term(feature="x; drop table y"),)},
        {"terms": (number_term(points=(-0.4, 0.1, 25.0)),)},
        {"terms": (number_term(points=(-0.4, 0.1, math.inf)),)},
        {"terms": (number_term(kind="picture"),)},
        {"terms": (replace(small_table().terms[2], categories=("a", "a")),)},
    ],
)
def test_a_malformed_table_is_refused(fault):
    with pytest.raises(BadModel):
        small_table(**fault)


def test_every_bin_is_printed_the_missing_and_unseen_ones_too(table):
    """What is not on the paper was not signed."""
    kinds = [row["bin_kind"] for row in table.rows() if row["feature"] == "onboarding_channel"]
    assert kinds == ["missing", "category", "category", "unseen"]
    ranges = [(row["lower"], row["upper"]) for row in table.rows() if row["feature"] == "cash_share_90d"]
    assert ranges == [(None, None), (None, 0.1), (0.1, 0.30000000000000004), (0.30000000000000004, None)]
