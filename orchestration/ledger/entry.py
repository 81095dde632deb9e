"""Entering a run's decisions: what is new or changed row by row, what is not by one row that vouches for it.

A run appends a leaf per decision that is new or differs from the one that stands (`leaves.DECIDED`), one per subject who left
the book, and at last a statement with the run's totals: whatever stood and was not replaced stands on. Every customer is in
every family once, rated, default or excluded; a run whose sums do not come out enters nothing.

All in the caller's transaction, so that decisions and published segments become visible together. Rows go from the candidates
straight into the ledger's tables and are hashed as they lie there; in memory stay only keys. Sorting or keeping whole rows
of millions of decisions beside it made an entry three times as slow.

Belongs here: comparing, numbering, totals. Does not belong here: the tree (`store`), the form of a leaf (`leaves`).
"""

import os
from collections.abc import Callable, Mapping
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
from orchestration.ledger.hashing import hash_each, hashed
from orchestration.ledger.inputs import RISK, assignments, families_of, inputs_query, map_people
from orchestration.ledger.leaves import (
    DECIDED,
    DECISION_COLUMNS,
    DEPARTED,
    FORM,
    NONCE_BYTES,
    RUN,
    STAMP,
    decision_text,
    delta_of,
    leaf_bytes,
)
from orchestration.ledger.merkle import HASH_BYTES, leaf_hash
from orchestration.ledger.standing import find_standing, leave_those_who_stand, standing_segments
from orchestration.ledger.store import grow, hashes_end_to_end, store_growth
from orchestration.settings import Settings

_TABLES = ("ledger_now", "ledger_standing", "ledger_drawn", "ledger_wanted", "ledger_prints", "ledger_people")


@dataclass(frozen=True)
class Entry:
    """A run's entry. `totals`: per family book, new, changed, unchanged, departed and segments."""

    decisions: int
    totals: Mapping[str, Any]
    checkpoint: str
    readings: reading_log.Readings


def enter_decisions(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    keys: MasterKeys,
    manifest: Mapping[str, Any],
    run_id: str,
    profile: str,
    as_of: datetime,
    zone: str = "candidate",
    among: str | None = None,
) -> Entry | None:
    """Compare the segments of a zone, and the gate, with what stands, and enter what is new or differs.

    `manifest` is the compiled one of this run. The tables are there (`prepare_tables`), a transaction is open, and the caller
    holds the home's lock until it is committed. With `among`, SQL for raw pseudonyms, only those of them who stand in the
    ledger are compared: between runs, for a few; `None` if nothing of theirs changed. Raises `LedgerError` if totals do not
    reconcile with the book, or the ledger is not what its last checkpoint says: then the caller rolls back.
    """
    families = families_of(manifest)
    bundle = make_bundle(connection, manifest, profile, as_of, families)
    book = map_people(connection, keys, among=among)
    find_standing(connection, only_people=bool(among))
    if among:
        book = leave_those_who_stand(connection)
    decided = f"select *, {literal(profile)} as profile from ({assignments(connection, families, zone)})"
    _compare(connection, decided, only_people=bool(among))
    _require_book(connection, [RISK, *families], book)
    now = datetime.now(UTC).replace(tzinfo=None)
    first = int(connection.execute("select coalesce(max(leaf_index) + 1, 0) from lake.ops.ledger_leaves").fetchone()[0])
    count = _number(connection, first)
    if among and not count:
        return None
    _store_inputs(connection, bundle, first)
    same = {"as_of": as_of, "decided_at": now, "bundle_sha256": bundle.sha256, "run_id": run_id}
    _store_rows(connection, decided, same)
    hashes = _leaf_hashes(connection, first, count)
    store_bundle(connection, bundle)
    readings = reading_log.read_pending(connection, settings)
    reading_log.store(connection, readings, run_id)
    if among:
        segments = standing_segments(connection)
        book = sum(counted for family, _, counted in segments if family == RISK)
    else:
        segments = connection.execute("select family, segment, count(*) from ledger_now group by all").fetchall()
    totals = _totals(connection, [RISK, *families], segments)
    statement = canonical(
        {
            "form": FORM,
            "kind": RUN,
            "leaf_index": first + count,
            "run_id": run_id,
            "profile": profile,
            "as_of": as_of.strftime(STAMP),
            "decided_at": now.strftime(STAMP),
            "bundle_sha256": bundle.sha256,
            "first_leaf": first,
            "decisions": count,
            "book": book,
            "families": totals,
            "readings": {"count": len(readings.lines), "sha256": readings.sha256},
        }
    )
    nonce = os.urandom(NONCE_BYTES)
    connection.execute("insert into lake.ops.ledger_statements values (?, ?, ?, ?)", [first + count, RUN, nonce, statement])
    growth = grow(connection, settings, hashes + leaf_hash(nonce + statement.encode()))
    store_growth(connection, growth, run_id, now)
    return Entry(count, totals, growth.note, readings)


def finish_entry(connection: duckdb.DuckDBPyConnection, settings: Settings, entry: Entry) -> None:
    """After the commit: forget the temporary tables, and the readings that are in the ledger now."""
    for name in _TABLES:
        connection.execute(f"drop table if exists temp.{name}")
    reading_log.forget(settings, entry.readings)


def _require_book(connection: duckdb.DuckDBPyConnection, families: list[str], book: int) -> None:
    found = dict(
        connection.execute(
            "select family, case when count(*) = count(distinct number) then count(*) else -1 end from ledger_now group by family"
        ).fetchall()
    )
    wrong = [family for family in {*families, *found} if found.get(family) != (book if family in families else None)]
    if book and wrong:
        raise LedgerError(
            f"the book has {book} customers, but {', '.join(sorted(wrong))} does not hold each of them once: nothing is entered"
        )


def _compare(connection: duckdb.DuckDBPyConnection, decided: str, only_people: bool) -> None:
    """`ledger_now`: keys and segment of every decision, of the one that stands in its place, and whether the two are the same."""
    now = ", ".join(f"now.{name}" for name in DECIDED)
    before = ", ".join(f"before.{name}" for name in DECIDED)
    payloads = "lake.ops.decision_payloads"
    if only_people:  # else a few are looked up among everybody's whole rows
        payloads = f"(select * from {payloads} where leaf_index in (select leaf_index from ledger_standing))"
    connection.execute(
        f"""
        create or replace temp table ledger_now as
        select now.number, now.family, now.role, now.segment, standing.leaf_index as previous_leaf,
            standing.segment as previous_segment,
            standing.leaf_index is not null and row({now}) is not distinct from row({before}) as is_unchanged
        from ({decided}) as now
        left join ledger_standing as standing on standing.number = now.number and standing.family = now.family
        left join {payloads} as before on before.leaf_index = standing.leaf_index
        """
    )


def _number(connection: duckdb.DuckDBPyConnection, first: int) -> int:
    """`ledger_drawn`: keys of what is new, of what differs from the decision that stands, and of who is gone (negative numbers),
    with nonces and leaf indices. Returns how many.

    Leaves stand in the order of their nonces: a place in the ledger says nothing about whom it is about.
    """
    import numpy as np

    rows = connection.execute(
        f"""
        select * exclude is_unchanged from ledger_now where not is_unchanged
        union all by name
        select -row_number() over () as number, standing.family, null as role, '{DEPARTED}' as segment,
            standing.leaf_index as previous_leaf, standing.segment as previous_segment
        from ledger_standing as standing
        left join ledger_now as now on now.number = standing.number and now.family = standing.family
        where now.number is null and standing.segment <> '{DEPARTED}'
        """
    ).to_arrow_table()
    count = rows.num_rows
    drawn = os.urandom(NONCE_BYTES * count)
    nonces = pa.FixedSizeBinaryArray.from_buffers(pa.binary(NONCE_BYTES), count, [None, pa.py_buffer(drawn)])
    places = np.empty(count, np.int64)
    places[np.argsort(np.frombuffer(drawn, ">u8")[::2])] = np.arange(first, first + count)
    rows = rows.append_column("nonce", nonces.cast(pa.binary())).append_column("leaf_index", pa.array(places))
    connection.register("ledger_drawing", rows)
    try:
        connection.execute("create or replace temp table ledger_drawn as from ledger_drawing")
    finally:
        connection.unregister("ledger_drawing")
    return count


def _store_inputs(connection: duckdb.DuckDBPyConnection, bundle: Bundle, first: int) -> None:
    """What the decisions were made from, and in `ledger_prints` its hashes, of the texts as they lie."""
    connection.execute(
        "create or replace temp table ledger_wanted as select distinct number, role from ledger_drawn where number > 0"
    )
    connection.execute(
        "insert into lake.ops.decision_inputs select drawn.leaf_index, inputs.input "
        f"from ({inputs_query(connection, bundle, 'ledger_wanted')}) as inputs "
        "inner join ledger_drawn as drawn on drawn.number = inputs.number and drawn.role = inputs.role"
    )
    with hashed(connection, f"select leaf_index, input from lake.ops.decision_inputs where leaf_index >= {first}") as prints:
        connection.execute(f"create or replace temp table ledger_prints as from {prints}")


def _store_rows(connection: duckdb.DuckDBPyConnection, decided: str, same: Mapping[str, object]) -> None:
    """The decisions, and a last row for each who is gone."""
    kinds = {name: kind for name, kind in DECISION_COLUMNS.items() if name not in same}
    drawn = ("leaf_index", "previous_leaf", "previous_segment", "segment", "family")
    alike = ", ".join(f"cast({literal(value)} as {DECISION_COLUMNS[name]}) as {name}" for name, value in same.items())

    def columns(others: Callable[[str], str]) -> str:
        made = (f"cast({f'drawn.{name}' if name in drawn else others(name)} as {kind}) as {name}" for name, kind in kinds.items())
        return ", ".join((alike, *made))

    def of_a_decision(name: str) -> str:
        return "lower(hex(prints.hash))" if name == "input_sha256" else f"now.{name}"

    def of_the_departed(name: str) -> str:
        reason = "case when people.number is null then 'not_in_the_book' else 'family_not_built' end"
        kept = {"gate_reason": reason, "subject_token": "before.subject_token", "profile": "before.profile"}
        return kept.get(name, "null")

    connection.execute(
        f"""
        insert into lake.ops.decision_payloads by name
        select drawn.nonce, {columns(of_a_decision)}
        from ({decided}) as now
        inner join ledger_drawn as drawn on drawn.number = now.number and drawn.family = now.family
        left join ledger_prints as prints on prints.leaf_index = drawn.leaf_index
        union all by name
        select drawn.nonce, {columns(of_the_departed)}
        from ledger_drawn as drawn
        inner join lake.ops.decision_payloads as before on before.leaf_index = drawn.previous_leaf
        left join ledger_people as people on people.subject_token = before.subject_token
        where drawn.number < 0
        """
    )


def _leaf_hashes(connection: duckdb.DuckDBPyConnection, first: int, count: int) -> bytes:
    """Hashes of the leaves from `first` on, end to end, of the rows as they lie."""
    import numpy as np

    content = leaf_bytes("decided.nonce", decision_text("decided"))
    found = hash_each(
        connection, f"select leaf_index, {content} from lake.ops.decision_payloads as decided where leaf_index >= {first}"
    )
    places = found["leaf_index"].to_numpy() - first
    if not np.array_equal(np.sort(places), np.arange(count)):
        raise LedgerError(
            f"{count} decisions were to be entered, {len(places)} lie there: nothing is entered, run `segline verify`"
        )
    hashes = np.empty((count, HASH_BYTES), np.uint8)
    stored = b"".join(hashes_end_to_end(chunk) for chunk in found["hash"].chunks)
    hashes[places] = np.frombuffer(stored, np.uint8).reshape(count, HASH_BYTES)
    return hashes.tobytes()


def _totals(
    connection: duckdb.DuckDBPyConnection, families: list[str], segments: list[tuple[str, str, int]]
) -> dict[str, Any]:
    rows = connection.execute(
        f"select family, {delta_of('rows')} as delta, count(*) from ledger_drawn as rows group by all"
    ).fetchall()
    moved = {(family, delta): count for family, delta, count in rows}
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
