"""A tiny project for the proof: the real policy, sources and gate, and models that a test writes."""

from orchestration.ingestion.contracts import load_contracts
from orchestration.lineage.project import PythonStep, load_policy, read_project
from orchestration.lineage.proof import Proof, prove

GATE_COLUMNS = [
    "subject_token", "risk_subject_token", "audience_subject_token", "purpose", "purpose_role", "jurisdiction", "age_band",
    "signal", "consent_status", "consent_event_id", "gate_outcome", "gate_reason", "legal_basis", "legal_reference",
    "policy_version", "policy_mode",
]  # fmt: skip
GATE_SQL = f"""
    with events as (
        select *, row_number() over (partition by subject_token, purpose order by effective_at desc, event_id) as position
        from lake.raw.consent_events
    )
    select {", ".join("c." + name for name in GATE_COLUMNS[:3])}, p.purpose, p.purpose_role, 'EU' as jurisdiction, c.age_band,
        'granted' as signal, e.action as consent_status, e.event_id as consent_event_id,
        case when e.action = 'granted' then 'ALLOW' else 'DEFAULT' end as gate_outcome, e.action as gate_reason,
        p.legal_basis, p.legal_basis as legal_reference, '1' as policy_version, 'strict' as policy_mode
    from lake.raw.customers as c
    cross join lake.policy.purposes as p
    left join events as e on c.subject_token = e.subject_token and p.purpose = e.purpose and e.position = 1
"""
STAGED = {
    ("staging", "transactions"): "select subject_token, counterparty_token, amount, direction, category from lake.raw.transactions",
    ("staging", "customers"): "select * from lake.raw.customers",
    ("staging", "incidents"): "select subject_token, severity from lake.raw.incidents",
}
EVIDENCE = "g.consent_event_id, g.consent_status, g.legal_basis, g.policy_version, g.gate_reason"


def node(zone: str, name: str, sql: str = "", role: str | None = None, kind: str = "model", columns=(), **config) -> dict:
    """A node as dbt's manifest has it."""
    meta = {"governance": {"role": role}} if role else {}
    return {
        "resource_type": kind, "schema": zone, "name": name, "alias": name, "language": "sql", "description": "",
        "compiled_code": sql, "columns": {column: {"config": {"meta": {"category": category}}} for column, category in dict(columns).items()},
        "config": {"materialized": "table", "meta": meta, "pre-hook": [], "post-hook": []} | config,
    }  # fmt: skip


def manifest(nodes: list[dict], sources: list[dict] = ()) -> dict:
    """A compiled manifest of the sources, the gate and the given nodes."""
    fixed = [
        node("policy", "purposes", kind="seed", columns={"purpose": None, "purpose_role": None, "legal_basis": None}),
        node("reference", "categories", kind="seed", columns={"category": None, "weight": None}),
        node("consent", "gate", GATE_SQL, columns=dict.fromkeys(GATE_COLUMNS)),
        *(node(zone, name, sql) for (zone, name), sql in STAGED.items()),
    ]
    every = {f"{one['resource_type']}.t.{one['schema']}.{one['name']}": one for one in [*fixed, *nodes]}
    return {"metadata": {"adapter_type": "duckdb"}, "nodes": every, "sources": {str(n): one for n, one in enumerate(sources)}}


def proof_of(nodes: list[dict], waivers=(), today=None, sources=(), steps: dict[str, PythonStep] | None = None, contracts=None) -> Proof:
    """The proof over the tiny project."""
    project = read_project(manifest(nodes, list(sources)), contracts or load_contracts(), load_policy(), "fintech", steps)
    return prove(project, waivers, today)


def audience(sql: str, **config) -> list[dict]:
    """One marketing relation."""
    return [node("audience", "members", sql, **config)]
