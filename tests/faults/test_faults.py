"""Whatever goes wrong with a run, readers see one whole publication, the ledger verifies or says what is damaged, and the next
run publishes what an undisturbed one would have.

All chains are nightly: some seventy disturbed runs. The gate disturbs a run once, inside the publication's commit, and has the
faults that need no run. `python -m tests.faults` does the same by hand and writes the table; `-s` shows it here.
"""

import os
import shutil
import subprocess

import pytest

from orchestration.lake import open_lake
from orchestration.settings import Settings
from tests.e2e.conftest import Published
from tests.effort import made_once
from tests.faults.driving import call, has_strace
from tests.faults.fault_list import AFTER, BEFORE_DBT_AND_PUBLICATION, CHAINS, CHECKS, COMMITS
from tests.faults.harness import Fault, Ground, as_markdown, change_delivery, judge_end, lay_ground, undergo
from tests.faults.injecting import faketime_library
from tests.faults.looking import leftovers, published, verdict

pytestmark = pytest.mark.slow


def cannot(fault: Fault) -> str:
    """Why a fault cannot be done on this machine; empty if it can."""
    if fault.needs == "strace" and not has_strace():
        return "no strace: apt-get install strace"
    if fault.needs == "mount" and os.geteuid():
        return "only root may mount a small volume"
    if fault.needs == "libfaketime":
        loads = subprocess.run(["true"], env={"LD_PRELOAD": str(faketime_library())}, capture_output=True, text=True, check=False)
        return f"libfaketime does not load: {loads.stderr[:80]}" if loads.stderr else ""
    return ""


@pytest.fixture(scope="session")
def ground(tmp_path_factory) -> Ground:
    folder, _ = made_once(tmp_path_factory, "ground", lay_ground)
    return lay_ground(folder)  # what lies there already


@pytest.mark.nightly
@pytest.mark.parametrize("name", CHAINS)
def test_after_every_fault_the_publication_is_whole_and_the_next_run_converges(ground, tmp_path, name):
    chain = [fault for fault in CHAINS[name] if not cannot(fault)]
    if not chain:
        pytest.skip("; ".join(sorted({cannot(fault) for fault in CHAINS[name]})))
    outcomes = undergo(chain, ground, tmp_path)
    print(f"\n{name}\n\n{as_markdown(outcomes)}")
    assert [(outcome.fault, outcome.problems) for outcome in outcomes if outcome.problems] == []


@pytest.mark.nightly
def test_the_list_has_every_step_of_a_run(ground):
    """A step that is new must be killed at too."""
    assert set(ground.steps) == {*BEFORE_DBT_AND_PUBLICATION, *CHECKS, *AFTER}


@pytest.fixture(scope="module")
def changed(fintech: Published, tmp_path_factory):
    """A delivery that changes both sides of what is published."""
    folder = tmp_path_factory.mktemp("changed") / "sources"
    shutil.copytree(fintech.sources, folder)
    change_delivery(folder)
    return folder


@pytest.mark.nightly  # two runs
def test_a_run_killed_inside_the_publications_commit_has_published_nothing(fintech: Published, changed, tmp_path):
    """Where a kill could do most harm: the data files are written, the catalogue is halfway."""
    fault = next(fault for fault in COMMITS if fault.name == "killed inside the publication's commit")
    if cannot(fault):
        pytest.skip(cannot(fault))
    cli = fintech.cli.copy(tmp_path / "home")
    assert judge_end(fault, fault.disturb(cli.home, changed)) == []
    assert published(cli.home) == published(fintech.cli.home)
    assert verdict(cli.home) == "good"
    # The harness sees what lies there: a killed run leaves files, and a run that nobody ended.
    assert any(found.startswith("orphan") for found in leftovers(cli.home)) and "run STARTED" in leftovers(cli.home)


@pytest.mark.parametrize("state", ["gone", "empty"])
def test_without_its_catalogue_a_store_is_not_begun_anew(fintech: Published, changed, tmp_path, state):
    """A new catalogue would be an empty store, and with the key at hand a second ledger under the name of the first."""
    cli = fintech.cli.copy(tmp_path / "home")
    for path in (cli.home / "lake").glob("catalog.sqlite*"):
        path.unlink()
    if state == "empty":
        (cli.home / "lake" / "catalog.sqlite").touch()
    files = sorted(path.name for path in (cli.home / "lake").rglob("*.parquet"))
    refused = call(cli.home, "run", "--sources", str(changed))
    assert refused.code == 1 and "restore it from your backup" in refused.said, refused.said
    assert "Traceback" not in refused.said
    assert sorted(path.name for path in (cli.home / "lake").rglob("*.parquet")) == files


def test_a_ledger_file_with_a_flipped_bit_is_named(fintech: Published, tmp_path):
    cli = fintech.cli.copy(tmp_path / "home")
    (path, *_) = (cli.home / "lake" / "data" / "ops" / "decision_payloads").glob("*.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "ops.decision_payloads cannot be read" in verdict(cli.home)
    assert "restore the lake from your backup" in verdict(cli.home)
    assert published(cli.home) == published(fintech.cli.home)


def test_the_newest_delivery_is_the_last_one_taken_in_whatever_the_clock_said(fintech: Published, tmp_path):
    """A clock set back between two runs must not make the older delivery's day the one that is rated for."""
    from datetime import datetime

    from orchestration.deliveries import newest_delivery, record_delivery

    cli = fintech.cli.copy(tmp_path / "home")
    settings = Settings(home=cli.home)
    with open_lake(settings) as connection:
        connection.execute("update lake.ops.deliveries set landed_at = timestamp '2999-01-01'")
        record_delivery(connection, "later", "m", "fintech", datetime(2030, 1, 1))
        assert newest_delivery(connection, settings).run_id == "later"
