"""The store: DuckLake tables reached through an in-memory DuckDB.

Belongs here: opening the lake or the vault, engine settings, safe quoting. Does not belong here: what any table means.
DuckLake: https://ducklake.select/docs/stable/
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb

from orchestration.durability import NewFiles
from orchestration.settings import Settings
from orchestration.store_faults import StoreFault
from orchestration.turns import shared_turn

EXTENSIONS = ("httpfs", "ducklake", "sqlite_scanner")
ZONES = ("raw", "reference", "policy", "staging", "consent", "features", "risk", "audience", "candidate", "ops", "published")
_verified: dict[str, tuple[int, ...]] = {}  # extension files whose signature DuckDB has verified in this process


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner can enter, with its parents."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def literal(value: object) -> str:
    """Quote a value as an SQL string literal."""
    return "'" + str(value).replace("'", "''") + "'"


def identifier(name: str) -> str:
    """Quote a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def install_extensions() -> None:
    """Put the extension wheels where DuckDB looks for them; nothing is downloaded.

    httpfs is needed although no network is used: it brings the cipher without which DuckDB refuses encrypted writes.
    """
    from duckdb_extensions import import_extension

    for name in EXTENSIONS:
        import_extension(name)


def _identity(path: str) -> tuple[int, ...]:
    """What changes when a file is replaced or written to."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@contextmanager
def _loaded_engine() -> Iterator[duckdb.DuckDBPyConnection]:
    """An in-memory engine with the extensions loaded, whose signatures were verified once in this process.

    DuckDB hashes all 90 MB of them for each engine, which costs half a second of computing. So further engines load the
    files without that, as long as they are those that passed; the permission ends with the loading, for good.
    """
    known = dict(_verified)
    verified = bool(known) and all(_identity(path) == identity for path, identity in known.items())
    if not verified:
        install_extensions()
    with duckdb.connect(config={"allow_unsigned_extensions": verified}) as connection:
        if not verified:
            names = ", ".join(literal(name) for name in EXTENSIONS)
            paths = connection.execute(
                f"select install_path from duckdb_extensions() where extension_name in ({names})"
            ).fetchall()
            known = {path: _identity(path) for (path,) in paths}
        for name in EXTENSIONS:
            connection.execute(f"load {name}")
        connection.execute("set allow_unsigned_extensions = false")
        if not verified:
            _verified.clear()
            _verified.update(known)
        yield connection


@contextmanager
def engine(settings: Settings) -> Iterator[duckdb.DuckDBPyConnection]:
    """An engine with the extensions loaded, spilling encrypted into a private folder of its own.

    Of its own: two engines that spill into one folder crash (segmentation fault, DuckDB 1.5.5).
    """
    private_folder(settings.temp)
    with (
        TemporaryDirectory(prefix="engine-", dir=settings.temp, ignore_cleanup_errors=True) as spill,
        _loaded_engine() as connection,
    ):
        connection.execute("set temp_file_encryption = true")
        connection.execute(f"set temp_directory = {literal(spill)}")
        connection.execute(f"set memory_limit = '{settings.memory_limit_mb}MB'")
        connection.execute("set timezone = 'UTC'")
        connection.execute("set enable_progress_bar = false")
        yield connection


def prepare_catalog(catalog: Path, data: Path) -> None:
    """Make the folders and put the catalogue into WAL mode, so that a reader never delays the writer's commit.

    Raises `StoreFault` if the catalogue is gone or empty while its data are there: a new one would begin an empty store, and
    with the key at hand a second ledger under the name of the first.
    """
    private_folder(catalog.parent)
    private_folder(data)
    _require_catalog(catalog, data)
    if not catalog.exists():
        with sqlite3.connect(catalog) as db:
            db.execute("pragma journal_mode=wal")
        db.close()
        os.chmod(catalog, 0o600)


def _require_catalog(catalog: Path, data: Path) -> None:
    if not (catalog.exists() and catalog.stat().st_size) and data.is_dir() and any(data.iterdir()):
        raise StoreFault(
            f"the catalogue {catalog} is gone, and without it nobody can read the data beside it: restore it from your backup, "
            "with the data of that backup"
        )


def attach(connection: duckdb.DuckDBPyConnection, alias: str, catalog: Path, data: Path, read_only: bool = False) -> None:
    """Attach one DuckLake. Rows are never inlined into the catalogue, where they would lie in plain text.

    The given data folder wins over the recorded one, so that a home may be moved or restored elsewhere.
    """
    options = f"data_path {literal(str(data) + '/')}, encrypted true, data_inlining_row_limit 0, override_data_path true"
    if read_only:
        options += ", read_only"
    connection.execute(f"attach {literal(f'ducklake:sqlite:{catalog}')} as {alias} ({options})")


@contextmanager
def open_lake(
    settings: Settings, read_only: bool = False, holds_turn: bool = True
) -> Iterator[duckdb.DuckDBPyConnection]:
    """An engine with the lake attached as `lake` and in use; closed on leaving.

    A writer holds a shared turn all the while, so that no opt-out commits into its transaction (see `turns`). With
    `holds_turn=False` the caller takes turns himself, around each of his transactions.

    Raises `FileNotFoundError` if a reader asks for a lake that no run has made yet, `StoreFault` if its catalogue is gone.
    """
    _require_catalog(settings.catalog, settings.lake_data)
    if read_only and not settings.catalog.exists():
        raise FileNotFoundError(f"there is no store under {settings.root} yet: start one with `segline run`")
    with ExitStack() as stack:
        if holds_turn and not read_only:
            stack.enter_context(shared_turn(settings.turn_file, settings.lock_wait_seconds))
        connection = stack.enter_context(engine(settings))
        if not read_only:
            prepare_catalog(settings.catalog, settings.lake_data)
        attach(connection, "lake", settings.catalog, settings.lake_data, read_only)
        connection.execute("use lake")
        new_files = NewFiles(connection)
        yield connection
        new_files.sync()  # of single statements, which commit themselves


@contextmanager
def transaction(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """All that the block writes, or nothing; on the disk before it is committed. The error that comes out is the true one."""
    new_files = NewFiles(connection)
    connection.execute("begin")
    try:
        yield
        new_files.sync()
        with new_files.kept():
            connection.execute("commit")
    except BaseException:
        with suppress(duckdb.TransactionException):  # a commit that failed has ended the transaction itself
            connection.execute("rollback")
        raise


def ensure_zones(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the zones' schemas that are missing, in one commit of its own."""
    there = connection.execute("select schema_name from duckdb_schemas() where database_name = 'lake'").fetchall()
    missing = [zone for zone in ZONES if (zone,) not in there]
    if missing:
        with transaction(connection):
            for zone in missing:
                connection.execute(f"create schema if not exists lake.{zone}")


def table_exists(connection: duckdb.DuckDBPyConnection, schema: str, name: str) -> bool:
    """Whether the lake has that table or view.

    Not asked of `information_schema.tables`: for that DuckLake reads the statistics of every table of the lake first.
    """
    found = connection.execute(
        "select count(*) from (select schema_name, table_name from duckdb_columns() where database_name = 'lake' union all "
        "select schema_name, view_name from duckdb_views() where database_name = 'lake') as known "
        "where schema_name = ? and table_name = ?",
        [schema, name],
    ).fetchone()
    return bool(found and found[0])


def table_columns(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], dict[str, str]]:
    """Column types of every table of the lake, not of its views: (schema, name) to {column: type}."""
    views = connection.execute(
        "select schema_name, view_name from duckdb_views() where database_name = 'lake'"
    ).fetchall()
    return {relation: columns for relation, columns in relation_columns(connection).items() if relation not in views}


def relation_columns(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], dict[str, str]]:
    """Column types of every table and view of the lake: (schema, name) to {column: type}."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for schema, name, column, kind in connection.execute(
        "select schema_name, table_name, column_name, data_type from duckdb_columns() "
        "where database_name = 'lake' order by schema_name, table_name, column_index"
    ).fetchall():
        found.setdefault((schema, name), {})[column] = kind
    return found


def row_counts(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, str], int]:
    """Rows of every table of the lake; views are not counted, for that would run them."""
    tables = table_columns(connection)
    if not tables:
        return {}
    counts = " union all ".join(
        f"select {literal(schema)}, {literal(name)}, count(*) from lake.{identifier(schema)}.{identifier(name)}"
        for schema, name in tables
    )
    return {(schema, name): rows for schema, name, rows in connection.execute(counts).fetchall()}
