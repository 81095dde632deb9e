"""Correction: a wrong identifier is overridden in the vault at once, and the source is told.

The override stands until the source next delivers the person with any change: the vault knows a person by a fingerprint of
what was delivered, which an override leaves as it is. Data outside the vault are corrected by the source alone, for what is
landed is replaced with each delivery.

Belongs here: overriding and what the source has to be told. Does not belong here: the life of the request (`requests`).
GDPR art. 16 and 19; Civ 1798.106.
"""

import os
from contextlib import closing

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestration.identity.errors import PersonNotFoundError, WrongMasterKeyError
from orchestration.identity.key_store import open_key_store
from orchestration.identity.keys import MasterKeys
from orchestration.identity.sealing import NONCE_BYTES, WRONG_KEK
from orchestration.identity.vault import PERSONS, attached_vault, read_person
from orchestration.ingestion.contracts import load_contracts
from orchestration.lake import identifier
from orchestration.rights.databases import VaultStore
from orchestration.rights.engines import one_engine
from orchestration.rights.errors import RightsError
from orchestration.rights.requests import Request, Subject, open_log
from orchestration.rights.stores import Batch
from orchestration.settings import Settings


def correct(settings: Settings, keys: MasterKeys, request: Request, customer: str, values: dict[str, str]) -> list[str]:
    """Carry out a verified correction; returns the attributes that the source has to correct. The caller holds the lock.

    Raises `RightsError` for an attribute that the contract does not have, `PersonNotFoundError` for an unknown customer.
    """
    contract = load_contracts()["customers"]
    known = {column.name for column in contract.columns if not column.subject}
    unknown = sorted(set(values) - known)
    if unknown or not values:
        raise RightsError(f"{', '.join(unknown) or 'nothing'} cannot be corrected; attributes are {', '.join(sorted(known))}")
    sealed = {column.name for column in contract.identifiers} & set(values)
    subject = Subject.of(keys, customer)
    with one_engine(settings), open_log(settings) as log:
        log.advance(request, "planned", {"attributes": sorted(values), "overridden_in_vault": sorted(sealed)})
        if sealed:
            _override(settings, keys, subject.tokens["raw"], {name: values[name] for name in sorted(sealed)})
        log.advance(request, "applied", {"source_is_told": sorted(values)})
        VaultStore(settings).purge(Batch())
        log.advance(request, "propagated")
        if sealed and any(
            read_person(settings, keys, subject.tokens["raw"]).get(name) != values[name] for name in sealed
        ):
            raise RightsError(f"{request.request_id}: the vault does not read back what was written; run the command again")
        log.advance(request, "proven")
    return sorted(values)


def _override(settings: Settings, keys: MasterKeys, token: str, values: dict[str, str]) -> None:
    """Seal the values under the person's own key, in place of those delivered."""
    with closing(open_key_store(settings, keys)) as store:
        row = store.execute("select nonce, wrapped_key from subject_keys where subject_token = ?", [token]).fetchone()
    if row is None:
        raise PersonNotFoundError("the vault has no readable entry for that customer")
    try:
        encrypt = AESGCM(AESGCM(keys.kek).decrypt(row[0], row[1], token.encode())).encrypt
    except InvalidTag:
        raise WrongMasterKeyError(WRONG_KEK) from None
    with one_engine(settings) as base, attached_vault(base, settings) as vault:
        assignments = ", ".join(f"{identifier(name)} = ?" for name in values)
        sealed = []
        for name, value in values.items():
            nonce = os.urandom(NONCE_BYTES)
            sealed.append(nonce + encrypt(nonce, value.encode(), token.encode() + name.encode()))
        changed = vault.execute(f"update {PERSONS} set {assignments} where subject_token = ?", [*sealed, token]).fetchone()
    if not changed or changed[0] != 1:
        raise PersonNotFoundError("the vault has no entry for that customer")
