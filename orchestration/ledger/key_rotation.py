"""A new signing key for the ledger: the change is a statement in it, and both keys sign the checkpoint that ends with it.

| step | killed after it |
|---|---|
| the new key is laid beside the old | nothing is signed; the next try goes on with that key |
| statement and checkpoint are committed | the same; that the change is in the ledger is seen there |
| the new key takes the old one's place, the old is overwritten | done |

Belongs here: the steps. Does not belong here: following such changes (`key_chain`), the key's file (`signing_key`).
"""

import os
from collections.abc import Sequence
from datetime import UTC, datetime

import duckdb
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from orchestration.identity.keys import replace_guarded
from orchestration.lake import transaction
from orchestration.ledger.bundles import canonical
from orchestration.ledger.checkpoint import VerifierKey, public_bytes
from orchestration.ledger.errors import LedgerError, SigningKeyError
from orchestration.ledger.key_chain import key_changes
from orchestration.ledger.leaves import FORM, KEY, NONCE_BYTES, STAMP
from orchestration.ledger.merkle import leaf_hash
from orchestration.ledger.signing_key import VARIABLE, make_key_file, next_key_file, read_key_file
from orchestration.ledger.store import grow, newest_head, store_growth
from orchestration.settings import Settings


def rotate_signing_key(connection: duckdb.DuckDBPyConnection, settings: Settings) -> VerifierKey:
    """Make a new signing key the ledger's; goes on where a rotation was interrupted. Returns the new public key.

    The caller holds the home's lock. Raises `SigningKeyError` if the key is not in its file or not the ledger's, `LedgerError`
    if there is no ledger, or the stored one does not fit its signed head; then nothing was changed.
    """
    if os.environ.get(VARIABLE) is not None:
        raise SigningKeyError(
            f"the ledger's key comes from {VARIABLE}: write it to {settings.ledger_key_file} (mode 0600), unset the variable, "
            "rotate, and set it to the new file's text again"
        )
    head = newest_head(connection)
    if head is None:
        raise LedgerError("there is no ledger yet: it begins with the first publication, `segline run`")
    beside = next_key_file(settings)
    is_fresh = not os.path.lexists(beside)
    if is_fresh:
        read_key_file(settings.ledger_key_file)
        make_key_file(beside)
    old, new = read_key_file(settings.ledger_key_file), read_key_file(beside)
    origin = head.checkpoint.origin
    replaced, verifier = (VerifierKey(origin, public_bytes(key)) for key in (old, new))
    if verifier not in _successors(connection):
        try:
            _enter(connection, settings, replaced, verifier, (old, new))
        except Exception:
            # A commit may fail for its writer and stand all the same: only a key that the ledger does not know is forgotten.
            if is_fresh and verifier not in _successors(connection):
                beside.unlink()
            raise
    replace_guarded(settings.ledger_key_file, beside)
    return verifier


def _successors(connection: duckdb.DuckDBPyConnection) -> set[VerifierKey]:
    return {change.new for change in key_changes(connection)}


def _enter(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    old: VerifierKey,
    new: VerifierKey,
    signers: Sequence[Ed25519PrivateKey],
) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    with transaction(connection):
        leaf = int(connection.execute("select max(leaf_index) + 1 from lake.ops.ledger_leaves").fetchone()[0])
        statement = canonical(
            {
                "form": FORM,
                "kind": KEY,
                "leaf_index": leaf,
                "new_key": new.text(),
                "old_key": old.text(),
                "rotated_at": now.strftime(STAMP),
            }
        )
        nonce = os.urandom(NONCE_BYTES)
        growth = grow(connection, settings, leaf_hash(nonce + statement.encode()), signers)
        connection.execute("insert into lake.ops.ledger_statements values (?, ?, ?, ?)", [leaf, KEY, nonce, statement])
        store_growth(connection, growth, f"key:{leaf}", now)
