"""The decision ledger at scale: entering, verifying and proving made-up decisions, through the real writer and verifiers.

The book is made in a store of its own: so many people, some of them consenting, some blocked, with features that the engine's
hash of a number makes up, always the same. The policy, the gate, the rating and the segments over them are the project's own
compiled SQL, so that a decision and its input have the size and the columns of real ones. Each further run decides everybody
anew under another version of the rules, as a change of rules does; so the ledger grows as a real one would in years.

Beside each figure stands its floor: the same bytes hashed by hashlib alone, on one core, and for entering also the same rows
copied by the engine alone.

Belongs here: the ledger's own figures. Does not belong here: a run as a whole (`measure`).
"""

import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from orchestration import progress
from orchestration.bench.measure import BenchError
from orchestration.bench.statements import model_statements, seed_statements
from orchestration.identity.keys import MasterKeys, load_keys
from orchestration.identity.pseudonyms import tokens_by_zone
from orchestration.ingestion.contracts import load_contracts
from orchestration.lake import ensure_zones, identifier, literal, open_lake, private_folder, relation_columns, transaction
from orchestration.ledger.bundles import TARGETS, make_bundle
from orchestration.ledger.checkpoint import parse
from orchestration.ledger.entry import enter_decisions, finish_entry
from orchestration.ledger.export import export_ledger, inclusion_proof
from orchestration.ledger.inputs import families_of
from orchestration.ledger.leaves import decision_text
from orchestration.ledger.proving import Prover
from orchestration.ledger.signing_key import verifier_key
from orchestration.ledger.store import prepare_tables
from orchestration.ledger.verification import verify
from orchestration.settings import PROJECT_ROOT, Settings
from orchestration.transformation import TransformationError, compile_project, dbt_variables, prepare

AS_OF = datetime(2026, 11, 1)
PROOFS = 25
# Ages and consents so that every answer of the gate occurs.
PERSON = """
select *, list_extract(['18+', '18+', '18+', '13-15', '<13'], (1 + hash(subject_token) % 5)::bigint) as age_band,
    hash(subject_token) % 5 < 3 as is_self_consent_capable,
    list_extract(['DE', 'US', 'GB', 'CZ'], (1 + hash(subject_token, 1) % 4)::bigint) as country,
    'individual' as customer_type, 'active' as status, 'crm' as feed, 'bench' as load_id
from people
"""
EVENT = """
select purpose || row_number() over () as event_id, subject_token, purpose,
    list_extract(['granted', 'granted', 'withdrawn'], (1 + hash(subject_token, purpose) % 3)::bigint) as action,
    timestamp '2026-06-01' as effective_at, timestamp '2026-06-01' as received_at,
    'form' as method, 'self' as actor, 'cmp' as feed, 'bench' as load_id
from people, (values ('analytics'), ('personalisation')) as purposes (purpose)
"""


@contextmanager
def timed(into: dict[str, float], name: str) -> Iterator[None]:
    """Wall-clock and processor seconds of the block, under two names."""
    wall, processor = time.perf_counter(), time.process_time()
    yield
    into[f"{name}_seconds"] = round(time.perf_counter() - wall, 2)
    into[f"{name}_cpu_seconds"] = round(time.process_time() - processor, 2)


def measure_ledger(decisions: int, verified: int, exported: int = 0, folder: Path | None = None) -> dict[str, Any]:
    """Figures of entering `decisions` at once, of verifying a ledger of `verified`, of single proofs, and of the floors.

    With `exported`, the outsider's verifier is measured too as soon as the ledger has so many decisions. Works in `folder`, a
    new one, or in a temporary one that is removed. Processor seconds are those of this process and its helpers. Raises
    `BenchError`.
    """
    place = tempfile.TemporaryDirectory(prefix="segline-bench-ledger-") if folder is None else nullcontext(str(folder))
    with place as path:
        settings = Settings(home=Path(path) / "home", profile="fintech")
        if settings.catalog.exists():
            raise BenchError(f"{path} has been used: name a new folder")
        manifest = _compiled(settings, Path(path))
        keys = load_keys(settings)
        families = families_of(manifest)
        people = max(1, decisions // (1 + len(families)))
        figures: dict[str, Any] = {"people": people, "families": 1 + len(families)}
        run = 1
        with open_lake(settings) as connection:
            _book(connection, settings, keys, manifest, people, families)
        with open_lake(settings) as connection:  # another engine, as a publication has one
            with timed(figures, "enter"):
                entered = _enter(connection, settings, keys, manifest, run)
            figures["decisions_entered"] = entered
            figures |= _floors(connection)
            size = entered
            if 0 < exported <= size:
                figures |= _outside(connection, settings, Path(path) / "export")
                exported = 0
            while size < verified:
                run += 1
                progress.report(f"run {run}: {size:,} decisions so far", size / verified)
                _other_versions(connection, run)
                size += _enter(connection, settings, keys, manifest, run)
                if 0 < exported <= size:
                    figures |= _outside(connection, settings, Path(path) / "export")
                    exported = 0
        figures |= _verified(settings) | _proofs(settings)
        return figures


def _compiled(settings: Settings, folder: Path) -> dict[str, Any]:
    progress.report("compiling the project")
    private_folder(settings.runs_dir)
    prepare(settings, AS_OF)
    try:
        return compile_project(settings, dbt_variables(settings, AS_OF), folder / "target", "--no-populate-cache")
    except TransformationError as error:
        raise BenchError(str(error)) from None


def _book(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    keys: MasterKeys,
    manifest: dict[str, Any],
    people: int,
    families: list[str],
) -> None:
    """Everything that stands before a publication: what is read, made up; what decides, computed by the project's SQL."""
    progress.report("making the book")
    ensure_zones(connection)
    for contract in load_contracts().values():
        connection.execute(contract.raw_ddl())
    for statement in (*seed_statements(manifest), *model_statements(manifest)):
        connection.execute(statement.sql)
    names = pa.array([f"bench-{number:08d}" for number in range(people)], pa.string())
    columns = tokens_by_zone(keys, ["raw", "risk", "audience"], names)
    made = dict(zip(("subject_token", "risk_subject_token", "audience_subject_token"), columns, strict=True))
    connection.register("people", pa.table(made))
    connection.execute(f"insert into lake.raw.customers by name {PERSON}")
    connection.execute(f"insert into lake.raw.consent_events by name {EVENT}")
    connection.unregister("people")
    _rebuild(connection, manifest, ("staging", "consent"))
    document = make_bundle(connection, manifest, settings.profile, AS_OF, families).document
    for relation in document["inputs"]:
        if relation.startswith("features."):
            _features(connection, relation, relation_columns(connection))
    _rebuild(connection, manifest, ("risk", "audience", "candidate"))


def _rebuild(connection: duckdb.DuckDBPyConnection, manifest: dict[str, Any], zones: tuple[str, ...]) -> None:
    for statement in model_statements(manifest):
        if statement.name.split(".")[1] in zones:
            connection.execute(statement.sql.replace("create ", "create or replace ", 1))


def _features(connection: duckdb.DuckDBPyConnection, relation: str, columns: dict) -> None:
    """A made row for everybody whom the gate allows that side; a value is the engine's hash of person and column."""
    schema, name = relation.split(".")
    types = columns[schema, name]
    role = "risk" if "risk_subject_token" in types else "audience"
    token = f"{role}_subject_token" if f"{role}_subject_token" in types else "subject_token"
    values = ", ".join(f"{_value(column, kind, token)} as {identifier(column)}" for column, kind in types.items())
    kinds = connection.execute(
        "select count(*) from duckdb_views() where database_name = 'lake' and schema_name = ? and view_name = ?", [schema, name]
    ).fetchone()[0]
    connection.execute(f"drop {'view' if kinds else 'table'} lake.{schema}.{identifier(name)}")
    connection.execute(
        f"create table lake.{schema}.{identifier(name)} as select {values} from (select distinct {token} as token from "
        f"lake.consent.gate where purpose_role = {literal(role)} and gate_outcome = 'ALLOW')"
    )


def _value(column: str, kind: str, token: str) -> str:
    if column == token:
        return "token"
    drawn = f"hash(token, {literal(column)})"
    if column == "as_of":
        return f"timestamp {literal(AS_OF)}"
    if kind == "VARCHAR":
        return f"case when {drawn} % 3 > 0 then 'word ' || {drawn} % 20 end"
    if kind == "BOOLEAN":
        return f"case {drawn} % 9 when 0 then true when 1 then null else false end"
    if kind in ("DATE", "TIMESTAMP"):
        return f"cast(date '2020-01-01' + ({drawn} % 2000)::integer as {kind})"
    if kind.startswith(("DOUBLE", "DECIMAL", "FLOAT")):
        return f"cast({drawn} % 100000 / 7 as {kind})"
    return f"cast({drawn} % 100 as {kind})" if "INT" in kind else f"cast(null as {kind})"


def _enter(
    connection: duckdb.DuckDBPyConnection, settings: Settings, keys: MasterKeys, manifest: dict[str, Any], run: int
) -> int:
    prepare_tables(connection)
    with transaction(connection):
        entry = enter_decisions(connection, settings, keys, manifest, f"bench-{run}", settings.profile, AS_OF)
    finish_entry(connection, settings, entry)
    if not entry.decisions:
        raise BenchError("nothing was entered: the figure would mean nothing")
    return entry.decisions


def _other_versions(connection: duckdb.DuckDBPyConnection, run: int) -> None:
    for column, (schema, name) in zip(("rule_set_version", "policy_version"), TARGETS.values(), strict=True):
        relation = f"lake.{schema}.{name}"
        connection.execute(f"create or replace table {relation} as select * replace ('bench-{run}' as {column}) from {relation}")
    gate = "lake.consent.gate"
    connection.execute(f"create or replace table {gate} as select * replace ('bench-{run}' as policy_version) from {gate}")


def _floors(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """hashlib alone over the leaves and inputs of the entry, and the engine alone copying the same rows."""
    progress.report("the floors")
    figures: dict[str, Any] = {}
    seconds, size, rows = 0.0, 0, 0
    leaf = f"'\\x00'::blob || nonce || encode({decision_text('decided')})"
    leaves = f"select {leaf} as data from lake.ops.decision_payloads as decided"
    for query in (leaves, "select encode(input) as data from lake.ops.decision_inputs"):
        for batch in connection.execute(query).to_arrow_reader(100_000):
            values = batch.column(0).to_pylist()
            began = time.perf_counter()
            for value in values:
                sha256(value).digest()
            seconds += time.perf_counter() - began
            size += sum(map(len, values))
            rows += len(values)
    figures |= {"hashlib_alone_seconds": round(seconds, 2), "hashed_mb": round(size / 1e6), "hashed_texts": rows}
    with timed(figures, "engine_copy"), transaction(connection):
        for name in ("decision_payloads", "decision_inputs", "ledger_leaves"):
            connection.execute(f"create table lake.ops.bench_{name} as from lake.ops.{name}")
    for name in ("decision_payloads", "decision_inputs", "ledger_leaves"):
        connection.execute(f"drop table lake.ops.bench_{name}")
    return figures


def _verified(settings: Settings) -> dict[str, Any]:
    progress.report("verifying")
    figures: dict[str, Any] = {}
    with open_lake(settings, read_only=True) as connection:
        key = verifier_key(connection, settings)
        with timed(figures, "verify"):
            report = verify(connection, key)
    if not report.is_good:
        raise BenchError(f"the ledger does not verify: {report.findings[:3]}")
    return figures | {"decisions_verified": report.checked["decisions"], "leaves_verified": report.checked["leaves"]}


def _outside(connection: duckdb.DuckDBPyConnection, settings: Settings, folder: Path) -> dict[str, Any]:
    """The outsider's verifier over an export of the ledger as it stands."""
    progress.report("exporting, and the outsider's verifier")
    figures: dict[str, Any] = {}
    with timed(figures, "export"):
        figures["exported_leaves"] = export_ledger(connection, folder)
    key = folder.parent / "public.key"
    key.write_text(verifier_key(connection, settings).text(), encoding="utf-8")
    script = PROJECT_ROOT / "tools" / "segline_verify.py"
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-I", str(script), str(folder), "--public-key", str(key)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"the outsider's verifier refused: {done.stdout[-500:]}")
    return figures | {"outsider_seconds": round(time.perf_counter() - began, 2)}


def _proofs(settings: Settings) -> dict[str, Any]:
    """Milliseconds of one inclusion proof from an open connection, and of one with the leaf's row, each read anew."""
    progress.report("single proofs")
    figures: dict[str, Any] = {}
    with open_lake(settings, read_only=True) as connection:
        prover = Prover(connection)
        with timed(figures, "proofs_made_ready"):
            size = parse(prover.inclusion(0)["checkpoint"]).size
        leaves = [secrets.randbelow(size) for _ in range(PROOFS)]
        proof = _milliseconds(leaves, prover.inclusion)
        with_row = _milliseconds(leaves, lambda leaf: inclusion_proof(connection, leaf))
    return figures | {
        "proof_ms": proof[0],
        "proof_longest_ms": proof[1],
        "proof_with_row_ms": with_row[0],
        "proof_with_row_longest_ms": with_row[1],
    }


def _milliseconds(leaves: list[int], ask: Callable[[int], object]) -> tuple[float, float]:
    """Median and longest."""
    taken = []
    for leaf in leaves:
        began = time.perf_counter()
        ask(leaf)
        taken.append(1000 * (time.perf_counter() - began))
    return round(sorted(taken)[len(taken) // 2], 2), round(max(taken), 2)
