"""The vault: direct identifiers, sealed value by value, in a store of their own.

The vault is a DuckLake that no other part of the platform attaches: one row per person in `persons`, one
sealed column per attribute. In plain text it holds nothing but the subject token, a keyed fingerprint and the
load. The keys that open it lie apart (`key_store`).

Order of writing: keys first, then values, then (by the caller) `raw`. Whatever falls between two of them is
harmless: a key without values is used by the next run, values without a raw row are found unchanged by it.

Belongs here: writing and reading the vault. Does not belong here: cryptography (`sealing`), rights jobs.
DuckLake: https://ducklake.select/docs/stable/
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestration.durability import NewFiles
from orchestration.identity.errors import (
    IdentityError,
    PersonNotFoundError,
    WrongMasterKeyError,
    without_values,
)
from orchestration.identity.key_store import open_key_store
from orchestration.identity.keys import MasterKeys
from orchestration.identity.sealing import unseal
from orchestration.lake import attach, engine, identifier, literal, prepare_catalog
from orchestration.settings import Settings

PERSONS = "vault.main.persons"
_OWN_COLUMNS = ("subject_token", "fingerprint", "load_id")
# Persons per insert: few large files, and bounded memory (some 450 bytes each).
_FLUSH_ROWS = 500_000


@dataclass(frozen=True)
class VaultCounts:
    """Persons of one delivery: new in the vault, changed there, and found as they were."""

    added: int
    changed: int
    unchanged: int


@contextmanager
def attached_vault(
    connection: duckdb.DuckDBPyConnection, settings: Settings, read_only: bool = False
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A second connection to the same engine that has the vault as `vault`, detached on leaving.

    The same engine, for two would need two memory limits and two spill folders (engines that spill into one
    folder overwrite each other's files, and crash), and loading the extensions again takes half a second. A
    second connection, so that the vault's transaction is not the caller's.
    """
    if not read_only:
        prepare_catalog(settings.vault_catalog, settings.vault_data)
    with closing(connection.cursor()) as second:
        attach(second, "vault", settings.vault_catalog, settings.vault_data, read_only)
        try:
            yield second
        finally:
            second.execute("detach vault")


def _prepare_persons(connection: duckdb.DuckDBPyConnection, attributes: Sequence[str]) -> None:
    """Create the table, or add the columns of attributes that a contract has gained."""
    columns = ", ".join(f"{identifier(name)} blob" for name in attributes)
    connection.execute(
        f"create table if not exists {PERSONS} "
        f"(subject_token varchar, fingerprint blob, load_id varchar, {columns})"
    )
    present = {column[0] for column in connection.execute(f"select * from {PERSONS} limit 0").description}
    for name in attributes:
        if name not in present:
            connection.execute(f"alter table {PERSONS} add column {identifier(name)} blob")


class VaultWriter:
    """Writes one delivery: `outdated` says who must be sealed, `add` takes them sealed, `commit` shows them.

    Keys are stored durably before the values that they open; values are in one transaction and in nobody's
    sight before `commit`. Leaving without it changes nothing but for keys that have no values yet, which the
    next run uses.
    """

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        settings: Settings,
        keys: MasterKeys,
        attributes: Sequence[str],
    ) -> None:
        self._connection, self._keys = connection, keys
        self._pending: list[pa.Table] = []
        self._counts = VaultCounts(0, 0, 0)
        self._in_transaction = False
        _prepare_persons(connection, attributes)
        # DuckDB writes rows to SQLite at twice the speed of Python's own driver, and reads them as fast as a
        # table. On a connection of its own, for the keys are committed while the values' transaction is still
        # open.
        connection.execute(f"attach {literal(settings.key_store)} as key_store (type sqlite)")
        self._key_connection = connection.cursor()

    def outdated(self, subject_tokens: pa.ChunkedArray, fingerprints: pa.ChunkedArray) -> pa.Table:
        """Who of the delivered is new or changed: position, and nonce and wrapped_key of a key that exists.

        Called once, with everybody, each subject token once. Raises `WrongMasterKeyError` if a key is wrapped
        under another version of the master key.
        """
        version = self._keys.kek_version
        (foreign,) = self._one_row(
            f"select count(*) from key_store.subject_keys where kek_version <> {version:d}"
        )
        if foreign:
            raise WrongMasterKeyError(
                f"{foreign} persons' keys are not wrapped under version {version} of the master key"
            )
        positions = pa.array(np.arange(len(subject_tokens)))
        self._connection.register(
            "delivered",
            pa.table({"position": positions, "subject_token": subject_tokens, "fingerprint": fingerprints}),
        )
        self._connection.execute(
            f"""
            create or replace temp table outdated as
            select
                delivered.position,
                delivered.subject_token,
                known.subject_token is not null as is_known,
                held.nonce,
                held.wrapped_key
            from delivered
            left join {PERSONS} as known on known.subject_token = delivered.subject_token
            left join key_store.subject_keys as held on held.subject_token = delivered.subject_token
            where known.fingerprint is distinct from delivered.fingerprint
                or held.subject_token is null
            """
        )
        self._connection.unregister("delivered")
        total, changed = self._one_row("select count(*), count(*) filter (where is_known) from outdated")
        self._counts = VaultCounts(total - changed, changed, len(subject_tokens) - total)
        return self._connection.execute(
            "select position, nonce, wrapped_key from outdated order by position"
        ).to_arrow_table()

    def _one_row(self, query: str) -> tuple[int, ...]:
        row = self._connection.execute(query).fetchone()
        assert row is not None
        return row

    def add(self, sealed: pa.RecordBatch, load_id: str) -> None:
        """Take sealed persons, as `sealing.seal` returns them."""
        load = pa.repeat(pa.scalar(load_id), sealed.num_rows)
        self._pending.append(pa.Table.from_batches([sealed]).append_column("load_id", load))
        if sum(table.num_rows for table in self._pending) >= _FLUSH_ROWS:
            self._flush()

    def _flush(self) -> None:
        """Write what is pending: the keys for good, the values into the open transaction."""
        if not self._pending:
            return
        sealed, self._pending = pa.concat_tables(self._pending), []
        new_keys = sealed.select(["subject_token", "nonce", "wrapped_key"]).filter(
            pc.is_valid(sealed["wrapped_key"])
        )
        self._key_connection.register("new_keys", new_keys)
        # In the key's order: a B-tree takes sorted rows fastest.
        self._key_connection.execute(
            "insert into key_store.subject_keys select *, ? from new_keys order by subject_token",
            [self._keys.kek_version],
        )
        self._key_connection.unregister("new_keys")
        if not self._in_transaction:
            self._new_files = NewFiles(self._connection)
            self._connection.execute("begin transaction")
            self._in_transaction = True
            if self._counts.changed:
                # Before anything is added, so that only the earlier entries go.
                self._connection.execute(
                    f"delete from {PERSONS} "
                    "where subject_token in (select subject_token from outdated where is_known)"
                )
        self._connection.register("sealed", sealed.drop_columns(["nonce", "wrapped_key"]))
        self._connection.execute(f"insert into {PERSONS} by name select * from sealed")
        self._connection.unregister("sealed")

    def commit(self) -> VaultCounts:
        """Show the delivery, all at once."""
        self._flush()
        if self._in_transaction:
            self._new_files.sync()
            with self._new_files.kept():
                self._connection.execute("commit")
            self._in_transaction = False
        return self._counts

    def close(self) -> None:
        """Drop whatever was not committed, and let go of the key store."""
        self._key_connection.close()
        if self._in_transaction:
            self._in_transaction = False
            with suppress(duckdb.TransactionException):  # a commit that failed has ended it
                self._connection.execute("rollback")
        self._connection.execute("drop table if exists temp.outdated")
        self._connection.execute("detach key_store")


@contextmanager
def open_vault(
    connection: duckdb.DuckDBPyConnection, settings: Settings, keys: MasterKeys, attributes: Sequence[str]
) -> Iterator[VaultWriter]:
    """The vault for one delivery with these attributes, on a connection beside the given one.

    Raises `WrongMasterKeyError` before anything is written.
    """
    reserved = {*_OWN_COLUMNS, "nonce", "wrapped_key"} & set(attributes)
    if reserved:
        raise IdentityError(
            f"an attribute may not be called {', '.join(sorted(reserved))}: the vault uses that name"
        )
    open_key_store(settings, keys).close()
    with (
        attached_vault(connection, settings) as second,
        closing(VaultWriter(second, settings, keys, attributes)) as writer,
    ):
        yield writer


@without_values("reading the vault")
def read_person(
    settings: Settings,
    keys: MasterKeys,
    subject_token: str,
    connection: duckdb.DuckDBPyConnection | None = None,
) -> dict[str, str]:
    """One person's identifiers in plain text by attribute, those that are known. For rights jobs only.

    `connection` is one of `lake.engine`'s; without it an engine is opened for the one question. Raises
    `PersonNotFoundError` if there is no such person or the key was destroyed, `WrongMasterKeyError` and
    `DamagedEntryError` as they say.
    """
    absent = (
        "the vault has no readable entry for that subject token: never delivered, or its key was destroyed"
    )
    if not settings.key_store.exists() or not settings.vault_catalog.exists():
        raise PersonNotFoundError(absent)
    with closing(open_key_store(settings, keys)) as store:
        key = store.execute(
            "select nonce, wrapped_key from subject_keys where subject_token = ?", [subject_token]
        ).fetchone()
    if key is None:
        raise PersonNotFoundError(absent)
    with ExitStack() as stack:
        base = connection or stack.enter_context(engine(settings))
        vault = stack.enter_context(attached_vault(base, settings, read_only=True))
        result = vault.execute(f"select * from {PERSONS} where subject_token = ?", [subject_token])
        names = [column[0] for column in result.description]
        rows = result.fetchall()
    if len(rows) != 1:
        raise PersonNotFoundError(absent)
    entry = {name: value for name, value in zip(names, rows[0], strict=True) if name not in _OWN_COLUMNS}
    return unseal(keys, subject_token, *key, list(entry), list(entry.values()))
