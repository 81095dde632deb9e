"""By which pseudonym the ledger knows whom, where that is not the one of today.

The ledger is signed and cannot be re-keyed. Whoever was in it when pseudonyms were made anew keeps the one by which it knew him;
`ops.ledger_names` leads there from today's raw pseudonym, one row per person, and goes with the person's erasure.

Belongs here: reading and forgetting such names. Does not belong here: the re-keying that makes them (`rights.rekeying`).
"""

from collections.abc import Iterable, Sequence

import duckdb
import pyarrow as pa

from orchestration.identity.keys import MasterKeys
from orchestration.identity.pseudonyms import ledger_token
from orchestration.lake import table_exists

NAMES = ("ops", "ledger_names")
RELATION = f"lake.{'.'.join(NAMES)}"
DDL = f"create table if not exists {RELATION} (subject_token varchar, ledger_token varchar)"


def names_in_ledger(connection: duckdb.DuckDBPyConnection, keys: MasterKeys, raw_tokens: Sequence[str]) -> list[str]:
    """The ledger's token of each of these raw tokens of today, in their order."""
    held: dict[str, str] = {}
    if raw_tokens and table_exists(connection, *NAMES):
        connection.register("names_asked", pa.table({"token": pa.array(raw_tokens, pa.string())}))
        try:
            held = dict(
                connection.execute(
                    f"select subject_token, ledger_token from {RELATION} where subject_token in (select token from names_asked)"
                ).fetchall()
            )
        finally:
            connection.unregister("names_asked")
    return [held.get(token) or ledger_token(keys, token) for token in raw_tokens]


def named_column(connection: duckdb.DuckDBPyConnection, made: str, raw: str) -> tuple[str, str]:
    """SQL for a query that has today's raw token in `raw` and the ledger's token made of it in `made`: expression and join."""
    if not table_exists(connection, *NAMES):
        return made, ""
    return f"coalesce(names.ledger_token, {made})", f" left join {RELATION} as names on names.subject_token = {raw}"


def forget_names(connection: duckdb.DuckDBPyConnection, ledger_tokens: Iterable[str]) -> None:
    """Forget whose names these tokens of the ledger are."""
    if not table_exists(connection, *NAMES):
        return
    connection.register("names_forgotten", pa.table({"token": pa.array(sorted(ledger_tokens), pa.string())}))
    try:
        connection.execute(f"delete from {RELATION} where ledger_token in (select token from names_forgotten)")
    finally:
        connection.unregister("names_forgotten")
