"""Where the ledger lies in the lake, and its tree.

| table of `ops` | one row per | ever deleted |
|---|---|---|
| `ledger_leaves` | leaf: index and hash | never |
| `ledger_nodes` | complete subtree of 256 or 65,536 leaves: its root | never |
| `ledger_checkpoints` | signed head | never |
| `ledger_statements` | run, erasure or change of the signing key | never |
| `ledger_bundles`, `ledger_parts` | run's rules and reference data, by their hash | never |
| `ledger_reading_lines` | reading of the ledger (see `reading_log`) | never |
| `decision_payloads` | decision: what it says, and the nonce | by an erasure |
| `decision_inputs` | decision: what it was decided from | by an erasure |

`ops.decisions` is a view: leaf, hash, and what is left of the decision. Whoever writes holds the home's lock (`run_lock`):
DuckLake lets two appends pass, and two leaves would have one index.

Belongs here: tables, the tree over them, appending leaves and a checkpoint. Does not belong here: what leaves say.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import duckdb
import pyarrow as pa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestration.lake import table_exists, transaction
from orchestration.ledger.checkpoint import Checkpoint, VerifierKey, open_note, parse, public_bytes, sign
from orchestration.ledger.errors import LedgerError, SigningKeyError
from orchestration.ledger.key_chain import key_changes
from orchestration.ledger.leaves import DECISION_COLUMNS
from orchestration.ledger.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    complete_roots,
    consistency_path,
    inclusion_path,
    node_hash,
    split_point,
)
from orchestration.ledger.reading_log import DDL as READINGS_DDL
from orchestration.ledger.signing_key import load_signing_key
from orchestration.settings import Settings

BLOCK_LEVELS = 8
LEVELS = (8, 16)  # of the stored subtrees: 256 and 65,536 leaves
_PAYLOAD_COLUMNS = ", ".join(f"{name} {kind}" for name, kind in DECISION_COLUMNS.items())
DDL = (
    "create table if not exists lake.ops.ledger_leaves (leaf_index bigint, leaf_hash blob)",
    "create table if not exists lake.ops.ledger_nodes (level integer, node_index bigint, node_hash blob)",
    "create table if not exists lake.ops.ledger_checkpoints (tree_size bigint, note varchar, run_id varchar, made_at timestamp)",
    "create table if not exists lake.ops.ledger_statements (leaf_index bigint, kind varchar, nonce blob, statement varchar)",
    "create table if not exists lake.ops.ledger_bundles (bundle_sha256 varchar, document varchar)",
    "create table if not exists lake.ops.ledger_parts (part_sha256 varchar, content varchar)",
    f"create table if not exists lake.ops.decision_payloads (nonce blob, {_PAYLOAD_COLUMNS})",
    "create table if not exists lake.ops.decision_inputs (leaf_index bigint, input varchar)",
)
TABLES = tuple(ddl.split("lake.ops.")[1].split()[0] for ddl in DDL)
DECISIONS_VIEW = (
    "create or replace view lake.ops.decisions as select leaves.leaf_index, lower(hex(leaves.leaf_hash)) as leaf_hash, "
    "payloads.* exclude (leaf_index, nonce), payloads.leaf_index is null as is_erased "
    "from lake.ops.ledger_leaves as leaves "
    "left join lake.ops.ledger_statements as statements on statements.leaf_index = leaves.leaf_index "
    "left join lake.ops.decision_payloads as payloads on payloads.leaf_index = leaves.leaf_index "
    "where statements.leaf_index is null"
)


def prepare_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """Make the tables and the views where they are missing, all at once."""
    if is_kept(connection):
        return
    with transaction(connection):
        for ddl in (*DDL, *READINGS_DDL, DECISIONS_VIEW):
            connection.execute(ddl)


def is_kept(connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether there is a ledger."""
    return table_exists(connection, "ops", "ledger_leaves")


class Tree:
    """The tree over stored hashes: roots of ranges, and proofs. Reads a few hundred hashes per question.

    `read(level, start, end)` returns the hashes of that level from `start` to before `end`, end to end; level 0 is the leaves.
    """

    def __init__(self, size: int, read: Callable[[int, int, int], bytes]) -> None:
        self.size = size
        self._read = read
        self._cache: dict[tuple[int, int], bytes] = {}

    def root_of(self, start: int, end: int) -> bytes:
        """Root over the leaves from `start` to before `end`, a range that RFC 6962 splits a tree into."""
        count = end - start
        if count == 0:
            return EMPTY_ROOT
        for level in (0, *LEVELS):
            if count == 1 << level and start % count == 0:
                return self.hash_at(level, start >> level)
        middle = start + split_point(count)
        return node_hash(self.root_of(start, middle), self.root_of(middle, end))

    def root(self, size: int | None = None) -> bytes:
        """Root of the tree, or of its first `size` leaves."""
        return self.root_of(0, self.size if size is None else size)

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """The inclusion proof of a leaf."""
        return inclusion_path(self.root_of, index, self.size if size is None else size)

    def consistency(self, old: int) -> list[bytes]:
        """The consistency proof from a tree of `old` leaves to this one."""
        return consistency_path(self.root_of, old, self.size)

    def ranges_of(self, leaves: Iterable[int]) -> list[tuple[int, list[tuple[int, int]]]]:
        """Level and ranges of the blocks that hold whatever the root and proofs of these leaves are made of."""
        asked = []
        for level in (0, *LEVELS):
            top = self.size >> level
            blocks = {index >> level + BLOCK_LEVELS for index in (*leaves, self.size)} if level < LEVELS[-1] else range(
                (top >> BLOCK_LEVELS) + 1
            )
            spans = [self._span(level, block) for block in sorted(blocks)]
            asked.append((level, [span for span in spans if span[0] < span[1]]))
        return [(level, spans) for level, spans in asked if spans]

    def keep(self, rows: Iterable[tuple[int, int, bytes]]) -> None:
        """Take hashes in that were read beforehand, whole blocks of them in order."""
        for (level, block), found in groupby(rows, key=lambda row: (row[0], row[1] >> BLOCK_LEVELS)):
            self._cache[level, block] = b"".join(row[2] for row in found)

    def _span(self, level: int, block: int) -> tuple[int, int]:
        first = block << BLOCK_LEVELS
        return first, min(first + (1 << BLOCK_LEVELS), self.size >> level)

    def hash_at(self, level: int, index: int) -> bytes:
        """One stored hash. Raises `LedgerError` if it is not there."""
        block = index >> BLOCK_LEVELS
        key = (level, block)
        if key not in self._cache:
            self._cache[key] = self._read(level, *self._span(level, block))
        at = (index - (block << BLOCK_LEVELS)) * HASH_BYTES
        found = self._cache[key][at : at + HASH_BYTES]
        if len(found) != HASH_BYTES:
            raise LedgerError(f"the ledger's tree lacks the hash {index} of level {level}: run `segline verify`")
        return found


def stored_tree(connection: duckdb.DuckDBPyConnection, *near: int) -> Tree:
    """The tree over what is stored now. Whatever proofs of the leaves `near` take is read at once."""
    size = connection.execute("select coalesce(max(leaf_index) + 1, 0) from lake.ops.ledger_leaves").fetchone()[0]

    def read(level: int, start: int, end: int) -> bytes:
        return b"".join(row[2] for row in connection.execute(_hashes(level, [(start, end)]) + " order by 2").fetchall())

    tree = Tree(size, read)
    if near:
        asked = " union all ".join(_hashes(*ranges) for ranges in tree.ranges_of(near))
        tree.keep(connection.execute(f"{asked} order by 1, 2").fetchall() if asked else [])
    return tree


def read_hashes(connection: duckdb.DuckDBPyConnection, level: int, start: int, end: int) -> bytes:
    """Stored hashes of one level from `start` to before `end`, end to end."""
    if start >= end:
        return b""
    rows = connection.execute(f"{_hashes(level, [(start, end)])} order by 2").to_arrow_table()["hash"]
    return b"".join(hashes_end_to_end(chunk) for chunk in rows.chunks)


def _hashes(level: int, ranges: Sequence[tuple[int, int]]) -> str:
    """SQL: level, index and hash of the nodes of one level in some ranges."""
    name = "node" if level else "leaf"
    source = f"lake.ops.ledger_nodes where level = {level} and" if level else "lake.ops.ledger_leaves where"
    within = " or ".join(f"{name}_index between {start} and {end - 1}" for start, end in ranges)
    return f"select {level} as level, {name}_index as at, {name}_hash as hash from {source} ({within})"


@dataclass(frozen=True)
class Head:
    """The newest checkpoint as it is stored."""

    checkpoint: Checkpoint
    note: str
    run_id: str


def newest_head(connection: duckdb.DuckDBPyConnection) -> Head | None:
    """The newest checkpoint, unchecked; `None` before the first."""
    if not is_kept(connection):
        return None
    row = connection.execute(
        "select note, run_id from lake.ops.ledger_checkpoints order by tree_size desc, made_at desc limit 1"
    ).fetchone()
    return Head(parse(row[0]), *row) if row else None


@dataclass(frozen=True)
class Growth:
    """What an append adds, computed before the transaction: hashes of new leaves and complete subtrees, the signed head."""

    first: int
    leaf_hashes: bytes
    nodes: dict[int, tuple[int, bytes]]  # level: first index, roots end to end
    note: str


def grow(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    leaf_hashes: bytes,
    signers: Sequence[Ed25519PrivateKey] = (),
) -> Growth:
    """The tree with these leaves appended, and its signed checkpoint. Writes nothing.

    The ledger's signing key signs, or in its place `signers`: the key in force and the one that follows it.

    Raises `SigningKeyError` if the key is not the one that signed before, `LedgerError` if the stored tree is not what the
    last checkpoint says: on a damaged history nothing is built.
    """
    head = newest_head(connection)
    tree = stored_tree(connection)
    signers = signers or (load_signing_key(settings, may_create=head is None and tree.size == 0),)
    key = signers[0]
    if head is None:
        public = public_bytes(key)
        origin = settings.ledger_origin or f"segline.invalid/{VerifierKey('segline', public).key_id.hex()}"
        if tree.size:
            raise LedgerError("the ledger has leaves and no checkpoint: run `segline verify`")
    else:
        origin = head.checkpoint.origin
        _require_head(connection, head, tree, VerifierKey(origin, public_bytes(key)))
    nodes: dict[int, tuple[int, bytes]] = {}
    at, hashes = tree.size, leaf_hashes
    for level in LEVELS:
        # `hashes` are those of the level below from `at` on; put the unfinished block before them.
        below = level - BLOCK_LEVELS
        first = at >> BLOCK_LEVELS
        known = b"".join(tree.hash_at(below, index) for index in range(first << BLOCK_LEVELS, at))
        hashes, at = complete_roots(known + hashes, BLOCK_LEVELS), first
        nodes[level] = (first, hashes)
    added = {0: (tree.size, leaf_hashes), **nodes}
    size = tree.size + len(leaf_hashes) // HASH_BYTES

    def read(level: int, start: int, end: int) -> bytes:
        first, fresh = added[level]
        old = b"".join(tree.hash_at(level, index) for index in range(start, min(end, first)))
        return old + fresh[max(0, start - first) * HASH_BYTES : max(0, end - first) * HASH_BYTES]

    root = Tree(size, read).root()
    return Growth(tree.size, leaf_hashes, nodes, sign(Checkpoint(origin, size, root), *signers))


def _require_head(connection: duckdb.DuckDBPyConnection, head: Head, tree: Tree, verifier: VerifierKey) -> None:
    try:
        open_note(head.note, verifier)
    except LedgerError as error:
        raise SigningKeyError(f"the last checkpoint was not signed with the given key ({error})") from None
    changes = key_changes(connection)
    if changes and changes[-1].new != verifier:  # the checkpoint of the change bears the signature of both
        raise SigningKeyError("the ledger's signing key was rotated, and the given one is that of before: restore the new one")
    if head.checkpoint.size != tree.size or head.checkpoint.root != tree.root():
        raise LedgerError(
            f"the ledger's {tree.size} leaves do not fit its last checkpoint of {head.checkpoint.size}: run `segline verify`"
        )


def store_growth(connection: duckdb.DuckDBPyConnection, growth: Growth, run_id: str, made_at: object) -> None:
    """Write leaves, nodes and checkpoint; the caller's transaction holds them together with what they say."""
    _insert_hashes(connection, "lake.ops.ledger_leaves", "", growth.first, growth.leaf_hashes)
    for level, (first, hashes) in growth.nodes.items():
        if hashes:
            _insert_hashes(connection, "lake.ops.ledger_nodes", f"{level}, ", first, hashes)
    size = growth.first + len(growth.leaf_hashes) // HASH_BYTES
    connection.execute("insert into lake.ops.ledger_checkpoints values (?, ?, ?, ?)", [size, growth.note, run_id, made_at])


def hashes_end_to_end(column: pa.Array) -> bytes:
    """An Arrow column of hashes as one `bytes`. Raises `pyarrow.ArrowInvalid` if one is missing or not 32 bytes."""
    fixed = column.cast(pa.binary(HASH_BYTES))
    if fixed.null_count:
        raise pa.ArrowInvalid("a hash is missing")
    if not len(fixed):
        return b""
    return fixed.buffers()[1].to_pybytes()[fixed.offset * HASH_BYTES : (fixed.offset + len(fixed)) * HASH_BYTES]


def _insert_hashes(connection: duckdb.DuckDBPyConnection, table: str, before: str, first: int, hashes: bytes) -> None:
    import numpy as np

    count = len(hashes) // HASH_BYTES
    fixed = pa.FixedSizeBinaryArray.from_buffers(pa.binary(HASH_BYTES), count, [None, pa.py_buffer(hashes)])
    arriving = pa.table({"position": pa.array(np.arange(first, first + count)), "hash": fixed.cast(pa.binary())})
    connection.register("ledger_hashes", arriving)
    try:
        connection.execute(f"insert into {table} select {before}position, hash from ledger_hashes order by position")
    finally:
        connection.unregister("ledger_hashes")
