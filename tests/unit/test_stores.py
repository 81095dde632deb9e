"""The store: engines keep out of each other's way, and nothing is left behind."""

import os
import time
from pathlib import Path

import duckdb
import pytest

from orchestration import lake
from orchestration.ingestion.delivery import LEFTOVER_SECONDS, clear_leftovers
from orchestration.lake import engine, ensure_zones, open_lake, row_counts, table_columns, table_exists
from orchestration.settings import Settings
from orchestration.transformation import KEYS_VARIABLE, keys_withheld


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path / "home")


def test_each_engine_spills_encrypted_into_a_folder_of_its_own(settings):
    """Two engines that spill into one folder crash; plain spill files would show what is encrypted elsewhere."""
    with engine(settings) as one, engine(settings) as other:
        folders = {c.execute("select current_setting('temp_directory')").fetchone()[0] for c in (one, other)}
        assert len(folders) == 2
        assert one.execute("select current_setting('temp_file_encryption')").fetchone() == (True,)
    assert list(settings.temp.iterdir()) == []


def test_no_engine_takes_unsigned_extensions_once_it_is_open(settings):
    """The signatures are verified once per process; the engines after that must not be open to any other file."""
    for _ in range(2):
        with engine(settings) as connection:
            assert connection.execute("select current_setting('allow_unsigned_extensions')").fetchone() == (False,)
            with pytest.raises(duckdb.Error, match="allow_unsigned_extensions"):
                connection.execute("set allow_unsigned_extensions = true")


def test_an_extension_that_was_replaced_is_verified_anew(settings, monkeypatch):
    """A file that is not the one that passed, by inode, size or time, must pass the check itself."""
    with engine(settings):
        verified = dict(lake._verified)
    assert {Path(path).name.partition(".")[0] for path in verified} == set(lake.EXTENSIONS)
    connected = []
    monkeypatch.setattr(duckdb, "connect", lambda *a, _connect=duckdb.connect, **k: connected.append(k) or _connect(*a, **k))
    with engine(settings):
        pass
    monkeypatch.setitem(lake._verified, next(iter(verified)), (1, 2, 3, 4, 5))
    with engine(settings):
        pass
    assert [given["config"]["allow_unsigned_extensions"] for given in connected] == [True, False]
    assert lake._verified == verified


def test_a_view_is_no_table_and_both_are_there(settings):
    """Erasure deletes from tables only, but whoever asks whether a relation is there means both."""
    with open_lake(settings) as connection:
        ensure_zones(connection)
        connection.execute("create table lake.raw.t as select 1 as a, 'x' as b")
        connection.execute("create view lake.raw.v as select a from lake.raw.t")
        assert [table_exists(connection, "raw", name) for name in ("t", "v", "nothing")] == [True, True, False]
        assert table_columns(connection) == {("raw", "t"): {"a": "INTEGER", "b": "VARCHAR"}}
        assert row_counts(connection) == {("raw", "t"): 1}


def test_data_files_are_encrypted_and_rows_never_lie_in_the_catalogue(settings):
    with open_lake(settings) as connection:
        ensure_zones(connection)
        connection.execute("create table lake.raw.t as select 'SENTINEL-VALUE-' || i as v from range(3) as r(i)")
        assert connection.execute("select count(*) from lake.raw.t").fetchone() == (3,)
    parquet = list(settings.lake_data.rglob("*.parquet"))
    assert parquet and all(path.read_bytes()[:4] == b"PARE" for path in parquet)
    assert not any(b"SENTINEL-VALUE-1" in path.read_bytes() for path in parquet)


def test_a_reader_asks_for_a_store_that_is_not_there(settings):
    with pytest.raises(FileNotFoundError, match="segline run"), open_lake(settings, read_only=True):
        pytest.fail("opened")
    assert not settings.catalog.exists()


def test_a_home_may_be_moved(settings, tmp_path):
    """A backup is restored wherever there is room."""
    with open_lake(settings) as connection:
        ensure_zones(connection)
        connection.execute("create table lake.raw.t as select 1 as v")
    (tmp_path / "home").rename(tmp_path / "elsewhere")
    with open_lake(Settings(home=tmp_path / "elsewhere"), read_only=True) as connection:
        assert connection.execute("select v from lake.raw.t").fetchone() == (1,)


def test_what_killed_runs_left_is_cleared_and_what_is_in_use_stays(settings):
    settings.temp.mkdir(parents=True)
    for name in ("engine-old", "engine-new", "dbt"):
        (settings.temp / name).mkdir()
        (settings.temp / name / "spill").write_text("x")
    (settings.temp / "landing-old.duckdb").write_text("x")
    past = time.time() - LEFTOVER_SECONDS - 1
    for name in ("engine-old", "landing-old.duckdb", "dbt"):
        os.utime(settings.temp / name, (past, past))
    clear_leftovers(settings)
    assert {path.name for path in settings.temp.iterdir()} == {"engine-new", "dbt"}


def test_subprocesses_do_not_inherit_the_master_keys(monkeypatch):
    secret = (KEYS_VARIABLE, "SEGLINE_LEDGER_KEY", "SEGLINE_ANCHOR_SMTP", "SEGLINE_ONETRUST_CLIENT_SECRET", "SEGLINE_ZIGPOLL_KEY")
    for name in secret:
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("segline_trustarc_client_id", "secret")  # settings are read in any case
    with keys_withheld():
        assert "secret" not in os.environ.values()
    assert all(os.environ[name] == "secret" for name in secret)
