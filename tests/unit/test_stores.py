"""The store: engines keep out of each other's way, and nothing is left behind."""

import os
import time

import pytest

from orchestration.ingestion.delivery import LEFTOVER_SECONDS, clear_leftovers
from orchestration.lake import engine, ensure_zones, open_lake
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
    monkeypatch.setenv(KEYS_VARIABLE, "secret")
    with keys_withheld():
        assert KEYS_VARIABLE not in os.environ
    assert os.environ[KEYS_VARIABLE] == "secret"
