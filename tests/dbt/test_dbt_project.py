"""dbt's own tests over an empty store: unit tests of every rule branch and gate outcome, the policy's invariants."""

import json

import pytest

from orchestration.lake import open_lake
from tests.dbt.conftest import VARIABLES


def test_the_project_parses_without_deprecations(built):
    built("parse", "--no-partial-parse", "--warn-error-options", '{"error": ["Deprecations"]}', folder="parsed")


def test_models_and_policy_invariants_hold_on_an_empty_book(built):
    """No customers, no transactions, no consent: nothing fails, nothing is invented."""
    results = built.artefact("run_results.json")["results"]
    assert {result["status"] for result in results} <= {"success", "pass", "no-op"}
    with open_lake(built.settings, read_only=True) as connection:
        for name in ("risk_segments", "audience_segments"):
            assert connection.execute(f"select count(*) from lake.candidate.{name}").fetchone() == (0,)


def test_every_rule_branch_and_gate_outcome_behaves_as_named(built):
    built("test", "--select", "test_type:unit")
    results = built.artefact("run_results.json")["results"]
    assert len(results) >= 100
    assert {result["status"] for result in results} == {"pass"}


def test_every_rule_has_a_unit_test(built):
    """A rule without one is a rule that nobody has seen fire."""
    manifest = built.artefact("manifest.json")
    rules = {
        rule["id"]
        for node in manifest["nodes"].values()
        for rule in node.get("config", {}).get("meta", {}).get("rules", [])
    }
    tested = " ".join(unit["name"] + json.dumps(unit["given"]) + json.dumps(unit["expect"]) for unit in manifest["unit_tests"].values())
    assert len(rules) >= 15
    assert [rule for rule in sorted(rules) if rule not in tested and rule.lower() not in tested] == []


def test_every_model_and_column_is_described(built):
    for node in built.artefact("manifest.json")["nodes"].values():
        if node["resource_type"] in ("model", "seed"):
            assert node["description"], node["unique_id"]
            for column in node["columns"].values():
                assert column["description"], f"{node['unique_id']}.{column['name']}"


def test_what_is_published_has_contract_group_owner_and_access(built):
    manifest = built.artefact("manifest.json")
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model" and node["schema"] == "candidate"]
    assert len(models) >= 3
    for node in models:
        assert node["config"]["contract"]["enforced"] and node["config"]["access"] == "public" and node["config"]["group"]
        assert all(column["data_type"] for column in node["columns"].values())
    assert manifest["exposures"]


@pytest.mark.nightly
def test_an_audience_without_its_declared_purpose_is_not_built(built):
    """Both ways over the real seed: as it ships the model builds; without the purpose dbt stops and says why."""
    model = ("run", "--select", "audience_members", "--vars", VARIABLES.replace("fintech", "childrens_retail"))
    built(*model)
    change = "update lake.policy.profile_purposes set is_declared = {} where profile = 'childrens_retail' and purpose = 'ads_sale_share'"
    with open_lake(built.settings) as connection:
        connection.execute(change.format("false"))
    try:
        with pytest.raises(AssertionError, match="'behavioural' needs the purpose 'ads_sale_share'"):
            built(*model)
    finally:
        with open_lake(built.settings) as connection:
            connection.execute(change.format("true"))
