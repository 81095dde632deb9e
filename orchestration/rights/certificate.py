"""Certificates: what became of a deletion, store by store, signed so that nobody can change it afterwards.

The signing key (Ed25519) is derived from the master key by HKDF, so there is one secret to guard; the public key is in
every certificate and can be given to whoever checks one. A certificate names the person by the keyed hash only.

Belongs here: signing, checking, keeping. Does not belong here: what it says (`erasure`).
RFC 8032 (Ed25519), RFC 5869 (HKDF).
"""

import base64
import binascii
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from orchestration.identity.keys import MasterKeys
from orchestration.lake import private_folder
from orchestration.rights.errors import CertificateError
from orchestration.settings import Settings

_INFO = b"segline certificate signing 1"


def _signing_key(keys: MasterKeys) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(HKDF(SHA256(), 32, salt=None, info=_INFO).derive(keys.kek))


def public_key(keys: MasterKeys) -> str:
    """The public key in base64: 32 bytes."""
    return base64.b64encode(_signing_key(keys).public_key().public_bytes_raw()).decode()


def public_keys(keys: MasterKeys) -> list[str]:
    """Every public key that certificates of this home were ever signed with, today's first."""
    return [public_key(keys), *keys.certificate_keys]


def _message(document: dict[str, Any]) -> bytes:
    """The signed bytes: the document without its signature, keys sorted, no white space, ASCII."""
    body = {name: value for name, value in document.items() if name != "signature"}
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()


def sign(keys: MasterKeys, document: dict[str, Any]) -> dict[str, Any]:
    """The document with its signature."""
    body = json.loads(json.dumps(document, default=str))
    value = base64.b64encode(_signing_key(keys).sign(_message(body))).decode()
    return body | {"signature": {"algorithm": "Ed25519", "public_key": public_key(keys), "value": value}}


def check(document: dict[str, Any], trusted: str | Sequence[str] | None = None) -> None:
    """Raise `CertificateError` unless the signature is good, and by a trusted public key if any are given."""
    signature = document.get("signature")
    if not isinstance(signature, dict) or signature.get("algorithm") != "Ed25519":
        raise CertificateError("the certificate has no Ed25519 signature")
    known = [trusted] if isinstance(trusted, str) else trusted
    if known is not None and signature.get("public_key") not in [text.strip() for text in known]:
        raise CertificateError("the certificate is signed by another key than the trusted one")
    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(signature["public_key"], validate=True))
        key.verify(base64.b64decode(signature["value"], validate=True), _message(document))
    except (InvalidSignature, KeyError, TypeError, ValueError, binascii.Error):
        raise CertificateError("the certificate was altered, or its signature is not one") from None


def certificate_path(settings: Settings, request_id: str) -> Path:
    """Where a request's certificate is kept."""
    return settings.rights_dir / "certificates" / f"{request_id}.json"


def store(settings: Settings, document: dict[str, Any]) -> Path:
    """Keep a certificate."""
    path = certificate_path(settings, document["request_id"])
    private_folder(path.parent)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    draft.chmod(0o600)
    draft.replace(path)
    return path


def read(settings: Settings, request_id: str) -> dict[str, Any]:
    """A kept certificate. Raises `CertificateError` if there is none."""
    path = certificate_path(settings, request_id)
    if not path.exists():
        raise CertificateError(
            f"{request_id} has no certificate: a deletion has one once it is proven or refused; see `segline rights status`"
        )
    return json.loads(path.read_text(encoding="utf-8"))
