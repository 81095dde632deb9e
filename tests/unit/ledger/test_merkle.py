"""Trees and proofs: the published vectors, an independent library, and every small tree there is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.ledger.merkle import (
    EMPTY_ROOT,
    ProofError,
    complete_roots,
    consistency_path,
    inclusion_path,
    leaf_hash,
    node_hash,
    root_of_hashes,
    verify_consistency,
    verify_inclusion,
)

# The vectors of the Certificate Transparency project, which other implementations of RFC 6962 are tested with too
# (github.com/transparency-dev/merkle, testonly).
LEAVES = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)
LEFT_PAIR = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
RIGHT_HALF = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
SECOND = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
FIFTH = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
SEVENTH = "b08693ec2e721597130641e8211e7eedccb4c26413963eee6c1e2ed16ffb1a5f"
LAST_PAIR = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
THIRD_PAIR = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"
INCLUSION = {
    (0, 1): [],
    (0, 8): [SECOND, LEFT_PAIR, RIGHT_HALF],
    (5, 8): [FIFTH, LAST_PAIR, ROOTS[4]],
    (2, 3): [ROOTS[2]],
    (1, 5): [ROOTS[1], LEFT_PAIR, FIFTH],
}
CONSISTENCY = {
    (1, 1): [],
    (1, 8): [SECOND, LEFT_PAIR, RIGHT_HALF],
    (6, 8): [THIRD_PAIR, LAST_PAIR, ROOTS[4]],
    (2, 5): [LEFT_PAIR, FIFTH],
    (6, 7): [THIRD_PAIR, SEVENTH, ROOTS[4]],
}
MOST = 70


def tree(count: int):
    """root_of over so many leaves, by the definition: the recursion of RFC 6962 section 2.1."""
    hashes = [leaf_hash(bytes([number])) for number in range(count)]

    def root_of(start: int, end: int) -> bytes:
        if end - start < 2:
            return hashes[start] if end > start else EMPTY_ROOT
        middle = 1
        while middle * 2 < end - start:
            middle *= 2
        return node_hash(root_of(start, start + middle), root_of(start + middle, end))

    return hashes, root_of


def published():
    hashes = [leaf_hash(bytes.fromhex(text)) for text in LEAVES]
    return hashes, lambda start, end: root_of_hashes(b"".join(hashes[start:end]))


@pytest.mark.parametrize("size", range(9))
def test_roots_are_the_published_ones(size):
    assert published()[1](0, size).hex() == ROOTS[size]


@pytest.mark.parametrize(("index", "size"), INCLUSION)
def test_inclusion_proofs_are_the_published_ones(index, size):
    hashes, root_of = published()
    path = inclusion_path(root_of, index, size)
    assert [node.hex() for node in path] == INCLUSION[index, size]
    assert verify_inclusion(hashes[index], index, size, path, bytes.fromhex(ROOTS[size]))


@pytest.mark.parametrize(("old", "size"), CONSISTENCY)
def test_consistency_proofs_are_the_published_ones(old, size):
    path = consistency_path(published()[1], old, size)
    assert [node.hex() for node in path] == CONSISTENCY[old, size]
    assert verify_consistency(old, size, bytes.fromhex(ROOTS[old]), bytes.fromhex(ROOTS[size]), path)


def test_an_independent_library_agrees():
    """pymerkle (GPL) is no part of the product: it is asked here because it was written by somebody else."""
    pymerkle = pytest.importorskip("pymerkle")
    theirs = pymerkle.InmemoryTree(algorithm="sha256")
    for number in range(MOST):
        theirs.append_entry(bytes([number]))
    hashes, _ = tree(MOST)
    for size in range(MOST + 1):
        assert root_of_hashes(b"".join(hashes[:size])) == theirs.get_state(size)
    for size in range(1, MOST + 1):
        root_of = tree(size)[1]
        for index in (0, size // 2, size - 1):
            path = inclusion_path(root_of, index, size)
            pymerkle.verify_inclusion(hashes[index], theirs.get_state(size), theirs.prove_inclusion(index + 1, size))
            assert verify_inclusion(hashes[index], index, size, path, theirs.get_state(size))


def test_every_small_tree_proves_what_holds():
    """All sizes, all leaves, all older sizes: an odd edge somewhere is where such code goes wrong."""
    hashes, root_of = tree(MOST)
    for size in range(1, MOST + 1):
        root = root_of(0, size)
        assert root == root_of_hashes(b"".join(hashes[:size]))
        for index in range(size):
            assert verify_inclusion(hashes[index], index, size, inclusion_path(root_of, index, size), root)
        for old in range(1, size + 1):
            assert verify_consistency(old, size, root_of(0, old), root, consistency_path(root_of, old, size))


@given(st.integers(1, 40), st.data())
def test_no_proof_survives_a_change(size, data):
    """A bit of the leaf, the root or the path, another index, a path cut or lengthened: each is refused."""
    hashes, root_of = tree(size)
    index = data.draw(st.integers(0, size - 1))
    path, root, leaf = inclusion_path(root_of, index, size), root_of(0, size), hashes[index]
    bit = data.draw(st.integers(0, 255))

    def flipped(hash_: bytes) -> bytes:
        return (int.from_bytes(hash_, "big") ^ 1 << bit).to_bytes(32, "big")

    assert not verify_inclusion(flipped(leaf), index, size, path, root)
    assert not verify_inclusion(leaf, index, size, path, flipped(root))
    assert not verify_inclusion(leaf, index, size, [*path, root], root)
    for other in set(range(size)) - {index}:
        assert not verify_inclusion(leaf, other, size, path, root)
    for at in range(len(path)):
        assert not verify_inclusion(leaf, index, size, path[:at] + path[at + 1 :], root)
        assert not verify_inclusion(leaf, index, size, [*path[:at], flipped(path[at]), *path[at + 1 :]], root)
    old = data.draw(st.integers(1, size))
    old_root, steps = root_of(0, old), consistency_path(root_of, old, size)
    assert not verify_consistency(old, size, flipped(old_root), root, steps)
    assert not verify_consistency(old, size, old_root, flipped(root), steps)
    for at in range(len(steps)):
        assert not verify_consistency(old, size, old_root, root, steps[:at] + steps[at + 1 :])
        assert not verify_consistency(old, size, old_root, root, [*steps[:at], flipped(steps[at]), *steps[at + 1 :]])


def test_nothing_is_proven_from_an_empty_tree():
    """Every tree extends the empty one: a verifier that accepts such a proof accepts a new history."""
    _, root_of = tree(5)
    assert not verify_consistency(0, 5, EMPTY_ROOT, root_of(0, 5), [])
    with pytest.raises(ProofError):
        consistency_path(root_of, 0, 5)


@pytest.mark.parametrize(("index", "size"), [(5, 5), (-1, 5), (0, 0)])
def test_no_proof_of_a_leaf_that_is_not_there(index, size):
    _, root_of = tree(5)
    with pytest.raises(ProofError):
        inclusion_path(root_of, index, size)
    assert not verify_inclusion(leaf_hash(b"x"), index, size, [], root_of(0, 5))


def test_complete_subtrees_leave_the_unfinished_one_out():
    hashes, root_of = tree(11)
    assert complete_roots(b"".join(hashes), 2) == root_of(0, 4) + root_of(4, 8)
