"""An identifier that no deletion reaches fails the build; so does personal data in a table without a key."""

import json

import pytest

from orchestration.identity.vault import PERSONS, attached_vault
from orchestration.ingestion.contracts import Contract, ContractColumn, load_contracts
from orchestration.lake import engine
from orchestration.rights.reach import key_columns, unreachable_identifier_columns
from orchestration.transformation import target_path
from tests.effort import parsed_home


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> dict:
    return json.loads((target_path(parsed_home(tmp_path_factory, "fintech")) / "manifest.json").read_text(encoding="utf-8"))


@pytest.fixture
def vault_columns(retail) -> list[str]:
    with engine(retail.settings) as connection, attached_vault(connection, retail.settings, read_only=True) as vault:
        return [column[0] for column in vault.execute(f"select * from {PERSONS} limit 0").description]


def test_every_identifier_of_the_project_is_reached(manifest, vault_columns):
    """The build's guard: contracts, every dbt model, and the vault as it really is."""
    assert unreachable_identifier_columns(manifest, load_contracts(), vault_columns) == []
    personal = [
        node["name"] for node in manifest["nodes"].values()
        if any(str((column.get("config") or {}).get("meta", {}).get("category", "")).startswith("user.") for column in node["columns"].values())
    ]  # fmt: skip
    assert len(personal) > 15  # the categories are there to be read


def column(name: str, **values) -> ContractColumn:
    return ContractColumn(name=name, type="string", description="x", **{"category": "user.account", **values})


@pytest.mark.parametrize(
    ("columns", "entity", "why"),
    [
        ([column("email", category="user.contact.email")], "letters", "would be stored as it is"),
        ([column("device", category="user.device.device_id")], "letters", "would be stored as it is"),
        ([column("email", category="user.contact.email", identifier=True)], "letters", "split off by nobody"),
        ([column("passport", category="user.government_id", identifier=True)], "customers", "no column for"),
    ],
)
def test_an_identifier_out_of_reach_is_named(manifest, vault_columns, columns, entity, why):
    base = [column("customer_id", subject=True, category="user.unique_id")]
    contract = Contract(entity=entity, description="x", owner="team:x", cadence_hours=1, key="customer_id", columns=(*base, *columns))
    problems = unreachable_identifier_columns({"nodes": {}}, {entity: contract}, vault_columns)
    assert len(problems) == 1 and why in problems[0] and columns[0].name in problems[0]


def test_a_contract_that_does_not_say_whom_its_rows_are_about_is_named(vault_columns):
    contract = Contract(entity="letters", description="x", owner="team:x", cadence_hours=1, key="id", columns=(column("id"),))
    assert "cannot be found" in unreachable_identifier_columns({"nodes": {}}, {"letters": contract}, vault_columns)[0]


@pytest.mark.parametrize(
    ("columns", "materialized", "is_reached"),
    [
        ({"subject_token": "user.unique_id.pseudonymous", "age_band": "user.demographic"}, "table", True),
        ({"subject_number": "user.unique_id.pseudonymous", "spend": "user.financial"}, "table", True),
        ({"who": "user.unique_id.pseudonymous"}, "table", False),
        ({"spend": "user.financial"}, "table", False),
        ({"spend": "user.financial"}, "view", True),
        ({"country": "system.operations"}, "table", True),
    ],
)
def test_a_model_without_a_key_is_named(columns, materialized, is_reached):
    node = {
        "resource_type": "model", "schema": "features", "name": "m", "config": {"materialized": materialized},
        "columns": {name: {"config": {"meta": {"category": category}}} for name, category in columns.items()},
    }  # fmt: skip
    assert (unreachable_identifier_columns({"nodes": {"m": node}}, {}, []) == []) is is_reached


def test_keys_are_told_from_mentions():
    names = ["subject_token", "risk_subject_token", "counterparty_token", "subject_number", "amount"]
    assert key_columns(names) == (("subject_token", "risk_subject_token"), ("counterparty_token",), ("subject_number",))
