"""A small tenant: a book of customers, the models that decide, and a ledger over it on a real lake.

The models are a few lines each, but of the real shape: a gate, features, a rating over a tiers table, audience members,
candidates. What the tests prove of them holds for any SQL, because the ledger reads its inputs off the SQL.
"""

import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb

from orchestration.identity.keys import load_keys
from orchestration.identity.pseudonyms import token
from orchestration.lake import ensure_zones, literal, open_lake, table_exists, transaction
from orchestration.ledger.checkpoint import VerifierKey
from orchestration.ledger.entry import Entry, enter_decisions, finish_entry
from orchestration.ledger.signing_key import verifier_key
from orchestration.ledger.store import prepare_tables
from orchestration.settings import PROJECT_ROOT, Settings

SCRIPT = PROJECT_ROOT / "tools" / "segline_verify.py"
DAY = datetime(2026, 1, 1)

MODELS = {
    "consent.gate": """
with asked as (
    select * from "lake"."staging"."stg_crm__customers" as customers cross join "lake"."policy"."purposes" as purposes
)
select
    asked.subject_token, asked.risk_subject_token, asked.audience_subject_token, asked.purpose, asked.purpose_role,
    case when asked.purpose_role = 'risk' then 'not_applicable' else coalesce(states.consent_status, 'unknown') end
        as consent_status,
    states.consent_event_id,
    case
        when asked.purpose_role = 'risk' then 'ALLOW'
        when asked.age_band = '<13' then 'BLOCK'
        when states.consent_status = 'granted' then 'ALLOW'
        else 'DEFAULT'
    end as gate_outcome,
    case when asked.age_band = '<13' then 'parental_consent_missing' else asked.legal_basis end as gate_reason,
    asked.legal_basis, 'art. 6' as legal_reference, 'p1' as policy_version
from asked
left join "lake"."consent"."consent_states" as states
    on states.subject_token = asked.subject_token and states.purpose = asked.purpose""",
    "risk.risk_ratings": """
with features as (select * from "lake"."features"."risk_features"),
tiers as (select * from "lake"."policy"."risk_tiers"),
scale as (select max(min_points) as high_from, {version} as rule_set_version from tiers),
fired as (select features.*, volume > {limit} as r1, is_pep as r2 from features)
select
    risk_subject_token, (case when r1 then 40 else 0 end) + (case when r2 then 30 else 0 end) as points,
    case when (case when r1 then 40 else 0 end) + (case when r2 then 30 else 0 end) >= high_from then 'high' else 'low' end
        as tier,
    array_to_string(list_filter([case when r1 then 'R1' end, case when r2 then 'R2' end], item -> item is not null), ',')
        as reason_codes,
    cast(scale.rule_set_version as varchar) as rule_set_version, cast(volume / 3 as decimal(18, 6)) as score, as_of
from fired cross join scale""",
    "candidate.risk_segments": """
select
    ratings.risk_subject_token as subject_token, ratings.tier as segment, ratings.points, ratings.score,
    ratings.reason_codes, ratings.rule_set_version, gate.consent_event_id, gate.consent_status, gate.legal_basis,
    gate.legal_reference, gate.policy_version, gate.gate_outcome, gate.gate_reason, timestamp '{as_of}' as as_of
from "lake"."risk"."risk_ratings" as ratings
inner join "lake"."consent"."gate" as gate on gate.risk_subject_token = ratings.risk_subject_token
where gate.purpose_role = 'risk'""",
    "audience.audience_members": """
select
    features.audience_subject_token, 'engagement' as segment_family,
    case when purchases > 2 then 'loyal' else 'quiet' end as segment
from "lake"."features"."audience_features" as features""",
    "candidate.audience_segments": """
select
    gate.audience_subject_token as subject_token, 'engagement' as segment_family,
    coalesce(members.segment, 'default') as segment, gate.consent_event_id, gate.consent_status, gate.legal_basis,
    gate.legal_reference, gate.policy_version, gate.gate_outcome, gate.gate_reason, timestamp '{as_of}' as as_of
from "lake"."consent"."gate" as gate
left join "lake"."audience"."audience_members" as members
    on members.audience_subject_token = gate.audience_subject_token and gate.gate_outcome = 'ALLOW'
where gate.purpose_role = 'audience' and gate.gate_outcome <> 'BLOCK'""",
}
PARENTS = {
    "consent.gate": [],
    "risk.risk_ratings": [],
    "candidate.risk_segments": ["risk.risk_ratings", "consent.gate"],
    "audience.audience_members": [],
    "candidate.audience_segments": ["audience.audience_members", "consent.gate"],
}


@dataclass
class Customer:
    """What the small tenant knows of one person."""

    volume: float = 10.0
    purchases: int = 1
    consent: str | None = None
    age_band: str = "18+"
    is_pep: bool | None = False


@dataclass
class Tenant:
    """A book, the rules' numbers, and the ledger of what was decided."""

    home: Path
    book: dict[str, Customer] = field(default_factory=dict)
    limit: float = 100.0
    runs: int = 0

    @property
    def settings(self) -> Settings:
        return Settings(home=self.home)

    def token(self, customer: str) -> str:
        keys = load_keys(self.settings)
        return token(keys, "ledger", token(keys, "raw", customer))

    @contextmanager
    def lake(self, read_only: bool = False):
        with open_lake(self.settings, read_only) as connection:
            yield connection

    def key(self, connection: duckdb.DuckDBPyConnection) -> VerifierKey:
        return verifier_key(connection, self.settings)

    def manifest(self, as_of: datetime) -> dict:
        version = literal(f"rules-{self.limit:g}")
        nodes = {}
        for name, sql in MODELS.items():
            schema, model = name.split(".")
            nodes[f"model.{name}"] = {
                "resource_type": "model",
                "schema": schema,
                "name": model,
                "compiled_code": sql.replace("{as_of}", str(as_of)).replace("{limit}", str(self.limit)).replace("{version}", version),
                "depends_on": {"nodes": [f"model.{parent}" for parent in PARENTS[name]]},
                "config": {"meta": {"families": ["engagement"]}} if schema == "audience" else {},
            }
        return {"nodes": nodes}

    def build(self, connection: duckdb.DuckDBPyConnection, as_of: datetime) -> dict:
        """Everything that stands before publication, as dbt would have left it."""
        if not table_exists(connection, "raw", "customers"):
            ensure_zones(connection)
        keys = load_keys(self.settings)
        people = [(name, *(token(keys, zone, name) for zone in ("raw", "risk", "audience"))) for name in self.book]
        connection.execute("create or replace temp table people (name varchar, raw varchar, risk varchar, audience varchar)")
        if people:
            connection.executemany("insert into people values (?, ?, ?, ?)", people)
        connection.execute(
            "create or replace temp table known (name varchar, volume double, purchases bigint, consent varchar, "
            "age_band varchar, is_pep boolean)"
        )
        rows = [(name, c.volume, c.purchases, c.consent, c.age_band, c.is_pep) for name, c in self.book.items()]
        if rows:
            connection.executemany("insert into known values (?, ?, ?, ?, ?, ?)", rows)
        connection.execute("begin")
        tokens = "raw as subject_token, risk as risk_subject_token, audience as audience_subject_token"
        for statement in (
            f"raw.customers as select {tokens} from people",
            f"staging.stg_crm__customers as select {tokens}, age_band, 'unread' as city from people join known using (name)",
            "policy.purposes as select * from (values ('aml', 'risk', 'legal_obligation'), ('ads', 'audience', 'consent')) "
            "as p (purpose, purpose_role, legal_basis)",
            "policy.risk_tiers as select * from (values ('low', 0), ('high', 40)) as t (tier, min_points)",
            "consent.consent_states as select raw as subject_token, 'ads' as purpose, consent as consent_status, "
            "'E-' || name as consent_event_id from people join known using (name) where consent is not null",
            f"features.risk_features as select risk as risk_subject_token, volume, is_pep, 'unread' as hobby, "
            f"timestamp '{as_of}' as as_of from people join known using (name)",
            "features.audience_features as select audience as audience_subject_token, purchases from people "
            "join known using (name) where consent = 'granted' and age_band <> '<13'",
        ):
            connection.execute(f"create or replace table lake.{statement}")
        manifest = self.manifest(as_of)
        for name in MODELS:
            connection.execute(f"create or replace table lake.{name} as {manifest['nodes'][f'model.{name}']['compiled_code']}")
        connection.execute("commit")
        return manifest

    def decide(self, connection: duckdb.DuckDBPyConnection, as_of: datetime = DAY) -> Entry:
        """One run: build, enter, commit."""
        manifest = self.build(connection, as_of)
        self.runs += 1
        prepare_tables(connection)
        with transaction(connection):
            entry = self.enter(connection, manifest, f"run{self.runs}", as_of)
        finish_entry(connection, self.settings, entry)
        return entry

    def enter(
        self, connection: duckdb.DuckDBPyConnection, manifest: dict, run_id: str, as_of: datetime = DAY, **given: str
    ) -> Entry | None:
        """Enter what was built, in the transaction that is open."""
        keys = load_keys(self.settings)
        return enter_decisions(connection, self.settings, keys, manifest, run_id, "fintech", as_of, **given)

    def outside(self, export: Path, key: Path, *more: str) -> subprocess.CompletedProcess[str]:
        """The outsider's verifier, as an outsider runs it: a file, an interpreter, no project."""
        command = [sys.executable, "-I", str(SCRIPT), str(export), "--public-key", str(key), *more]
        return subprocess.run(command, capture_output=True, text=True, check=False)


def a_book(count: int = 12) -> dict[str, Customer]:
    """Customers of all kinds: rated high and low, consenting or not, a blocked child."""
    consents = ("granted", None, "withdrawn")
    return {
        f"C{number}": Customer(
            volume=number * 25.5,
            purchases=number % 5,
            consent=consents[number % 3],
            age_band="<13" if number == 7 else "18+",
            is_pep=None if number == 3 else number == 5,
        )
        for number in range(count)
    }
