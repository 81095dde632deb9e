"""Master keys: where they come from, and how they are guarded.

Three keys of 32 random bytes: one wraps the per-person keys, one makes pseudonyms, one makes fingerprints of
unchanged persons. They lie in `Settings.key_file`, made on first use, or in the environment variable
`SEGLINE_MASTER_KEYS`, which wins. Both hold one JSON object `{"version": 1, "kek": …, "pseudonym": …,
"fingerprint": …}` with base64url values; the variable holds that text in base64 once more, so that no shell
quoting can harm it (`base64 -w0 segline.keys`).

After a rotation the object has more fields: `kek_version` (the wrapping key has its own count), `retired` (pseudonym keys of
before, which make nothing new and find what still carries their pseudonyms: ledger rows, suppressions, requests), and
`certificate_keys` (public keys of certificates signed before). While a rotation is under way the keys that are to come lie
beside the file, and nothing is opened with either set (`rotation`).

Belongs here: reading, making and checking them. Does not belong here: what they are used for.
Guidance: NIST SP 800-57 part 1, https://csrc.nist.gov/pubs/sp/800/57/pt1/r5/final
"""

import base64
import binascii
import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from orchestration.identity.errors import MasterKeyError, RotationUnfinishedError
from orchestration.lake import private_folder
from orchestration.settings import Settings

VARIABLE = "SEGLINE_MASTER_KEYS"
KEY_BYTES = 32
_NAMES = ("kek", "pseudonym", "fingerprint")
_LATER = ("kek_version", "retired", "certificate_keys")
_MAX_FILE_BYTES = 16_384


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class RetiredKey:
    """A pseudonym key of before: it makes nothing new. Printed or logged it tells the version only."""

    version: int
    pseudonym: bytes

    def __repr__(self) -> str:
        return f"RetiredKey(version={self.version})"


@dataclass(frozen=True, slots=True, repr=False, eq=False)
class MasterKeys:
    """The three keys and their version; printed or logged it tells the version only, pickled it refuses.

    `version` counts pseudonym keys, `kek_version` wrapping keys (0: as `version`, where nothing was rotated alone).
    """

    version: int
    kek: bytes
    pseudonym: bytes
    fingerprint: bytes
    kek_version: int = 0
    retired: tuple[RetiredKey, ...] = ()
    certificate_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.kek_version:
            object.__setattr__(self, "kek_version", self.version)

    @property
    def generations(self) -> list["MasterKeys"]:
        """These keys, then one set per retired pseudonym key, the newest first: for finding, never for making."""
        newest_first = sorted(self.retired, key=lambda one: -one.version)
        past = [replace(self, version=one.version, pseudonym=one.pseudonym, retired=()) for one in newest_first]
        return [self, *past]

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
    if not isinstance(fields, dict) or not {"version", *_NAMES} <= set(fields) <= {"version", *_NAMES, *_LATER}:
        raise MasterKeyError(
            f"{origin} holds no master keys: a JSON object with exactly version, kek, pseudonym and "
            f"fingerprint is expected; {mend}"
        )
    version = fields["version"]
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise MasterKeyError(f"{origin}: version is no whole number from 1 up; {mend}")
    keys = {name: _key(fields[name], name, origin) for name in _NAMES}
    kek_version, past, signed = fields.get("kek_version", version), fields.get("retired", []), fields.get("certificate_keys", [])
    is_sound = isinstance(kek_version, int) and not isinstance(kek_version, bool) and kek_version >= version
    is_sound = is_sound and isinstance(past, list) and isinstance(signed, list) and all(isinstance(text, str) for text in signed)
    if not is_sound or any(not isinstance(one, dict) or set(one) != {"version", "pseudonym"} for one in past):
        raise MasterKeyError(f"{origin}: {', '.join(_LATER)} are not as a rotation writes them; {mend}")
    retired = tuple(RetiredKey(one["version"], _key(one["pseudonym"], "retired", origin)) for one in past)
    if [one.version for one in retired] != sorted({one.version for one in retired if one.version in range(1, version)}):
        raise MasterKeyError(f"{origin}: the retired keys are not numbered below version {version}; {mend}")
    if len({*keys.values(), *(one.pseudonym for one in retired)}) != len(_NAMES) + len(retired):
        raise MasterKeyError(f"{origin}: two of the keys are equal; each purpose needs its own; {mend}")
    return MasterKeys(version, **keys, kek_version=kek_version, retired=retired, certificate_keys=tuple(signed))


def _key(value: object, name: str, origin: str) -> bytes:
    try:
        key = _decode(value) if isinstance(value, str) else b""
    except (ValueError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise MasterKeyError(f"{origin}: {name} is not {KEY_BYTES} bytes in base64url; restore it from your backup of the keys")
    return key


def _encode(key: bytes) -> str:
    return base64.urlsafe_b64encode(key).decode().rstrip("=")


def key_text(keys: MasterKeys) -> str:
    """The JSON text of a key file. Secret: it is for a backup or for another machine's environment only."""
    fields: dict[str, Any] = {"version": keys.version, **{name: _encode(getattr(keys, name)) for name in _NAMES}}
    if keys.kek_version != keys.version:
        fields["kek_version"] = keys.kek_version
    if keys.retired:
        fields["retired"] = [{"version": one.version, "pseudonym": _encode(one.pseudonym)} for one in keys.retired]
    if keys.certificate_keys:
        fields["certificate_keys"] = list(keys.certificate_keys)
    return json.dumps(fields) + "\n"


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


def replace_guarded(path: Path, successor: Path) -> None:
    """Put another key file in the place of one, and overwrite what it replaces."""
    handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.replace(successor, path)
        # The old file has no name any more; its bytes go through the handle that was opened on it before.
        size = os.fstat(handle).st_size
        for content in (os.urandom(size), bytes(size)):
            os.pwrite(handle, content, 0)
            os.fsync(handle)
    finally:
        os.close(handle)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def next_key_file(settings: Settings) -> Path:
    """Where the keys lie that a rotation is putting in place."""
    return settings.key_file.with_name(f"{settings.key_file.name}.next")


def read_key_file(path: Path) -> MasterKeys:
    """The keys of one file; errors as `load_keys`."""
    return _parse(read_guarded(path), f"the key file {path}")


def _create(path: Path) -> None:
    write_guarded(path, key_text(MasterKeys(1, *(os.urandom(KEY_BYTES) for _ in _NAMES))))


def load_keys(settings: Settings) -> MasterKeys:
    """The master keys: from the environment, else from the key file, which is made if there is no vault yet.

    Raises `MasterKeyError` if they are malformed, readable by others, or gone while a vault exists: fresh
    keys would give every customer new pseudonyms and make every entry of the vault unreadable for good.
    `RotationUnfinishedError` while a rotation is under way or was interrupted.
    """
    if os.path.lexists(next_key_file(settings)):
        raise RotationUnfinishedError(
            "a rotation of the master keys is under way or was interrupted: wait for it, or complete it with "
            "`segline keys rotate`"
        )
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
    return read_key_file(path)
