"""Ten thousand rules: the rating still compiles, and every one of them is evaluated and on the register."""

import json
import os
import subprocess
import sys

import pytest

from orchestration.lake import open_lake
from orchestration.settings import DBT_PROJECT_DIR
from orchestration.transformation import dbt_environment

RULES = 10_000
# Variables of that size do not fit on a command line, so dbt is called from Python.
SCRIPT = """
import json, sys
from pathlib import Path
from dbt.cli.main import dbtRunner
variables = Path(sys.argv[1]).read_text()
result = dbtRunner().invoke(["--quiet", "run", "-s", "risk_ratings", "risk_rules", "--vars", variables,
                             "--project-dir", sys.argv[2], "--target-path", sys.argv[3]])
sys.exit(0 if result.success else str(result.exception or [r.message for r in result.result]))
"""


def rule(number: int) -> dict[str, object]:
    return {
        "id": f"X{number}", "factor": ("customer", "geography", "product", "channel")[number % 4], "name": f"Generated {number}",
        "text": f"The customer's tenure is at least {number} days.", "predicate": f"tenure_days >= {number}", "points": 1,
        "owner": "team:one", "approved_by": "team:two", "rationale": "generated", "legal_reference": "none",
        "valid_from": "2020-01-01", "profiles": ["fintech"],
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.nightly
def test_ten_thousand_rules_are_all_evaluated(built, tmp_path):
    """An engine that stops counting at some number of rules would rate too low, and nobody would notice."""
    dbt = built
    with open_lake(dbt.settings) as connection:
        columns = [row[0] for row in connection.execute("describe lake.features.risk_features").fetchall()]
        values = {"risk_subject_token": "'risk_one'", "subject_token": "'one'", "tenure_days": str(RULES)}
        picked = ", ".join(f"{values.get(column, 'null')} as {column}" for column in columns)
        connection.execute(f"insert into lake.features.risk_features select {picked}")
    variables = {"as_of": "2026-11-01 00:00:00", "profile": "fintech", "extra_rules": [rule(n) for n in range(1, RULES + 1)]}
    path = tmp_path / "variables.json"
    path.write_text(json.dumps(variables))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), str(DBT_PROJECT_DIR), str(tmp_path / "target")],
        env=os.environ | dbt_environment(dbt.settings), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-2000:]
    with open_lake(dbt.settings, read_only=True) as connection:
        codes = connection.execute("select reason_codes from lake.risk.risk_ratings").fetchone()[0].split(",")
        registered = connection.execute("select count(*) from lake.candidate.risk_rules where rule_id like 'X%'").fetchone()[0]
    assert len([code for code in codes if code.startswith("X")]) == RULES
    assert registered == RULES
