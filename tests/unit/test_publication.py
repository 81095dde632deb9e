"""Publication: all of it or nothing, and only what the project names."""

from datetime import datetime

import pytest

from orchestration.lake import ensure_zones, open_lake
from orchestration.publication import PublicationError, last_publication, publish
from orchestration.settings import Settings

AS_OF = datetime(2026, 1, 1)
NAMES = ("audience_segments", "risk_segments")


@pytest.fixture
def connection(tmp_path):
    with open_lake(Settings(home=tmp_path / "home")) as connection:
        ensure_zones(connection)
        for name in (*NAMES, "model_that_is_gone"):
            connection.execute(f"create table lake.candidate.{name} as select 'old' as v, timestamp '2026-01-01' as as_of")
        yield connection


def test_all_named_relations_are_replaced_and_recorded(connection):
    published = publish(connection, NAMES, "run1", "fintech", AS_OF)
    assert [(one.relation, one.rows) for one in published] == [(f"published.{name}", 1) for name in NAMES]
    assert last_publication(connection)[:3] == ("run1", "fintech", AS_OF)
    assert connection.execute("select count(*) from lake.ops.publications").fetchone() == (2,)


def test_the_table_of_a_model_that_is_gone_is_not_published(connection):
    """It was built by some earlier run, checked by none of today's, and would look as fresh as the rest."""
    publish(connection, NAMES, "run1", "fintech", AS_OF)
    names = connection.execute("select table_name from information_schema.tables where table_schema = 'published'").fetchall()
    assert ("model_that_is_gone",) not in names


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("drop table lake.candidate.risk_segments", "risk_segments"),
        ("update lake.candidate.audience_segments set as_of = timestamp '2025-01-01'", "as of"),
    ],
)
def test_unfit_candidates_leave_the_last_publication_standing(connection, spoil, says):
    publish(connection, NAMES, "run1", "fintech", AS_OF)
    connection.execute(spoil)
    with pytest.raises(PublicationError, match=says):
        publish(connection, NAMES, "run2", "fintech", AS_OF)
    assert last_publication(connection)[0] == "run1"
    assert connection.execute("select v from lake.published.risk_segments").fetchall() == [("old",)]
