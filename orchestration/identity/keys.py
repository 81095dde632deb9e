"""Master keys: where they come from, and how they are guarded.

Three keys of 32 random bytes: one wraps the per-person keys, one makes pseudonyms, one makes fingerprints of
unchanged persons. They lie in `Settings.key_file`, made on first use, or in the environment variable
`SEGLINE_MASTER_KEYS`, which wins. Both hold one JSON object `{"version": 1, "kek": …, "pseudonym": …,
"fingerprint": …}` with base64url values; the variable holds that text in base64 once more, so that no shell
quoting can harm it (`base64 -w0 segline.keys`).

Belongs here: reading, making and checking them. Does not belong here: what they are used for.
Guidance: NIST SP 800-57 part 1, https://csrc.nist.gov/pubs/sp/800/57/pt1/r5/final
"""

import base64
import binascii
import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from orchestration.identity.errors import MasterKeyError
from orchestration.lake import private_folder
from orchestration.settings import Settings

VARIABLE = "SEGLINE_MASTER_KEYS"
KEY_BYTES = 32
_NAMES = ("kek", "pseudonym", "fingerprint")
_MAX_FILE_BYTES = 4096


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class MasterKeys:
    """The three keys and their version; printed or logged it tells the version only, pickled it refuses."""

    version: int
    kek: bytes
    pseudonym: bytes
    fingerprint: bytes

    def __repr__(self) -> str:
        return f"MasterKeys(version={self.version})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        # A pickle would outlive the process, in an event store for example.
        raise TypeError("master keys are never serialised")


def _decode(text: str) -> bytes:
    """Base64 in either alphabet, padded or not; `ValueError` on anything else."""
    plain = text.strip().rstrip("=").translate(str.maketrans("+/", "-_"))
    if not plain.isascii() or any(not (sign.isalnum() or sign in "-_") for sign in plain):
        raise ValueError("not base64")
    return base64.urlsafe_b64decode(plain + "=" * (-len(plain) % 4))


def _parse(text: str, origin: str) -> MasterKeys:
    """The keys in that JSON text; `MasterKeyError` names the origin and the field, never the content."""
    mend = "restore it from your backup of the keys"
    fields: Any = None
    with suppress(ValueError, RecursionError):  # the decoder's own message would quote the text
        fields = json.loads(text)
    if not isinstance(fields, dict) or set(fields) != {"version", *_NAMES}:
        raise MasterKeyError(
            f"{origin} holds no master keys: a JSON object with exactly version, kek, pseudonym and "
            f"fingerprint is expected; {mend}"
        )
    version = fields["version"]
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise MasterKeyError(f"{origin}: version is no whole number from 1 up; {mend}")
    keys = {}
    for name in _NAMES:
        try:
            keys[name] = _decode(fields[name]) if isinstance(fields[name], str) else b""
        except (ValueError, binascii.Error):
            keys[name] = b""
        if len(keys[name]) != KEY_BYTES:
            raise MasterKeyError(f"{origin}: {name} is not {KEY_BYTES} bytes in base64url; {mend}")
    if len(set(keys.values())) != len(_NAMES):
        raise MasterKeyError(f"{origin}: two of the keys are equal; each purpose needs its own; {mend}")
    return MasterKeys(version=version, **keys)


def key_text(keys: MasterKeys) -> str:
    """The JSON text of a key file. Secret: it is for a backup or for another machine's environment only."""
    encoded = {name: base64.urlsafe_b64encode(getattr(keys, name)).decode().rstrip("=") for name in _NAMES}
    return json.dumps({"version": keys.version, **encoded}) + "\n"


def _from_environment(value: str) -> MasterKeys:
    origin = f"the environment variable {VARIABLE}"
    text = None
    with suppress(ValueError):
        text = _decode(value).decode("utf-8")
    if text is None:
        raise MasterKeyError(f"{origin} is not base64: set it to the output of `base64 -w0 <key file>`")
    return _parse(text, origin)


def read_guarded(path: Path) -> str:
    """The text of a key file that only its owner, the user who runs this, can reach; `MasterKeyError` otherwise."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise MasterKeyError(
            f"the key file {path} cannot be opened ({error.strerror}): it must be a plain file, no link, of "
            "the user who runs Segline"
        ) from None
    try:
        # Asked of the open file, not of the path, so that nobody can swap it in between.
        state = os.fstat(handle)
        if not stat.S_ISREG(state.st_mode):
            raise MasterKeyError(
                f"the key file {path} is no plain file; restore it from your backup of the keys"
            )
        if state.st_uid != os.geteuid():
            raise MasterKeyError(
                f"the key file {path} belongs to another user: `chown $(id -u) {path}` as its owner"
            )
        if state.st_mode & 0o077:
            raise MasterKeyError(
                f"the key file {path} is open to others (mode {stat.S_IMODE(state.st_mode):04o}): "
                f"`chmod 600 {path}`, and make out who could read it meanwhile"
            )
        content = os.read(handle, _MAX_FILE_BYTES)
    finally:
        os.close(handle)
    return content.decode("utf-8", errors="replace")


def write_guarded(path: Path, text: str) -> None:
    """Make a key file, whole or not at all; one that another process made meanwhile stays."""
    private_folder(path.parent)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(handle)
        try:
            # A link fails if the name is taken, as O_EXCL does, and never shows a half-written file.
            os.link(draft, path)
        except FileExistsError:
            return
    finally:
        draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _create(path: Path) -> None:
    write_guarded(path, key_text(MasterKeys(1, *(os.urandom(KEY_BYTES) for _ in _NAMES))))


def load_keys(settings: Settings) -> MasterKeys:
    """The master keys: from the environment, else from the key file, which is made if there is no vault yet.

    Raises `MasterKeyError` if they are malformed, readable by others, or gone while a vault exists: fresh
    keys would give every customer new pseudonyms and make every entry of the vault unreadable for good.
    """
    value = os.environ.get(VARIABLE)
    if value is not None:
        return _from_environment(value)
    path = settings.key_file
    if not os.path.lexists(path):
        if settings.key_store.exists() or settings.vault_catalog.exists():
            raise MasterKeyError(
                f"there is a vault under {settings.vault_catalog.parent}, but its key file {path} is gone: "
                f"restore it from your backup, or set {VARIABLE}. No new keys are made, they could not open "
                "this vault"
            )
        _create(path)
    return _parse(read_guarded(path), f"the key file {path}")
