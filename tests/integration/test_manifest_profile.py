"""The manifest that Dagster shows belongs to the tenant's profile."""

import json

from orchestration.running import export_settings
from orchestration.settings import Settings
from orchestration.transformation import prepare
from tests.effort import parsed_home


def rule_ids(manifest) -> set[str]:
    nodes = json.loads(manifest.read_text(encoding="utf-8"))["nodes"].values()
    return {rule["id"] for node in nodes for rule in node["config"].get("meta", {}).get("rules", [])}


def test_a_retailer_sees_a_retailers_rules_and_a_change_of_profile_is_noticed(tmp_path_factory, monkeypatch):
    """An auditor who reads a bank's rules at a toy shop would audit the wrong register."""
    home = parsed_home(tmp_path_factory, "childrens_retail").home
    found = {}
    for profile in ("childrens_retail", "fintech"):
        settings = Settings(home=home, profile=profile)
        monkeypatch.setenv("SEGLINE_HOME", str(settings.root))
        export_settings(settings)
        found[profile] = rule_ids(prepare(settings))
    assert found["childrens_retail"] and found["fintech"]
    assert found["childrens_retail"] != found["fintech"]
