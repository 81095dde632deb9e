"""The key that signs checkpoints: where it comes from and how it is guarded.

It is not among the master keys, for who can write decisions should not be able to sign a history of his own making: on a
server, let another host or a key service hold it. It lies in `Settings.ledger_key_file`, made on first use (mode 0600), or in
the environment variable `SEGLINE_LEDGER_KEY`, which wins: the 32 bytes of the private key in base64url.

While it is rotated its successor lies beside it (`key_rotation`), and nothing is signed with either alone.

Belongs here: reading, making and checking it. Does not belong here: what is signed (`checkpoint`).
Ed25519: RFC 8032.
"""

import base64
import os
import re
from pathlib import Path

import duckdb
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestration.identity.errors import MasterKeyError
from orchestration.identity.keys import read_guarded, write_guarded
from orchestration.ledger.checkpoint import VerifierKey, public_bytes
from orchestration.ledger.errors import LedgerError, SigningKeyError
from orchestration.settings import Settings

VARIABLE = "SEGLINE_LEDGER_KEY"
KEY_BYTES = 32


def load_signing_key(settings: Settings, may_create: bool = False) -> Ed25519PrivateKey:
    """The private key. Made if there is none and `may_create`, which holds only while the ledger is empty.

    Raises `SigningKeyError` if it is missing, malformed or open to others, or while a rotation is unfinished: a ledger that goes
    on under another key would be another ledger.
    """
    if os.path.lexists(next_key_file(settings)):
        raise SigningKeyError(
            "a rotation of the ledger's signing key is under way or was interrupted: wait for it, or complete it with "
            "`segline keys rotate --ledger`"
        )
    value = os.environ.get(VARIABLE)
    if value is not None:
        return _parse(value, f"the environment variable {VARIABLE}")
    path = settings.ledger_key_file
    if not os.path.lexists(path):
        if not may_create:
            raise SigningKeyError(
                f"the ledger has been signed before, but its key file {path} is gone: restore it from your backup, "
                f"or set {VARIABLE}"
            )
        make_key_file(path)
    return read_key_file(path)


def next_key_file(settings: Settings) -> Path:
    """Where the key lies that a rotation is putting in place."""
    return settings.ledger_key_file.with_name(f"{settings.ledger_key_file.name}.next")


def make_key_file(path: Path) -> None:
    """A fresh key, in a file that only its owner can read; one that is there already stays."""
    write_guarded(path, base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode() + "\n")


def read_key_file(path: Path) -> Ed25519PrivateKey:
    """The private key of one file. Raises `SigningKeyError`."""
    try:
        text = read_guarded(path)
    except MasterKeyError as error:
        raise SigningKeyError(str(error)) from None
    return _parse(text, f"the key file {path}")


def _parse(text: str, origin: str) -> Ed25519PrivateKey:
    plain = text.strip()
    if not re.fullmatch(r"[A-Za-z0-9_-]{43}=?", plain):
        raise SigningKeyError(f"{origin} holds no signing key: 32 bytes in base64url are expected; restore it from your backup")
    return Ed25519PrivateKey.from_private_bytes(base64.urlsafe_b64decode(plain.rstrip("=") + "="))


def verifier_key(connection: duckdb.DuckDBPyConnection, settings: Settings) -> VerifierKey:
    """The public key under the ledger's name, made from the private one. Raises `LedgerError` while there is no ledger."""
    from orchestration.ledger.store import is_kept, newest_head, stored_tree

    head = newest_head(connection)
    if head is None and is_kept(connection) and stored_tree(connection).size:
        raise LedgerError("the ledger has leaves and no checkpoint: somebody took it away; restore the lake from your backup")
    if head is None:
        raise LedgerError("there is no ledger yet: it begins with the first publication, `segline run`")
    return VerifierKey(head.checkpoint.origin, public_bytes(load_signing_key(settings)))
