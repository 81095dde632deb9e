"""After a loss of power a commit must not name files that never reached the disk."""

import errno
import os
import sqlite3
from contextlib import closing

import dagster as dg
import duckdb
import pytest

from orchestration import durability
from orchestration.durability import UNCERTAIN, NewFiles
from orchestration.lake import attach, engine, open_lake, prepare_catalog, transaction
from orchestration.remains import clear_after_killed_runs
from orchestration.rights.upkeep import remove_deleted
from orchestration.settings import Settings


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path / "home")


@pytest.fixture
def synced(settings, monkeypatch):
    """What was synced, in order: path, and how many data files the catalogue named at that moment."""
    seen: list[tuple[str, int]] = []
    real = os.fsync

    def watching(handle: int) -> None:
        real(handle)
        with closing(sqlite3.connect(f"file:{settings.catalog}?mode=ro", uri=True)) as db:
            (named,) = db.execute("select count(*) from ducklake_data_file where end_snapshot is null").fetchone()
        seen.append((os.readlink(f"/proc/self/fd/{handle}"), named))

    monkeypatch.setattr(durability.os, "fsync", watching)
    return seen


def files(settings) -> set[str]:
    return {str(path) for path in settings.lake_data.rglob("*.parquet")}


def test_files_and_their_folders_are_on_the_disk_before_the_catalogue_names_them(settings, synced):
    with open_lake(settings) as connection:
        connection.execute("create schema lake.raw")
        with transaction(connection):
            connection.execute("create table lake.raw.t as select range as n from range(1000)")
            assert synced == []
        written = files(settings)
        paths = {path for path, _ in synced}
        assert written and {named for _, named in synced} == {0}
        folders = {str(settings.lake_data / name) for name in (".", "raw", "raw/t")}
        assert written <= paths and folders <= paths
        synced.clear()
        with transaction(connection):  # rows that are deleted are files too, and what lay there before is not synced again
            connection.execute("delete from lake.raw.t where n < 10")
        added = files(settings) - written
        assert added and added <= {path for path, _ in synced} and not written & {path for path, _ in synced}


def test_what_the_disk_refuses_is_not_committed(settings, monkeypatch):
    with open_lake(settings) as connection:
        connection.execute("create schema lake.raw; create table lake.raw.t as select 1 as n")

        def failing(handle: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(durability.os, "fsync", failing)
        with pytest.raises(OSError, match="Input/output"), transaction(connection):
            connection.execute("insert into lake.raw.t values (2)")
        monkeypatch.undo()
        assert connection.execute("select n from lake.raw.t").fetchall() == [(1,)]


def test_single_statements_are_on_the_disk_when_the_store_is_closed(settings, synced):
    with open_lake(settings) as connection:
        connection.execute("create schema lake.raw; create table lake.raw.t as select 1 as n")
        assert synced == []
    assert files(settings) <= {path for path, _ in synced}
    synced.clear()
    with open_lake(settings, read_only=True) as connection, transaction(connection):
        connection.execute("select * from lake.raw.t")
    assert synced == []


def test_old_files_go_only_after_what_replaces_them_is_on_the_disk(settings, synced):
    with open_lake(settings) as connection:
        connection.execute("create schema lake.raw; create table lake.raw.t as select range as n from range(1000)")
        (old,) = files(settings)
        connection.execute("delete from lake.raw.t where n = 5")
        remove_deleted(connection, "lake")
        (new,) = files(settings)
        assert new != old and new in {path for path, _ in synced}
        assert connection.execute("select count(*) from lake.raw.t").fetchone() == (999,)


def test_the_vault_is_known_as_a_store_of_its_own(settings):
    with engine(settings) as connection:
        prepare_catalog(settings.vault_catalog, settings.vault_data)
        attach(connection, "vault", settings.vault_catalog, settings.vault_data)
        new_files = NewFiles(connection)
        connection.execute("create table vault.t as select 1 as n")
        assert new_files.sync() == 1 and new_files.sync() == 0


def test_files_of_a_commit_that_may_have_taken_place_are_put_back(settings):
    """The disk failed while the catalogue was synced: DuckLake deletes its files, and yet the catalogue may name them."""
    with open_lake(settings) as connection:
        connection.execute("create schema lake.raw; create table lake.raw.t as select 1 as n")
        before = files(settings)
        for words, stays in (("database is locked", False), ("disk I/O error", True)):
            new_files = NewFiles(connection)
            connection.execute("begin")
            connection.execute("insert into lake.raw.t values (2)")
            (fresh,) = (settings.lake_data / path for path in files(settings) - before)
            content = fresh.read_bytes()
            new_files.sync()
            with pytest.raises(duckdb.Error), new_files.kept():
                connection.execute("rollback")
                assert not fresh.exists()
                raise duckdb.TransactionException(words)
            assert fresh.exists() is stays is (settings.lake_data / UNCERTAIN).exists()
        assert fresh.read_bytes() == content
    # The catalogue does not know it: this commit did not take place, and the next run clears it away.
    with dg.DagsterInstance.ephemeral() as instance:
        clear_after_killed_runs(settings, instance, None)
    assert files(settings) == before and not (settings.lake_data / UNCERTAIN).exists()
