"""What a broken or busy store says is told with its mend, and what a killed run left is cleared by the next."""

import os
import sqlite3
import subprocess
import sys

import duckdb
import pytest

from orchestration import store_faults
from orchestration.identity.errors import IdentityError, without_values
from orchestration.lake import open_lake, prepare_catalog
from orchestration.remains import PROCESS_TAG, clear_after_killed_runs, is_gone, this_process
from orchestration.settings import Settings
from orchestration.store_faults import BUSY, DAMAGED, FAILING, FULL, HISTORY, StoreFault, explain, is_of_the_store


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("IOException: IO Error: Could not write file: No space left on device", FULL),
        ("OperationalError: database or disk is full", FULL),
        ("TransactionException: Failed to commit: database is locked", BUSY),
        ("OperationalError: disk I/O error", FAILING),
        ("InvalidInputException: Computed AES tag differs from read AES tag, are you using the right key?", DAMAGED),
        ("DatabaseError: file is not a database", DAMAGED),
        ("DatabaseError: (sqlite3.DatabaseError) file is not a database [SQL: PRAGMA journal_mode=WAL]", HISTORY),
    ],
)
def test_an_error_of_the_store_is_told_with_its_mend(settings, text, kind):
    known = explain(text, settings)
    assert known.kind == kind and "run again" in known.mend


def test_an_error_of_another_kind_is_not_explained_away(settings):
    """A wrong explanation would send the operator to his backups for nothing."""
    assert explain("PublicationError: no candidate for risk_segments: run the whole job", settings) is None
    assert explain("KeyError: 'segment'", settings) is None
    opening = 'IOException: IO Error: Cannot open file "{}/a.parquet": No such file or directory'
    assert explain(opening.format("/delivery"), settings) is None
    assert explain(opening.format(settings.root), settings).kind == DAMAGED


def test_damage_of_the_vault_is_told_and_no_value_with_it(settings):
    """Texts of errors about identities are withheld; that the file is damaged must come through all the same (a fault's run)."""

    @without_values("the identity split")
    def split() -> None:
        raise sqlite3.DatabaseError("file is not a database, at the row of Ada Example")

    with pytest.raises(IdentityError) as caught:
        split()
    assert "Ada" not in str(caught.value)
    assert explain(f"IdentityError: {caught.value}", settings).kind == DAMAGED


def test_an_io_error_on_a_full_volume_is_a_full_volume(settings, monkeypatch):
    settings.root.mkdir()
    monkeypatch.setattr(store_faults, "_LITTLE", 1 << 62)
    assert explain("OperationalError: disk I/O error", settings).kind == FULL


def test_real_damage_is_known_as_such(settings, tmp_path):
    """Not the words of a test, but what the engine says of a file with a flipped bit."""
    with open_lake(settings) as connection:
        connection.execute("create schema lake.raw; create table lake.raw.t as select range as n from range(1000)")
    (path,) = settings.lake_data.rglob("*.parquet")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with open_lake(settings, read_only=True) as connection, pytest.raises(duckdb.Error) as caught:
        connection.execute("select sum(n) from lake.raw.t").fetchall()
    assert is_of_the_store(caught.value)
    assert explain(f"{type(caught.value).__name__}: {caught.value}", settings).kind == DAMAGED


@pytest.mark.parametrize("state", ["gone", "empty"])
def test_a_store_without_its_catalogue_is_not_begun_anew(settings, state):
    with open_lake(settings) as connection:
        connection.execute("create schema lake.raw; create table lake.raw.t as select 1 as n")
    for path in settings.catalog.parent.glob("catalog.sqlite*"):
        path.unlink()
    if state == "empty":
        settings.catalog.touch()
    with pytest.raises(StoreFault, match="restore it from your backup"):
        prepare_catalog(settings.catalog, settings.lake_data)
    with pytest.raises(StoreFault, match="restore it from your backup"), open_lake(settings, read_only=True):
        pytest.fail("a reader saw an empty store")


def test_a_process_is_known_by_number_and_birth():
    """A number comes again; the run of another process with the same number must not be taken for the one that lives."""
    assert not is_gone(this_process())
    assert is_gone(f"{os.getpid()}:1.00")
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert is_gone(f"{ended.pid}:1.00")
    assert not is_gone(None)


def test_the_remains_of_a_killed_run_are_cleared_and_those_of_others_stay(settings):
    """The run is recorded as failed, files that no catalogue knows go, what is in the lake stays."""
    import dagster as dg

    with open_lake(settings) as connection:
        connection.execute("create schema lake.raw; create table lake.raw.t as select range as n from range(10)")
    (kept,) = settings.lake_data.rglob("*.parquet")
    orphan = kept.with_name("ducklake-orphan.parquet")
    orphan.write_bytes(kept.read_bytes())
    (settings.temp / "engine-left").mkdir()
    for name in ("landing-left.duckdb", "landing-left.duckdb.wal"):
        (settings.temp / name).write_bytes(b"noise")

    @dg.job
    def a_job() -> None:
        pass

    with dg.DagsterInstance.ephemeral() as instance:
        started, waiting = dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.NOT_STARTED
        made = {
            "killed": (started, {PROCESS_TAG: "1:1.00"}),
            "never begun": (waiting, {PROCESS_TAG: "1:1.00"}),  # the disk was full
            "living": (started, {PROCESS_TAG: this_process()}),
            "the daemon's": (waiting, {}),
        }
        runs = {name: instance.create_run_for_job(a_job, status=status, tags=tags) for name, (status, tags) in made.items()}
        assert clear_after_killed_runs(settings, instance, None) == 2
        states = {name: instance.get_run_by_id(run.run_id).status.value for name, run in runs.items()}
        assert states == {"killed": "FAILURE", "never begun": "FAILURE", "living": "STARTED", "the daemon's": "NOT_STARTED"}
        assert clear_after_killed_runs(settings, instance, None) == 0
    assert kept.exists() and not orphan.exists() and list(settings.temp.iterdir()) == []
