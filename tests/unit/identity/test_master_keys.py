"""Master keys: made once, guarded, never shown, never replaced while a vault needs them."""

import base64
import copy
import json
import logging
import os
import pickle
import stat
from pathlib import Path

import pytest

from orchestration.identity import keys as keys_module
from orchestration.identity.errors import MasterKeyError
from orchestration.identity.keys import VARIABLE, MasterKeys, key_text, load_keys
from orchestration.settings import Settings

SECRETS = {"kek": b"k" * 32, "pseudonym": b"p" * 32, "fingerprint": b"f" * 32}
GOOD = {"version": 1} | {name: base64.urlsafe_b64encode(value).decode() for name, value in SECRETS.items()}


def write_key_file(settings: Settings, text: str, mode: int = 0o600) -> Path:
    settings.key_file.parent.mkdir(parents=True)
    settings.key_file.write_text(text)
    settings.key_file.chmod(mode)
    return settings.key_file


def in_variable(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_first_use_makes_a_private_file_that_later_uses_read(settings: Settings) -> None:
    made = load_keys(settings)
    assert stat.S_IMODE(settings.key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.key_file.parent.stat().st_mode) == 0o700
    assert os.listdir(settings.key_file.parent) == [settings.key_file.name]  # no draft is left
    read = load_keys(settings)
    secrets = {made.kek, made.pseudonym, made.fingerprint}
    assert secrets == {read.kek, read.pseudonym, read.fingerprint}
    assert len(secrets) == 3 and {len(secret) for secret in secrets} == {32}


def test_two_homes_get_different_keys(tmp_path: Path) -> None:
    one, other = (load_keys(Settings(home=tmp_path / name)) for name in ("one", "other"))
    assert one.kek != other.kek and one.pseudonym != other.pseudonym


def test_the_umask_cannot_open_the_file(settings: Settings) -> None:
    before = os.umask(0)
    try:
        load_keys(settings)
    finally:
        os.umask(before)
    assert stat.S_IMODE(settings.key_file.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o601, 0o777])
def test_a_file_open_to_others_is_refused_with_the_mend(settings: Settings, mode: int) -> None:
    path = write_key_file(settings, json.dumps(GOOD), mode)
    with pytest.raises(MasterKeyError, match=f"chmod 600 {path}"):
        load_keys(settings)


def test_a_file_of_another_user_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    write_key_file(settings, json.dumps(GOOD))
    monkeypatch.setattr(keys_module.os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(MasterKeyError, match="another user"):
        load_keys(settings)


def test_a_link_is_refused(settings: Settings, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.write_text(json.dumps(GOOD))
    target.chmod(0o600)
    settings.key_file.parent.mkdir(parents=True)
    settings.key_file.symlink_to(target)
    with pytest.raises(MasterKeyError, match="no link"):
        load_keys(settings)


def test_a_dangling_link_is_no_first_use(settings: Settings, tmp_path: Path) -> None:
    settings.key_file.parent.mkdir(parents=True)
    settings.key_file.symlink_to(tmp_path / "nowhere")
    with pytest.raises(MasterKeyError):
        load_keys(settings)
    assert not (tmp_path / "nowhere").exists()


def test_something_that_is_no_file_is_refused(settings: Settings) -> None:
    settings.key_file.mkdir(parents=True, mode=0o700)
    with pytest.raises(MasterKeyError, match="no plain file"):
        load_keys(settings)


@pytest.mark.parametrize("trace", ["key_store", "vault_catalog"])
def test_no_new_keys_are_made_beside_a_vault(settings: Settings, trace: str) -> None:
    path = getattr(settings, trace)
    path.parent.mkdir(parents=True)
    path.touch()
    with pytest.raises(MasterKeyError, match="restore it from your backup"):
        load_keys(settings)
    assert not settings.key_file.exists()


def test_of_two_makers_the_first_wins(settings: Settings) -> None:
    keys_module._create(settings.key_file)
    first = settings.key_file.read_text()
    keys_module._create(settings.key_file)
    assert settings.key_file.read_text() == first


def test_the_environment_wins_and_nothing_is_written(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, in_variable(json.dumps(GOOD)))
    assert load_keys(settings).kek == SECRETS["kek"]
    assert not settings.root.exists()


def test_the_variable_takes_the_file_in_base64(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    made = load_keys(settings)
    monkeypatch.setenv(VARIABLE, in_variable(settings.key_file.read_text()) + "\n")
    settings.key_file.unlink()
    read = load_keys(settings)
    assert key_text(read) == key_text(made)


BAD_TEXTS = {
    "empty": "",
    "no json": "planted-secret",
    "no object": '["planted-secret"]',
    "field missing": json.dumps({name: value for name, value in GOOD.items() if name != "kek"}),
    "field too many": json.dumps(GOOD | {"extra": "planted-secret"}),
    "short key": json.dumps(GOOD | {"kek": base64.urlsafe_b64encode(b"planted").decode()}),
    "long key": json.dumps(GOOD | {"kek": base64.urlsafe_b64encode(b"p" * 33).decode()}),
    "no base64": json.dumps(GOOD | {"pseudonym": "planted-secret!"}),
    "no text": json.dumps(GOOD | {"fingerprint": 12345}),
    "two equal keys": json.dumps(GOOD | {"kek": GOOD["pseudonym"]}),
    "version zero": json.dumps(GOOD | {"version": 0}),
    "version true": json.dumps(GOOD | {"version": True}),
    "version text": json.dumps(GOOD | {"version": "1"}),
    "nested": "[" * 3000,
}


@pytest.mark.parametrize("text", BAD_TEXTS.values(), ids=BAD_TEXTS.keys())
@pytest.mark.parametrize("origin", ["file", "variable"])
def test_malformed_keys_are_refused_without_being_quoted(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, origin: str, text: str
) -> None:
    if origin == "file":
        write_key_file(settings, text)
    else:
        monkeypatch.setenv(VARIABLE, in_variable(text))
    with pytest.raises(MasterKeyError) as caught:
        load_keys(settings)
    told = f"{caught.value}{caught.value.__cause__}{caught.value.__context__}"
    assert "planted" not in told
    assert not any(value[:8] in told for name, value in GOOD.items() if name != "version")
    assert str(settings.key_file) in told or VARIABLE in told


@pytest.mark.parametrize("value", ["", "not base64!", "é", "/w", json.dumps(GOOD)])
def test_a_variable_that_is_no_base64_text_is_refused(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv(VARIABLE, value)
    with pytest.raises(MasterKeyError, match=VARIABLE):
        load_keys(settings)
    assert not settings.key_file.exists()


def test_keys_are_never_shown(keys: MasterKeys, caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("segline").error("keys %s %r", keys, keys)
    shown = f"{keys} {keys!r} {[keys]} {vars(Holder(keys))} {caplog.text}"
    assert "MasterKeys(version=1)" in shown
    for secret in (keys.kek, keys.pseudonym, keys.fingerprint):
        for form in (secret.hex(), repr(secret), base64.urlsafe_b64encode(secret).decode()):
            assert form not in shown


class Holder:
    """Something with the keys among its attributes."""

    def __init__(self, keys: MasterKeys) -> None:
        self.keys = keys


@pytest.mark.parametrize("serialise", [pickle.dumps, copy.copy, copy.deepcopy])
def test_keys_cannot_be_serialised(keys: MasterKeys, serialise: object) -> None:
    with pytest.raises(TypeError, match="never serialised"):
        serialise(keys)
