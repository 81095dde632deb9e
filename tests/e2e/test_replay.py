"""A past decision, replayed through the real command after the world has moved on.

The gate has the same over a small tenant in tests/unit/ledger/test_ledger_proofs.py; here are whole runs.
"""

import shutil
import subprocess
import sys

import pytest

from orchestration.settings import PROJECT_ROOT
from tests.e2e.test_published_run import a_customer

pytestmark = [pytest.mark.slow, pytest.mark.nightly]
DAY, LATER = "2026-11-01", "2026-11-03"
LATE = '"IN-LATE","{}","2026-10-20T10:00:00","2026-10-31T09:00:00","fraud","critical","confirmed"\n'


def risk(told: dict) -> dict:
    return next(one for one in told["decisions"] if one["family"] == "risk")


def test_a_decision_is_replayed_after_three_later_runs_a_rule_change_and_a_late_event(fintech, tmp_path):
    """Two clocks: the late event makes a new decision for the same day; what stood before is still there, and both are equal."""
    cli = fintech.cli.copy(tmp_path / "home")
    customer = a_customer(fintech.sources)
    first = cli.json("replay", customer, "--as-of", DAY)
    known = max(one["decided_at"] for one in first["decisions"])
    assert "R110" not in (risk(first)["on_record"]["reason_codes"] or "")

    cli("run", "--sources", str(fintech.sources), "--as-of", "2026-11-02")  # a day on which nothing happened

    project = tmp_path / "project"  # the same tenant with stricter tiers
    shutil.copytree(PROJECT_ROOT, project, ignore=shutil.ignore_patterns(".git", ".venv", "target", "logs", "tests", ".*cache"))
    tiers = project / "dbt_project" / "seeds" / "policy" / "risk_tiers.csv"
    tiers.write_text(tiers.read_text(encoding="utf-8").replace("medium,25", "medium,5"), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "orchestration.cli", "run", "--sources", str(fintech.sources), "--as-of", LATER],
        cwd=project, env=cli.environment() | {"PYTHONPATH": str(project)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]

    sources = tmp_path / "sources"  # an incident of before DAY that is told after it
    shutil.copytree(fintech.sources, sources)
    with (sources / "incidents.csv").open("a", encoding="utf-8") as stream:
        stream.write(LATE.format(customer))
    cli("run", "--sources", str(sources))

    then = cli.json("replay", customer, "--as-of", DAY, "--known-at", known)
    assert then == first
    between = risk(cli.json("replay", customer, "--as-of", LATER))
    now = risk(cli.json("replay", customer, "--as-of", DAY))
    assert all(one["equal"] for one in (*then["decisions"], between, now))
    versions = [one["on_record"]["rule_set_version"] for one in (risk(first), between, now)]
    assert versions[0] == versions[2] != versions[1]
    assert "R110" in now["on_record"]["reason_codes"] and now["on_record"]["segment"] != risk(first)["on_record"]["segment"]
    assert len({one["leaf_index"] for one in (risk(first), between, now)}) == 3
    assert cli.json("verify")["checked"]["runs"] == 4
    for words, one in (("as first decided, still", risk(then)), ("by the stricter tiers", between), ("with the late event", now)):
        record = one["on_record"]
        print(f"{words}: leaf {one['leaf_index']}, {record['segment']}, {record['reason_codes']}, equal: {one['equal']}")
