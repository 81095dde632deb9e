"""A real bank's data through the same command. The data lies outside the project; where it is absent, this skips."""

from pathlib import Path

import pytest

from tests.e2e.conftest import Cli

PROJECT = Path(__file__).resolve().parents[2]
DATA = PROJECT.parent / "shared" / "data" / "berka"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not DATA.is_dir(), reason="the Berka data is not here: put it beside the project under shared/data/berka"),
]


def test_the_mapping_fits_the_banks_files(tmp_path):
    """In the gate the delivery is only checked: the run over a million rows is of every night, below."""
    checked = Cli(tmp_path / "home")("sources", "check", "--sources", str(PROJECT / "examples" / "berka"), "--data", str(DATA))
    assert "berka_clients" in checked.stdout


@pytest.fixture(scope="module")
def berka(tmp_path_factory) -> Cli:
    cli = Cli(tmp_path_factory.mktemp("berka") / "home")
    cli("run", "--sources", str(PROJECT / "examples" / "berka"), "--data", str(DATA))
    return cli


@pytest.mark.nightly
def test_every_row_of_the_bank_is_accounted_for(berka):
    rows = {row["feed"]: row for row in berka.rows("select * from ops.reconciliation")}
    kept = {feed: int(row["rows_kept"]) for feed, row in rows.items()}
    assert kept["berka_clients"] == 5369
    assert kept["berka_bad_loans"] == 76
    assert kept["berka_movements_1993_1994"] == 49_102
    assert kept["berka_movements_1997_1998"] == 30_199
    for row in rows.values():
        assert int(row["rows_read"]) == sum(int(row[name]) for name in ("rows_kept", "duplicates", "quarantined"))


@pytest.mark.nightly
def test_the_cut_off_file_is_named_with_its_row(berka):
    rows = berka.rows("select file, row_number, reason from ops.quarantine order by file")
    assert rows[0] == {"file": "trans_1993_1994.asc", "row_number": "49104", "reason": "file_cut_off"}


@pytest.mark.nightly
def test_without_consent_on_record_marketing_sees_the_default_segment_only(berka):
    rows = berka.rows("select distinct segment, gate_reason from published.audience_segments")
    assert rows == [{"segment": "default", "gate_reason": "no_consent_on_record"}]


@pytest.mark.nightly
def test_the_rating_says_on_which_basis_it_rests(berka):
    rows = berka.rows("select legal_basis, count(*) as n from published.risk_segments group by 1")
    assert rows == [{"legal_basis": "legal_obligation", "n": "5369"}]


@pytest.mark.nightly
def test_confirmed_bad_loans_weigh_in_the_rating(berka):
    """D loans run in debt at the end of the observation: their owners carry a confirmed incident within the year."""
    rows = berka.rows("select count(*) as n from published.risk_segments where reason_codes like '%R111%'")
    assert int(rows[0]["n"]) >= 45
