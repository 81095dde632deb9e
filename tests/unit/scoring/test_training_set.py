"""Windows and the run's SQL moved to another instant: no label window reaches into the rows that judge."""

from datetime import datetime, timedelta

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orchestration.lake import open_lake
from orchestration.scoring.errors import ScoringError
from orchestration.scoring.features import FEATURES
from orchestration.scoring.training_set import Windows, at_instant, feature_sql, training_purpose, window_rows

RUN = datetime(2026, 11, 1)
SQL = "select * from \"lake\".\"features\".\"risk_subjects\" where t <= cast('2026-11-01 00:00:00' as timestamp) and u > (cast('2026-11-01 00:00:00' as timestamp) - interval '30' day)"


@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(1, 400), st.integers(0, 200), st.integers(1, 6), st.integers(1, 4))
def test_no_training_label_reaches_into_a_test_window(label_days, maturity_days, train, test):
    """A label that overlaps the test would let the model have seen its own examination."""
    windows = Windows(label_days, maturity_days, train, test)
    fitted, judged = windows.starts(RUN)
    assert (len(fitted), len(judged)) == (train, test)
    assert max(fitted) + timedelta(days=label_days) <= min(judged)
    assert max(judged) + timedelta(days=label_days + maturity_days) <= RUN


def test_the_runs_sql_is_moved_as_a_whole():
    moved = at_instant(SQL, RUN, datetime(2026, 3, 1, 12))
    assert moved.count("cast('2026-03-01 12:00:00' as timestamp)") == 2
    assert "2026-11-01" not in moved and '"lake"."features"' not in moved


def test_sql_of_another_run_is_refused():
    """Moving only some of the instants would look into the future by the rest."""
    with pytest.raises(ScoringError, match="2026-10-31"):
        at_instant(SQL + " or v < cast('2026-10-31 00:00:00' as timestamp)", RUN, datetime(2026, 3, 1))


def test_a_run_that_left_no_sql_is_a_clear_error():
    node = {"unique_id": "m", "resource_type": "model", "schema": "features", "name": "risk_features", "depends_on": {"nodes": []}, "compiled_code": None}
    with pytest.raises(ScoringError, match="segline run"):
        feature_sql({"nodes": {"m": node}})
    with pytest.raises(ScoringError, match="risk_features"):
        feature_sql({"nodes": {}})


@pytest.fixture
def store(settings):
    """Six subjects with a gate row each and one story each."""
    with open_lake(settings) as connection:
        connection.execute("create table lake.consent.gate as select * from (values "
            "('known','r_known','ALLOW'),('bad','r_bad','ALLOW'),('dismissed','r_dismissed','ALLOW'),('open','r_open','ALLOW'),"
            "('later','r_later','ALLOW'),('refuses','r_refuses','DEFAULT'),('unborn','r_unborn','ALLOW')) as g (subject_token, risk_subject_token, gate_outcome)"
            ", (select 'fraud_security' as purpose)")
        connection.execute("create table lake.staging.stg_compliance__incidents as select * from (values "
            "('known','confirmed',timestamp '2026-01-01',timestamp '2026-01-02'),"
            "('known','confirmed',timestamp '2026-03-15',timestamp '2026-03-16'),"
            "('bad','confirmed',timestamp '2026-03-15',timestamp '2026-03-16'),"
            "('dismissed','dismissed',timestamp '2026-03-15',timestamp '2026-03-16'),"
            "('open','open',timestamp '2026-03-15',null),"
            "('later','confirmed',timestamp '2026-08-15',timestamp '2026-08-16'),"
            "('refuses','confirmed',timestamp '2026-03-15',timestamp '2026-03-16')) as i (subject_token, status, occurred_at, reported_at)")
        connection.execute("create table lake.staging.stg_compliance__audit_outcomes (audit_id varchar, subject_token varchar, has_issue boolean, selection_probability double, audited_at timestamp)")
        columns = ", ".join(
            ("cast(null as varchar)" if feature.kind == "category" else "case when subject_token = 'unborn' then -1.0 else 1.0 end") + f" as {feature.name}"
            for feature in FEATURES
        )
        connection.execute(f"create schema memory.window_features; create table memory.window_features.risk_features as select risk_subject_token, '18+' as age_band, 'DE' as country_code, {columns} from lake.consent.gate")
        yield connection


def labels(connection):
    rows, _ = window_rows(connection, "memory.window_features.risk_features", "fraud_security", datetime(2026, 3, 1), 90)
    return dict(zip(rows["subject"], rows["label"], strict=True))


def test_labels_come_from_confirmed_incidents_of_the_window_only(store):
    """Dismissed is good, open is unknown and left out, later is good now, known before is the rules' business; whoever the
    gate does not allow for training is not there at all, nor who was no customer yet."""
    assert labels(store) == {"r_bad": 1, "r_dismissed": 0, "r_later": 0}


def test_an_incident_reported_late_was_not_known_before(store):
    store.execute("update lake.staging.stg_compliance__incidents set reported_at = timestamp '2026-03-05' where occurred_at = timestamp '2026-01-01'")
    assert labels(store)["r_known"] == 1


def test_a_suppressed_person_is_in_no_training_row(store):
    """Erased people have no gate row; their features, were any left, find no partner."""
    store.execute("delete from lake.consent.gate where subject_token = 'bad'")
    assert "r_bad" not in labels(store)


def test_without_a_purpose_for_training_there_is_no_training(store):
    with pytest.raises(ScoringError, match="model_purposes"):
        training_purpose(store, "fintech")
    store.execute("create table lake.policy.model_purposes as select 'fintech' as profile, 'training' as model_use, 'fraud_security' as purpose")
    assert training_purpose(store, "fintech") == "fraud_security"
    with pytest.raises(ScoringError):
        training_purpose(store, "childrens_retail")
