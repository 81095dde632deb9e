"""New keys in a whole home: the ledger goes on, a decision of before is replayed, and the next run decides nothing anew."""

import json

import pytest

from tests.e2e.conftest import Cli

# Whole commands, each of seconds; tests/unit/rights/test_rekeying.py tries the same on a small home in the gate.
pytestmark = [pytest.mark.slow, pytest.mark.nightly]
SEGMENTS = "select segment, count(*) as subjects from published.risk_segments group by 1 order by 1"


@pytest.fixture(scope="module")
def rotated(fintech, tmp_path_factory) -> Cli:
    cli = fintech.cli.copy(tmp_path_factory.mktemp("rotated") / "home")
    cli("keys", "rotate")
    cli("keys", "rotate", "--pseudonyms")
    return cli


def test_the_published_rows_have_new_pseudonyms_and_are_otherwise_the_same(fintech, rotated):
    assert rotated.rows(SEGMENTS) == fintech.cli.rows(SEGMENTS)
    column = "select subject_token from published.risk_segments"
    before, after = ({row["subject_token"] for row in cli.rows(column)} for cli in (fintech.cli, rotated))
    assert len(before) == len(after) > 100 and not before & after
    facts = rotated.json("keys", "status")
    assert (facts["pseudonym_key_version"], facts["wrapping_key_version"]) == (2, 3)
    assert facts["retired_pseudonym_keys"] == [1] and facts["wrapped_under_another_version"] == 0


def test_the_ledger_verifies_inside_and_outside_and_a_decision_of_before_is_replayed(fintech, rotated, tmp_path):
    rotated("verify")
    key, export = tmp_path / "key", tmp_path / "export"
    key.write_text(rotated("ledger", "key").stdout)
    rotated("ledger", "export", "--out", str(export))
    rotated("verify", "--export", str(export), "--public-key", str(key))
    customer = (fintech.sources / "customers.csv").read_text(encoding="utf-8").splitlines()[1].split(",")[0].strip('"')
    told = rotated.json("replay", customer, "--as-of", "2030-01-01")
    assert told["decisions"] and all(one["equal"] for one in told["decisions"])
    assert rotated("explain", customer).stdout == fintech.cli("explain", customer).stdout


def test_the_next_run_enters_no_decision_anew(fintech, rotated):
    """Audit continuity: everybody keeps the pseudonym by which the ledger knows him, so nobody departs and nobody is new."""
    rotated("run", "--sources", str(fintech.sources))
    statements = rotated.rows("select statement from ops.ledger_statements where kind = 'run' order by leaf_index")
    last = json.loads(statements[-1]["statement"])
    assert len(statements) == 2 and last["decisions"] == 0
    assert all(family["new"] == family["changed"] == family["departed"] == 0 < family["unchanged"] for family in last["families"].values())
    rotated("verify")
    assert rotated.rows(SEGMENTS) == fintech.cli.rows(SEGMENTS)
