"""Identifiers that last, whatever K-means calls its labels this time."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.clustering.matching import lasting_identifiers
from tests.effort import examples


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(st.integers(0, 4), min_size=20, max_size=60),
    st.permutations(range(5)),
    st.sets(st.integers(1, 40), max_size=6),
)
def test_renumbered_labels_keep_their_identifiers(members, order, used):
    codes = np.unique(members, return_inverse=True)[1]
    earlier = np.array([f"A{code + 1}" for code in codes])
    labels = np.unique(np.array(order)[codes], return_inverse=True)[1]
    names, kept = lasting_identifiers(labels, earlier, {f"A{number}" for number in used} | set(earlier), "A")
    assert [names[label] for label in labels] == list(earlier)
    assert set(kept.values()) == {1.0}


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=60), st.sets(st.integers(1, 40)))
def test_no_identifier_is_given_twice_or_again(pairs, used):
    labels = np.unique([label for label, _ in pairs], return_inverse=True)[1]
    earlier = np.array([f"A{code + 1}" for _, code in pairs])
    known = {f"A{number}" for number in used} | set(earlier)
    names, kept = lasting_identifiers(labels, earlier, known, "A")
    assert len(set(names)) == len(names) == labels.max() + 1
    assert set(kept) <= set(names) & set(earlier)
    assert not (set(names) - set(kept)) & known
    assert all(overlap >= 0.5 for overlap in kept.values())


def test_without_an_earlier_clustering_the_largest_is_the_first():
    names, kept = lasting_identifiers(np.array([2, 2, 2, 0, 1, 1]), None, [], "A")
    assert names == ["A3", "A2", "A1"] and kept == {}
