"""Checkpoints: the form that others read, and signatures that count only for what they signed."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from orchestration.ledger.checkpoint import (
    Checkpoint,
    CheckpointError,
    VerifierKey,
    open_note,
    parse,
    parse_verifier_key,
    public_bytes,
    require_signature,
    sign,
)
from orchestration.ledger.errors import SigningKeyError
from orchestration.ledger.signing_key import VARIABLE, load_signing_key
from orchestration.settings import Settings

# Published with the reference implementation of signed notes (golang.org/x/mod/sumdb/note).
PUBLISHED_KEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PUBLISHED_NOTE = (
    "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n"
    "\u2014 PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
VERIFIER = VerifierKey("log.example/1", public_bytes(PRIVATE))
HEAD = Checkpoint("log.example/1", 123, bytes(32))


def test_a_note_of_the_reference_implementation_is_accepted():
    """Name, key id and signature are as others make them, so that others can check ours."""
    key = parse_verifier_key(PUBLISHED_KEY)
    require_signature(PUBLISHED_NOTE, key)
    assert key.text() == PUBLISHED_KEY
    with pytest.raises(CheckpointError):
        require_signature(PUBLISHED_NOTE.replace("know", "knew"), key)


def test_a_checkpoint_reads_as_the_specification_says():
    lines = sign(HEAD, PRIVATE).split("\n")
    assert lines[:4] == ["log.example/1", "123", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", ""]
    assert lines[4].startswith("\u2014 log.example/1 ") and lines[5:] == [""]


def test_what_was_signed_is_opened_and_more_signatures_do_no_harm():
    """A witness adds its line to ours."""
    note = sign(HEAD, PRIVATE)
    assert open_note(note, VERIFIER) == HEAD
    assert open_note(note + "\u2014 witness.example AAAAAAAA\n", VERIFIER) == HEAD


@given(st.data())
def test_no_changed_bit_is_accepted(data):
    """The verifier's refusal of a one-bit change, wherever in the note it is."""
    note = sign(HEAD, PRIVATE).encode()
    at, bit = data.draw(st.integers(0, len(note) - 2)), data.draw(st.integers(0, 7))
    changed = bytearray(note)
    changed[at] ^= 1 << bit
    try:
        found = open_note(changed.decode("utf-8"), VERIFIER)
    except (CheckpointError, UnicodeDecodeError):
        return
    # Base64 has unused bits at its end; a change there changes no byte that is signed.
    assert found == HEAD


def test_another_key_or_another_log_does_not_count():
    note = sign(HEAD, PRIVATE)
    other = VerifierKey("log.example/1", public_bytes(Ed25519PrivateKey.generate()))
    with pytest.raises(CheckpointError):
        open_note(note, other)
    with pytest.raises(CheckpointError, match=r"not of 'log.example/2'"):
        open_note(note, VerifierKey("log.example/2", VERIFIER.public))


@pytest.mark.parametrize("text", ["", "a\n1\n\n", "a\n01\nAAAA\n\n", "a b\n1\n" + "A" * 43 + "=\n\n", "a\n-1\n" + "A" * 43 + "=\n\n"])
def test_malformed_checkpoints_are_refused(text):
    with pytest.raises(CheckpointError):
        parse(text)


@pytest.mark.parametrize(
    "text", ["", "a+b", "log+00000000+" + PUBLISHED_KEY.split("+")[2], PUBLISHED_KEY.replace("ARpc", "ARpd"), "log+zz+!!"]
)
def test_malformed_verifier_keys_are_refused(text):
    with pytest.raises(CheckpointError):
        parse_verifier_key(text)


def test_the_signing_key_is_private_and_never_made_twice(tmp_path, monkeypatch):
    """A ledger that goes on under a fresh key would be another ledger."""
    settings = Settings(home=tmp_path / "home")
    with pytest.raises(SigningKeyError, match="is gone"):
        load_signing_key(settings)
    made = load_signing_key(settings, may_create=True)
    assert settings.ledger_key_file.stat().st_mode & 0o777 == 0o600
    assert public_bytes(load_signing_key(settings)) == public_bytes(made)
    settings.ledger_key_file.chmod(0o644)
    with pytest.raises(SigningKeyError, match="open to others"):
        load_signing_key(settings)
    monkeypatch.setenv(VARIABLE, "too short")
    with pytest.raises(SigningKeyError, match=VARIABLE) as caught:
        load_signing_key(settings)
    assert "too short" not in str(caught.value)
