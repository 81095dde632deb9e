"""Which key signs: the chain of signing keys, each of which vouches for the next.

A change of key is a statement in the ledger that names the old key and the new one. The checkpoint that ends with it is signed by
both; those before it are signed by the old key, those after it by the new one. So who holds any one key of the chain can check
all of the ledger: forwards the old key vouches for the new, backwards the new one for what it took over. A key that no such
change leads to counts for nothing.

Belongs here: reading changes and following them. Does not belong here: making one (`key_rotation`), signatures (`checkpoint`).
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb

from orchestration.ledger.checkpoint import Checkpoint, CheckpointError, VerifierKey, open_note, parse, parse_verifier_key
from orchestration.ledger.leaves import KEY


@dataclass(frozen=True)
class KeyChange:
    """The statement at `leaf_index`: from there on `new` signs where `old` did."""

    leaf_index: int
    old: VerifierKey
    new: VerifierKey


def change_of(statement: Mapping[str, Any]) -> KeyChange:
    """The change that a statement of the kind `key` tells. Raises `CheckpointError` if it names no keys."""
    try:
        leaf, *texts = statement["leaf_index"], statement["old_key"], statement["new_key"]
        return KeyChange(int(leaf), *(parse_verifier_key(text) for text in texts))
    except (KeyError, TypeError, ValueError, AttributeError):
        raise CheckpointError("the change of the signing key names no keys") from None


def key_changes(connection: duckdb.DuckDBPyConnection) -> list[KeyChange]:
    """The changes on record, in order, unchecked."""
    rows = connection.execute(
        f"select statement from lake.ops.ledger_statements where kind = '{KEY}' order by leaf_index"
    ).fetchall()
    return [change_of(json.loads(text)) for (text,) in rows]


class KeyChain:
    """The key in force for each size of the ledger, as far as the changes lead from the key that is held.

    `notes` are the signed notes on record: a change counts only if the one that ends with it bears both signatures.
    `findings` say which change does not count, and that the held key has no place in the chain.
    """

    def __init__(self, held: VerifierKey, changes: Sequence[KeyChange], notes: Iterable[str]) -> None:
        self.findings: list[str] = []
        self._starts = [0] + [change.leaf_index + 1 for change in changes]  # sizes from which each key is in force
        keys = [changes[0].old if changes else held, *(change.new for change in changes)]
        by_size: dict[int, list[str]] = {}
        for note in notes if changes else ():
            try:
                by_size.setdefault(parse(note).size, []).append(note)
            except CheckpointError:
                continue  # reported where checkpoints are checked
        broken = set()
        for at, change in enumerate(changes):
            problem = self._problem(change, keys[at], by_size.get(change.leaf_index + 1, []))
            if problem:
                broken.add(at)
                self.findings.append(f"leaf {change.leaf_index}: the change of the signing key does not count: {problem}")
        if held not in keys:
            self.findings.append(f"the ledger was never signed with the key {held.key_id.hex()} that it is checked with")
        place = keys.index(held) if held in keys else 0
        low, high = place, place
        while low > 0 and low - 1 not in broken:
            low -= 1
        while high < len(changes) and high not in broken:
            high += 1
        self._keys = [keys[min(max(at, low), high)] for at in range(len(keys))] if held in keys else [held] * len(keys)
        self.followed = high - low

    @staticmethod
    def _problem(change: KeyChange, before: VerifierKey, notes: Sequence[str]) -> str | None:
        if change.old != before:
            return "the key that it replaces is not the one that signed before"
        if change.new == change.old or change.new.name != change.old.name:
            return "it names no other key of this ledger"
        for note in notes:
            try:
                open_note(note, change.old)
                open_note(note, change.new)
                return None
            except CheckpointError:
                continue
        return f"no checkpoint of {change.leaf_index + 1} leaves is signed by both keys"

    def key_at(self, size: int) -> VerifierKey:
        """The key that must have signed a checkpoint of so many leaves."""
        return self._keys[sum(start <= size for start in self._starts) - 1]

    def open(self, note: str) -> Checkpoint:
        """The checkpoint of a signed note. Raises `CheckpointError` unless the key in force signed it."""
        return open_note(note, self.key_at(parse(note).size))
