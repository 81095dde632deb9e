"""The decision ledger of a real run: complete, verified, replayed, and not to be changed unseen."""

import pytest

from orchestration.lake import open_lake
from orchestration.settings import Settings
from tests.e2e.test_published_run import a_customer

pytestmark = pytest.mark.slow


def test_every_published_segment_has_its_decision(fintech):
    """No pseudonym joins the two, so that counts per family and segment are compared."""
    published = fintech.cli.rows(
        "select family, segment, count(*) as n from (select 'risk' as family, segment from published.risk_segments union all "
        "select segment_family, segment from published.audience_segments) group by all order by all"
    )
    decided = fintech.cli.rows(
        "select family, segment, count(*) as n from ops.decisions where segment <> 'excluded' group by all order by all"
    )
    assert published == decided


def test_the_ledger_verifies_and_a_customer_is_replayed(fintech, tmp_path):
    report = fintech.cli.json("verify")
    assert report["good"] and report["checked"]["runs"] == 1
    told = fintech.cli.json("replay", a_customer(fintech.sources), "--as-of", "2100-01-01")
    assert told["decisions"] and all(one["equal"] for one in told["decisions"])
    key = tmp_path / "key"
    key.write_text(fintech.cli("ledger", "key").stdout)
    fintech.cli("ledger", "export", "--out", str(tmp_path / "export"))
    fintech.cli("verify", "--export", str(tmp_path / "export"), "--public-key", str(key))


def test_a_changed_decision_is_refused_and_named(fintech, tmp_path):
    cli = fintech.cli.copy(tmp_path / "home")
    with open_lake(Settings(home=cli.home)) as connection:
        connection.execute("update lake.ops.decision_payloads set points = points + 1 where leaf_index = 7")
        connection.execute("update lake.ops.decision_payloads set segment = 'low' where leaf_index = 7 and points is null")
    assert "leaf 7: the row was changed" in cli("verify", expect=1).stderr
