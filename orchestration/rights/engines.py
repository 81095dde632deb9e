"""One engine for a whole pass over the stores: starting one costs more than most of what is asked of it.

Belongs here: sharing an engine, attaching the lake to it. Does not belong here: what is asked.
"""

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from contextvars import ContextVar

import duckdb

from orchestration.lake import attach, engine, prepare_catalog
from orchestration.settings import Settings
from orchestration.turns import shared_turn

_shared: ContextVar[duckdb.DuckDBPyConnection | None] = ContextVar("shared_engine", default=None)


@contextmanager
def one_engine(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """The engine of the surrounding block of this kind, or a new one."""
    current = _shared.get()
    if current is not None:
        yield current
        return
    with engine(settings) as connection:
        previous = _shared.set(connection)
        try:
            yield connection
        finally:
            _shared.reset(previous)


@contextmanager
def attached_lake(settings: Settings, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to that engine with the lake attached as `lake`, detached on leaving, so that its catalogue is let go.

    A writer holds a shared turn all the while, as with `lake.open_lake`: no opt-out commits into its transaction.
    """
    with ExitStack() as stack:
        if not read_only:
            stack.enter_context(shared_turn(settings.turn_file, settings.lock_wait_seconds))
            prepare_catalog(settings.catalog, settings.lake_data)
        connection = stack.enter_context(closing(stack.enter_context(one_engine(settings)).cursor()))
        attach(connection, "lake", settings.catalog, settings.lake_data, read_only)
        try:
            yield connection
        finally:
            connection.execute("detach lake")
