"""The policy is data, and data can be wrong: a build over a wrong seed fails, and says why."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from orchestration.settings import DBT_PROJECT_DIR
from orchestration.transformation import dbt_environment, dbt_executable
from tests.dbt.conftest import INVARIANTS, VARIABLES, Dbt
from tests.dbt.consent_rows import Store

PURPOSES = Path("seeds") / "policy" / "profile_purposes.csv"
DECLARED = "fintech,analytics,true,"
FORGOTTEN = "fintech,train_ai_system,true,none,strict,consent,true,false,false,unknown,a law,\n"


def test_a_purpose_without_policy_rows_fails_the_build(tmp_path):
    """A purpose that the profile declares and the table forgot: with a run's own selection the gate is not even built."""
    home, project = Dbt(tmp_path / "home"), tmp_path / "dbt_project"
    shutil.copytree(DBT_PROJECT_DIR, project)
    text = (project / PURPOSES).read_text(encoding="utf-8")
    (project / PURPOSES).write_text(text.replace(DECLARED, FORGOTTEN + DECLARED), encoding="utf-8")
    done = subprocess.run(
        [dbt_executable(), "build", "--exclude-resource-type", "unit_test", "--exclude", "tag:policy", "--select", "+gate",
         "--vars", VARIABLES, "--project-dir", str(project), "--target-path", str(tmp_path / "target")],
        env={**os.environ, **dbt_environment(home.settings), "DBT_PROFILES_DIR": str(project), "DAGSTER_DBT_CLI": "true"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    results = json.loads((tmp_path / "target" / "run_results.json").read_text(encoding="utf-8"))["results"]
    status = {result["unique_id"].split(".")[2]: result["status"] for result in results}
    assert done.returncode != 0
    assert status["policy_in_force"] == "success"
    assert status["policy_in_force_covers_every_declared_purpose"] == "fail"
    assert status["gate"] == "skipped"


MISTAKES = {
    "strict allows nothing without a grant": "strict = 'ALLOW', statutory = 'ALLOW' where jurisdiction = 'EU' and age_band = '18+' "
    "and purpose = 'analytics' and signal = 'unknown'",
    "strict allows no advertising to minors or unknown ages": "strict = 'ALLOW', statutory = 'ALLOW' where jurisdiction = 'US-CA' "
    "and age_band = '16-17' and purpose = 'ads_sale_share' and signal = 'granted'",
    "law and legitimate interest do not vary with the signal": "strict = 'DEFAULT', statutory = 'DEFAULT' where age_band = '18+' "
    "and purpose = 'aml_legal_obligation' and signal = 'withdrawn'",
    "strict is never looser than statutory": "statutory = 'DEFAULT' where jurisdiction = 'EU' and age_band = '18+' "
    "and purpose = 'analytics' and signal = 'granted'",
    "a browser signal always stops advertising": "statutory = 'ALLOW' where jurisdiction = 'US-CA' and age_band = '18+' "
    "and purpose = 'ads_sale_share' and signal = 'granted+gpc_on'",
    "no child under 13 grants for itself": "statutory = 'ALLOW' where jurisdiction = 'EU' and age_band = '<13' "
    "and purpose = 'personalisation' and signal = 'granted'",
    "denied and withdrawn agree": "statutory = 'DEFAULT' where jurisdiction = 'US-CA' and age_band = '18+' "
    "and purpose = 'analytics' and signal = 'denied'",
    "no minor meets a solely automated decision, whoever consents": "statutory = 'ALLOW' where jurisdiction = 'EU' "
    "and age_band = '16-17' and purpose = 'significant_decision_admt' and signal = 'granted'",
    "an unknown age is never served advertising, decisions or sensitive uses": "strict = 'ALLOW', statutory = 'ALLOW' "
    "where jurisdiction = 'EU' and age_band = 'unknown' and purpose = 'sensitive' and signal = 'granted'",
    "an unknown jurisdiction is never looser than the European Union": "statutory = 'ALLOW' where jurisdiction = 'OTHER' "
    "and age_band = '18+' and purpose = 'ads_sale_share' and signal = 'granted+gpc_on'",
    "every outcome cites its law": "reference = null where jurisdiction = 'UK' and age_band = '18+' and purpose = 'sensitive'",
    "outcomes are known words": "strict = 'PERHAPS' where jurisdiction = 'EU' and age_band = '18+' and signal = 'granted'",
    "the table is a full cross product": None,
}


@pytest.fixture(scope="module")
def invariants(built):
    """The SQL of the invariants' test as dbt compiles it."""
    nodes = built.artefact("manifest.json", "compiled")["nodes"].values()
    return next(node["compiled_code"] for node in nodes if node["name"] == INVARIANTS)


@pytest.mark.parametrize("broken", [None, *MISTAKES])
def test_each_invariant_of_the_policy_notices_the_cell_that_breaks_it(consent_models, invariants, broken):
    """Without a mistake none is broken; with one, the invariant that it breaks is among those named."""
    store = Store(consent_models)
    table = "lake.policy.consent_decision_table"
    if broken:
        change = MISTAKES[broken]
        sql = f"update {table} set {change}" if change else f"delete from {table} where jurisdiction = 'UK' and signal = 'expired'"
        assert store.connection.execute(sql).fetchone()[0] > 0, "the mistake hits no cell"
    found = {row["broken_invariant"] for row in store.rows(invariants)}
    assert (broken in found) if broken else not found
    store.connection.close()
