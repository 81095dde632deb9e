"""Who may call: one key per caller, each with roles; only hashes are kept.

| role | may |
|---|---|
| `events` | send events |
| `risk` | ask for risk decisions |
| `audience` | ask for audience segments |
| `operator` | read metrics |

No key has both `risk` and `audience`: a caller on the marketing side must not learn a tier, nor the other way round. A key is 256
random bits, so that a plain SHA-256 of it is not to be guessed; it is shown once, when it is made.

Belongs here: making, revoking, checking keys. Does not belong here: HTTP (`api`).
"""

import hashlib
import hmac
import json
import os
import re
import secrets
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from orchestration.connectors.folder import make_durable
from orchestration.lake import private_folder
from orchestration.online.errors import ServeError
from orchestration.settings import Settings

ROLES = ("events", "risk", "audience", "operator")
NAME = re.compile(r"[A-Za-z0-9._\-]{1,60}")
PREFIX = "segline"


@dataclass(frozen=True)
class ApiKey:
    """One caller's key on record: times in ISO 8601 (UTC), `sha256` of the secret."""

    name: str
    roles: tuple[str, ...]
    sha256: str
    made_at: str
    made_by: str
    expires_at: str | None = None
    revoked_at: str | None = None

    def holds(self, now: datetime) -> bool:
        """Whether it is neither revoked nor past its end."""
        return self.revoked_at is None and (self.expires_at is None or now < datetime.fromisoformat(self.expires_at))


def keys_path(settings: Settings) -> Path:
    """The register of keys."""
    return settings.online_dir / "api_keys.json"


def read_keys(settings: Settings) -> list[ApiKey]:
    """All keys ever made. Raises `ServeError` for a register that is not as this module writes it."""
    path = keys_path(settings)
    if not path.exists():
        return []
    try:
        return [ApiKey(**{**entry, "roles": tuple(entry["roles"])}) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (ValueError, TypeError, KeyError):
        raise ServeError(f"{path} is no register of keys: restore it, or move it away and make keys anew") from None


def make_key(settings: Settings, name: str, roles: tuple[str, ...], by: str, expires_at: datetime | None = None) -> str:
    """Register a caller and return the secret, which is kept nowhere. Raises `ServeError` for what cannot be."""
    if not NAME.fullmatch(name):
        raise ServeError("a caller's name has 1 to 60 letters, digits or . _ - and nothing else")
    if not roles or set(roles) - set(ROLES):
        raise ServeError(f"a key has one or more of the roles {', '.join(ROLES)}")
    if {"risk", "audience"} <= set(roles):
        raise ServeError("no key has both risk and audience: the two sides must not meet in one caller")
    held = read_keys(settings)
    if any(key.name == name and key.revoked_at is None for key in held):
        raise ServeError(f"there is a key of the name {name}: revoke it first")
    secret = f"{PREFIX}_{secrets.token_urlsafe(32)}"
    key = ApiKey(name, tuple(sorted(set(roles))), _digest(secret), _now().isoformat(), by,
                 expires_at.isoformat() if expires_at else None)  # fmt: skip
    _write(settings, [*held, key])
    return secret


def revoke_key(settings: Settings, name: str) -> None:
    """Revoke a caller's key; a running service refuses it within a second. Raises `ServeError` if there is none."""
    held = read_keys(settings)
    if not any(key.name == name and key.revoked_at is None for key in held):
        raise ServeError(f"there is no key of the name {name}")
    _write(settings, [
        replace(key, revoked_at=_now().isoformat()) if key.name == name and key.revoked_at is None else key for key in held
    ])  # fmt: skip


class Callers:
    """The register as a running service asks it: read again as soon as the file changes."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stamp: object = None
        self._by_digest: dict[str, ApiKey] = {}

    def refresh(self) -> None:
        """Read the register if it changed. One that cannot be read lets nobody in."""
        try:
            found = keys_path(self._settings).stat()
            stamp: object = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError:
            stamp = None
        if stamp == self._stamp and stamp is not None:
            return
        self._by_digest = {}
        self._by_digest = {key.sha256: key for key in read_keys(self._settings)}
        self._stamp = stamp

    def caller(self, secret: str) -> ApiKey | None:
        """Whose secret it is, if it holds."""
        digest = _digest(secret)
        key = self._by_digest.get(digest)
        # By digest, so that the time it takes tells nothing about a secret; compared once more for the same reason.
        if key is None or not hmac.compare_digest(key.sha256, digest) or not key.holds(_now()):
            return None
        return key


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def _write(settings: Settings, keys: list[ApiKey]) -> None:
    path = keys_path(settings)
    private_folder(path.parent)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_text(json.dumps([asdict(key) for key in keys], indent=1), encoding="utf-8")
    make_durable(draft, path)
