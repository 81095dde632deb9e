"""What stands, who may name it, and what a run does with a record that is missing, changed, or made for other columns."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as effort_of
from hypothesis import strategies as st

from orchestration.clustering import lifecycle
from orchestration.clustering.errors import ClusteringError, NamingRefused
from orchestration.clustering.fitting import fit
from orchestration.clustering.guards import on_record, still_fit
from orchestration.clustering.lifecycle import fit_and_record, people_of
from orchestration.clustering.record import history, keep, name_cluster, names_of, refresh
from orchestration.clustering.sides import AUDIENCE
from orchestration.clustering.stability import assigned
from orchestration.identity.keys import load_keys
from orchestration.lake import open_lake
from orchestration.ledger.leaves import EVIDENCE
from orchestration.rights.canary import canary_tokens
from tests.effort import examples
from tests.unit.clustering.conftest import FEATURES, INSTANT, fill, planted, shapeless

COLUMNS = dict.fromkeys(FEATURES, "double")


@pytest.fixture(scope="module")
def three():
    return fit(planted(600), AUDIENCE, "audience-1", INSTANT)


@pytest.fixture
def recorded(settings, three):
    keep(settings, AUDIENCE, three, "Alice", 1)
    return settings


def stands(settings, columns=COLUMNS):
    with open_lake(settings) as connection:
        found = refresh(connection, AUDIENCE, columns)
        [row] = connection.execute("select status, reason, document, names from lake.audience.cluster_model").fetchall()
        zones = {row[0] for row in connection.execute("select schema_name from duckdb_tables() where table_name = 'cluster_model'").fetchall()}
    assert row[0] == found.status and zones == {"audience"}
    return found, row


def test_before_any_fit_there_is_no_clustering_and_the_row_says_so(settings):
    found, row = stands(settings)
    assert found.status == "no_clustering" and row[2] is None


def test_the_newest_fit_stands_also_when_it_found_nothing(recorded):
    assert stands(recorded)[0].status == "current"
    keep(recorded, AUDIENCE, fit(shapeless(600), AUDIENCE, "audience-2", INSTANT), "Alice", 2)
    found, row = stands(recorded)
    assert found.status == "no_stable_clustering" and "adjusted Rand index" in row[1]


def test_a_record_that_was_changed_is_refused_and_nothing_of_it_is_compiled(recorded):
    with open_lake(recorded) as connection:
        connection.execute("update lake.ops.clusterings set document = replace(document, '\"people\": ', '\"people\": 1')")
    found, row = stands(recorded)
    assert found.status == "refused" and "SHA-256" in found.reason and row[2] is None


@pytest.mark.parametrize("columns", [{}, {**COLUMNS, FEATURES[2]: "varchar"}])
def test_a_clustering_of_other_columns_is_refused(recorded, columns):
    """Otherwise dbt would fail on it, and everything that is published with it."""
    found, _ = stands(recorded, columns)
    assert found.status == "refused" and FEATURES[2] in found.reason


@pytest.mark.parametrize("by", ["Alice", "alice", " ALICE "])
def test_whoever_fitted_cannot_name(recorded, by):
    with pytest.raises(NamingRefused, match="another person"):
        name_cluster(recorded, AUDIENCE, "A1", "Loyal buyers", by, "because")
    with open_lake(recorded, read_only=True) as connection:
        assert names_of(connection, AUDIENCE) == {}


@pytest.mark.parametrize(
    ("cluster", "name", "by", "reason"),
    [
        ("A9", "Loyal buyers", "Bob", "x"), ("A1", "Loyal buyers", " ", "x"), ("A1", "Loyal buyers", "Bob", " "), ("A1", "a", "Bob", "x"),
        ("A1", "default", "Bob", "x"), ("A1", "Unclustered", "Bob", "x"), ("A1", "x" * 61, "Bob", "x"), ("A1", "two\x00lines", "Bob", "x"),
        ("A1", "<b>bold</b>", "Bob", "x"), ("A1", "", "Bob", "x"),
    ],
)  # fmt: skip
def test_a_name_is_given_by_a_person_with_a_reason_in_plain_words(recorded, cluster, name, by, reason):
    with pytest.raises(NamingRefused):
        name_cluster(recorded, AUDIENCE, cluster, name, by, reason)


def test_an_approved_name_reaches_the_row_and_no_two_clusters_share_one(recorded):
    name_cluster(recorded, AUDIENCE, "A1", "  Loyal   buyers ", "Bob", "seen the profile")
    assert '"A1": "Loyal buyers"' in stands(recorded)[1][3]
    with pytest.raises(NamingRefused, match="another cluster"):
        name_cluster(recorded, AUDIENCE, "A2", "loyal BUYERS", "Bob", "x")
    name_cluster(recorded, AUDIENCE, "A1", "Steady buyers", "Carol", "better")
    assert '"A1": "Steady buyers"' in stands(recorded)[1][3]


def test_nothing_can_be_named_before_a_fit(settings):
    with pytest.raises(NamingRefused, match="no clustering"):
        name_cluster(settings, AUDIENCE, "A1", "Loyal buyers", "Bob", "x")


def test_a_fit_needs_features_and_a_person(settings):
    with open_lake(settings) as connection:
        connection.execute("drop view lake.features.audience_cluster_inputs")
    with pytest.raises(ClusteringError, match="segline run"):
        fit_and_record(settings, AUDIENCE, "Alice")
    with pytest.raises(NamingRefused, match="--by"):
        fit_and_record(settings, AUDIENCE, " ")


def test_a_fit_reads_neither_the_ungated_nor_the_canary(settings, monkeypatch):
    """The twin who passes the gate is nobody; whoever opted out since the run is in the features still, and not read."""
    control = canary_tokens(load_keys(settings))["control"][2]
    with open_lake(settings) as connection:
        fill(connection, ["ALLOW", "DEFAULT", "BLOCK", "HUMAN", "ALLOW"])
        connection.execute("update lake.consent.gate set audience_subject_token = ? where audience_subject_token = 't00004'", [control])
        connection.execute("update lake.features.audience_features set audience_subject_token = ? where audience_subject_token = 't00004'", [control])
    read = []
    monkeypatch.setattr(lifecycle, "fit", lambda values, *rest: read.append(values) or fit(values, *rest))
    assert fit_and_record(settings, AUDIENCE, "Alice").people == 1
    assert read[0].shape == (1, len(FEATURES))


@effort_of(max_examples=examples(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(["DEFAULT", "HUMAN", "BLOCK"]), max_size=6), st.integers(0, 99))
def test_ungated_people_change_nothing_that_a_fit_reads(bare_lake, outcomes, seed):
    """Whatever they are and however many: the matrix is the same to the bit, and a fit depends on nothing else."""
    bare_lake.execute("delete from lake.consent.gate; delete from lake.features.audience_features")
    fill(bare_lake, ["ALLOW"] * 4)
    before, _ = people_of(bare_lake, AUDIENCE)
    fill(bare_lake, outcomes, seed, "a")
    after, instant = people_of(bare_lake, AUDIENCE)
    assert instant == INSTANT and before.tobytes() == after.tobytes()
    fill(bare_lake, ["ALLOW"], seed, "z")  # the control: a gated one is read
    assert len(people_of(bare_lake, AUDIENCE)[0]) == len(before) + 1


def test_the_sql_assigns_as_the_fit_does(settings, three, rendered):
    """One clustering: what the fit counted is what a run publishes."""
    values = planted(600)
    names = [centre["cluster_id"] for centre in three.document["centres"]]
    with open_lake(settings) as connection:
        refresh(connection, AUDIENCE, COLUMNS)
        keep_row = ("current", "r", json.dumps(three.document), "{}")
        texts = ", ".join(f"null::varchar as {name}" for name in EVIDENCE)
        columns = ", ".join(f"people[{place + 1}]::double as {name}" for place, name in enumerate(FEATURES))
        connection.register("arriving", pa.table({"token": [f"t{place:04}" for place in range(600)], "people": values.tolist()}))
        connection.execute(
            f"create temp table audience_cluster_inputs as select token as audience_subject_token, {texts}, {columns}, now() as as_of from arriving"
        )
        sql = rendered.sql("audience", "cluster_members", keep_row)
        rows = connection.execute(f"select cluster_id, distance, is_outlier from ({sql}) order by audience_subject_token").fetchall()
    scales = np.array([feature["scale"] for feature in three.document["features"]])
    centres = np.array([centre["values"] for centre in three.document["centres"]]) / scales
    expected = assigned(values.astype(float) / scales, centres)
    assert [row[0] for row in rows] == [names[label] for label in expected]
    distances = np.linalg.norm(values.astype(float) / scales - centres[expected], axis=1)
    assert np.allclose([row[1] for row in rows], distances, rtol=1e-12)
    assert 0 < sum(row[2] for row in rows) <= 0.02 * 600


@pytest.fixture
def candidates(settings):
    def make(state, profiles, people):
        with open_lake(settings) as connection:
            connection.execute("create or replace table lake.candidate.cluster_profiles (state varchar, cluster_id varchar, fitted_count bigint)")
            connection.execute("create or replace table lake.candidate.clusters (cluster_id varchar, is_outlier boolean)")
            for name, count in profiles.items():
                connection.execute("insert into lake.candidate.cluster_profiles values (?, ?, ?)", [state, name, count])
            for name, (count, outliers) in people.items():
                connection.execute("insert into lake.candidate.clusters select ?, n < ? from range(?) as r(n)", [name, outliers, count])
            return on_record(connection), still_fit(connection)

    return make


def test_clusters_as_they_were_fitted_pass_both_checks(candidates):
    recorded, fitting = candidates("current", {"A1": 600, "A2": 300}, {"A1": (590, 6), "A2": (310, 3), "default": (50, 0)})
    assert recorded.passed and fitting.passed


def test_a_cluster_that_is_not_on_record_stops_the_publication(candidates):
    assert not candidates("current", {"A1": 600}, {"A1": (590, 6), "A7": (1, 0)})[0].passed
    assert not candidates("stale", {"A1": 600}, {"unclustered": (1, 0)})[0].passed
    assert not candidates("current", {f"A{n}": 100 for n in range(9)}, {})[0].passed


def test_clusters_that_no_longer_fit_are_said_so(candidates):
    moved = candidates("current", {"A1": 600, "A2": 300}, {"A1": (200, 2), "A2": (700, 7)})[1]
    assert not moved.passed and "PSI" in moved.wrong[0]
    far = candidates("current", {"A1": 600, "A2": 300}, {"A1": (600, 60), "A2": (300, 3)})[1]
    assert not far.passed and "far from" in far.wrong[0]
    shrunk = candidates("current", {"A1": 600, "A2": 300}, {"A1": (98, 0), "A2": (49, 0)})[1]
    assert not shrunk.passed and "A2 shrank" in shrunk.wrong[-1]


@pytest.mark.parametrize(("state", "passes"), [("no_clustering", True), ("no_stable_clustering", True), ("stale", False), ("refused", False)])
def test_no_clustering_is_worth_a_warning_only_where_one_should_stand(candidates, state, passes):
    assert candidates(state, {"unclustered": None}, {})[1].passed is passes


def test_the_daily_run_needs_no_machine_learning_library():
    """Assigning fits nothing: what it reads is JSON."""
    code = "import sys, orchestration.clustering.record; sys.exit(bool({'sklearn', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_history_keeps_every_fit(recorded, three):
    keep(recorded, AUDIENCE, three, "Bob", 2)
    with open_lake(recorded, read_only=True) as connection:
        past = history(connection, AUDIENCE)
    assert [(one.number, one.fitted_by, one.sha256) for one in past] == [(1, "Alice", three.document["sha256"]), (2, "Bob", three.document["sha256"])]
