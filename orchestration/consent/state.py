"""One subject's consent state at any point in time, from the stored events.

Belongs here: gathering the subject's rows, and the answer for people. Does not belong here: deciding anything; every word
of the answer comes out of the batch's own SQL (`evaluation`).
"""

from datetime import datetime
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestration.consent.evaluation import INPUTS, NotCompiledError, evaluate, newest_compiled, open_bench
from orchestration.identity.keys import load_keys
from orchestration.identity.pseudonyms import token
from orchestration.ingestion.errors import SourceError
from orchestration.lake import literal, open_lake, table_exists
from orchestration.settings import Settings

# What of each input concerns one subject, by the clock of receipt: an event without one was known when it was made.
_KNOWN = {
    "stg_cmp__consent_events": "coalesce(received_at, effective_at)",
    "stg_cmp__privacy_requests": "received_at",
}
_STATES = """
    select gate.purpose, gate.legal_basis, coalesce(states.consent_status, gate.consent_status) as consent_status,
        gate.signal, coalesce(states.state_reason, case when gate.consent_status = 'not_applicable'
            then gate.legal_basis else 'no_consent_on_record' end) as state_reason,
        states.consent_event_id, states.gpc_event_id, states.effective_at, states.expires_at,
        gate.gate_outcome, gate.gate_reason, gate.legal_reference, gate.policy_version, gate.policy_mode
    from lake.consent.gate as gate
    left join lake.consent.consent_states as states
        on gate.subject_token = states.subject_token and gate.purpose = states.purpose
    order by gate.purpose
"""


def state_of(
    settings: Settings, customer: str, as_of: datetime, known_at: datetime | None = None
) -> dict[str, Any]:
    """The customer's state and the gate's answer per declared purpose at `as_of`, as plain values; both clocks are UTC.

    With `known_at` only what had been received by then counts. Age band and residence are those of the newest run, whose
    point in time is in the answer: the platform keeps no birth date from which to make others. Raises `SourceError` if
    nothing was taken in yet or the customer is not in the book.
    """
    with open_lake(settings, read_only=True) as connection:
        if not all(table_exists(connection, schema, name) for schema, name in INPUTS):
            raise SourceError("nothing_evaluated", "no run has evaluated consent yet", "run `segline run` first")
        subject = token(load_keys(settings), "raw", customer)
        tables: dict[tuple[str, str], pa.Table] = {}
        for schema, name in INPUTS:
            conditions = [f"subject_token = {literal(subject)}"] if schema == "staging" else []
            if known_at is not None and name in _KNOWN:
                conditions.append(f"{_KNOWN[name]} <= timestamp {literal(known_at)}")
            where = f" where {' and '.join(conditions)}" if conditions else ""
            tables[schema, name] = connection.execute(f"select * from lake.{schema}.{name}{where}").to_arrow_table()
    if not tables["staging", "stg_crm__customers"].num_rows:
        raise SourceError(
            "unknown_customer",
            "no customer of that identifier was taken in",
            "write it as the source system does; look into ops.quarantine if it was delivered",
        )
    try:
        models = newest_compiled(settings)
    except NotCompiledError as error:
        raise SourceError("nothing_compiled", str(error), "run `segline run` again") from None
    with open_bench(tables) as bench:
        evaluate(bench, models, as_of)
        cursor = bench.execute(_STATES)
        names = [column[0] for column in cursor.description]
        purposes = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        person = bench.execute("select distinct age_band, jurisdiction from lake.consent.gate").fetchone()
    return {
        "customer": customer,
        "as_of": as_of,
        "known_at": known_at,
        "run_id": models.run_id,
        "person_facts_as_of": models.as_of,
        "age_band": person[0] if person else None,
        "jurisdiction": person[1] if person else None,
        "events": tables["staging", "stg_cmp__consent_events"].num_rows,
        "requests": tables["staging", "stg_cmp__privacy_requests"].num_rows,
        "purposes": purposes,
    }


def write_state(state: dict[str, Any], console: Console) -> None:
    """The answer for people."""
    known = f", by what had been received until {state['known_at']} UTC" if state["known_at"] else ""
    console.print(f"State as of {state['as_of']} UTC{known}", highlight=False)
    console.print(
        f"From {state['events']} consent events and {state['requests']} privacy requests; age band {state['age_band']} and "
        f"jurisdiction {state['jurisdiction']} as of {state['person_facts_as_of']} UTC (run {state['run_id']})",
        highlight=False,
    )
    columns = ["purpose", "signal", "state_reason", "consent_event_id", "effective_at", "expires_at"]
    columns += ["gate_outcome", "gate_reason"]
    table = Table(show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in state["purposes"]:
        table.add_row(*(Text("" if row[column] is None else str(row[column])) for column in columns))
    console.print(table)
    console.print(f"Policy: {', '.join(sorted({row['policy_version'] for row in state['purposes']}))}", highlight=False)
