"""Entering a run's decisions: what is new or changed row by row, what is not by one row that vouches for it.

A run appends a leaf per decision that is new or differs from the one that stands (`leaves.DECIDED`), one per subject who left
the book, and at last a statement with the run's totals: whatever stood and was not replaced stands on. Every customer is in
every family once, rated, default or excluded; a run whose sums do not come out enters nothing.

`prepare_entry` reads and computes into temporary tables; `store_entry` writes; both in the caller's transaction, so that
decisions and published segments become visible together.

Belongs here: comparing, numbering, totals. Does not belong here: the tree (`store`), the form of a leaf (`leaves`).
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb
import pyarrow as pa

from orchestration.identity.keys import MasterKeys
from orchestration.lake import literal
from orchestration.ledger import reading_log
from orchestration.ledger.bundles import Bundle, canonical, make_bundle, store_bundle
from orchestration.ledger.errors import LedgerError
from orchestration.ledger.inputs import RISK, assignments, families_of, gather_inputs, map_people
from orchestration.ledger.leaves import (
    DECIDED,
    DECISION_COLUMNS,
    DEPARTED,
    FORM,
    NONCE_BYTES,
    RUN,
    decision_text,
    delta_of,
    leaf_hash_of,
)
from orchestration.ledger.merkle import leaf_hash
from orchestration.ledger.store import Growth, grow, hashes_end_to_end, prepare_tables, store_growth
from orchestration.settings import Settings

_TABLES = ("ledger_now", "ledger_standing", "ledger_entered", "ledger_wanted", "ledger_inputs", "ledger_rows", "ledger_people")


@dataclass(frozen=True)
class Entry:
    """A run's entry, ready to be stored. `totals`: per family book, new, changed, unchanged, departed and segments."""

    run_id: str
    decided_at: datetime
    growth: Growth
    bundle: Bundle
    statement_leaf: int
    statement_nonce: bytes
    statement: str
    readings: reading_log.Readings

    @property
    def totals(self) -> Mapping[str, Any]:
        """The families' totals."""
        return json.loads(self.statement)["families"]

    @property
    def decisions(self) -> int:
        """Rows entered."""
        return self.statement_leaf - self.growth.first


def prepare_entry(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    keys: MasterKeys,
    manifest: Mapping[str, Any],
    run_id: str,
    profile: str,
    as_of: datetime,
    zone: str = "candidate",
) -> Entry:
    """Compare the segments of a zone, and the gate, with what stands, and compute the leaves; writes nothing but empty tables.

    `manifest` is the compiled one of this run. The caller holds the home's lock until the entry is stored. Raises
    `LedgerError` if totals do not reconcile with the book, or the ledger is not what its last checkpoint says.
    """
    prepare_tables(connection)
    families = families_of(manifest)
    bundle = make_bundle(connection, manifest, profile, as_of, families)
    book = map_people(connection, keys)
    connection.execute(
        f"create or replace temp table ledger_now as select *, {literal(profile)} as profile "
        f"from ({assignments(connection, families, zone)})"
    )
    _require_book(connection, [RISK, *families], book)
    _compare(connection)
    decided_at = datetime.now(UTC).replace(tzinfo=None)
    first = int(connection.execute("select coalesce(max(leaf_index) + 1, 0) from lake.ops.ledger_leaves").fetchone()[0])
    connection.execute(
        "create or replace temp table ledger_wanted as select distinct subject_token, role from ledger_entered "
        f"where segment <> '{DEPARTED}'"
    )
    gather_inputs(connection, bundle, "ledger_wanted", "ledger_inputs")
    hashes = _number(connection, first, run_id, as_of, decided_at, bundle.sha256)
    count = len(hashes) // 32
    readings = reading_log.read_pending(connection, settings)
    statement = canonical(
        {
            "form": FORM,
            "kind": RUN,
            "leaf_index": first + count,
            "run_id": run_id,
            "profile": profile,
            "as_of": as_of.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "decided_at": decided_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "bundle_sha256": bundle.sha256,
            "first_leaf": first,
            "decisions": count,
            "book": book,
            "families": _totals(connection, [RISK, *families], book),
            "readings": {"count": len(readings.lines), "sha256": readings.sha256},
        }
    )
    nonce = os.urandom(NONCE_BYTES)
    growth = grow(connection, settings, hashes + leaf_hash(nonce + statement.encode()))
    return Entry(run_id, decided_at, growth, bundle, first + count, nonce, statement, readings)


def store_entry(connection: duckdb.DuckDBPyConnection, entry: Entry) -> None:
    """Write a prepared entry. Runs inside the caller's transaction."""
    columns = ", ".join(DECISION_COLUMNS)
    connection.execute(
        f"insert into lake.ops.decision_payloads (nonce, {columns}) select nonce, {columns} from ledger_rows order by leaf_index"
    )
    connection.execute(
        "insert into lake.ops.decision_inputs select numbered.leaf_index, inputs.input from ledger_rows as numbered "
        "inner join ledger_inputs as inputs on inputs.subject_token = numbered.subject_token and inputs.role = numbered.role "
        "where numbered.input_sha256 is not null order by numbered.leaf_index"
    )
    connection.execute(
        "insert into lake.ops.ledger_statements values (?, ?, ?, ?)",
        [entry.statement_leaf, RUN, entry.statement_nonce, entry.statement],
    )
    store_bundle(connection, entry.bundle)
    reading_log.store(connection, entry.readings, entry.run_id)
    store_growth(connection, entry.growth, entry.run_id, entry.decided_at)


def finish_entry(connection: duckdb.DuckDBPyConnection, settings: Settings, entry: Entry) -> None:
    """After the commit: forget the temporary tables, and the readings that are in the ledger now."""
    for name in _TABLES:
        connection.execute(f"drop table if exists temp.{name}")
    reading_log.forget(settings, entry.readings)


def _require_book(connection: duckdb.DuckDBPyConnection, families: list[str], book: int) -> None:
    found = dict(
        connection.execute(
            "select family, case when count(*) = count(distinct subject_token) then count(*) else -1 end "
            "from ledger_now group by family"
        ).fetchall()
    )
    wrong = [family for family in {*families, *found} if found.get(family) != (book if family in families else None)]
    if book and wrong:
        raise LedgerError(
            f"the book has {book} customers, but {', '.join(sorted(wrong))} does not hold each of them once: nothing is entered"
        )


def _compare(connection: duckdb.DuckDBPyConnection) -> None:
    """`ledger_entered`: what is new, what differs from the decision that stands, and who is gone."""
    # A decision stands until another names it as the one before.
    connection.execute(
        "create or replace temp table ledger_standing as select * from lake.ops.decision_payloads as payloads "
        "where not exists (select 1 from lake.ops.decision_payloads as later where later.previous_leaf = payloads.leaf_index)"
    )
    now = ", ".join(f"now.{name}" for name in DECIDED)
    standing = ", ".join(f"standing.{name}" for name in DECIDED)
    gone = ", ".join(
        f"'{DEPARTED}' as segment" if name == "segment" else
        "case when people.subject_token is null then 'not_in_the_book' else 'family_not_built' end as gate_reason"
        if name == "gate_reason" else
        f"standing.{name}" if name == "profile" else f"cast(null as {DECISION_COLUMNS[name]}) as {name}"
        for name in DECIDED
    )
    connection.execute(
        f"""
        create or replace temp table ledger_entered as
        select
            now.subject_token, now.family, now.role, {now},
            standing.leaf_index as previous_leaf, standing.segment as previous_segment
        from ledger_now as now
        left join ledger_standing as standing
            on standing.subject_token = now.subject_token and standing.family = now.family
        where standing.subject_token is null or row({now}) is distinct from row({standing})
        union all
        select
            standing.subject_token, standing.family, null as role, {gone},
            standing.leaf_index as previous_leaf, standing.segment as previous_segment
        from ledger_standing as standing
        left join ledger_now as now on now.subject_token = standing.subject_token and now.family = standing.family
        left join ledger_people as people on people.subject_token = standing.subject_token
        where now.subject_token is null and standing.segment <> '{DEPARTED}'
        """
    )


def _number(
    connection: duckdb.DuckDBPyConnection, first: int, run_id: str, as_of: datetime, decided_at: datetime, bundle: str
) -> bytes:
    """`ledger_rows`: nonces, leaf indices and all columns. Returns the leaf hashes in order, end to end.

    Rows stand in the order of their nonces: a place in the ledger says nothing about whom it is about.
    """
    count = int(connection.execute("select count(*) from ledger_entered").fetchone()[0])
    drawn = os.urandom(NONCE_BYTES * count)
    nonces = pa.FixedSizeBinaryArray.from_buffers(pa.binary(NONCE_BYTES), count, [None, pa.py_buffer(drawn)])
    connection.register("ledger_nonces", pa.table({"nonce": nonces.cast(pa.binary())}))
    given = {
        "as_of": f"timestamp {literal(as_of)}",
        "decided_at": f"timestamp {literal(decided_at)}",
        "bundle_sha256": literal(bundle),
        "run_id": literal(run_id),
        "input_sha256": "sha256(inputs.input)",
        "leaf_index": f"cast({first} + row_number() over (order by entered.nonce) - 1 as bigint)",
    }
    columns = ", ".join(
        f"cast({given.get(name, 'entered.' + name)} as {kind}) as {name}" for name, kind in DECISION_COLUMNS.items()
    )
    try:
        connection.execute(
            f"""
            create or replace temp table ledger_rows as
            select entered.nonce, entered.role, {columns}
            from (select * from ledger_entered positional join ledger_nonces) as entered
            left join ledger_inputs as inputs
                on inputs.subject_token = entered.subject_token and inputs.role = entered.role
            """
        )
    finally:
        connection.unregister("ledger_nonces")
    expression = leaf_hash_of("decided.nonce", decision_text("decided"))
    query = f"select {expression} as hash from ledger_rows as decided order by leaf_index"
    hashed = connection.execute(query).to_arrow_table()["hash"]
    return b"".join(hashes_end_to_end(chunk) for chunk in hashed.chunks)


def _totals(connection: duckdb.DuckDBPyConnection, families: list[str], book: int) -> dict[str, Any]:
    rows = connection.execute(
        f"select family, {delta_of('rows')} as delta, count(*) from ledger_rows as rows group by all"
    ).fetchall()
    moved = {(family, delta): count for family, delta, count in rows}
    segments = connection.execute("select family, segment, count(*) from ledger_now group by all").fetchall()
    totals = {}
    for family in sorted({*families, *(row[0] for row in rows)}):
        new, changed = moved.get((family, 1), 0), moved.get((family, 0), 0)
        counts = {segment: count for name, segment, count in segments if name == family}
        totals[family] = {
            "new": new,
            "changed": changed,
            "unchanged": sum(counts.values()) - new - changed,
            "departed": moved.get((family, -1), 0),
            "segments": dict(sorted(counts.items())),
        }
    return totals
