"""Checkpoints: signed heads of the ledger in the form that witnesses and other logs use.

A checkpoint says "the log `origin` had `size` leaves and this root". Its text is three lines (origin, size in decimal,
root in base64); a signed note adds a blank line and one line per signature. The key id is the first four bytes of
SHA-256(name || 0x0A || 0x01 || public key). A verifier's key file holds `name+key id in hex+base64(0x01 || public key)`.

Belongs here: writing, reading and checking that text. Does not belong here: where the key lies (`signing_key`).
https://c2sp.org/tlog-checkpoint, https://c2sp.org/signed-note, Ed25519: RFC 8032.
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from orchestration.ledger.errors import LedgerError
from orchestration.ledger.merkle import HASH_BYTES

ED25519 = b"\1"
DASH = "\N{EM DASH} "


class CheckpointError(LedgerError):
    """A text that is no checkpoint, or whose signature is missing or wrong."""


@dataclass(frozen=True)
class Checkpoint:
    """A head: the log's name, its number of leaves, its root (32 bytes)."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """The signed part, ending in a newline."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True)
class VerifierKey:
    """A name and the Ed25519 public key (32 bytes) whose signatures count under it."""

    name: str
    public: bytes

    @property
    def key_id(self) -> bytes:
        """Four bytes that tell keys of one name apart."""
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:4]

    def text(self) -> str:
        """The verifier key as the signed-note form writes it, without a newline."""
        return f"{self.name}+{self.key_id.hex()}+{base64.b64encode(ED25519 + self.public).decode()}"


def parse_verifier_key(text: str) -> VerifierKey:
    """The key of a verifier key file. Raises `CheckpointError` if it is not one, or its id does not fit."""
    parts = text.strip().split("+", 2)
    try:
        material = base64.b64decode(parts[2], validate=True)
    except (IndexError, binascii.Error):
        raise CheckpointError("not a verifier key: name+id+base64 is expected") from None
    if len(material) != 33 or material[:1] != ED25519 or not _is_name(parts[0]):
        raise CheckpointError("not an Ed25519 verifier key")
    key = VerifierKey(parts[0], material[1:])
    if key.key_id.hex() != parts[1]:
        raise CheckpointError("the verifier key's id does not fit its name and key")
    return key


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The public half, 32 bytes."""
    return key.public_key().public_bytes_raw()


def sign(checkpoint: Checkpoint, *keys: Ed25519PrivateKey) -> str:
    """The signed note of a checkpoint, a line for each key; the signatures' name is the origin."""
    if not _is_name(checkpoint.origin):
        raise CheckpointError("an origin has neither blanks nor a plus sign")
    text = checkpoint.text()
    lines = []
    for key in keys:
        verifier = VerifierKey(checkpoint.origin, public_bytes(key))
        signature = base64.b64encode(verifier.key_id + key.sign(text.encode())).decode()
        lines.append(f"{DASH}{checkpoint.origin} {signature}\n")
    return f"{text}\n{''.join(lines)}"


def parse(note: str) -> Checkpoint:
    """The checkpoint that a signed note claims, unchecked."""
    head, blank, _ = note.rpartition("\n\n")
    lines = head.split("\n")
    try:
        origin, size, root = lines[0], lines[1], base64.b64decode(lines[2], validate=True)
    except (IndexError, binascii.Error):
        raise CheckpointError("not a checkpoint: origin, size and root are expected") from None
    plain = size.isascii() and size.isdigit() and str(int(size)) == size
    if not (blank and _is_name(origin) and plain and len(root) == HASH_BYTES):
        raise CheckpointError("not a checkpoint: a malformed line, or nothing signed")
    return Checkpoint(origin, int(size), root)


def open_note(note: str, verifier: VerifierKey) -> Checkpoint:
    """The checkpoint of a signed note. Raises `CheckpointError` unless that key signed that text under the log's name."""
    checkpoint = parse(note)
    if checkpoint.origin != verifier.name:
        raise CheckpointError(f"a checkpoint of the log {checkpoint.origin!r}, not of {verifier.name!r}")
    require_signature(note, verifier)
    return checkpoint


def require_signature(note: str, verifier: VerifierKey) -> None:
    """Raises `CheckpointError` unless the key signed the note, whatever its text says."""
    text, _, signatures = note.rpartition("\n\n")
    for line in signatures.splitlines():
        name, _, encoded = line.removeprefix(DASH).partition(" ")
        if not line.startswith(DASH) or name != verifier.name:
            continue
        try:
            signature = base64.b64decode(encoded, validate=True)
        except binascii.Error:
            continue
        if signature[:4] != verifier.key_id:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(verifier.public).verify(signature[4:], text.encode() + b"\n")
        except InvalidSignature:
            raise CheckpointError("the signature is wrong") from None
        return
    raise CheckpointError("no signature of that key is on the note")


def _is_name(text: str) -> bool:
    return bool(text) and "+" not in text and not any(sign.isspace() for sign in text)
