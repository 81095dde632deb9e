"""The book at hand: the raw rows of every customer, sorted by person, so that one person's are found in milliseconds.

The lake holds them in the order of delivery, in encrypted Parquet; to find one person there means to read it all. So a service
copies what its SQL reads into a database of its own, in the engine's private temporary folder, encrypted under a key that
exists in this process only: nobody can read it afterwards, and it goes with the process.

Belongs here: making the copy, finding rows in it. Does not belong here: events that came since (`event_log`).
"""

import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from orchestration.lake import identifier, literal

ROW_GROUP = 16_384  # small, so that little is read for one person; a multiple of 2,048
ALIAS = "book"


def make_book(
    connection: duckdb.DuckDBPyConnection, folder: Path, entities: Sequence[str], report: Callable[[str, float], None]
) -> None:
    """Copy these raw tables of the lake that is attached to `connection`, sorted by `subject_token`."""
    path = folder / "book.duckdb"
    path.unlink(missing_ok=True)
    # The key is made here, is of use to this file only, and no log of statements is kept.
    connection.execute(
        f"attach {literal(path)} as {ALIAS} "
        f"(encryption_key {literal(secrets.token_hex(32))}, row_group_size {ROW_GROUP}, storage_version 'latest')"
    )
    for place, entity in enumerate(entities):
        report(f"reading {entity}", place / len(entities))
        table = identifier(entity)
        connection.execute(f"create table {ALIAS}.{table} as select * from lake.raw.{table} order by subject_token")


def rows_of(connection: duckdb.DuckDBPyConnection, entity: str, tokens: Sequence[str]) -> pa.Table:
    """These persons' rows of one raw table."""
    # A list of values and not a join: only with the values at hand does the engine skip what cannot hold them.
    marks = ", ".join("?" * len(tokens))
    sql = f"select * from {ALIAS}.{identifier(entity)} where subject_token in ({marks})"
    return connection.execute(sql, list(tokens)).to_arrow_table()


def held_keys(connection: duckdb.DuckDBPyConnection, entity: str, key: str, keys: Iterable[str]) -> set[str]:
    """Those of the values that stand in that column of the lake's raw table."""
    connection.register("keys_asked", pa.table({"key": pa.array(list(keys), pa.string())}))
    try:
        held = identifier(key)
        found = connection.execute(
            f"select {held} from lake.raw.{identifier(entity)} semi join keys_asked on {held} = keys_asked.key"
        ).fetchall()
    finally:
        connection.unregister("keys_asked")
    return {row[0] for row in found}
