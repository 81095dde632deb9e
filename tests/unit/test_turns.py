"""Turns at the store: a commit beside a run falls into nobody's open transaction, and nobody waits for ever."""

import multiprocessing
import time

import duckdb
import pytest

from orchestration.lake import open_lake
from orchestration.rights.engines import attached_lake
from orchestration.settings import Settings
from orchestration.turns import TurnTimeout, shared_turn, sole_turn, take_shared

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def settings(tmp_path) -> Settings:
    settings = Settings(home=tmp_path / "home", lock_wait_seconds=120)
    with open_lake(settings) as connection:
        connection.execute("create schema lake.a; create table lake.a.run as select 0 as x; create table lake.a.beside as select 0 as x")
    return settings


def commit_beside(home, turn: bool, asked) -> None:
    """Another process that commits to another table, as an opt-out does."""
    settings = Settings(home=home, lock_wait_seconds=120)
    with open_lake(settings, holds_turn=False) as connection:
        asked.set()
        if turn:
            with sole_turn(settings.turn_file, 120):
                connection.execute("insert into lake.a.beside values (1)")
        else:
            connection.execute("insert into lake.a.beside values (1)")


@pytest.mark.parametrize("turn", [True, False])
def test_a_commit_beside_a_run_waits_for_its_transaction(settings, turn):
    """Without the turn the run's own commit fails: the reason why there are turns, and the control of this test."""
    asked = SPAWN.Event()
    other = SPAWN.Process(target=commit_beside, args=(settings.root, turn, asked))
    with open_lake(settings) as connection:
        connection.execute("begin")
        connection.execute("insert into lake.a.run values (1)")
        other.start()
        assert asked.wait(120)
        if turn:
            time.sleep(1)
            connection.execute("commit")
        else:
            other.join(120)
            with pytest.raises(duckdb.Error, match="locked"):
                connection.execute("commit")
    other.join(120)
    assert other.exitcode == 0
    with open_lake(settings, read_only=True) as connection:
        assert connection.execute("select count(*) from lake.a.beside").fetchone() == (2,)
        assert connection.execute("select count(*) from lake.a.run").fetchone() == ((2,) if turn else (1,))


def hold_shared(path, held, release) -> None:
    with shared_turn(path, 60):
        held.set()
        release.wait(120)


def test_a_sole_turn_that_cannot_be_had_says_so(tmp_path):
    path, held, release = tmp_path / "store.turn", SPAWN.Event(), SPAWN.Event()
    other = SPAWN.Process(target=hold_shared, args=(path, held, release))
    other.start()
    assert held.wait(120)
    with pytest.raises(TurnTimeout, match="SEGLINE_LOCK_WAIT_SECONDS"), sole_turn(path, 0.2):
        pass
    release.set()
    other.join(120)
    with sole_turn(path, 5):
        pass


def test_shared_turns_are_many_and_one_process_counts_its_own(tmp_path):
    path = tmp_path / "store.turn"
    first, second = take_shared(path, 1), take_shared(path, 1)
    first()
    with pytest.raises(RuntimeError, match="open for writing"), sole_turn(path, 1):
        pass
    second()
    with sole_turn(path, 1), pytest.raises(TurnTimeout):
        take_shared(path, 0.1)
    take_shared(path, 1)()


def test_an_erasure_takes_turns_as_every_writer_of_the_lake_does(settings):
    """A million customers, the scheduler on, an opt-out during a deletion: the deletion's commit failed, «database is locked»."""
    hasty = Settings(home=settings.home, lock_wait_seconds=0)
    with sole_turn(settings.turn_file, 5):
        with pytest.raises(TurnTimeout), attached_lake(hasty):
            pass
        with attached_lake(hasty, read_only=True) as connection:
            assert connection.execute("select count(*) from lake.a.run").fetchone() == (1,)
    with attached_lake(hasty) as connection:
        connection.execute("insert into lake.a.run values (1)")


def test_a_failing_writer_gives_its_turn_back(tmp_path):
    path = tmp_path / "store.turn"
    with pytest.raises(ZeroDivisionError), shared_turn(path, 1):
        raise ZeroDivisionError
    with pytest.raises(ZeroDivisionError), sole_turn(path, 1):
        raise ZeroDivisionError
    with sole_turn(path, 1):
        pass
