"""Grants: who has which role, where his bundle lies, and its key.

A grant has a key of its own (32 random bytes), which encrypts its bundle alone: who loses a role loses a key that opens nothing
else. The keys lie in `keys/access` of the home, one file each, mode 0600; a holder gets a copy by another way than the bundle.
The register names holders: granting is an act of one person for another and is kept with both names.

Belongs here: the register and the keys. Does not belong here: what a bundle holds (`bundles`), what a role may open (`roles`).
"""

import base64
import fcntl
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from orchestration.access.errors import AccessError
from orchestration.access.roles import load_roles
from orchestration.identity.errors import MasterKeyError
from orchestration.identity.keys import read_guarded, write_guarded
from orchestration.lake import private_folder
from orchestration.settings import Settings

KEY_BYTES = 32
_FIELDS = ("grant_id", "role", "holder", "folder", "group", "granted_by", "granted_at", "revoked_by", "revoked_at")


@dataclass(frozen=True)
class Grant:
    """One person's role. Times are UTC in ISO 8601; `group` is the operating system's group that may read the bundle."""

    grant_id: str
    role: str
    holder: str
    folder: str
    group: str | None
    granted_by: str
    granted_at: str
    revoked_by: str | None = None
    revoked_at: str | None = None

    @property
    def is_in_force(self) -> bool:
        """Whether it has not been revoked."""
        return self.revoked_at is None

    @property
    def bundle(self) -> Path:
        """Its bundle."""
        return Path(self.folder) / f"segline-{self.role}-{self.grant_id}.duckdb"


def register_path(settings: Settings) -> Path:
    """The register."""
    return settings.access_dir / "grants.json"


def key_path(settings: Settings, grant: Grant) -> Path:
    """The grant's key."""
    return settings.key_file.parent / "access" / f"{grant.grant_id}.key"


def grants(settings: Settings) -> list[Grant]:
    """Every grant, revoked ones included, oldest first. Raises `AccessError` for an unreadable register."""
    path = register_path(settings)
    if not path.exists():
        return []
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
        if any(set(entry) != set(_FIELDS) for entry in entries):
            raise ValueError
        return [Grant(**entry) for entry in entries]
    except (ValueError, TypeError):
        raise AccessError(f"{path} is no register of grants: restore it from your backup") from None


def in_force(settings: Settings) -> list[Grant]:
    """The grants that were not revoked."""
    return [grant for grant in grants(settings) if grant.is_in_force]


def add(settings: Settings, role: str, holder: str, folder: Path, granted_by: str, group: str | None = None) -> Grant:
    """Enter a grant and make its key. Raises `AccessError` for an unknown role, nobody as holder, a folder in the home, or
    somebody who grants himself a role."""
    known = load_roles()
    if role not in known:
        raise AccessError(f"{role!r} is no role; the roles are {', '.join(known)}")
    if not holder.strip() or not granted_by.strip():
        raise AccessError("a grant names who gets the role and who gives it")
    if holder.strip().casefold() == granted_by.strip().casefold():
        raise AccessError("nobody grants himself a role: another person gives it")
    place = folder.expanduser().resolve()
    if place == settings.root or settings.root in place.parents:
        raise AccessError(f"{folder} lies in the home, which only its owner can enter: choose a folder elsewhere")
    with _changing(settings) as entries:
        grant = Grant(secrets.token_hex(4), role, holder.strip(), str(place), group, granted_by.strip(), _now())
        path = key_path(settings, grant)
        # The key first: a grant without one would be one that cannot be written.
        write_guarded(path, base64.urlsafe_b64encode(os.urandom(KEY_BYTES)).decode() + "\n")
        entries.append(grant)
    return grant


def revoke(settings: Settings, grant_id: str, revoked_by: str) -> Grant:
    """End a grant: bundle and key are removed. What was copied from the bundle before stays with whoever copied it."""
    if not revoked_by.strip():
        raise AccessError("a revocation names who made it")
    with _changing(settings) as entries:
        for position, grant in enumerate(entries):
            if grant.grant_id == grant_id and grant.is_in_force:
                entries[position] = replace(grant, revoked_by=revoked_by.strip(), revoked_at=_now())
                grant.bundle.unlink(missing_ok=True)
                key_path(settings, grant).unlink(missing_ok=True)
                return entries[position]
    raise AccessError(f"no grant {grant_id!r} is in force: `segline access list` shows them")


def read_key(path: Path) -> str:
    """A bundle's key as it is handed to the engine. Raises `AccessError` if the file is missing, malformed or open to others."""
    try:
        text = read_guarded(path).strip()
        is_key = len(base64.urlsafe_b64decode(text)) == KEY_BYTES
    except MasterKeyError as error:
        raise AccessError(str(error)) from None
    except ValueError:
        is_key = False
    if not is_key:
        raise AccessError(f"{path} holds no key of a bundle: 32 bytes in base64url are expected")
    return text


def _now() -> str:
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0).isoformat()


@contextmanager
def _changing(settings: Settings) -> Iterator[list[Grant]]:
    """The register for a change, written whole or not at all."""
    folder = private_folder(settings.access_dir)
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        entries = grants(settings)
        yield entries
        draft = folder / f".grants.{os.getpid()}"
        with draft.open("w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), 0o600)
            stream.write(json.dumps([asdict(grant) for grant in entries], indent=1) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(draft, register_path(settings))
