"""The consent gate alone at scale: so many people by all seven purposes of the policy, beside a floor.

Measured is the SQL that a run executes, as dbt compiled it: `consent_states` into a table, then every column of every row
of `gate`, read and not written (writing them costs about as much again, and depends on the disk). The floor is what a person
might write who knows no rule but «the latest word counts»: the last action of each person and purpose, and the policy's
cell for it. It knows no capacity, notice, scope, expiry, request or browser's signal.

The events are made up, by the engine's hash of a number and so always the same: 1.2 a person over the five purposes that
read signals, one person in eight with a browser's signal, one in seventy with an opt-out request.

Belongs here: the gate's own figures. Does not belong here: a run as a whole (`measure`).
"""

import tempfile
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from orchestration.bench.measure import BenchError
from orchestration.bench.statements import seed_statements
from orchestration.ingestion.contracts import load_contracts
from orchestration.lake import ensure_zones, open_lake
from orchestration.settings import Settings
from orchestration.transformation import TransformationError, compile_project, dbt_variables, prepare

AS_OF = datetime(2026, 11, 1)
MODELS = ("policy_in_force", "consent_states", "gate")
PEOPLE = """
create table lake.staging.stg_crm__customers as
select left(sha256(number::varchar), 22) as subject_token, 'risk_' || left(sha256('r' || number), 22) as risk_subject_token,
    'aud_' || left(sha256('a' || number), 22) as audience_subject_token,
    list_extract(['DE', 'US', 'GB', 'CZ', 'FR', 'BR'], (1 + hash(number) % 6)::bigint) as country_code,
    case when hash(number, 1) % 3 = 0 then 'CA' end as region_code,
    list_extract(['18+', '18+', '18+', '18+', '13-15', '<13', 'unknown'], (1 + hash(number, 2) % 7)::bigint) as age_band,
    hash(number, 2) % 7 < 4 as is_self_consent_capable
from range({people}) as numbers (number)
"""
EVENTS = """
create table lake.staging.stg_cmp__consent_events as
with told as (
    select number, purpose, timestamp '2025-01-01' + to_seconds((hash(number, purpose, turn) % 50000000)::bigint) as effective_at,
        list_extract(['granted', 'granted', 'denied', 'withdrawn'], (1 + hash(number, purpose, turn, 1) % 4)::bigint) as action,
        'form' as method
    from range({people}) as numbers (number), range(2) as turns (turn),
        (values ('analytics'), ('personalisation'), ('ads_sale_share'), ('significant_decision_admt'), ('sensitive'))
            as purposes (purpose)
    where hash(number, purpose, turn, 2) % 100 < 12
    union all
    select number, 'ads_sale_share', timestamp '2026-02-01', 'gpc_on', 'gpc_header'
    from range({people}) as numbers (number)
    where number % 8 = 0
)
select 'CE-' || row_number() over () as consent_event_id, left(sha256(number::varchar), 22) as subject_token, purpose, action,
    'self' as actor, method, null::varchar as parental_scope, '2026-01' as notice_version, null::varchar as notice_hash,
    null::varchar as effective_precision, null::boolean as is_after_conflict_notice, true as is_capable_at_collection,
    effective_at, effective_at + interval '30' second as received_at, null::timestamp as expires_at
from told
"""
REQUESTS = """
create table lake.staging.stg_cmp__privacy_requests as
select 'PR-' || number as request_id, left(sha256(number::varchar), 22) as subject_token, 'opt_out' as request_type,
    'received' as status, timestamp '2026-06-01' as received_at
from range({people}) as numbers (number)
where number % 70 = 0
"""
ANSWERED = """
select count(*), count(*) filter (where gate_outcome = 'ALLOW'), bit_xor(hash(answers)) from ({gate}) as answers
"""
FLOOR = """
with latest as (
    select subject_token, purpose, arg_max(action, effective_at) as action
    from lake.staging.stg_cmp__consent_events
    group by all
),
purposes as (select distinct purpose from lake.consent.policy_in_force),
answers as (
    select people.subject_token, people.risk_subject_token, people.audience_subject_token, purposes.purpose, policy.policy_cell,
        policy.legal_reference, policy.policy_version
    from lake.staging.stg_crm__customers as people
    cross join purposes
    left join latest on people.subject_token = latest.subject_token and purposes.purpose = latest.purpose
    left join lake.consent.policy_in_force as policy
        on purposes.purpose = policy.purpose and policy.jurisdiction = 'EU' and policy.age_band = people.age_band
        and policy.signal = coalesce(latest.action, 'unknown')
)
select count(*), bit_xor(hash(answers)) from answers
"""


def measure_gate(people: int = 1_000_000, threads: int = 2, memory_limit_mb: int = 3000) -> dict[str, Any]:
    """Seconds (wall-clock and processor) of the gate over that many people, and of its floor. Raises `BenchError`.

    The processor's seconds are those of this process; on a machine that does other work only they compare.
    """
    with tempfile.TemporaryDirectory(prefix="segline-bench-gate-") as folder:
        manifest = _compiled(Path(folder))
    texts = {node["name"]: node.get("compiled_code") for node in manifest["nodes"].values() if node["name"] in MODELS}
    with duckdb.connect() as connection:
        connection.execute(f"set threads = {threads}; set memory_limit = '{memory_limit_mb}MB'; set timezone = 'UTC'")
        connection.execute("set preserve_insertion_order = false; attach ':memory:' as lake")
        for zone in ("policy", "reference", "staging", "consent"):
            connection.execute(f"create schema lake.{zone}")
        for statement in seed_statements(manifest):
            if ".policy." in statement.name or statement.name.endswith('"countries"'):
                connection.execute(statement.sql)
        for sql in (PEOPLE, EVENTS, REQUESTS):
            connection.execute(sql.format(people=people))
        timed: dict[str, tuple[float, float]] = {}
        for name in MODELS[:2]:
            _, timed[name] = _timed(connection, f"create table lake.consent.{name} as {texts[name]}")
        (rows, allowed, _), timed["gate"] = _timed(connection, ANSWERED.format(gate=texts["gate"]))
        (floor_rows, _), floor = _timed(connection, FLOOR)
        events = connection.execute("select count(*) from lake.staging.stg_cmp__consent_events").fetchone()[0]
    if not rows == floor_rows == 7 * people or not 0 < allowed < rows:
        raise BenchError(f"the gate answered {rows} questions of {7 * people} and allowed {allowed}: that measures nothing")
    seconds, cpu = (sum(figures[kind] for figures in timed.values()) for kind in (0, 1))
    return {
        "people": people,
        "purposes": 7,
        "events": events,
        "rows": rows,
        "allowed": allowed,
        "threads": threads,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu, 2),
        "stages": {name: [round(figure, 2) for figure in figures] for name, figures in timed.items()},
        "floor_seconds": round(floor[0], 2),
        "floor_cpu_seconds": round(floor[1], 2),
        "cpu_ratio_to_floor": round(cpu / floor[1], 2),
    }


def _timed(connection: duckdb.DuckDBPyConnection, sql: str) -> tuple[tuple[Any, ...], tuple[float, float]]:
    wall, processor = time.perf_counter(), time.process_time()
    row = connection.execute(sql).fetchone()
    return row or (), (time.perf_counter() - wall, time.process_time() - processor)


def _compiled(folder: Path) -> dict[str, Any]:
    """dbt's manifest with the gate's compiled SQL, made in a store of its own."""
    settings = Settings(home=folder / "home", profile="fintech")
    prepare(settings, AS_OF)
    with open_lake(settings) as connection:
        ensure_zones(connection)
        for contract in load_contracts().values():
            connection.execute(contract.raw_ddl())
    try:
        return compile_project(settings, dbt_variables(settings, AS_OF), folder / "target", "--select", *MODELS)
    except TransformationError as error:
        raise BenchError(str(error)) from None
