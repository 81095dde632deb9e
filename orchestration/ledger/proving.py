"""Proofs for who answers many: each in a few milliseconds, from an open connection.

A question to the lake costs some milliseconds however little it reads, and a leaf lies among a hundred thousand others in a
group of its file. So the tree's hashes are taken into memory once, 32 bytes per leaf, and whether the ledger has grown is asked
of the lake's snapshot alone. What is handed out was checked against the signed head first: a wrong hash gives no wrong proof.

Belongs here: the hashes in memory, and proofs from them. Does not belong here: what a leaf says (`export.inclusion_proof`).
"""

import base64
from typing import Any

import duckdb

from orchestration.ledger.errors import LedgerError
from orchestration.ledger.merkle import HASH_BYTES, verify_inclusion
from orchestration.ledger.store import LEVELS, Head, Tree, newest_head, read_hashes


class Prover:
    """Inclusion proofs against the newest checkpoint. One thread at a time; the connection stays the caller's."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._snapshot: int | None = None
        self._head: Head | None = None
        self._held = {level: bytearray() for level in (0, *LEVELS)}
        self._tree = Tree(0, self._read)

    def inclusion(self, leaf_index: int) -> dict[str, Any]:
        """`leaf_index`, `leaf_hash`, `inclusion` and `checkpoint` as `export.inclusion_proof` gives them, without the row.

        Raises `LedgerError` if there is no such leaf, or the stored hashes do not lead to the signed root.
        """
        head = self._newest()
        if not 0 <= leaf_index < head.checkpoint.size:
            raise LedgerError(f"the ledger has no leaf {leaf_index}; it has {head.checkpoint.size}")
        size, root = head.checkpoint.size, head.checkpoint.root
        leaf, path = self._tree.hash_at(0, leaf_index), self._tree.inclusion(leaf_index, size)
        if not verify_inclusion(leaf, leaf_index, size, path, root):
            raise LedgerError(f"the stored hashes of leaf {leaf_index} do not lead to the signed root: run `segline verify`")
        return {
            "leaf_index": leaf_index,
            "leaf_hash": leaf.hex(),
            "inclusion": [base64.b64encode(node).decode() for node in path],
            "checkpoint": head.note,
        }

    def _newest(self) -> Head:
        """The newest head, with the hashes of its tree held."""
        (snapshot,) = self._connection.execute("select id from ducklake_current_snapshot('lake')").fetchone()
        if self._head is None or snapshot != self._snapshot:
            head = newest_head(self._connection)
            if head is None:
                raise LedgerError("there is no ledger yet: it begins with the first publication, `segline run`")
            if self._head is None or head.note != self._head.note:
                self._take_in(head)
            self._snapshot = snapshot
        return self._head  # type: ignore[return-value]

    def _take_in(self, head: Head) -> None:
        """Read what was added; all of it if what is held does not lead to the signed root (a ledger that was restored)."""
        size = head.checkpoint.size
        for start_anew in (False, True):
            for level, held in self._held.items():
                due = (size >> level) * HASH_BYTES
                if start_anew:
                    held.clear()
                del held[due:]
                held += read_hashes(self._connection, level, len(held) // HASH_BYTES, size >> level)
            self._tree = Tree(size, self._read)
            try:
                fits = self._tree.root() == head.checkpoint.root
            except LedgerError:  # a hash is missing
                fits = False
            if fits:
                self._head = head
                return
        self._head = None
        raise LedgerError(f"the ledger's leaves do not fit its last checkpoint of {size}: run `segline verify`")

    def _read(self, level: int, start: int, end: int) -> bytes:
        return bytes(self._held[level][start * HASH_BYTES : end * HASH_BYTES])
