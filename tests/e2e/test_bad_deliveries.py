"""Deliveries that go wrong: a bad delivery is named and not published, an odd customer is rated. Kills, full disks, damage, locks
and clocks are in tests/faults."""

import shutil

import pytest

from tests.e2e.conftest import Cli

pytestmark = pytest.mark.slow
PUBLISHED = ("risk_segments", "audience_segments", "risk_rules", "excluded_subjects")


def published(cli: Cli) -> dict[str, str]:
    return {name: cli("query", f"select * from published.{name} order by all", "--format", "csv").stdout for name in PUBLISHED}


@pytest.fixture(scope="module")
def survivor(fintech, tmp_path_factory) -> Cli:
    return fintech.cli.copy(tmp_path_factory.mktemp("survivor") / "home")


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
