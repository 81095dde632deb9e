"""Rotation of the master keys: what the old keys closed is opened and closed again with new ones, and the old are destroyed.

Two kinds. The wrapping key (`kek`) alone: each person's key is unwrapped and wrapped again, no value is touched. Or all three:
pseudonyms are made anew too, and because each sealed value is bound to its person's pseudonym, the vault is sealed anew, with
fresh keys per person, so that copies of the old vault open with nothing.

The new keys lie in `segline.keys.next` from the first step to the last. While that file is there nothing is opened with either
set (`keys.load_keys`), and whoever is interrupted goes on: each step finds out from the store whether it was done. At the end the
next file takes the old one's place and the old one is overwritten; what a copying file system or a flash disk keeps of it is
beyond our reach.

Belongs here: key files, the key store, the vault. Does not belong here: where else pseudonyms lie (`rights.rekeying`).
NIST SP 800-57 part 1, 5.3 (crypto-periods) and 8.2.3 (re-keying): https://csrc.nist.gov/pubs/sp/800/57/pt1/r5/final
"""

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

import duckdb
import pyarrow as pa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestration.identity.errors import DamagedEntryError, RotationError, WrongMasterKeyError, without_values
from orchestration.identity.key_store import bind, is_bound_to, open_key_store
from orchestration.identity.keys import (
    KEY_BYTES,
    VARIABLE,
    MasterKeys,
    RetiredKey,
    key_text,
    load_keys,
    next_key_file,
    read_key_file,
    replace_guarded,
    write_guarded,
)
from orchestration.identity.pseudonyms import tokens_by_zone
from orchestration.identity.sealing import NONCE_BYTES, WRONG_KEK, fingerprints, seal, unseal
from orchestration.identity.vault import PERSONS, attached_vault
from orchestration.lake import identifier, literal, transaction
from orchestration.settings import Settings

BATCH_ROWS = 50_000
_FRESH = "subject_keys_next"
_NAMELESS = "an entry of the vault has no customer identifier: restore the vault from its backup"


def pending(settings: Settings) -> tuple[MasterKeys, MasterKeys] | None:
    """Old and new keys of a rotation that was begun, `None` if there is none."""
    path = next_key_file(settings)
    if not os.path.lexists(path):
        return None
    new = read_key_file(path)
    old = read_key_file(settings.key_file)
    if (new.version, new.kek_version) not in ((old.version, old.kek_version + 1), (old.version + 1, old.kek_version + 1)):
        raise RotationError(f"{path} does not follow upon {settings.key_file}: restore both from your backup of the keys")
    return old, new


def begin(
    settings: Settings, with_pseudonyms: bool, keeps_old_pseudonym_key: bool, certificate_key: str
) -> tuple[MasterKeys, MasterKeys]:
    """Make the new keys and lay them beside the old; returns both. `certificate_key` is the public one of certificates so far.

    Raises `RotationError` if the keys come from the environment, which no program can change.
    """
    if os.environ.get(VARIABLE) is not None:
        raise RotationError(
            f"the master keys come from {VARIABLE}: write them to {settings.key_file} (mode 0600), unset the variable, rotate, "
            "and set it to the new file's text in base64 again"
        )
    old = load_keys(settings)
    fresh = {"kek": os.urandom(KEY_BYTES), "kek_version": old.kek_version + 1}
    if with_pseudonyms:
        fresh |= {"pseudonym": os.urandom(KEY_BYTES), "fingerprint": os.urandom(KEY_BYTES), "version": old.version + 1}
        if keeps_old_pseudonym_key:
            fresh["retired"] = (*old.retired, RetiredKey(old.version, old.pseudonym))
    new = replace(old, certificate_keys=(certificate_key, *old.certificate_keys), **fresh)
    write_guarded(next_key_file(settings), key_text(new))
    return old, new


def abandon(settings: Settings) -> None:
    """Forget the new keys; only while nothing was closed with them."""
    next_key_file(settings).unlink(missing_ok=True)


def finish(settings: Settings) -> None:
    """Put the new keys in the old ones' place, and overwrite the old."""
    replace_guarded(settings.key_file, next_key_file(settings))


@without_values("wrapping the persons' keys")
def rewrap(settings: Settings, old: MasterKeys, new: MasterKeys) -> int:
    """Wrap each person's key by the new wrapping key, all in one transaction; returns how many. Done already: 0.

    Raises `WrongMasterKeyError` if a key does not open with the old one; then nothing was changed.
    """
    if not settings.key_store.exists():
        return 0
    with closing(_open(settings, old, new)) as store:
        if is_bound_to(store, new):
            _scrub(store)
            return 0
        unwrap, wrap = AESGCM(old.kek).decrypt, AESGCM(new.kek).encrypt
        count, after = 0, ""
        store.execute("begin immediate")
        try:
            while rows := store.execute(
                "select subject_token, nonce, wrapped_key from subject_keys where subject_token > ? "
                "order by subject_token limit ?",
                [after, BATCH_ROWS],
            ).fetchall():
                nonces = os.urandom(NONCE_BYTES * len(rows))
                changed = []
                for place, (subject, nonce, wrapped) in enumerate(rows):
                    bound, fresh = subject.encode(), nonces[NONCE_BYTES * place : NONCE_BYTES * (place + 1)]
                    changed.append((fresh, wrap(fresh, unwrap(nonce, wrapped, bound), bound), new.kek_version, subject))
                store.executemany(
                    "update subject_keys set nonce = ?, wrapped_key = ?, kek_version = ? where subject_token = ?", changed
                )
                count, after = count + len(rows), rows[-1][0]
            bind(store, new)
            store.execute("commit")
        except InvalidTag:
            store.execute("rollback")
            raise WrongMasterKeyError(WRONG_KEK) from None
        except BaseException:
            if store.in_transaction:
                store.execute("rollback")
            raise
        _scrub(store)
    return count


def _open(settings: Settings, old: MasterKeys, new: MasterKeys) -> sqlite3.Connection:
    """The key store, bound to either set."""
    try:
        return open_key_store(settings, old)
    except WrongMasterKeyError:
        return open_key_store(settings, new)


def _scrub(store: sqlite3.Connection) -> None:
    """Nothing of what was replaced stays in free pages or in the log."""
    store.execute("vacuum")
    store.execute("pragma wal_checkpoint(truncate)")


# the vault


def keyless(connection: duckdb.DuckDBPyConnection, settings: Settings) -> int:
    """How many entries of the vault have no key any more."""
    if not settings.vault_catalog.exists() or not settings.key_store.exists():
        return 0
    with attached_vault(connection, settings, read_only=True) as vault:
        if not _has_persons(vault):
            return 0
        vault.execute(f"attach {literal(settings.key_store)} as key_store (type sqlite, read_only)")
        try:
            row = vault.execute(
                f"select count(*) from {PERSONS} where subject_token not in (select subject_token from key_store.subject_keys)"
            ).fetchone()
        finally:
            vault.execute("detach key_store")
    return int(row[0]) if row else 0


def known_tokens(connection: duckdb.DuckDBPyConnection, settings: Settings) -> pa.Table:
    """Column subject_token: everybody in the vault."""
    if settings.vault_catalog.exists():
        with attached_vault(connection, settings, read_only=True) as vault:
            if _has_persons(vault):
                return vault.execute(f"select subject_token from {PERSONS}").to_arrow_table()
    return pa.table({"subject_token": pa.array([], pa.string())})


def customers_of(
    connection: duckdb.DuckDBPyConnection, settings: Settings, old: MasterKeys, subject_attribute: str
) -> Iterator[list[str]]:
    """The customer identifiers of everybody in the vault, sealed under the old keys, batch by batch.

    Raises `RotationError` if somebody's entry has no key: his rows elsewhere could not be given a new pseudonym.
    """
    if not settings.vault_catalog.exists():
        return
    with attached_vault(connection, settings, read_only=True) as vault:
        if not _has_persons(vault):
            return
        for batch in _entries(vault, settings, [subject_attribute]):
            customers = [entry.get(subject_attribute) for _, entry in _opened(old, batch, [subject_attribute])]
            if None in customers:
                raise DamagedEntryError(_NAMELESS)
            yield customers  # type: ignore[misc]


def _has_persons(vault: duckdb.DuckDBPyConnection) -> bool:
    tables = vault.execute("select table_name from duckdb_tables() where database_name = 'vault'").fetchall()
    return ("persons",) in tables


def _entries(vault: duckdb.DuckDBPyConnection, settings: Settings, attributes: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Entries with their wrapped keys: subject_token, nonce, wrapped_key, load_id, then attributes."""
    columns = ", ".join(f"persons.{identifier(name)}" for name in attributes)
    # On a connection of its own: what the caller asks meanwhile would end the reading.
    with closing(vault.cursor()) as reading:
        reading.execute(f"attach {literal(settings.key_store)} as key_store (type sqlite, read_only)")
        try:
            yield from reading.execute(
                f"select persons.subject_token, held.nonce, held.wrapped_key, persons.load_id, {columns} "
                f"from {PERSONS} as persons left join key_store.subject_keys as held "
                "on held.subject_token = persons.subject_token"
            ).to_arrow_reader(BATCH_ROWS)
        finally:
            reading.execute("detach key_store")


def _opened(keys: MasterKeys, batch: pa.RecordBatch, attributes: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Load and values in plain text of each entry, row by row."""
    rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
    for subject, nonce, wrapped, load_id, *values in rows:
        if wrapped is None:
            raise RotationError(
                "an entry of the vault has no key any more: carry out the deletions that wait (`segline rights apply`), "
                "then rotate"
            )
        yield load_id, unseal(keys, subject, nonce, wrapped, attributes, values)


def is_resealed(connection: duckdb.DuckDBPyConnection, settings: Settings, new: MasterKeys) -> bool:
    """Whether the vault's entries are those of the new keys already; an empty vault counts as not yet."""
    if not settings.vault_catalog.exists() or not settings.key_store.exists():
        return False
    with closing(sqlite3.connect(settings.key_store, timeout=30)) as store:
        if is_bound_to(store, new):
            return True
        fresh = store.execute("select 1 from sqlite_master where type = 'table' and name = ?", [_FRESH]).fetchone()
        if not fresh:
            return False
        with attached_vault(connection, settings, read_only=True) as vault:
            if not _has_persons(vault):
                return False
            row = vault.execute(f"select subject_token from {PERSONS} limit 1").fetchone()
        return bool(row and store.execute(f"select 1 from {_FRESH} where subject_token = ?", row).fetchone())


@without_values("sealing the vault anew")
def reseal(
    connection: duckdb.DuckDBPyConnection, settings: Settings, old: MasterKeys, new: MasterKeys, attributes: Sequence[str]
) -> int:
    """Seal every entry of the vault under the new keys, each person with a key of his own that is new; returns how many.

    `attributes` are the contract's, the customer's identifier first. Keys come first, for good; then the entries change in one
    transaction; then the old keys go. Whoever is interrupted begins anew until the entries have changed.
    """
    if not settings.key_store.exists() or not settings.vault_catalog.exists():
        return 0
    count = 0
    with closing(_open(settings, old, new)) as store:
        if is_bound_to(store, new):
            _scrub(store)
            return 0
    if not is_resealed(connection, settings, new):
        count = _reseal_entries(connection, settings, old, new, attributes)
    with closing(open_key_store(settings, old)) as store:
        with store:
            store.execute("begin immediate")
            store.execute("delete from subject_keys")
            if store.execute("select 1 from sqlite_master where name = ?", [_FRESH]).fetchone():
                store.execute(f"insert into subject_keys select * from {_FRESH}")
                store.execute(f"drop table {_FRESH}")
            bind(store, new)
        _scrub(store)
    return count


def _reseal_entries(
    connection: duckdb.DuckDBPyConnection, settings: Settings, old: MasterKeys, new: MasterKeys, attributes: Sequence[str]
) -> int:
    count = 0
    with attached_vault(connection, settings) as vault, closing(open_key_store(settings, old)) as store:
        if not _has_persons(vault):
            return 0
        present = {column[0] for column in vault.execute(f"select * from {PERSONS} limit 0").description}
        names = [name for name in attributes if name in present]
        store.execute(f"drop table if exists {_FRESH}")
        store.execute(
            f"create table {_FRESH} (subject_token text primary key, nonce blob not null, wrapped_key blob not null, "
            "kek_version integer not null) without rowid"
        )
        vault.execute(f"create or replace temp table resealed as select * from {PERSONS} limit 0")
        for batch in _entries(vault, settings, names):
            sealed, loads = _resealed(old, new, batch, names)
            keys = zip(*(sealed[name].to_pylist() for name in ("subject_token", "nonce", "wrapped_key")), strict=True)
            store.execute("begin immediate")
            store.executemany(f"insert into {_FRESH} values (?, ?, ?, {new.kek_version:d})", keys)
            store.execute("commit")
            vault.register("sealing", sealed.drop_columns(["nonce", "wrapped_key"]).append_column("load_id", loads))
            vault.execute("insert into resealed by name select * from sealing")
            vault.unregister("sealing")
            count += batch.num_rows
        with transaction(vault):
            vault.execute(f"delete from {PERSONS}")
            vault.execute(f"insert into {PERSONS} by name select * from resealed")
        vault.execute("drop table temp.resealed")
    return count


def _resealed(old: MasterKeys, new: MasterKeys, batch: pa.RecordBatch, names: Sequence[str]) -> tuple[pa.Table, pa.Array]:
    """A batch sealed under the new keys, and each entry's load."""
    opened = list(_opened(old, batch, names))
    plain = pa.record_batch({name: pa.array([entry.get(name) for _, entry in opened], pa.string()) for name in names})
    (subjects,) = tokens_by_zone(new, ["raw"], plain.column(0))
    if subjects.null_count:
        raise DamagedEntryError(_NAMELESS)
    nothing = pa.nulls(batch.num_rows, pa.binary())
    arrays = {
        "subject_token": subjects,
        "fingerprint": fingerprints(new, subjects, plain),
        "nonce": nothing,
        "wrapped_key": nothing,
    }
    sealed = seal(new, pa.record_batch(arrays | {name: plain.column(place) for place, name in enumerate(names)}))
    return pa.Table.from_batches([sealed]), pa.array([load for load, _ in opened], pa.string())
