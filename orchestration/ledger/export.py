"""What an auditor takes away: the ledger as files, and proofs of single rows.

An export is a folder: `leaves.tsv` (index, hash, nonce, text of every leaf, tab-separated; nonce and text empty once erased),
`checkpoints.txt` (all signed notes, each followed by a line `--`), `bundles.jsonl` and `parts.jsonl` (the rules and reference
data that decided). Inputs stay at home: the leaves hold their fingerprints. `docs/ledger.md` gives the form.

Belongs here: writing these. Does not belong here: checking them (`tools/segline_verify.py`).
"""

import base64
import json
import os
from pathlib import Path
from typing import Any

import duckdb

from orchestration.lake import literal
from orchestration.ledger.errors import LedgerError
from orchestration.ledger.leaves import KEY, decision_text
from orchestration.ledger.store import newest_head, stored_tree

LEAVES, CHECKPOINTS, BUNDLES, PARTS = "leaves.tsv", "checkpoints.txt", "bundles.jsonl", "parts.jsonl"
SEPARATOR = "--"


def export_ledger(connection: duckdb.DuckDBPyConnection, folder: Path) -> int:
    """Write the ledger into a new or empty folder that only its owner can read; returns the number of leaves.

    Raises `LedgerError` if there is no ledger or the folder has something in it.
    """
    head = newest_head(connection)
    if head is None:
        raise LedgerError("there is no ledger yet: it begins with the first publication, `segline run`")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    if any(folder.iterdir()):
        raise LedgerError(f"{folder} is not empty: export into a new folder")
    connection.execute(
        f"copy ({_rows()}) to {literal(folder / LEAVES)} (format csv, delimiter '\t', header false, quote '', escape '')"
    )
    notes = connection.execute("select note from lake.ops.ledger_checkpoints order by tree_size, made_at").fetchall()
    (folder / CHECKPOINTS).write_text("".join(f"{note}{SEPARATOR}\n" for (note,) in notes), encoding="utf-8")
    for name, query in (
        (BUNDLES, "select bundle_sha256, document from lake.ops.ledger_bundles order by 1"),
        (PARTS, "select part_sha256, content from lake.ops.ledger_parts order by 1"),
    ):
        rows = connection.execute(query).fetchall()
        lines = [json.dumps({"sha256": digest, "text": text}, ensure_ascii=False) for digest, text in rows]
        (folder / name).write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    for path in folder.iterdir():
        os.chmod(path, 0o600)
    return head.checkpoint.size


def _rows() -> str:
    return (
        "select leaves.leaf_index, lower(hex(leaves.leaf_hash)), coalesce(lower(hex(said.nonce)), ''), coalesce(said.text, '') "
        "from lake.ops.ledger_leaves as leaves left join ("
        f"select leaf_index, nonce, {decision_text('decided')} as text from lake.ops.decision_payloads as decided union all "
        "select leaf_index, nonce, statement from lake.ops.ledger_statements) as said on said.leaf_index = leaves.leaf_index "
        "order by leaves.leaf_index"
    )


def inclusion_proof(connection: duckdb.DuckDBPyConnection, leaf_index: int) -> dict[str, Any]:
    """The proof that a leaf is in the newest checkpoint, with what the leaf says; everything an outsider needs but the key."""
    head = newest_head(connection)
    if head is None:
        raise LedgerError("there is no ledger yet")
    if not 0 <= leaf_index < head.checkpoint.size:
        raise LedgerError(f"the ledger has no leaf {leaf_index}; it has {head.checkpoint.size}")
    said = connection.execute(
        f"select lower(hex(nonce)), {decision_text('decided')} from lake.ops.decision_payloads as decided "
        f"where leaf_index = {leaf_index:d} union all "
        f"select lower(hex(nonce)), statement from lake.ops.ledger_statements where leaf_index = {leaf_index:d}"
    ).fetchone()
    tree = stored_tree(connection, leaf_index)
    return _with_key_changes(connection, {
        "leaf_index": leaf_index,
        "leaf_hash": tree.hash_at(0, leaf_index).hex(),
        "nonce": said[0] if said else None,
        "text": said[1] if said else None,
        "inclusion": [base64.b64encode(node).decode() for node in tree.inclusion(leaf_index, head.checkpoint.size)],
        "checkpoint": head.note,
    })


def consistency_proof(connection: duckdb.DuckDBPyConnection, old_note: str) -> dict[str, Any]:
    """The proof that the newest checkpoint's ledger begins with that of an older checkpoint, which somebody kept."""
    from orchestration.ledger.checkpoint import parse

    old, head = parse(old_note), newest_head(connection)
    if head is None or not 0 < old.size <= head.checkpoint.size:
        size = head.checkpoint.size if head else 0
        raise LedgerError(f"no proof leads from {old.size} leaves to the {size} that are here")
    path = stored_tree(connection, old.size - 1).consistency(old.size)
    return _with_key_changes(connection, {
        "old_checkpoint": old_note,
        "consistency": [base64.b64encode(node).decode() for node in path],
        "checkpoint": head.note,
    })


def _with_key_changes(connection: duckdb.DuckDBPyConnection, proof: dict[str, Any]) -> dict[str, Any]:
    """The proof, with the changes of the signing key if there were any: who holds a key of before can follow them."""
    rows = connection.execute(
        "select statements.leaf_index, lower(hex(statements.nonce)), statements.statement, checkpoints.note "
        "from lake.ops.ledger_statements as statements left join lake.ops.ledger_checkpoints as checkpoints "
        f"on checkpoints.tree_size = statements.leaf_index + 1 where statements.kind = '{KEY}' order by 1"
    ).fetchall()
    changes = []
    for leaf, nonce, text, note in rows:
        path = stored_tree(connection, leaf).inclusion(leaf, leaf + 1)
        inclusion = [base64.b64encode(node).decode() for node in path]
        changes.append({"leaf_index": leaf, "nonce": nonce, "text": text, "inclusion": inclusion, "checkpoint": note})
    return proof | {"key_changes": changes} if changes else proof
