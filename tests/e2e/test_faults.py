"""What goes wrong on a Monday: a kill, a second run, a bad delivery. The last publication stays readable throughout."""

import os
import shutil
import signal
import subprocess
import time

import pytest

from tests.e2e.conftest import Cli

pytestmark = pytest.mark.slow
PUBLISHED = ("risk_segments", "audience_segments", "risk_rules", "excluded_subjects")


def published(cli: Cli) -> dict[str, str]:
    return {name: cli("query", f"select * from published.{name} order by all", "--format", "csv").stdout for name in PUBLISHED}


def start(cli: Cli, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        cli.command("run", *arguments), env=cli.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def wait_for(process: subprocess.Popen[str], words: str) -> None:
    for line in process.stderr:
        if words in line:
            return
    pytest.fail(f"the run ended without saying {words!r}")


@pytest.fixture(scope="module")
def changed(fintech, tmp_path_factory):
    """The sample with one more customer: a run over it would publish something else."""
    folder = tmp_path_factory.mktemp("changed") / "sources"
    shutil.copytree(fintech.sources, folder)
    with (folder / "customers.csv").open("a", encoding="utf-8") as stream:
        header = (folder / "customers.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
        values = {"customer_id": "LATECOMER", "customer_type": "individual", "country": "DE"}
        stream.write(",".join(values.get(name.strip('"'), "") for name in header) + "\n")
    return folder


@pytest.fixture(scope="module")
def survivor(fintech, tmp_path_factory) -> Cli:
    return fintech.cli.copy(tmp_path_factory.mktemp("killed") / "home")


# The gate kills where a kill could do most harm; before the commit nothing of the publication is written to.
EARLIER = [pytest.param(stage, marks=pytest.mark.nightly) for stage in ("landing transactions", "rating with dbt")]


@pytest.mark.parametrize("stage", [*EARLIER, "publishing"])
def test_a_killed_run_leaves_the_last_publication_readable(fintech, survivor, changed, stage):
    before = published(fintech.cli)
    process = start(survivor, "--sources", str(changed))
    wait_for(process, stage)
    if stage == "rating with dbt":
        time.sleep(8)  # into the middle of dbt's work
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    after = published(survivor)
    if stage == "publishing" and after != before:
        assert "\n" in after["risk_segments"]  # the commit came before the kill: then all of it is new
        assert len(after["risk_segments"].splitlines()) == len(before["risk_segments"].splitlines()) + 1
        assert len(after["audience_segments"].splitlines()) > len(before["audience_segments"].splitlines())
    else:
        assert after == before


@pytest.mark.nightly  # a whole run; the killed home goes on in the gate as well, up to a blocking check
def test_the_next_run_completes_and_the_same_sources_give_the_same_bytes(fintech, survivor):
    """After three kills the run converges to what an undisturbed one published from the same sources."""
    survivor("run", "--sources", str(fintech.sources))
    assert published(survivor) == published(fintech.cli)


@pytest.mark.nightly  # a whole run; the lock itself is in tests/unit/test_run_lock.py
def test_a_second_run_waits_or_says_so_and_readers_are_not_disturbed(fintech, survivor):
    process = start(survivor, "--sources", str(fintech.sources))
    wait_for(process, "checking customers")
    refused = subprocess.run(
        survivor.command("run", "--sources", str(fintech.sources)),
        env=survivor.environment() | {"SEGLINE_LOCK_WAIT_SECONDS": "0"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert refused.returncode == 5, refused.stderr[-2000:]
    assert str(process.pid) in refused.stderr
    read = 0
    while process.poll() is None:
        assert survivor.rows("select count(*) as n from published.risk_segments")[0]["n"] != "0"
        read += 1
    process.stderr.close()
    assert process.returncode == 0 and read >= 1


def test_a_delivery_that_fails_a_blocking_check_is_not_published(fintech, survivor, tmp_path):
    """A quarter of the transactions unreadable: the landing expectation blocks, yesterday's publication stands."""
    folder = tmp_path / "sources"
    shutil.copytree(fintech.sources, folder)
    spoiled = 0
    for path in folder.glob("transactions*.csv"):
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        for number in range(1, len(lines), 2):
            lines[number] = lines[number].replace('"credit"', '"gained"').replace('"debit"', '"lost"')
            lines[number] = lines[number].replace(",credit,", ",gained,").replace(",debit,", ",lost,")
            spoiled += 1
        path.write_text("".join(lines), encoding="utf-8")
    assert spoiled > 1000
    before = published(survivor)
    failed = survivor("run", "--sources", str(folder), expect=4)
    assert "Blocking checks failed" in failed.stderr and "stands" in failed.stderr
    assert published(survivor) == before


@pytest.mark.parametrize(
    ("spoil", "name"),
    [
        (lambda folder: (folder / "customers.csv").write_bytes(b""), "empty_file"),
        (lambda folder: (folder / "customers.csv").unlink(), "missing_file"),
        (lambda folder: (folder / "mapping.yml").unlink(), "no_mapping"),
        (lambda folder: (folder / "incidents.csv").write_text("incident_id\nI1\n"), "missing_column"),
    ],
)
def test_a_delivery_that_cannot_be_taken_in_is_named(fintech, tmp_path, spoil, name):
    folder = tmp_path / "sources"
    shutil.copytree(fintech.sources, folder)
    spoil(folder)
    failed = Cli(tmp_path / "home")("sources", "check", "--sources", str(folder), expect=3)
    assert name in failed.stderr and "To mend" in failed.stderr


def test_a_bad_file_stops_the_run_before_anything_is_stored(fintech, survivor, tmp_path):
    folder = tmp_path / "sources"
    shutil.copytree(fintech.sources, folder)
    (folder / "incidents.csv").write_text("incident_id\nI1\n")
    before = survivor.rows("select count(*) as n from raw.customers")
    failed = survivor("run", "--sources", str(folder), expect=3)
    assert "missing_column" in failed.stderr and "incidents.csv" in failed.stderr
    assert survivor.rows("select count(*) as n from raw.customers") == before


@pytest.mark.nightly  # a whole run; odd values in a cell are in tests/unit/ingestion
def test_one_customer_with_an_odd_name_and_nothing_else(tmp_path):
    """No transactions, no consent, one customer called `O'Neil; "Bob"`: rated, and in the default audience segment."""
    folder = tmp_path / "sources"
    folder.mkdir()
    (folder / "mapping.yml").write_text(
        "version: 1\nname: tiny\nas_of: '2026-01-01'\nfeeds:\n  - {name: crm, entity: customers, files: c.csv}\n"
    )
    (folder / "c.csv").write_text('customer_id,customer_type,full_name,email\n=1+1,individual,"O\'Neil; ""Bob""",=cmd()@example.org\n')
    cli = Cli(tmp_path / "home")
    cli("run", "--sources", str(folder))
    assert [row["tier"] for row in cli.rows("select tier from published.risk_segments")] != [""]
    audience = cli.rows("select distinct segment, gate_reason from published.audience_segments")
    assert audience == [{"segment": "default", "gate_reason": "no_consent_on_record"}]
    assert cli.json("explain", "=1+1")["risk_segment"]["tier"]
