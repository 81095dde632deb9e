"""Taking deleted rows out of a store's bytes: DuckLake's files and catalogue, SQLite's pages, and the persons' keys.

DuckLake removes nothing by itself: a deleted row stays in its data file, in old snapshots, and its value, if it was a
column's smallest or largest, in the catalogue. The order that works, each step verified: delete, flush inlined rows,
rewrite data files with `delete_threshold => 0` (the default leaves files alone that lost under 95 % of their rows), make
tables anew that keep a stale smallest or largest value, expire snapshots, clean up files, delete orphans, then VACUUM
the SQLite catalogue and truncate its write-ahead log.

Belongs here: how bytes go. Does not belong here: whose, and why (erasure, retention).
https://ducklake.select/docs/stable/duckdb/maintenance/recommended_maintenance
"""

import sqlite3
import time
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import duckdb

from orchestration.lake import identifier, transaction
from orchestration.rights.errors import ErasureError
from orchestration.settings import Settings

_COMPACT_SECONDS = 30


def remove_deleted(connection: duckdb.DuckDBPyConnection, lake: str) -> None:
    """Rewrite what lost rows, and forget every snapshot but the newest with the files that only they needed."""
    connection.execute(f"call ducklake_flush_inlined_data('{lake}')")
    with transaction(connection):
        connection.execute(f"call ducklake_rewrite_data_files('{lake}', delete_threshold => 0)")
    stale = connection.execute(_stale_statistics(lake)).fetchall()
    if stale:
        with transaction(connection):
            for schema, name in stale:
                make_anew(connection, lake, schema, name)
    connection.execute(f"call ducklake_expire_snapshots('{lake}', older_than => now())")
    connection.execute(f"call ducklake_cleanup_old_files('{lake}', cleanup_all => true)")
    connection.execute(f"call ducklake_delete_orphaned_files('{lake}', cleanup_all => true)")


def has_deleted(connection: duckdb.DuckDBPyConnection, lake: str) -> bool:
    """Whether a data file that is in use holds rows that were deleted."""
    files = f"__ducklake_metadata_{lake}.ducklake_delete_file"
    return bool(connection.execute(f"select count(*) from {files} where end_snapshot is null").fetchone()[0])


def make_anew(connection: duckdb.DuckDBPyConnection, lake: str, schema: str, name: str) -> None:
    """Copy a table over itself: the catalogue keeps a table's minima and maxima for as long as the table lives, also those
    of deleted rows."""
    relation = f"{lake}.{identifier(schema)}.{identifier(name)}"
    connection.execute(f"create or replace table {relation} as select * from {relation}")


def _stale_statistics(lake: str) -> str:
    """SQL of the tables whose smallest or largest value of a column is that of no file any more.

    DuckLake recomputes them when it rewrites a file, not when all rows of a file are deleted: the value of a row that is gone
    would stay in the catalogue, in plain text, for as long as the table exists (verified, DuckDB 1.5.5).
    """
    catalogue = f"__ducklake_metadata_{lake}"
    files = (
        f"select 1 from {catalogue}.ducklake_file_column_stats as held inner join {catalogue}.ducklake_data_file as file "
        "using (data_file_id) where file.end_snapshot is null and file.table_id = stats.table_id "
        "and held.column_id = stats.column_id and held.{0}_value = stats.{0}_value"
    )
    stale = " or ".join(
        f"(stats.{end}_value is not null and not exists ({files.format(end)}))" for end in ("min", "max")
    )
    return (
        f"select distinct zone.schema_name, known.table_name from {catalogue}.ducklake_table_column_stats as stats "
        f"inner join {catalogue}.ducklake_table as known on known.table_id = stats.table_id and known.end_snapshot is null "
        f"inner join {catalogue}.ducklake_schema as zone on zone.schema_id = known.schema_id and zone.end_snapshot is null "
        f"where {stale} order by all"
    )


def compact_sqlite(path: Path) -> None:
    """VACUUM and an empty write-ahead log; waits for readers. Raises `ErasureError` if one does not let go."""
    deadline = time.monotonic() + _COMPACT_SECONDS
    while True:
        try:
            with closing(sqlite3.connect(path, timeout=5, isolation_level=None)) as db:
                db.execute("pragma secure_delete = on")
                db.execute("vacuum")
                (busy, _, _) = db.execute("pragma wal_checkpoint(truncate)").fetchone()
            if not busy:
                return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) and "busy" not in str(error):
                raise
        if time.monotonic() > deadline:
            raise ErasureError(
                f"{path.name} in {path.parent.name} is held by a reader, so its free pages could not be overwritten; end the "
                "reader and run `segline rights apply` again"
            )
        time.sleep(0.2)


def shred(settings: Settings, tokens: Iterable[str]) -> int:
    """Destroy the keys of those pseudonyms, overwritten in file and log when this returns; how many there were."""
    if not settings.key_store.exists():
        return 0
    with closing(sqlite3.connect(settings.key_store, timeout=30, isolation_level=None)) as store:
        store.execute("pragma secure_delete = on")
        store.execute("begin immediate")
        gone = sum(
            store.execute("delete from subject_keys where subject_token = ?", [token]).rowcount for token in sorted(tokens)
        )
        store.execute("commit")
        store.execute("pragma wal_checkpoint(truncate)")
    return gone
