"""Erasing from the ledger: payload, nonce and inputs go, the leaf's hash stays, and an erasure statement names the leaf.

Without the nonce the hash says nothing, not even to who can guess the payload; every other leaf's proof stands. The statement
says of each leaf its family and what it did to the number of subjects standing, so that old runs' totals can still be
counted, and nothing about whom it was.

Belongs here: rows of the ledger. Does not belong here: whose they are, whether the law lets them go (`rights`), and the upkeep
that takes deleted rows out of the lake's files.
"""

import os
from collections.abc import Iterable
from datetime import UTC, datetime

import duckdb
import pyarrow as pa

from orchestration.lake import transaction
from orchestration.ledger.bundles import canonical
from orchestration.ledger.leaves import DEPARTED, ERASURE, FORM, NONCE_BYTES, STAMP, delta_of
from orchestration.ledger.merkle import leaf_hash
from orchestration.ledger.names import forget_names
from orchestration.ledger.store import grow, is_kept, store_growth
from orchestration.settings import Settings


def erase_payloads(
    connection: duckdb.DuckDBPyConnection, settings: Settings, ledger_tokens: Iterable[str], reason: str
) -> int:
    """`erase_within`, in one transaction of its own."""
    with transaction(connection):
        return erase_within(connection, settings, ledger_tokens, reason)


def erase_within(
    connection: duckdb.DuckDBPyConnection, settings: Settings, ledger_tokens: Iterable[str], reason: str
) -> int:
    """Erase whatever the ledger says about these subjects, inside the caller's transaction; returns how many rows.

    `ledger_tokens` are the ledger zone's pseudonyms. `reason` goes into the ledger for good: a code, no text about anybody.
    The caller holds the home's lock. Erasing nothing writes nothing.
    """
    if not is_kept(connection):
        return 0
    tokens = pa.table({"subject_token": pa.array(sorted(set(ledger_tokens)), pa.string())})
    connection.register("ledger_erased", tokens)
    try:
        connection.execute(
            f"create or replace temp table ledger_erasing as select rows.leaf_index, rows.family, {delta_of('rows')} as delta, "
            f"cast(later.leaf_index is null and rows.segment <> '{DEPARTED}' as integer) as stood "
            "from lake.ops.decision_payloads as rows left join lake.ops.decision_payloads as later "
            "on later.previous_leaf = rows.leaf_index "
            "where rows.subject_token in (select subject_token from ledger_erased)"
        )
    finally:
        connection.unregister("ledger_erased")
    forget_names(connection, tokens["subject_token"].to_pylist())
    rows = connection.execute("select * from ledger_erasing order by leaf_index").fetchall()
    if rows:
        _erase(connection, settings, [list(row) for row in rows], reason)
    connection.execute("drop table temp.ledger_erasing")
    return len(rows)


def _erase(connection: duckdb.DuckDBPyConnection, settings: Settings, rows: list[list[object]], reason: str) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    leaf = connection.execute("select max(leaf_index) + 1 from lake.ops.ledger_leaves").fetchone()[0]
    statement = canonical(
        {
            "form": FORM,
            "kind": ERASURE,
            "leaf_index": leaf,
            "erased_at": now.strftime(STAMP),
            "reason": reason,
            "rows": rows,
        }
    )
    nonce = os.urandom(NONCE_BYTES)
    growth = grow(connection, settings, leaf_hash(nonce + statement.encode()))
    for table in ("decision_payloads", "decision_inputs"):
        connection.execute(f"delete from lake.ops.{table} where leaf_index in (select leaf_index from ledger_erasing)")
    connection.execute("insert into lake.ops.ledger_statements values (?, ?, ?, ?)", [leaf, ERASURE, nonce, statement])
    store_growth(connection, growth, f"erasure:{leaf}", now)
