"""The floor's statements: they leave out what a contract forbids, and build models in the order of dependence."""

from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from orchestration.bench.floor import execute
from orchestration.bench.statements import (
    Statement,
    UnsupportedMapping,
    model_statements,
    opening,
    raw_statements,
    seed_statements,
)
from orchestration.ingestion.contracts import load_contracts
from orchestration.ingestion.mapping import load_mapping
from orchestration.settings import DBT_PROJECT_DIR

AS_OF = datetime(2026, 11, 1)
CUSTOMERS = """customer_id,customer_type,email,birth_date,country
C1,Individual,a@example.com,2012-05-01,Deutschland
C2,corporate,b@example.com,,US
C3,individual,c@example.com,1990-01-01,DE
C3,individual,other@example.com,1990-01-01,DE
C4,individual,d@example.com,1990-01-01,
C4,individual,d@example.com,1990-01-01,
C5,martian,e@example.com,1990-01-01,DE
"""
TRANSACTIONS = """transaction_id,customer_id,booked_at,direction,amount,currency,payment_method,counterparty_id
T1,C1,2026-10-01T10:00:00,credit,"1,234.50",eur,card,X
T2,C9,2026-10-01T10:00:00,credit,1,EUR,card,X
T3,C1,2026-12-01T10:00:00,credit,1,EUR,card,X
T4,C1,2026-10-01T10:00:00,credit,many,EUR,card,X
T5,C2,2026-10-01T10:00:00,debit,1,EUR,cash,
T5,C2,2026-10-01T10:00:00,debit,1.00,EUR,cash,
T6,C2,2026-10-01T10:00:00,debit,1,EUR,cash,
T6,C2,2026-10-01T10:00:00,debit,2,EUR,cash,
T7,C3,2026-10-01T10:00:00,debit,2,EUR,cash,
"""
MAPPING = """version: 1
name: small
as_of: "2026-11-01T00:00:00"
feeds:
  - {name: crm, entity: customers, files: customers.csv}
  - {name: payments, entity: transactions, files: transactions.csv}
"""


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "mapping.yml").write_text(MAPPING)
    (tmp_path / "customers.csv").write_text(CUSTOMERS)
    (tmp_path / "transactions.csv").write_text(TRANSACTIONS)
    return tmp_path


def run_floor(folder: Path, statements: list[Statement]) -> duckdb.DuckDBPyConnection:
    database = folder / "floor.duckdb"
    plan = [*opening(database, folder / "temp", 500), *statements]
    execute({"statements": [vars(statement) for statement in plan]})
    connection = duckdb.connect()
    connection.execute(f"attach '{database}' as lake (read_only); use lake")
    return connection


@pytest.fixture
def landed(sources):
    with run_floor(sources, raw_statements(load_mapping(sources), sources, AS_OF)) as connection:
        yield connection


def test_equal_repeats_stay_once_and_contradictory_ones_not_at_all(landed):
    kept = landed.execute("select transaction_id from raw.transactions order by all").fetchall()
    assert kept == [("T1",), ("T5",)]
    assert landed.execute("select count(*) from raw.customers").fetchone() == (3,)


def test_values_are_typed_as_the_platform_types_them(landed):
    row = landed.execute(
        "select amount, currency, direction, booked_at from raw.transactions where amount > 1"
    ).fetchone()
    assert [str(value) for value in row] == ["1234.50", "EUR", "credit", "2026-10-01 10:00:00"]


def test_identifiers_are_gone_and_pseudonyms_meet(landed):
    columns = {row[0]: row[1].lower() for row in landed.execute("describe raw.customers").fetchall()}
    assert list(columns) == list(load_contracts()["customers"].raw_columns())
    joined = "select count(*) from raw.transactions join raw.customers using (subject_token)"
    assert landed.execute(joined).fetchone() == (2,)


def test_ages_and_who_may_consent_alone(landed):
    found = landed.execute("select age_band, is_self_consent_capable from raw.customers order by all").fetchall()
    assert found == [("13-15", False), ("18+", True), ("18+", True)]


def test_an_entity_without_files_is_an_empty_table(landed):
    for entity, contract in load_contracts().items():
        columns = [row[0] for row in landed.execute(f"describe raw.{entity}").fetchall()]
        assert columns == list(contract.raw_columns())
    assert landed.execute("select count(*) from raw.web_events").fetchone() == (0,)


def test_a_mapping_with_lookups_is_refused(sources):
    (sources / "mapping.yml").write_text(MAPPING + "lookups: {owners: {files: owners.csv, key: a}}\n")
    with pytest.raises(UnsupportedMapping, match="lookups"):
        raw_statements(load_mapping(sources), sources, AS_OF)


def node(kind: str, name: str, **more) -> dict:
    return {"unique_id": f"{kind}.segline.{name}", "resource_type": kind, "alias": name, "schema": "risk", **more}


def model(name: str, reads: list[str], materialized: str = "table") -> dict:
    parents = {"nodes": [f"model.segline.{parent}" for parent in reads] + ["seed.segline.tiers"]}
    config = {"materialized": materialized}
    return node("model", name, depends_on=parents, config=config, compiled_code=f"select '{name}' as a")


def manifest(*nodes: dict) -> dict:
    return {"nodes": {entry["unique_id"]: entry for entry in nodes}}


def test_models_come_after_what_they_read():
    statements = model_statements(manifest(model("c", ["b"]), model("b", ["a"], "view"), model("a", [])))
    assert [statement.sql.split(" as ")[0] for statement in statements] == [
        'create table lake.risk."a"',
        'create view lake.risk."b"',
        'create table lake.risk."c"',
    ]


def test_a_materialization_without_a_statement_stops_the_floor():
    """A floor that left a model out would be faster than the result it claims."""
    with pytest.raises(ValueError, match="snapshot"):
        model_statements(manifest(model("a", [], "snapshot")))


def test_every_seed_of_the_project_is_readable_with_its_declared_types(tmp_path):
    files = sorted((DBT_PROJECT_DIR / "seeds").rglob("*.csv"))
    seeds = [
        node("seed", path.stem, original_file_path=str(path.relative_to(DBT_PROJECT_DIR)), config={"column_types": {}})
        for path in files
    ]
    with run_floor(tmp_path, seed_statements(manifest(*seeds))) as connection:
        for path in files:
            rows = connection.execute(f"select count(*) from risk.{path.stem}").fetchone()[0]
            assert rows > 0 or path.stem == "notices", path.name  # a tenant declares its own
