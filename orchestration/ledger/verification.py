"""Verification of the ledger as it is stored: every row, the tree, the signatures, the totals, the anchors.

Findings name what is wrong by leaf, block or run. What this finds and what it cannot is set out in `docs/ledger.md`: without
heads that somebody else holds, a ledger cut short, or written anew by who has the key, looks whole.

Belongs here: judging what is stored, set-based. Does not belong here: the outsider's verifier, which shares no code with this
(`tools/segline_verify.py`).
"""

import json
import secrets
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from orchestration.lake import table_exists
from orchestration.ledger.checkpoint import CheckpointError, VerifierKey, open_note, parse
from orchestration.ledger.hashing import batches, hashed, read_through
from orchestration.ledger.key_chain import KeyChain, change_of
from orchestration.ledger.leaves import ERASURE, KEY, RUN
from orchestration.ledger.matching import check_inputs, check_rows, rows_said, unlike
from orchestration.ledger.merkle import HASH_BYTES, complete_roots
from orchestration.ledger.reading_log import digest_of_lines
from orchestration.ledger.reconciling import check_chains, check_runs
from orchestration.ledger.report import Report
from orchestration.ledger.store import (
    BLOCK_LEVELS,
    LEVELS,
    TABLES,
    Tree,
    hashes_end_to_end,
    is_kept,
    newest_head,
    stored_tree,
)

BLOCK = 1 << BLOCK_LEVELS
HEAD_ROWS = 100_000


def verify(
    connection: duckdb.DuckDBPyConnection, verifier: VerifierKey, anchors: Iterable[tuple[str, str]] = ()
) -> Report:
    """Check all of the stored ledger. `anchors`: (where it was kept, signed note) of heads held elsewhere.

    A table whose files cannot be read is a finding too.
    """
    report = Report()
    try:
        _verify(connection, report, verifier, list(anchors))
    except duckdb.Error:
        unreadable = _unreadable(connection)
        if not unreadable:
            raise
        report.findings += unreadable
    return report


def _unreadable(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """The ledger's tables that cannot be read to the last byte, with what the engine says of each."""
    found = []
    for name in TABLES:
        try:
            read_through(connection, f"lake.ops.{name}")
        except duckdb.Error as error:
            said = str(error).splitlines()[0]
            found.append(f"ops.{name} cannot be read ({said}): restore the lake from your backup")
    return found


def _verify(
    connection: duckdb.DuckDBPyConnection, report: Report, verifier: VerifierKey, held: Sequence[tuple[str, str]]
) -> None:
    if not is_kept(connection):
        if held:
            report.findings.append(f"there is no ledger, but {len(held)} anchored heads of one")
        report.checked["leaves"] = 0
        return
    notes = connection.execute(
        "select note, tree_size, run_id from lake.ops.ledger_checkpoints order by tree_size, made_at"
    ).fetchall()
    tree = _tree_of_leaves(connection, report, {row[1] for row in notes} | _sizes(note for _, note in held))
    statements = _statements(connection, report)
    chain = _key_chain(report, statements, notes, verifier)
    _check_checkpoints(report, tree, notes, chain)
    _check_anchors(report, tree, held, chain)
    check_rows(connection, report)
    _check_erasures(connection, report, statements)
    check_runs(connection, report, statements, notes)
    check_chains(connection, report)
    _check_bundles(connection, report)
    check_inputs(connection, report)
    _check_readings(connection, report, statements)


def verify_head(connection: duckdb.DuckDBPyConnection, verifier: VerifierKey) -> Report:
    """Check what the last run added: its rows, its signature, and that the stored tree has the signed root.

    Old rows are not read again, so this stays fast however long the ledger is. Of a large entry every so-manieth row is hashed
    again, beginning at random, about `HEAD_ROWS` of them: each of its rows was hashed when it was entered, as it lay in the
    store, and all of them are by `verify`.
    """
    report = Report()
    head = newest_head(connection)
    if head is None:
        report.findings.append("there is no ledger")
        return report
    tree = stored_tree(connection)
    report.checked = {"leaves": tree.size, "checkpoint of leaves": head.checkpoint.size}
    try:
        open_note(head.note, verifier)
    except CheckpointError as error:
        report.findings.append(f"the newest checkpoint: {error}")
    if tree.size != head.checkpoint.size:
        report.findings.append(f"{tree.size} leaves are there, the checkpoint is of {head.checkpoint.size}")
    elif tree.root() != head.checkpoint.root:
        report.findings.append(f"the root over {tree.size} leaves is not the signed one")
    before = connection.execute(
        "select coalesce(max(tree_size), 0) from lake.ops.ledger_checkpoints where tree_size < ?", [head.checkpoint.size]
    ).fetchone()[0]
    added = tree.size - before
    stride = max(1, added // HEAD_ROWS)
    start = before + secrets.randbelow(stride)
    picked = f"leaf_index >= {start} and (leaf_index - {start}) % {stride} = 0"
    with hashed(connection, rows_said(picked)) as said:
        wrong = connection.execute(f"select coalesce(leaf, said) from ({unlike(picked, said)}) order by 1").fetchall()
    rows = connection.execute(
        f"select (select count(*) from lake.ops.decision_payloads where leaf_index >= {before}) + "
        f"(select count(*) from lake.ops.ledger_statements where leaf_index >= {before})"
    ).fetchone()[0]
    if rows != added:
        report.findings.append(f"the last entry added {added} leaves, {rows} rows are there")
    report.checked["rows of the last entry"] = rows
    report.checked["of them hashed again"] = len(range(start, tree.size, stride))
    report.name_all("leaf {}: the row does not fit", [row[0] for row in wrong])
    return report


def _sizes(notes: Iterable[str]) -> set[int]:
    found = set()
    for note in notes:
        try:
            found.add(parse(note).size)
        except CheckpointError:
            continue  # reported where the anchor is checked
    return found


def _tree_of_leaves(connection: duckdb.DuckDBPyConnection, report: Report, sizes: set[int]) -> Tree:
    """The tree computed anew from the leaf hashes; indices and stored nodes are checked on the way."""
    import numpy as np

    leaves = "select leaf_index, leaf_hash from lake.ops.ledger_leaves order by leaf_index"
    rest, expected, blocks = b"", 0, []
    tails = {size >> BLOCK_LEVELS: b"" for size in sizes}
    missing: list[str] = []
    doubled: list[int] = []
    for batch in batches(connection, leaves, BLOCK * 256):
        indices = batch.column(0).to_numpy(zero_copy_only=False)
        steps = np.diff(indices, prepend=expected - 1)
        doubled += [int(index) for index in indices[steps == 0]]
        for index, step in zip(indices[steps > 1], steps[steps > 1], strict=True):
            missing.append(str(index - 1) if step == 2 else f"{index - step + 1} to {index - 1}")
        expected = int(indices[-1]) + 1 if len(indices) else expected
        try:
            fresh = hashes_end_to_end(batch.column(1))
        except pa.ArrowInvalid:
            values = batch.column(1).to_pylist()
            wrong = [int(indices[at]) for at, value in enumerate(values) if len(value or b"") != HASH_BYTES]
            report.name_all("leaf {}: its hash is not 32 bytes", wrong)
            fresh = b"".join((value or b"").ljust(HASH_BYTES, b"\0")[:HASH_BYTES] for value in values)
        first = sum(len(part) for part in blocks) // HASH_BYTES * BLOCK
        hashes = rest + fresh
        count = len(hashes) // HASH_BYTES
        for block in tails:
            offset = block * BLOCK - first
            if 0 <= offset < count:
                tails[block] = hashes[offset * HASH_BYTES : (offset + BLOCK) * HASH_BYTES]
        whole = complete_roots(hashes, BLOCK_LEVELS)
        blocks.append(whole)
        rest = hashes[len(whole) << BLOCK_LEVELS :]
    level8 = b"".join(blocks)
    computed = {8: level8, 16: complete_roots(level8, BLOCK_LEVELS)}
    size = len(level8) // HASH_BYTES * BLOCK + len(rest) // HASH_BYTES
    tails[size >> BLOCK_LEVELS] = rest
    report.checked["leaves"] = size
    report.name_all("leaf {} is missing", missing)
    report.name_all("leaf {} is there more than once", doubled)
    _check_nodes(connection, report, computed)

    def read(level: int, start: int, end: int) -> bytes:
        if level:
            return computed[level][start * HASH_BYTES : end * HASH_BYTES]
        return tails[start >> BLOCK_LEVELS][: (end - start) * HASH_BYTES]

    return Tree(size, read)


def _check_nodes(connection: duckdb.DuckDBPyConnection, report: Report, computed: dict[int, bytes]) -> None:
    for level in LEVELS:
        rows = connection.execute(
            "select node_index, node_hash from lake.ops.ledger_nodes where level = ? order by node_index", [level]
        ).fetchall()
        hashes = computed[level]
        count, width = len(hashes) // HASH_BYTES, 1 << level
        stored = dict(rows)
        wrong = [
            f"{index * width} to {index * width + width - 1}"
            for index in range(count)
            if stored.get(index) != hashes[index * HASH_BYTES : (index + 1) * HASH_BYTES]
        ]
        report.name_all(f"leaves {{}}: they do not fit the stored root over these {width}; one of them was changed", wrong)
        if len(rows) != count:
            report.findings.append(f"{len(rows)} roots over {width} leaves are stored, {count} are due")


def _key_chain(
    report: Report, statements: dict[str, list[dict[str, Any]]], notes: Sequence[tuple[str, int, str]], verifier: VerifierKey
) -> KeyChain:
    """The keys that signed, followed from the one that is held. That a statement is what was signed is checked with the rows."""
    changes = []
    for statement in statements[KEY]:
        try:
            changes.append(change_of(statement))
        except CheckpointError as error:
            report.findings.append(f"leaf {statement['leaf_index']}: {error}")
    chain = KeyChain(verifier, changes, [note for note, _, _ in notes])
    report.checked["origin"] = verifier.name
    report.checked["changes of the signing key"] = len(changes)
    report.findings += chain.findings
    return chain


def _check_checkpoints(report: Report, tree: Tree, notes: Sequence[tuple[str, int, str]], chain: KeyChain) -> None:
    last, good = 0, 0
    report.checked["checkpoints"] = len(notes)
    for note, size, run_id in notes:
        try:
            checkpoint = chain.open(note)
        except CheckpointError as error:
            report.findings.append(f"checkpoint of {size} leaves: {error}")
            continue
        if checkpoint.size != size or size <= last:
            report.findings.append(f"checkpoint of {checkpoint.size} leaves: stored as of {size}, after one of {last}")
        if checkpoint.size > tree.size:
            report.findings.append(
                f"leaves {tree.size} to {checkpoint.size - 1} are missing: a checkpoint of {checkpoint.size} leaves was signed"
            )
        elif tree.root(checkpoint.size) != checkpoint.root:
            report.findings.append(
                f"leaves {good} to {checkpoint.size - 1} (run {run_id}): changed since the checkpoint of {checkpoint.size} leaves"
            )
        else:
            good = checkpoint.size
        last = checkpoint.size
    if tree.size > last:
        report.findings.append(f"leaves {last} to {tree.size - 1} were added without a signed checkpoint")


def _check_anchors(report: Report, tree: Tree, anchors: Sequence[tuple[str, str]], chain: KeyChain) -> None:
    newest = 0
    for place, note in anchors:
        try:
            checkpoint = chain.open(note)
        except CheckpointError as error:
            report.findings.append(f"anchor {place}: {error}")
            continue
        newest = max(newest, checkpoint.size)
        if checkpoint.size > tree.size:
            report.findings.append(
                f"anchor {place}: it holds a head of {checkpoint.size} leaves, {tree.size} are here: the ledger was cut short"
            )
        elif tree.root(checkpoint.size) != checkpoint.root:
            report.findings.append(f"anchor {place}: the first {checkpoint.size} leaves are not those that were anchored")
    report.checked["anchored heads"] = len(anchors)
    report.checked["leaves under an anchor"] = newest


def _statements(connection: duckdb.DuckDBPyConnection, report: Report) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {RUN: [], ERASURE: [], KEY: []}
    for leaf, kind, text in connection.execute(
        "select leaf_index, kind, statement from lake.ops.ledger_statements order by leaf_index"
    ).fetchall():
        try:
            statement = json.loads(text)
            if statement["kind"] != kind or statement["leaf_index"] != leaf:
                raise ValueError
            found[kind].append(statement)
        except (ValueError, KeyError, TypeError):
            report.findings.append(f"leaf {leaf}: the statement is not one of kind {kind} for that leaf")
    report.checked["runs"] = len(found[RUN])
    return found


def _check_erasures(
    connection: duckdb.DuckDBPyConnection, report: Report, statements: dict[str, list[dict[str, Any]]]
) -> None:
    erased = {row[0] for statement in statements[ERASURE] for row in statement["rows"]}
    report.checked["erased"] = len(erased)
    bare = connection.execute("select leaf from verify_bad where said is null and leaf is not null").fetchall()
    without = {row[0] for row in bare}
    report.name_all("leaf {}: the row is missing, and no erasure names it", sorted(without - erased))
    report.name_all("leaf {}: an erasure names it, but the row is there", sorted(erased - without))


def _check_bundles(connection: duckdb.DuckDBPyConnection, report: Report) -> None:
    changed = connection.execute(
        "select 'bundle ' || bundle_sha256 from lake.ops.ledger_bundles where sha256(document) <> bundle_sha256 union all "
        "select 'part ' || part_sha256 from lake.ops.ledger_parts where sha256(content) <> part_sha256"
    ).fetchall()
    report.name_all("{}: changed", [row[0] for row in changed])
    missing = connection.execute(
        "select distinct bundle_sha256 from lake.ops.decision_payloads "
        "where bundle_sha256 not in (select bundle_sha256 from lake.ops.ledger_bundles)"
    ).fetchall()
    report.name_all("bundle {}: missing", [row[0] for row in missing])
    wanted = {
        part
        for (text,) in connection.execute("select document from lake.ops.ledger_bundles").fetchall()
        for part in _parts_of(text)
    }
    held = {row[0] for row in connection.execute("select part_sha256 from lake.ops.ledger_parts").fetchall()}
    report.name_all("part {}: missing", sorted(wanted - held))


def _parts_of(text: str) -> list[str]:
    try:
        document = json.loads(text)
        return [*(part for _, part in document["models"]), *document["references"].values()]
    except (ValueError, KeyError, TypeError):
        return []  # reported as changed


def _check_readings(
    connection: duckdb.DuckDBPyConnection, report: Report, statements: dict[str, list[dict[str, Any]]]
) -> None:
    lines: dict[str, list[str]] = defaultdict(list)
    if table_exists(connection, "ops", "ledger_reading_lines"):
        for run_id, line in connection.execute(
            "select run_id, line from lake.ops.ledger_reading_lines order by run_id, position"
        ).fetchall():
            lines[run_id].append(line)
    report.checked["readings"] = sum(map(len, lines.values()))
    for run in statements[RUN]:
        held = lines.pop(run["run_id"], [])
        if (len(held), digest_of_lines(held)) != (run["readings"]["count"], run["readings"]["sha256"]):
            report.findings.append(f"run {run['run_id']}: the log of readings is not the one that it took in")
    report.name_all("readings of run {}: no such run", sorted(lines))
