"""How long an opt-out takes until it holds in what is published, at a given number of customers.

The book is made in the store directly, with the platform's own compiled gate over it: raw customers, three consent events
each, requests, and what is published. One measurement records opt-outs of that many persons and applies them, as the
command or the sensor's job does; opening the store is part of it, starting a process is not.

Belongs here: the book and the measuring. Does not belong here: drawing.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa

from orchestration.bench.measure import BenchError
from orchestration.deliveries import record_delivery
from orchestration.identity.keys import load_keys
from orchestration.identity.pseudonyms import tokens_by_zone
from orchestration.ingestion.contracts import load_contracts
from orchestration.lake import ensure_zones, open_lake
from orchestration.publication import publish
from orchestration.rights.intake import OptOut, record_opt_outs
from orchestration.rights.opt_out import apply_opt_outs
from orchestration.rights.published_sql import Model, record_models
from orchestration.settings import Settings

NAMES = ("audience_segments", "risk_segments", "excluded_subjects")


@dataclass(frozen=True)
class OptOutFigures:
    """Seconds of wall clock and of processor over the repetitions, for so many opt-outs at once."""

    opt_outs: int
    repetitions: int
    wall_p50: float
    wall_p99: float
    wall_longest: float
    cpu_p50: float
    cpu_p99: float


def customer(number: int) -> str:
    """The tenant's identifier of the book's nth customer."""
    return f"bench-{number:08d}"


def build_book(settings: Settings, models: list[Model], customers: int, as_of: datetime) -> None:
    """A published book of so many customers, everybody consenting and in a named segment.

    `models` and `as_of` come from a real run in the same profile (`regating.published_models`): its gate decides here.
    The policy and the look-ups must be in the store already.
    """
    names = pa.array([customer(number) for number in range(customers)], pa.string())
    columns = tokens_by_zone(load_keys(settings), ["raw", "risk", "audience"], names)
    people = pa.table(dict(zip(("subject_token", "risk_subject_token", "audience_subject_token"), columns, strict=True)))
    with open_lake(settings) as connection:
        ensure_zones(connection)
        for contract in load_contracts().values():
            connection.execute(f"drop table if exists lake.raw.{contract.entity}")
            connection.execute(contract.raw_ddl())
        connection.register("people", people)
        connection.execute(
            "insert into lake.raw.customers by name select *, 'individual' as customer_type, '18+' as age_band, "
            "true as is_self_consent_capable, 'DE' as country, 'active' as status, 'crm' as feed, 'bench' as load_id from people"
        )
        for purpose in ("analytics", "personalisation", "ads_sale_share"):
            connection.execute(
                "insert into lake.raw.consent_events by name select $purpose || row_number() over () as event_id, subject_token, "
                "$purpose as purpose, 'granted' as action, $at::timestamp as effective_at, $at::timestamp as received_at, "
                "'form' as method, 'self' as actor, 'cmp' as feed, 'bench' as load_id from people",
                {"purpose": purpose, "at": as_of - timedelta(days=30)},
            )
        _build(connection, models)
        record_delivery(connection, "bench", "bench", settings.profile, as_of)
        publish(connection, NAMES, "bench", settings.profile, as_of, lambda: record_models(connection, models))


def _build(connection: duckdb.DuckDBPyConnection, models: list[Model]) -> None:
    """What dbt would build of it; whoever the gate allows is in one named segment."""
    evidence = "consent_event_id, consent_status, legal_basis, legal_reference, policy_version, gate_outcome, gate_reason"
    members = {
        "audience": "'engagement' as segment_family, 'quiet' as segment",
        "risk": "'low' as tier, 0 as points, '' as reason_codes, 'bench' as rule_set_version, null::date as review_due_date",
    }
    for model in models:
        if model.kind != "model":
            continue
        kind = "view" if model.materialized == "view" else "table"
        if model.zone == "candidate" and model.name in NAMES:
            as_of = "(select as_of from lake.published.publication limit 1)"
            for role, table in (("audience", "audience_members"), ("risk", "risk_ratings")):
                connection.execute(
                    f"create or replace table lake.{role}.{table} as select {role}_subject_token, {members[role]}, {evidence}, "
                    f"{as_of} as as_of from lake.consent.gate where purpose_role = '{role}' and gate_outcome = 'ALLOW'"
                )
        if model.zone != "candidate" or model.name in NAMES:
            connection.execute(f"create or replace {kind} {model.relation} as {model.sql}")


def measure(
    settings: Settings,
    customers: Sequence[str],
    opt_outs: int,
    repetitions: int,
    report: Callable[[str], None] = lambda text: None,
) -> OptOutFigures:
    """Repeat: record the opt-outs of the next so many of these customers, apply them. Raises `BenchError`."""
    if opt_outs * repetitions > len(customers):
        raise BenchError(f"{repetitions} times {opt_outs} opt-outs need more than the {len(customers)} customers there are")
    walls, processors = [], []
    for repetition in range(repetitions):
        first = repetition * opt_outs
        batch = [OptOut(name, "bench") for name in customers[first : first + opt_outs]]
        wall, processor = time.perf_counter(), time.process_time()
        record_opt_outs(settings, batch)
        result = apply_opt_outs(settings)
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
        if len(result.applied) != opt_outs or not any(result.moved.values()):
            raise BenchError(f"{len(result.applied)} of {opt_outs} opt-outs were applied: the figure would mean nothing")
        report(f"{opt_outs} opt-outs: {walls[-1]:.2f} s, of it processor {processors[-1]:.2f} s")
    return OptOutFigures(
        opt_outs,
        repetitions,
        *(round(float(np.quantile(walls, q)), 3) for q in (0.5, 0.99, 1.0)),
        *(round(float(np.quantile(processors, q)), 3) for q in (0.5, 0.99)),
    )
