"""The vault: direct identifiers, sealed value by value, in a store of their own.

The vault is a DuckLake that no other part of the platform attaches: one row per person in `persons`, one sealed column per
attribute. The persons' wrapped keys lie apart, in an SQLite file that overwrites what is deleted, so that destroying a
key destroys the person's values wherever copies of them lie. Neither store holds anything in plain text but the
subject token, a keyed fingerprint and the load.

Order of writing: keys first, then values, then (by the caller) `raw`. Whatever falls between two of them is harmless: a key
without values is used by the next run, values without a raw row are found unchanged by it.

Belongs here: opening, writing and reading the vault. Does not belong here: cryptography (`sealing`), rights jobs.
DuckLake: https://ducklake.select/docs/stable/ · secure_delete: https://www.sqlite.org/pragma.html#pragma_secure_delete
"""

import hmac
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from orchestration.identity.errors import IdentityError, PersonNotFoundError, WrongMasterKeyError, without_values
from orchestration.identity.keys import MasterKeys
from orchestration.identity.sealing import unseal
from orchestration.lake import attach, engine, identifier, literal, prepare_catalog, private_folder
from orchestration.settings import Settings

PERSONS = "vault.main.persons"
_OWN_COLUMNS = ("subject_token", "fingerprint", "load_id")
_KEY_STORE_DDL = """
create table if not exists subject_keys (
    subject_token text primary key, nonce blob not null, wrapped_key blob not null, kek_version integer not null
) without rowid;
create table if not exists master_keys (
    key_version integer primary key, kek blob not null, pseudonym blob not null, fingerprint blob not null
)
"""


@dataclass(frozen=True)
class VaultCounts:
    """Persons of one delivery: new in the vault, changed there, and found as they were."""

    added: int
    changed: int
    unchanged: int


def _check_values(keys: MasterKeys) -> tuple[bytes, bytes, bytes]:
    """A keyed hash of a fixed text per master key: tells equal keys from unequal ones and nothing else."""
    return tuple(  # type: ignore[return-value]
        hmac.digest(getattr(keys, name), f"segline key check {name}".encode(), "sha256")
        for name in ("kek", "pseudonym", "fingerprint")
    )


def open_key_store(settings: Settings, keys: MasterKeys) -> sqlite3.Connection:
    """The file of wrapped keys, made on first use and bound to the master keys.

    Raises `WrongMasterKeyError` if it was made with others: another pseudonym key would make everybody a new person.
    """
    path = settings.key_store
    private_folder(path.parent)
    path.touch(mode=0o600, exist_ok=True)
    path.chmod(0o600)
    store = sqlite3.connect(path, timeout=30, isolation_level=None)
    try:
        store.execute("pragma journal_mode = wal")
        store.execute("pragma secure_delete = on")
        store.executescript(_KEY_STORE_DDL)
        held = store.execute("select key_version, kek, pseudonym, fingerprint from master_keys").fetchall()
        if not held:
            store.execute("insert into master_keys values (?, ?, ?, ?)", [keys.version, *_check_values(keys)])
            return store
        for name, value, expected in zip(("kek", "pseudonym", "fingerprint"), held[0][1:], _check_values(keys), strict=True):
            if not hmac.compare_digest(value, expected):
                raise WrongMasterKeyError(
                    f"the vault under {path.parent} was made with another {name} key than the one given: restore the key "
                    "file that belongs to it, or unset SEGLINE_MASTER_KEYS if that names another installation's keys"
                )
        if held[0][0] != keys.version:
            raise WrongMasterKeyError(
                f"the vault under {path.parent} holds keys of version {held[0][0]}, version {keys.version} was given"
            )
    except BaseException:
        store.close()
        raise
    return store


@contextmanager
def vault_engine(settings: Settings, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """An engine of its own with the vault attached as `vault`, so that no other connection can ever query it.

    It has a spill folder of its own too: two DuckDB engines that spill into one folder overwrite each other's files.
    """
    if not read_only:
        prepare_catalog(settings.vault_catalog, settings.vault_data)
    spill = Path(tempfile.mkdtemp(prefix="vault-", dir=private_folder(settings.temp)))
    try:
        with closing(engine(settings)) as connection:
            connection.execute(f"set temp_directory = {literal(spill)}")
            # The caller's engine lives at the same time; a batch at a time, the vault needs little.
            connection.execute(f"set memory_limit = '{max(256, settings.memory_limit_mb // 3)}MB'")
            attach(connection, "vault", settings.vault_catalog, settings.vault_data, read_only)
            yield connection
    finally:
        shutil.rmtree(spill, ignore_errors=True)


def _prepare_persons(connection: duckdb.DuckDBPyConnection, attributes: Sequence[str]) -> None:
    """Create the table, or add the columns of attributes that a contract has gained."""
    columns = ", ".join(f"{identifier(name)} blob" for name in attributes)
    connection.execute(
        f"create table if not exists {PERSONS} (subject_token varchar, fingerprint blob, load_id varchar, {columns})"
    )
    present = {column[0] for column in connection.execute(f"select * from {PERSONS} limit 0").description}
    for name in attributes:
        if name not in present:
            connection.execute(f"alter table {PERSONS} add column {identifier(name)} blob")


class VaultWriter:
    """Writes one delivery: `outdated` says who must be sealed, `stage` collects them, `commit` stores them all at once.

    Nothing is visible in the vault before `commit`; without it nothing has changed.
    """

    def __init__(
        self, connection: duckdb.DuckDBPyConnection, settings: Settings, keys: MasterKeys, attributes: Sequence[str]
    ) -> None:
        self._connection, self._keys, self._attributes = connection, keys, tuple(attributes)
        self._seen = 0
        _prepare_persons(connection, attributes)
        connection.execute(f"create temp table known as select subject_token, fingerprint from {PERSONS}")
        # DuckDB writes rows to SQLite at twice the speed of Python's own driver, and reads them as fast as a table.
        connection.execute(f"attach {literal(settings.key_store)} as key_store (type sqlite)")
        connection.execute("create temp table held as select * from key_store.subject_keys")
        other = connection.execute("select count(*) from held where kek_version <> ?", [keys.version]).fetchone()
        if other and other[0]:
            raise WrongMasterKeyError(
                f"{other[0]} persons' keys are wrapped under another version than {keys.version} of the master key"
            )
        columns = ", ".join(f"{identifier(name)} blob" for name in attributes)
        connection.execute(
            "create temp table sealed (subject_token varchar, fingerprint blob, is_known boolean, nonce blob, "
            f"wrapped_key blob, {columns})"
        )

    def outdated(self, subject_tokens: pa.Array, fingerprints: pa.Array) -> pa.Table:
        """Which rows of a batch are new or changed: their position, whether known, and the key where there is one."""
        self._seen += len(subject_tokens)
        rows = pa.table(
            {
                "position": pa.array(range(len(subject_tokens)), pa.int32()),
                "subject_token": subject_tokens,
                "fingerprint": fingerprints,
            }
        )
        self._connection.register("delivered", rows)
        found = self._connection.execute(
            """
            select
                delivered.position,
                known.subject_token is not null as is_known,
                held.nonce,
                held.wrapped_key
            from delivered
            left join known on known.subject_token = delivered.subject_token
            left join held on held.subject_token = delivered.subject_token
            where known.fingerprint is distinct from delivered.fingerprint
                or held.subject_token is null
            order by delivered.position
            """
        ).to_arrow_table()
        self._connection.unregister("delivered")
        return found

    def stage(self, fingerprints: pa.Array, is_known: pa.Array, sealed: pa.RecordBatch) -> None:
        """Collect sealed persons: `sealed` as `sealing.seal` returns it, row by row with the other two."""
        rows = pa.table(
            {
                **{name: sealed.column(name) for name in sealed.schema.names},
                "fingerprint": fingerprints,
                "is_known": is_known,
            }
        )
        self._connection.register("batch", rows)
        self._connection.execute("insert into sealed by name select * from batch")
        self._connection.unregister("batch")

    def commit(self, load_id: str) -> VaultCounts:
        """Store the new keys durably, then the sealed values in one transaction."""
        execute = self._connection.execute
        counted = execute("select count(*), count(*) filter (where is_known) from sealed").fetchone()
        total, changed = counted if counted else (0, 0)
        if total:
            # In the key's order: a B-tree takes sorted rows fastest.
            execute(
                "insert into key_store.subject_keys select subject_token, nonce, wrapped_key, ? from sealed "
                "where wrapped_key is not null order by subject_token",
                [self._keys.version],
            )
            columns = ", ".join(identifier(name) for name in (*_OWN_COLUMNS, *self._attributes))
            values = ", ".join(identifier(name) for name in self._attributes)
            execute("begin transaction")
            try:
                if changed:
                    execute(
                        f"delete from {PERSONS} where subject_token in (select subject_token from sealed where is_known)"
                    )
                execute(
                    f"insert into {PERSONS} ({columns}) select subject_token, fingerprint, ?, {values} from sealed "
                    "order by subject_token",
                    [load_id],
                )
                execute("commit")
            except BaseException:
                execute("rollback")
                raise
        return VaultCounts(added=total - changed, changed=changed, unchanged=self._seen - total)


@contextmanager
def open_vault(settings: Settings, keys: MasterKeys, attributes: Sequence[str]) -> Iterator[VaultWriter]:
    """The vault for one delivery with these attributes. Raises `WrongMasterKeyError` before anything is written."""
    reserved = {*_OWN_COLUMNS, "is_known", "nonce", "wrapped_key"} & set(attributes)
    if reserved:
        raise IdentityError(f"an attribute may not be called {', '.join(sorted(reserved))}: the vault uses that name")
    open_key_store(settings, keys).close()
    with vault_engine(settings) as connection:
        yield VaultWriter(connection, settings, keys, attributes)


@without_values("reading the vault")
def read_person(settings: Settings, keys: MasterKeys, subject_token: str) -> dict[str, str]:
    """One person's identifiers in plain text by attribute, those that are known. For rights jobs only.

    Raises `PersonNotFoundError` if there is no such person or the key was destroyed, `WrongMasterKeyError` and
    `DamagedEntryError` as they say.
    """
    absent = "the vault has no readable entry for that subject token: it was never delivered, or its key was destroyed"
    if not settings.key_store.exists() or not settings.vault_catalog.exists():
        raise PersonNotFoundError(absent)
    with closing(open_key_store(settings, keys)) as store:
        key = store.execute(
            "select nonce, wrapped_key from subject_keys where subject_token = ?", [subject_token]
        ).fetchone()
    if key is None:
        raise PersonNotFoundError(absent)
    with vault_engine(settings, read_only=True) as connection:
        result = connection.execute(f"select * from {PERSONS} where subject_token = ?", [subject_token])
        names = [column[0] for column in result.description]
        rows = result.fetchall()
    if len(rows) != 1:
        raise PersonNotFoundError(absent)
    entry = {name: value for name, value in zip(names, rows[0], strict=True) if name not in _OWN_COLUMNS}
    return unseal(keys, subject_token, *key, list(entry), list(entry.values()))
