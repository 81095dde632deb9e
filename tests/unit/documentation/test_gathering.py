"""Gathering: one state of the store; what is not there is empty or named, never invented."""

import pytest

from orchestration.documentation.facts import Table
from orchestration.documentation.gathering import NothingPublished, gather, head_of
from orchestration.documentation.queries import QUERIES
from orchestration.lake import ensure_zones, open_lake
from orchestration.rights.stores import unnamed_files
from orchestration.settings import Settings


@pytest.fixture
def settings(tmp_path) -> Settings:
    found = Settings(home=tmp_path / "home")
    with open_lake(found) as connection:
        ensure_zones(connection)
    return found


def test_a_home_without_a_publication_has_no_documentation(settings):
    with pytest.raises(NothingPublished, match="segline run"):
        gather(settings)


def test_what_no_run_has_made_yet_is_empty_and_what_cannot_be_read_is_named(settings, monkeypatch):
    with open_lake(settings) as connection:
        connection.execute(
            "create table lake.published.publication as select 'r' as run_id, 'fintech' as profile, "
            "timestamp '2026-11-01' as as_of, timestamp '2026-11-02' as published_at"
        )

    def broken(*_):
        raise OSError("the folder is gone\nand more")

    monkeypatch.setattr("orchestration.documentation.gathering._data_map", broken)
    monkeypatch.setattr("orchestration.documentation.gathering._passports", broken)
    facts = gather(settings)
    assert facts.publication["run_id"] == "r"
    assert facts.table("tiers").rows == () and facts.head is None and facts.cards == ()
    assert facts.missing == dict.fromkeys(("data_map", "passports"), "OSError: the folder is gone")
    assert not settings.models_dir.exists(), "looking for a model made a registry"


def test_no_query_asks_for_a_person():
    """Tokens are joined on and counted, never selected; the columns of people are in no answer."""
    for query in QUERIES:
        selected = query.sql.lower()
        for use in ("people.subject_token", "gate.risk_subject_token"):
            selected = selected.replace(use, "")
        assert "token" not in selected and "*" not in selected.replace("count(*)", ""), query.name


def test_the_head_names_the_key_that_signed_it():
    note = "log.example/1\n3\nrbc6giA+06mv+269c+pFYOuTyz+8F0+MHE5gSBs6wrU=\n\n\N{EM DASH} log.example/1 OBdomCyNEpgy\n"
    head = head_of(Table("ledger_head", ("tree_size", "note", "run_id", "made_at"), ((3, note, "r", None),)))
    assert (head.origin, head.size, head.key_id) == ("log.example/1", 3, "38176898")
    assert head_of(Table("ledger_head", ())) is None


def test_the_folder_of_the_pages_is_a_named_store(settings):
    """An erasure must know every place under the home."""
    page = settings.documentation_dir / "site" / "index.html"
    page.parent.mkdir(parents=True)
    page.write_text("x")
    (settings.root / "stranger.html").write_text("x")
    names = [path.name for path in unnamed_files(settings)]
    assert "stranger.html" in names and "index.html" not in names
