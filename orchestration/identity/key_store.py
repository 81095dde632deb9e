"""The file of the persons' keys, each wrapped by the master key.

It lies apart from the vault's values, in SQLite, which overwrites what is deleted (`secure_delete`):
destroying a key destroys the person's values wherever copies of them lie. Restoring a backup of this file
brings the keys of erased persons back, so erasures have to be repeated after it.

Belongs here: opening and checking the file. Does not belong here: wrapping keys (`sealing`), when they go.
secure_delete: https://www.sqlite.org/pragma.html#pragma_secure_delete
"""

import hmac
import sqlite3

from orchestration.identity.errors import IdentityError, WrongMasterKeyError
from orchestration.identity.keys import VARIABLE, MasterKeys
from orchestration.lake import private_folder
from orchestration.settings import Settings

_NAMES = ("kek", "pseudonym", "fingerprint")
_DDL = """
create table if not exists subject_keys (
    subject_token text primary key,
    nonce blob not null,
    wrapped_key blob not null,
    kek_version integer not null
) without rowid;
create table if not exists master_keys (
    key_version integer primary key, kek blob not null, pseudonym blob not null, fingerprint blob not null
)
"""


def _check_values(keys: MasterKeys) -> tuple[bytes, bytes, bytes]:
    """A keyed hash of a fixed text per master key: tells equal keys from unequal ones and nothing else."""
    return tuple(  # type: ignore[return-value]
        hmac.digest(getattr(keys, name), f"segline key check {name}".encode(), "sha256") for name in _NAMES
    )


def bind(store: sqlite3.Connection, keys: MasterKeys) -> None:
    """Bind the file to these master keys instead of those that it was bound to."""
    store.execute("delete from master_keys")
    store.execute("insert into master_keys values (?, ?, ?, ?)", [keys.version, *_check_values(keys)])


def is_bound_to(store: sqlite3.Connection, keys: MasterKeys) -> bool:
    """Whether the file belongs to these master keys, whatever else they are."""
    held = store.execute("select key_version, kek, pseudonym, fingerprint from master_keys").fetchall()
    return held == [(keys.version, *_check_values(keys))]


def open_key_store(settings: Settings, keys: MasterKeys) -> sqlite3.Connection:
    """The file of wrapped keys, made on first use and bound to the master keys.

    Raises `WrongMasterKeyError` if it was made with others: another pseudonym key would make everybody a new
    person.
    """
    path = settings.key_store
    if settings.vault_catalog.exists() and not path.exists():
        raise IdentityError(
            f"the vault's key store {path} is gone and its entries cannot be opened without it: restore it "
            "from your backup"
        )
    private_folder(path.parent)
    path.touch(mode=0o600, exist_ok=True)
    path.chmod(0o600)
    store = sqlite3.connect(path, timeout=30, isolation_level=None)
    try:
        store.execute("pragma journal_mode = wal")
        store.execute("pragma secure_delete = on")
        store.executescript(_DDL)
        held = store.execute("select key_version, kek, pseudonym, fingerprint from master_keys").fetchall()
        if not held:
            store.execute("insert into master_keys values (?, ?, ?, ?)", [keys.version, *_check_values(keys)])
            return store
        for name, value, expected in zip(_NAMES, held[0][1:], _check_values(keys), strict=True):
            if not hmac.compare_digest(value, expected):
                raise WrongMasterKeyError(
                    f"the vault under {path.parent} was made with another {name} key than the one given: "
                    f"restore the key file that belongs to it, or unset {VARIABLE} if that holds another "
                    "installation's keys"
                )
        if held[0][0] != keys.version:
            raise WrongMasterKeyError(
                f"the vault under {path.parent} was made with keys of version {held[0][0]}, given is version "
                f"{keys.version}"
            )
    except BaseException:
        store.close()
        raise
    return store
