"""Replay: a past decision made again from what was stored then, and compared with what the ledger says.

The very SQL that ran is run again, on an empty in-memory database that is called as the lake was, over the stored inputs and
the reference data of that run. It starts at the gate's and the ratings' inputs: how the features themselves were measured
from transactions is not repeated, for the rows behind them are replaced with every delivery.

Two clocks. A decision has an instant that it was made *for* (`as_of`, event time) and one that it was made *at*
(`decided_at`, knowledge time). Data that come late make a new decision; the old one stays, and both can be asked for.

Belongs here: finding, rebuilding, comparing. Does not belong here: gathering inputs (`inputs`), tokens of customers.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa

from orchestration.lake import ensure_zones, identifier
from orchestration.ledger.bundles import Bundle, digest, load_bundle
from orchestration.ledger.errors import ReplayError
from orchestration.ledger.inputs import assignments, inputs_query, stored_columns
from orchestration.ledger.leaves import DECIDED, DEPARTED
from orchestration.ledger.store import is_kept

SAMPLE = 100
SAMPLE_BUNDLES = 3


@dataclass(frozen=True)
class Decision:
    """A decision on record: leaf, subject, family, what was decided, and where its bundle and inputs are."""

    leaf_index: int
    subject_token: str
    family: str
    as_of: datetime
    decided_at: datetime
    run_id: str
    bundle_sha256: str
    input_sha256: str | None
    decided: Mapping[str, Any]


@dataclass(frozen=True)
class Rebuilt:
    """A decision and what replay made of it. `confirmed_by`: the run that was asked about, the last to let it stand."""

    decision: Decision
    rebuilt: Mapping[str, Any] | None
    confirmed_by: str | None = None

    @property
    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Column: (on record, rebuilt), where they differ."""
        made = self.rebuilt or {}
        return {
            name: (value, made.get(name)) for name, value in self.decision.decided.items() if value != made.get(name)
        }


def decisions_standing(
    connection: duckdb.DuckDBPyConnection, subject_token: str, as_of: datetime, known_at: datetime | None = None
) -> tuple[str, list[Decision]]:
    """The run whose answer stood for `as_of`, and the subject's decisions that stood after it, one per family.

    It is the run for the latest instant up to `as_of`, among equals the last; only runs up to `known_at` count (both UTC).
    Raises `ReplayError` if there was none.
    """
    run = None
    if is_kept(connection):
        known = " and decided_at <= ?" if known_at else ""
        run = connection.execute(
            "select run_id, leaf_index from (select leaf_index, statement ->> 'run_id' as run_id, "
            "cast(statement ->> 'as_of' as timestamp) as as_of, cast(statement ->> 'decided_at' as timestamp) as decided_at "
            f"from lake.ops.ledger_statements where kind = 'run') where as_of <= ?{known} "
            "order by as_of desc, leaf_index desc limit 1",
            [as_of, *([known_at] if known_at else [])],
        ).fetchone()
    if run is None:
        raise ReplayError(f"no run had decided for {as_of} UTC by then; ops.publications lists the runs")
    found = _decisions(
        connection,
        "where subject_token = ? and leaf_index < ? qualify row_number() over (partition by family order by leaf_index desc) = 1",
        [subject_token, run[1]],
    )
    return run[0], sorted(found, key=lambda decision: decision.family)


def sample_decisions(connection: duckdb.DuckDBPyConnection, count: int = SAMPLE) -> list[Decision]:
    """Random decisions from random bundles of the whole history; departures aside, which rest on no input."""
    if not is_kept(connection):
        return []
    names = connection.execute(
        "select bundle_sha256 from (select distinct bundle_sha256 from lake.ops.decision_payloads "
        f"where input_sha256 is not null) using sample {SAMPLE_BUNDLES} rows"
    ).fetchall()
    found = []
    for (name,) in names:
        leaves = connection.execute(
            "select leaf_index from (select leaf_index from lake.ops.decision_payloads where bundle_sha256 = ? "
            f"and input_sha256 is not null) using sample {max(1, count // len(names))} rows",
            [name],
        ).fetchall()
        found += _decisions(connection, "where list_contains(?, leaf_index)", [[row[0] for row in leaves]])
    return found


def replay(connection: duckdb.DuckDBPyConnection, decisions: Sequence[Decision]) -> list[Rebuilt]:
    """Each decision made again from its stored input and bundle, in the order given.

    Raises `ReplayError` if an input is missing or is not what the decision's fingerprint says.
    """
    by_bundle: dict[str, list[Decision]] = defaultdict(list)
    for decision in decisions:
        if decision.decided["segment"] != DEPARTED:
            by_bundle[decision.bundle_sha256].append(decision)
    made: dict[int, Mapping[str, Any]] = {}
    for name, group in by_bundle.items():
        bundle = load_bundle(connection, name)
        inputs = _stored_inputs(connection, group)
        for family in {decision.family for decision in group}:
            of_family = [decision for decision in group if decision.family == family]
            by_subject = {(str(decision.leaf_index), decision.family): inputs[decision.leaf_index] for decision in of_family}
            answers = decide_again(bundle, by_subject)
            for decision in of_family:
                made[decision.leaf_index] = answers.get((str(decision.leaf_index), family), {})
    return [
        Rebuilt(decision, made.get(decision.leaf_index, dict(decision.decided) if not decision.input_sha256 else None))
        for decision in decisions
    ]


def decide_again(bundle: Bundle, inputs: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], dict[str, Any]]:
    """(token, family): what the bundle's SQL decides over that input, a JSON text as `inputs` gathers it.

    A token may be any text, each with one input per side: the same one is put wherever the SQL expects one.
    """
    document = bundle.document
    with duckdb.connect() as lake:
        lake.execute("set timezone = 'UTC'; set enable_progress_bar = false; attach ':memory:' as lake; use lake")
        ensure_zones(lake)
        tokens = sorted({token for token, _ in inputs})
        people = pa.table({"token": pa.array(tokens, pa.string())})
        lake.register("tokens", people)
        lake.execute(
            "create temp table ledger_people as select row_number() over () as number, token as raw_token, "
            "token as risk_subject_token, token as audience_subject_token, token as subject_token from tokens"
        )
        rows: dict[str, dict[str, list[Any]]] = defaultdict(dict)
        for (token, _), text in inputs.items():
            for relation, found in read_input(text).items():
                rows[relation].setdefault(token, found)
        for relation, columns in document["inputs"].items():
            fill(lake, relation, columns, [(token, row) for token, found in rows[relation].items() for row in found])
        for relation, part in document["references"].items():
            content = json.loads(bundle.parts[part])
            fill(lake, relation, content["columns"], [(None, row) for row in content["rows"]])
        for relation, part in document["models"]:
            lake.execute(f"create table lake.{_quoted(relation)} as {bundle.parts[part]}")
        columns = [name for name in DECIDED if name != "profile"]
        found = lake.execute(
            f"select subject_token, family, {', '.join(columns)} from ({assignments(lake, document['families'])})"
        ).fetchall()
    wanted = set(inputs)
    return {
        (row[0], row[1]): dict(zip(columns, row[2:], strict=True)) | {"profile": document["profile"]}
        for row in found
        if (row[0], row[1]) in wanted
    }


def replay_candidates(connection: duckdb.DuckDBPyConnection, bundle: Bundle) -> list[str]:
    """Decide again on the customers of `ledger_people`, as replay would later; returns what differs, empty if nothing.

    Asked before publication, of a sample: a decision that its inputs do not explain must not be published.
    """
    families = bundle.document["families"]
    connection.execute(
        "create or replace temp table replay_wanted as select number, subject_token, unnest(['risk', 'audience']) as role "
        "from ledger_people"
    )
    inputs = {}
    for token, role, text in connection.execute(
        f"select subject_token, role, input from ({inputs_query(connection, bundle, 'replay_wanted')}) "
        "inner join replay_wanted using (number, role)"
    ).fetchall():
        for family in ["risk"] if role == "risk" else families:
            inputs[token, family] = text
    columns = [name for name in DECIDED if name != "profile"]
    stated = connection.execute(
        f"select subject_token, family, {', '.join(columns)} from ({assignments(connection, families)}) "
        "where subject_token in (select subject_token from replay_wanted)"
    ).fetchall()
    differing = []
    by_role: dict[bool, dict[tuple[str, str], str]] = {True: {}, False: {}}
    for (token, family), text in inputs.items():
        by_role[family == "risk"][token, family] = text
    made = decide_again(bundle, by_role[True]) | decide_again(bundle, by_role[False])
    for token, family, *values in stated:
        again = made.get((token, family), {})
        names = [name for name, value in zip(columns, values, strict=True) if again.get(name) != value]
        if names:
            differing.append(f"{family}: {', '.join(names)}")
    if len(stated) != len(inputs):
        differing.append(f"{len(inputs)} decisions were expected, {len(stated)} are there")
    return differing


def _decisions(connection: duckdb.DuckDBPyConnection, condition: str, values: list[Any]) -> list[Decision]:
    own = ("leaf_index", "subject_token", "family", "as_of", "decided_at", "run_id", "bundle_sha256", "input_sha256")
    rows = connection.execute(
        f"select {', '.join((*own, *DECIDED))} from lake.ops.decision_payloads {condition}", values
    ).fetchall()
    return [Decision(*row[: len(own)], dict(zip(DECIDED, row[len(own) :], strict=True))) for row in rows]


def _stored_inputs(connection: duckdb.DuckDBPyConnection, decisions: Iterable[Decision]) -> dict[int, str]:
    wanted = {decision.leaf_index: decision.input_sha256 for decision in decisions}
    found = dict(
        connection.execute(
            "select leaf_index, input from lake.ops.decision_inputs where list_contains(?, leaf_index)", [list(wanted)]
        ).fetchall()
    )
    for leaf, fingerprint in wanted.items():
        if leaf not in found:
            raise ReplayError(f"the input of leaf {leaf} is missing: run `segline verify`")
        if digest(found[leaf]) != fingerprint:
            raise ReplayError(f"the input of leaf {leaf} is not what was decided from: run `segline verify`")
    return found


def read_input(text: str) -> dict[str, list[list[str | None]]]:
    """Rows of values as text by relation, as `inputs` wrote them; numbers are taken as they stand there."""

    def plain(value: str | bool | None) -> str | None:
        return str(value).lower() if isinstance(value, bool) else value

    found = json.loads(text, parse_float=str, parse_int=str, parse_constant=str)
    return {relation: [[plain(value) for value in row] for row in rows] for relation, rows in found.items()}


def fill(
    lake: duckdb.DuckDBPyConnection, relation: str, columns: Sequence[Sequence[str]], rows: list[tuple[str | None, list[Any]]]
) -> None:
    """A table of the in-memory lake with values given as text; where a token stands, the subject's."""
    kept = stored_columns([(name, kind) for name, kind in columns]) if rows and rows[0][0] is not None else columns
    names = [name for name, _ in kept]
    texts = {name: pa.array([row[at] for _, row in rows], pa.string()) for at, name in enumerate(names)}
    lake.register("filling", pa.table({"the_token": pa.array([token for token, _ in rows], pa.string()), **texts}))
    picked = ", ".join(
        f"cast({identifier(name) if name in texts else 'the_token'} as {kind}) as {identifier(name)}" for name, kind in columns
    )
    lake.execute(f"create table lake.{_quoted(relation)} as select {picked} from filling")
    lake.unregister("filling")


def _quoted(relation: str) -> str:
    return ".".join(identifier(part) for part in relation.split("."))


def as_text(value: Any) -> str:
    """A decided value for people."""
    return "" if value is None else str(value.normalize() if isinstance(value, Decimal) else value)
