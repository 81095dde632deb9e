"""The policy is data, and data can be wrong: a build over a wrong seed fails, and says why."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from orchestration.settings import DBT_PROJECT_DIR
from orchestration.transformation import dbt_environment, dbt_executable
from tests.dbt.conftest import VARIABLES, Dbt

POLICY = Path("seeds") / "policy"
TABLE, PURPOSES = POLICY / "consent_decision_table.csv", POLICY / "profile_purposes.csv"


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Dbt:
    """A store of its own: a wrong policy must not be left in the others'."""
    return Dbt(tmp_path_factory.mktemp("policy") / "home")


def build(home: Dbt, folder: Path, edited: dict[Path, tuple[str, str]], *selection: str) -> tuple[int, dict[str, str]]:
    """Exit code and status by node of a build over the project with some seeds' text replaced."""
    project = folder / "dbt_project"
    shutil.copytree(DBT_PROJECT_DIR, project)
    for path, (old, new) in edited.items():
        text = (project / path).read_text(encoding="utf-8")
        assert old in text
        (project / path).write_text(text.replace(old, new), encoding="utf-8")
    done = subprocess.run(
        [dbt_executable(), "build", "--exclude-resource-type", "unit_test", "--select", *selection, "--vars", VARIABLES,
         "--project-dir", str(project), "--target-path", str(folder / "target")],
        env={**os.environ, **dbt_environment(home.settings), "DBT_PROFILES_DIR": str(project), "DAGSTER_DBT_CLI": "true"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    results = json.loads((folder / "target" / "run_results.json").read_text(encoding="utf-8"))["results"]
    return done.returncode, {result["unique_id"].split(".")[2]: result["status"] for result in results}


def test_a_purpose_without_policy_rows_fails_the_build(home, tmp_path):
    """A purpose that the profile declares and the table forgot: the gate must not even be built."""
    forgotten = (
        "fintech,analytics,true,",
        "fintech,train_ai_system,true,none,strict,consent,true,false,false,unknown,a law,\nfintech,analytics,true,",
    )
    code, status = build(home, tmp_path, {PURPOSES: forgotten}, "+gate")
    assert code != 0
    assert status["policy_in_force_covers_every_declared_purpose"] == "fail"
    assert status["gate"] == "skipped"


WRONG = {
    "an allowance without a grant": (TABLE, ("EU,18+,analytics,unknown,DEFAULT,", "EU,18+,analytics,unknown,ALLOW,")),
    "advertising to a minor": (TABLE, ("EU,16-17,ads_sale_share,granted,DEFAULT,", "EU,16-17,ads_sale_share,granted,ALLOW,")),
    "a legal obligation that listens": (
        TABLE,
        ("EU,18+,aml_legal_obligation,withdrawn,ALLOW,ALLOW", "EU,18+,aml_legal_obligation,withdrawn,DEFAULT,DEFAULT"),
    ),
    "strict looser than the law": (TABLE, ("EU,18+,analytics,granted,ALLOW,ALLOW", "EU,18+,analytics,granted,ALLOW,DEFAULT")),
    "a word nobody knows": (TABLE, ("EU,18+,analytics,granted,ALLOW,ALLOW", "EU,18+,analytics,granted,PERHAPS,ALLOW")),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_policy_that_breaks_an_invariant_fails_its_test(home, tmp_path, mistake):
    path, change = WRONG[mistake]
    code, status = build(home, tmp_path, {path: change}, "consent_decision_table")
    assert code != 0
    assert status["consent_decision_table_keeps_its_invariants"] == "fail"
