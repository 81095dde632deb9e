"""The cryptography of the vault, a batch of persons at a time.

Each person has one random key of 256 bits; each value is sealed alone by AES-256-GCM under it, bound to the
person and the attribute, so that nothing can be swapped between persons or columns. The person's key is
wrapped by the master key `kek`, bound to the person. Destroying the wrapped key destroys every copy of the
values, in old snapshots and backups too.

Belongs here: pure functions from Arrow batch to Arrow batch, and their inverse for one person. Does not
belong here: storage (`vault`), processes (`workers`). AEAD:
https://cryptography.io/en/latest/hazmat/primitives/aead/
"""

import os
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestration.identity.errors import DamagedEntryError, WrongMasterKeyError
from orchestration.identity.keys import MasterKeys
from orchestration.identity.pseudonyms import hmac_sha256, tokens_by_zone

NONCE_BYTES = 12
PERSON_KEY_BYTES = 32
FINGERPRINT_BYTES = 16
WRONG_KEK = (
    "the vault's entries do not open with this master key: restore the key that the vault was made with"
)


def fingerprints(keys: MasterKeys, subject_tokens: pa.Array, attributes: pa.RecordBatch) -> pa.Array:
    """16 keyed bytes per person that change when any identifier does; nobody without the key can test a
    guess.

    Each value is preceded by its length, and null differs from empty, so that no two persons' values read the
    same; the attributes' names go in too, so that a new attribute reaches persons who are in the vault
    already.
    """
    parts = [pc.fill_null(subject_tokens, "")]  # who has none is refused later, by name
    for column in attributes.columns:
        lengths = pc.cast(pc.binary_length(column), pa.string())
        parts.append(pc.fill_null(pc.binary_join_element_wise("|", lengths, ":", column, ""), "|"))
    messages = pc.binary_join_element_wise(*parts, "").cast(pa.binary()).to_pylist()
    label = "fingerprint:" + ",".join(attributes.schema.names)
    digests = hmac_sha256(keys.fingerprint, messages, label.encode(), FINGERPRINT_BYTES)
    data = pa.py_buffer(digests)
    fixed = pa.Array.from_buffers(pa.binary(FINGERPRINT_BYTES), len(messages), [None, data])
    return fixed.cast(pa.binary())


def identify(keys: MasterKeys, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Who each row is: `batch` has the customer's identifier first, then the other attributes, all as
    strings.

    Returns the identifier as `value`, subject_token, risk_subject_token, audience_subject_token and
    fingerprint.
    """
    raw, risk, audience = tokens_by_zone(keys, ("raw", "risk", "audience"), batch.column(0))
    return pa.record_batch(
        {
            "value": batch.column(0),
            "subject_token": raw,
            "risk_subject_token": risk,
            "audience_subject_token": audience,
            "fingerprint": fingerprints(keys, raw, batch),
        }
    )


def _unwrap(kek: AESGCM, subject_token: bytes, nonce: bytes, wrapped_key: bytes) -> bytes:
    try:
        return kek.decrypt(nonce, wrapped_key, subject_token)
    except InvalidTag:
        raise WrongMasterKeyError(WRONG_KEK) from None


def _bound(subject_token: bytes, attribute: bytes) -> bytes:
    """What a sealed value is bound to; tokens have one length, so no two pairs read the same."""
    return subject_token + attribute


def seal(keys: MasterKeys, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Seal persons' values: subject_token, fingerprint, nonce, wrapped_key, then attributes as strings, row
    by row.

    A person without a wrapped key gets a fresh one; one who has it keeps it, so that an interrupted run can
    leave no value sealed under a key that was since replaced. Returns the same columns: nonce and wrapped_key
    null for a key that is kept, each attribute as nonce || ciphertext || tag, null for null.
    """
    names = batch.schema.names[4:]
    labels = [name.encode() for name in names]
    columns = [column.cast(pa.binary()).to_pylist() for column in batch.columns]
    subjects, nonces, wrapped_keys, values = columns[0], columns[2], columns[3], columns[4:]
    kek = AESGCM(keys.kek)
    # One call for all the randomness of a batch; a random nonce per value, under keys that seal a few values
    # each.
    fresh_keys = os.urandom(PERSON_KEY_BYTES * len(subjects))
    fresh_nonces = os.urandom(NONCE_BYTES * len(subjects) * (len(names) + 1))
    at = 0
    new_nonces: list[bytes | None] = []
    new_keys: list[bytes | None] = []
    sealed: list[list[bytes | None]] = [[] for _ in names]
    for row, (subject, held_nonce, held_key, *person) in enumerate(
        zip(subjects, nonces, wrapped_keys, *values, strict=True)
    ):
        if held_key is None:
            key = fresh_keys[PERSON_KEY_BYTES * row : PERSON_KEY_BYTES * (row + 1)]
            nonce = fresh_nonces[at : at + NONCE_BYTES]
            at += NONCE_BYTES
            new_nonces.append(nonce)
            new_keys.append(kek.encrypt(nonce, key, subject))
        else:
            key = _unwrap(kek, subject, held_nonce, held_key)
            new_nonces.append(None)
            new_keys.append(None)
        encrypt = AESGCM(key).encrypt
        for column, label, value in zip(sealed, labels, person, strict=True):
            if value is None:
                column.append(None)
            else:
                nonce = fresh_nonces[at : at + NONCE_BYTES]
                at += NONCE_BYTES
                column.append(nonce + encrypt(nonce, value, _bound(subject, label)))
    arrays = {name: pa.array(column, pa.binary()) for name, column in zip(names, sealed, strict=True)}
    return pa.record_batch(
        {
            "subject_token": batch.column(0),
            "fingerprint": batch.column(1),
            "nonce": pa.array(new_nonces, pa.binary()),
            "wrapped_key": pa.array(new_keys, pa.binary()),
            **arrays,
        }
    )


def unseal(
    keys: MasterKeys,
    subject_token: str,
    nonce: bytes,
    wrapped_key: bytes,
    names: Sequence[str],
    values: Sequence[bytes | None],
) -> dict[str, str]:
    """One person's values in plain text, without those that are null.

    Raises `WrongMasterKeyError` if the master key does not open the person's key, `DamagedEntryError` if a
    value does not belong to that person and attribute, or was altered.
    """
    subject = subject_token.encode()
    decrypt = AESGCM(_unwrap(AESGCM(keys.kek), subject, nonce, wrapped_key)).decrypt
    plain = {}
    for name, value in zip(names, values, strict=True):
        if value is not None:
            try:
                text = decrypt(value[:NONCE_BYTES], value[NONCE_BYTES:], _bound(subject, name.encode()))
            except InvalidTag:
                raise DamagedEntryError(
                    f"the {name} of an entry of the vault was altered or moved: restore the vault from its "
                    "backup"
                ) from None
            plain[name] = text.decode()
    return plain
