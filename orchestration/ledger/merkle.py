"""Merkle trees as RFC 6962 defines them: roots, inclusion and consistency proofs, and their verification.

A leaf's hash is SHA-256(0x00 || data), a node's SHA-256(0x01 || left || right), the empty tree's root SHA-256("").
Hashes are 32 bytes; many of them lie end to end in one `bytes`.

Belongs here: the mathematics. Does not belong here: where hashes are stored (`store`), what a leaf says (`leaves`).
RFC 6962 section 2.1, https://www.rfc-editor.org/rfc/rfc6962; the checks follow RFC 9162 sections 2.1.3.2 and 2.1.4.2.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()
_AT_ONCE = 4096 * HASH_BYTES  # bytes, whole pairs: which stay in a core's cache: 0.5 µs per pair instead of 0.7 to 1.0
RangeRoot = Callable[[int, int], bytes]


class ProofError(ValueError):
    """A proof was asked for that cannot exist: an index or a size outside the tree."""


def leaf_hash(data: bytes) -> bytes:
    """Hash of one leaf's data."""
    return sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of an inner node."""
    return sha256(b"\1" + left + right).digest()


def pair_up(hashes: bytes) -> bytes:
    """The next level: each pair hashed, an odd last one promoted as it is. That builds the tree of RFC 6962."""
    return b"".join(_pair_up(hashes[start : start + _AT_ONCE]) for start in range(0, len(hashes), _AT_ONCE))


def _pair_up(hashes: bytes) -> bytes:
    import numpy as np

    pairs = len(hashes) // (2 * HASH_BYTES)
    whole = 2 * HASH_BYTES * pairs
    prefixed = np.empty((pairs, 1 + 2 * HASH_BYTES), np.uint8)
    prefixed[:, 0] = 1
    prefixed[:, 1:] = np.frombuffer(hashes, np.uint8, whole).reshape(pairs, 2 * HASH_BYTES)
    nodes = prefixed.view(f"V{1 + 2 * HASH_BYTES}").ravel().tolist()
    return b"".join([sha256(node).digest() for node in nodes]) + hashes[whole:]


def root_of_hashes(hashes: bytes) -> bytes:
    """Root of the tree over these leaf hashes."""
    if not hashes:
        return EMPTY_ROOT
    while len(hashes) > HASH_BYTES:
        hashes = pair_up(hashes)
    return hashes


def complete_roots(hashes: bytes, levels: int) -> bytes:
    """Roots of the complete subtrees of 2**levels hashes, left to right; an incomplete last one is left out."""
    block = HASH_BYTES << levels
    hashes = hashes[: len(hashes) // block * block]
    for _ in range(levels):
        hashes = pair_up(hashes)
    return hashes


def split_point(size: int) -> int:
    """The largest power of two below `size` (2 or more): where RFC 6962 divides a tree."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_path(root_of: RangeRoot, index: int, size: int) -> list[bytes]:
    """PATH(index, D[size]): sibling hashes from the leaf upwards. `root_of(start, end)` is the root over a range."""
    if not 0 <= index < size:
        raise ProofError(f"there is no leaf {index} in a tree of {size}")
    path, start, end = [], 0, size
    while end - start > 1:
        middle = start + split_point(end - start)
        if index < middle:
            path.append(root_of(middle, end))
            end = middle
        else:
            path.append(root_of(start, middle))
            start = middle
    return path[::-1]


def consistency_path(root_of: RangeRoot, old: int, size: int) -> list[bytes]:
    """PROOF(old, D[size]). Raises `ProofError` unless 0 < old <= size: nothing is proven from an empty tree."""
    if not 0 < old <= size:
        raise ProofError(f"no proof leads from a tree of {old} to one of {size}")
    path, start, end, known = [], 0, size, True
    while old != end:
        middle = start + split_point(end - start)
        if old <= middle:
            path.append(root_of(middle, end))
            end = middle
        else:
            path.append(root_of(start, middle))
            start, known = middle, False
    return ([] if known else [root_of(start, end)]) + path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """Whether the path proves that this leaf hash stands at `index` in the tree of `size` with that root."""
    if not 0 <= index < size:
        return False
    node, last, found = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if node & 1 or node == last:
            found = node_hash(sibling, found)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and found == root


def verify_consistency(old: int, size: int, old_root: bytes, root: bytes, path: Sequence[bytes]) -> bool:
    """Whether the path proves that the tree of `old` leaves is the beginning of the tree of `size`.

    A tree of size 0 is refused: every tree extends it, so that a proof from it says nothing.
    """
    if not 0 < old <= size:
        return False
    if old == size:
        return not path and old_root == root
    hashes = list(path)
    if not old & (old - 1):
        hashes.insert(0, old_root)
    if not hashes:
        return False
    node, last = old - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    first = second = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            second = node_hash(second, sibling)
        node, last = node >> 1, last >> 1
    return last == 0 and first == old_root and second == root
