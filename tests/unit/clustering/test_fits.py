"""What a fit finds, and what it refuses to call a cluster."""

import json

import numpy as np
import pytest

from orchestration.clustering import fitting, stability
from orchestration.clustering.density import LARGEST_SAMPLE, dense_groups
from orchestration.clustering.errors import ClusteringError
from orchestration.clustering.fitting import fingerprint, fit
from orchestration.clustering.sides import AUDIENCE, Side, side_of
from tests.unit.clustering.conftest import FEATURES, INSTANT, planted, shapeless


def fitted(values, **given):
    return fit(values, AUDIENCE, "audience-1", INSTANT, **given)


@pytest.fixture(scope="module")
def three():
    return fitted(planted(600))


def test_planted_groups_are_found_and_described(three):
    assert (three.state, three.report["count"]) == ("current", 3)
    assert [cluster["cluster_id"] for cluster in three.document["clusters"]] == ["A1", "A2", "A3"]
    sizes = [cluster["people"] for cluster in three.document["clusters"]]
    assert sizes == sorted(sizes, reverse=True) and sum(sizes) == 600
    phrases = {phrase for feature in AUDIENCE.features for phrase in (feature.high, feature.low)}
    for cluster in three.document["clusters"]:
        assert 1 <= len(set(cluster["profile"].split(", ")) & phrases) <= 3
    assert three.document["sha256"] == fingerprint(three.document)
    json.dumps(three.document), json.dumps(three.report)


def test_people_without_groups_get_no_clusters_but_the_reason():
    """Any number of groups can be cut out of anything; that they come out again is what makes them groups."""
    found = fitted(shapeless(600))
    assert found.state == "no_stable_clustering"
    assert not found.document["clusters"] and not found.document["centres"]
    assert "adjusted Rand index" in found.reason and found.report["trials"]


def test_too_few_people_get_no_clusters_but_the_reason():
    found = fitted(planted(fitting.LEAST_BOOK - 1))
    assert found.state == "too_few_people" and str(fitting.LEAST_BOOK) in found.reason
    assert fitted(planted(0)).state == "too_few_people"


def test_no_cluster_is_smaller_than_the_guard_allows():
    """A group of thirty stands out clearly, and would single people out."""
    values = planted(600)
    values[:30] = values[:30] * 0 + values.max(axis=0) * 3
    found = fitted(values)
    assert all(cluster["people"] >= stability.least_size(600) for cluster in found.document["clusters"])
    assert min(trial["smallest_share"] for trial in found.report["trials"]) * 600 < 100


def test_there_are_never_more_clusters_than_the_guard_allows():
    found = fitted(planted(1800, groups=8, spread=0.2))
    assert len(found.document["clusters"]) <= stability.MOST


def test_features_that_do_not_vary_are_left_out_and_named():
    values = planted(600)
    values[:, 5] = 1.25
    found = fitted(values)
    assert found.report["left_out"] == [FEATURES[5]]
    assert FEATURES[5] not in [feature["name"] for feature in found.document["features"]]
    values[:] = values[0]
    assert fitted(values).state == "no_stable_clustering"


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_refused(value):
    values = planted(600)
    values[3, 3] = value
    with pytest.raises(ValueError, match="finite"):
        fitted(values)


def test_the_same_people_give_the_same_clustering_to_the_bit(three):
    assert fitted(planted(600)).document == three.document


def test_centres_that_hardly_differ_are_one_cluster():
    points = planted(600, groups=2)
    points = ((points - points.mean(0)) / points.std(0)).astype(np.float32)
    centres, _ = stability.kmeans(points, 2, 3, 0)
    split = np.vstack([centres[0] - 0.1, centres[0] + 0.1, centres[1]])
    _, owners, labels = fitting._merged(points, split)
    assert owners[0] == owners[1] != owners[2] and set(labels) == set(owners)
    _, owners, _ = fitting._merged(points, np.vstack([centres[0] - 0.16, centres[0] + 0.16, centres[1]]))
    assert len(set(owners)) == 3


def test_an_earlier_clustering_hands_its_identifiers_on(three):
    """Who reads a dashboard must not find that A1 and A3 changed places over night."""
    later = fitted(planted(600)[100:], earlier=three.document, used=["A1", "A2", "A3", "A9"])
    profiles = {cluster["cluster_id"]: cluster["profile"] for cluster in three.document["clusters"]}
    assert {cluster["cluster_id"]: cluster["profile"] for cluster in later.document["clusters"]} == profiles
    assert min(later.report["kept"].values()) > 0.9


def test_other_people_get_identifiers_that_nobody_had(three):
    """A name belongs to an identifier; a used one must not come to mean other people."""
    later = fitted(planted(600, groups=2, seed=8) * np.float32(-1), earlier=three.document, used=["A1", "A2", "A3", "A9"])
    new = {cluster["cluster_id"] for cluster in later.document["clusters"]} - set(later.report["kept"])
    assert new and all(int(name[1:]) > 9 for name in new)


def test_an_earlier_clustering_of_other_features_hands_nothing_on(three):
    earlier = json.loads(json.dumps(three.document).replace(FEATURES[0], "gone_since"))
    later = fitted(planted(600), earlier=earlier, used=["A1", "A2", "A3"])
    assert later.report["kept"] == {} and {cluster["cluster_id"] for cluster in later.document["clusters"]} == {"A4", "A5", "A6"}


def test_noise_is_told_for_those_outside_the_sample_too():
    values = shapeless(400) * 0.1
    far = np.full((20, len(FEATURES)), 5, dtype=np.float32) * np.arange(1, 21, dtype=np.float32)[:, None]
    points = np.vstack([values, far]).astype(np.float32)
    for found in dense_groups(points, seed=1, size=200):
        assert found.sample == 200 and len(found.labels) == 420
        assert (found.labels[400:] == -1).all() and (found.labels[:400] >= 0).mean() >= 0.6 * (found.groups > 0)


def test_groups_of_unlike_density_are_told_apart_by_one_of_the_looks():
    """One reach for all fits either the dense group or the loose one; a hierarchy of densities has both."""
    rng = np.random.default_rng(2)
    width = len(FEATURES)
    centres = np.zeros((3, width))
    centres[1, 0], centres[2, 1] = 1.2, 9.0
    spreads = np.array([0.05, 0.05, 1.0])
    owners = rng.choice(3, 6000, p=[0.3, 0.3, 0.4])
    points = (centres[owners] + rng.standard_normal((6000, width)) * spreads[owners, None]).astype(np.float32)
    even, nested = dense_groups(points, seed=1, size=3000)
    assert (even.groups, nested.groups) == (2, 3)
    inside = nested.labels >= 0
    assert inside[3000:].mean() > 0.7, "whoever is not in the sample is assigned too"
    assert all(len(set(nested.labels[inside & (owners == one)])) == 1 for one in range(3))


def test_no_sample_is_larger_than_memory_allows():
    with pytest.raises(ValueError, match="50,000"):
        dense_groups(shapeless(10), 1, LARGEST_SAMPLE + 1)


def test_a_side_writes_to_its_own_zone_only():
    """Marketing or compliance, never both: not even by a slip in the configuration."""
    risk = Side("risk", "risk", ("features", "risk_cluster_inputs"), "risk_subject_token", "R", AUDIENCE.features)
    assert risk.target == 'lake."risk".cluster_model'
    with pytest.raises(ClusteringError, match="only to the zone risk"):
        Side("risk", "audience", risk.relation, "risk_subject_token", "R", AUDIENCE.features)
    with pytest.raises(ClusteringError, match="only to the zone risk"):
        Side("risk", "risk", risk.relation, "audience_subject_token", "R", AUDIENCE.features)
    with pytest.raises(ClusteringError, match="no side 'both'"):
        side_of("both")
