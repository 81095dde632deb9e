"""dbt's share in taking turns at the store: a plugin of dbt-duckdb, loaded inside the dbt process.

Each of dbt's transactions holds a shared turn (see `turns`). dbt-duckdb has no hook around a transaction, so two methods
of its cursor and connection are wrapped; the package is pinned exactly, and a test runs dbt beside a committing writer.
Belongs here: when dbt takes and gives back its turn. Does not belong here: anything about models.
https://github.com/duckdb/dbt-duckdb#writing-your-own-plugins
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dbt.adapters.duckdb.environments.local import DuckDBConnectionWrapper, DuckDBCursorWrapper
from dbt.adapters.duckdb.plugins import BasePlugin

from orchestration.turns import take_shared

RUN_VARIABLE = "SEGLINE_DBT_RUN"  # number of the process that starts dbt, see `transformation.dbt_environment`
_PR_SET_PDEATHSIG = 1  # prctl(2)


class Plugin(BasePlugin):
    """Wraps `begin`, `commit`, `rollback` and `close` of this process's connections."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        """Config: `turn_file` (path), `wait_seconds`."""
        path, wait = Path(plugin_config["turn_file"]), float(plugin_config["wait_seconds"])
        _end_with_the_run()
        _wrap(lambda: take_shared(path, wait))


def _end_with_the_run() -> None:
    """Let the kernel end this process when the run that started it is gone; refuse to begin if it is gone already.

    A run that is killed alone would leave dbt building beside the next one, which holds the lock by then.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.environ.get(RUN_VARIABLE, str(os.getppid())) != str(os.getppid()):
            raise RuntimeError("the run that started dbt has ended: nothing is built for it")


def _wrap(take: Callable[[], Callable[[], None]]) -> None:
    # The original methods are kept on the classes, so that a second profile in one process wraps them only once.
    execute = vars(DuckDBCursorWrapper).get("execute_without_turn") or DuckDBCursorWrapper.execute
    rollback = vars(DuckDBConnectionWrapper).get("rollback_without_turn") or DuckDBConnectionWrapper.rollback
    close = vars(DuckDBConnectionWrapper).get("close_without_turn") or DuckDBConnectionWrapper.close
    turns: dict[int, Callable[[], None]] = {}

    def give_back(cursor: DuckDBCursorWrapper) -> None:
        turn = turns.pop(id(cursor), None)
        if turn:
            turn()

    def execute_in_turn(self: DuckDBCursorWrapper, sql: str, bindings: Any = None) -> Any:
        word = sql.strip().rstrip(";").lower()
        if word == "begin" and id(self) not in turns:
            turns[id(self)] = take()
        try:
            return execute(self, sql, bindings)
        finally:
            if word in ("commit", "rollback"):
                give_back(self)

    def rollback_and_give_back(self: DuckDBConnectionWrapper) -> Any:
        try:
            return rollback(self)
        finally:
            give_back(self._cursor)

    def close_and_give_back(self: DuckDBConnectionWrapper) -> None:
        try:
            close(self)
        finally:
            give_back(self._cursor)

    DuckDBCursorWrapper.execute_without_turn = execute
    DuckDBConnectionWrapper.rollback_without_turn = rollback
    DuckDBConnectionWrapper.close_without_turn = close
    DuckDBCursorWrapper.execute = execute_in_turn
    DuckDBConnectionWrapper.rollback = rollback_and_give_back
    DuckDBConnectionWrapper.close = close_and_give_back
