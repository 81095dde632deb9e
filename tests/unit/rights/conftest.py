"""A small landed home with derived tables and artefacts, built once per profile and copied for each test.

Real landing, vault, key store and DuckLake; only dbt is left out: its tables are made by plain SQL with the same keys.
"""

import csv
import gzip
import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from orchestration.deliveries import record_delivery
from orchestration.identity import keys as keys_module
from orchestration.identity.keys import MasterKeys, load_keys
from orchestration.ingestion.landing import land
from orchestration.ingestion.mapping import load_mapping
from orchestration.lake import open_lake, table_columns
from orchestration.rights.requests import Subject
from orchestration.sample.generate import generate_sample
from orchestration.settings import Settings

AS_OF = datetime(2026, 11, 1)
DERIVED = """
create or replace table lake.features.risk_subjects as select subject_token, risk_subject_token,
    row_number() over (order by risk_subject_token) as subject_number from lake.raw.customers;
create or replace table lake.features.risk_transaction_measures as select subject_number, count(*) as movements
    from lake.features.risk_subjects inner join lake.raw.transactions using (subject_token) group by 1;
create or replace table lake.risk.risk_ratings as
    select risk_subject_token, 'medium' as tier, 'C1' as reason_codes from lake.raw.customers;
create or replace table lake.published.risk_segments as
    select risk_subject_token as subject_token, 'medium' as segment from lake.raw.customers;
create or replace table lake.consent.gate as select subject_token, risk_subject_token, audience_subject_token, 'personalisation' as purpose,
    case when subject_number % 2 = 0 then 'ALLOW' else 'DEFAULT' end as gate_outcome, 'consent' as legal_basis
    from lake.raw.customers inner join lake.features.risk_subjects using (subject_token, risk_subject_token);
create or replace table lake.audience.audience_members as select audience_subject_token, 'brisk' as segment from lake.raw.customers;
create or replace table lake.published.audience_segments as
    select audience_subject_token as subject_token, 'engagement' as segment_family, 'brisk' as segment from lake.raw.customers;
create or replace table lake.ops.decisions as select 1 as leaf, 'abc' as leaf_hash;
create or replace table lake.ops.decision_payloads as select risk_subject_token as subject_token, 'payload' as payload from lake.raw.customers;
"""


@dataclass
class Home:
    """A landed home and the sample behind it."""

    settings: Settings
    sources: Path

    @property
    def keys(self) -> MasterKeys:
        return load_keys(self.settings)

    def land(self, run_id: str = "again", sources: Path | None = None) -> dict[tuple[str, str], int]:
        """Take the delivery in (again) and derive; returns quarantined rows by feed and reason."""
        folder = sources or self.sources
        with open_lake(self.settings) as connection:
            delivery = land(
                connection, self.settings, self.keys, load_mapping(folder), folder, AS_OF, run_id, lambda stage, share: None
            )
            record_delivery(connection, run_id, "sample", self.settings.profile, AS_OF)
            for statement in DERIVED.split(";\n"):
                if statement.strip():
                    connection.execute(statement)
        assert all(count.reconciles for count in delivery.counts)
        return delivery.reasons

    def rows(self, sql: str, *values: object) -> list[tuple]:
        with open_lake(self.settings, read_only=True) as connection:
            return connection.execute(sql, list(values) or None).fetchall()

    def customers(self) -> list[dict[str, str]]:
        """Delivered natural persons that were taken in, one row each, with every identifier, richest in data first."""
        with (self.sources / "customers.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        seen = [row["customer_id"] for row in rows]
        movements = dict(self.rows("select subject_token, count(*) from lake.raw.transactions group by 1"))
        events = dict(self.rows("select subject_token, count(*) from lake.raw.consent_events group by 1"))
        chosen = []
        for row in rows:
            token = self.subject(row["customer_id"]).tokens["raw"]
            filled = all(len(row[name]) >= 6 for name in ("customer_id", "email", "full_name", "phone"))
            if filled and seen.count(row["customer_id"]) == 1 and token in movements and token in events:
                chosen.append(row)
        assert len(chosen) > 20
        return chosen

    def subject(self, customer: str) -> Subject:
        return Subject.of(self.keys, customer)

    def copy(self, folder: Path) -> "Home":
        """The same home elsewhere: also how a backup is made."""
        shutil.copytree(self.settings.root, folder)
        # Not `model_copy`: it would keep the root that was computed for the other home.
        return Home(Settings(home=folder, profile=self.settings.profile, memory_limit_mb=1000), self.sources)

    def restore(self, backup: "Home", *parts: str) -> None:
        """Put parts of a backup back, as an operator would."""
        for part in parts:
            shutil.rmtree(self.settings.root / part)
            shutil.copytree(backup.settings.root / part, self.settings.root / part)

    def tables_with(self, customer: str) -> dict[str, int]:
        """Rows per table in which one of the person's pseudonyms stands in any text column."""
        tokens = list(self.subject(customer).tokens.values())
        found = {}
        with open_lake(self.settings, read_only=True) as connection:
            for (schema, table), columns in table_columns(connection).items():
                texts = [name for name, kind in columns.items() if kind == "VARCHAR"]
                if not texts:
                    continue
                # One statement per table: one per column made this the longest part of most tests here.
                counts = ", ".join(f'count(*) filter (where list_contains($tokens, "{name}"))' for name in texts)
                row = connection.execute(f'select {counts} from lake.{schema}."{table}"', {"tokens": tokens}).fetchone()
                found |= {f"{schema}.{table}.{name}": count for name, count in zip(texts, row, strict=True) if count}
        return found

    def plant(self, *texts: str) -> list[Path]:
        """Put texts where they must never be: a log, a report, a packed file, a database."""
        root, joined = self.settings.root, " ".join(texts)
        log, report, packed = root / "runs" / "output.log", root / "reports" / "page.html", root / "exports" / "rows.csv.gz"
        for path in (log, report, packed, root / "dagster" / "history" / "runs" / "x.db"):
            path.parent.mkdir(parents=True, exist_ok=True)
        log.write_text(f"first line\nsecond {joined}\nthird\n")
        report.write_text(f"<p>{joined}</p>")
        packed.write_bytes(gzip.compress(joined.encode()))
        database = root / "dagster" / "history" / "runs" / "x.db"
        with closing(sqlite3.connect(database)) as db:
            db.execute("create table event_logs (id integer, event text)")
            db.executemany("insert into event_logs values (?, ?)", [(1, json.dumps({"value": joined})), (2, "harmless")])
            db.commit()
        return [log, report, packed, database]


def build(folder: Path, profile: str) -> Home:
    sources = folder / "sources"
    generate_sample(sources, profile, customers=220, transactions=1_500)
    home = Home(Settings(home=folder / "home", profile=profile, memory_limit_mb=1000), sources)
    home.land("first")
    return home


@pytest.fixture(autouse=True)
def no_keys_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own keys must not reach a test."""
    monkeypatch.delenv(keys_module.VARIABLE, raising=False)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Home]:
    return {}


@pytest.fixture(scope="session")
def make_home(built: dict[str, Home], tmp_path_factory: pytest.TempPathFactory):
    def make(profile: str) -> Home:
        if profile not in built:
            built[profile] = build(tmp_path_factory.mktemp(profile), profile)
        return built[profile]

    return make


@pytest.fixture
def retail(make_home, tmp_path: Path) -> Home:
    """A retailer's home: no duty keeps anything."""
    return make_home("childrens_retail").copy(tmp_path / "retail")


@pytest.fixture
def bank(make_home, tmp_path: Path) -> Home:
    """A bank's home: the records of due diligence are kept."""
    return make_home("fintech").copy(tmp_path / "bank")


def apply(home: Home):
    """One pass, as the command does it."""
    from orchestration.rights import erasure

    return erasure.apply(home.settings, home.keys)
