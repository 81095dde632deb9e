"""Addresses, credentials and patience of the connectors, from the environment alone.

Belongs here: the variables. Does not belong here: the vendor's words and ours (`vocabulary`), which are a reviewed file.
Credentials are `SecretStr`: printed or logged they show stars.
"""

import ipaddress
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestration.connectors.errors import ConnectorError

ConnectorName = Literal["onetrust", "trustarc", "zigpoll", "signals"]


class Patience(BaseSettings):
    """How long a pull waits and how much it accepts. Seconds, unless the name says otherwise."""

    model_config = SettingsConfigDict(env_prefix="SEGLINE_PULL_", extra="ignore", frozen=True)

    connect_seconds: float = Field(10, gt=0)
    read_seconds: float = Field(60, gt=0)
    attempts: int = Field(5, ge=1, le=20)
    backoff_seconds: float = Field(1, ge=0)
    longest_wait_seconds: float = Field(120, ge=0)
    most_pages: int = Field(200_000, ge=1)
    overlap_hours: float = Field(24, ge=0)
    settle_seconds: float = Field(60, ge=0)


class _Vendor(BaseSettings):
    """What every vendor has. `start` is the first instant ever asked for (UTC).

    It has no default: a refusal from before a guessed one would be missing without anybody noticing.
    """

    url: str
    start: datetime

    @property
    def first_instant(self) -> datetime:
        """`start` in UTC without zone."""
        return (self.start.astimezone(UTC) if self.start.tzinfo else self.start).replace(tzinfo=None)


class OneTrust(_Vendor):
    """A OneTrust tenant: `url` is https://{hostname}; scope CONSENT (receipts) or CONSENT_READ (profiles)."""

    model_config = SettingsConfigDict(env_prefix="SEGLINE_ONETRUST_", extra="ignore")

    client_id: SecretStr
    client_secret: SecretStr
    resources: list[Literal["receipts", "profiles"]] = ["receipts", "profiles"]


class TrustArc(_Vendor):
    """A TrustArc account of Consent & Preference Manager; `token_url` issues the bearer token."""

    model_config = SettingsConfigDict(env_prefix="SEGLINE_TRUSTARC_", extra="ignore")

    url: str = "https://cpm.trustarc.com"
    token_url: str = "https://api.trustarc.com/api/auth/oauth/token"
    client_id: SecretStr
    client_secret: SecretStr
    page_size: int = Field(100, ge=1, le=1000)


class Zigpoll(_Vendor):
    """A Zigpoll account: its private key, and the account whose answers are read."""

    model_config = SettingsConfigDict(env_prefix="SEGLINE_ZIGPOLL_", extra="ignore")

    url: str = "https://v1.zigpoll.com"
    key: SecretStr
    account_id: str
    page_size: int = Field(500, ge=1, le=5000)


class Signals(BaseSettings):
    """A folder of logged consent strings (files, not an interface)."""

    model_config = SettingsConfigDict(env_prefix="SEGLINE_SIGNALS_", extra="ignore")

    folder: Path


VENDORS: dict[str, type[_Vendor] | type[Signals]] = {
    "onetrust": OneTrust, "trustarc": TrustArc, "zigpoll": Zigpoll, "signals": Signals,
}  # fmt: skip


def vendor_settings(name: str) -> _Vendor | Signals:
    """A vendor's settings. `ConnectorError` names the missing or malformed variable, never its value."""
    try:
        settings = VENDORS[name]()
    except ValidationError as error:
        prefix = VENDORS[name].model_config["env_prefix"]
        fields = sorted({prefix + str(problem["loc"][0]).upper() for problem in error.errors(include_input=False)})
        raise ConnectorError("not_configured", f"{name}: {', '.join(fields)} missing or malformed") from None
    if isinstance(settings, _Vendor):
        require_secure(settings.url)
    if isinstance(settings, TrustArc):
        require_secure(settings.token_url)
    return settings


def credential_variables() -> set[str]:
    """The variables of the environment that hold a vendor's credentials, set or not, in capitals."""
    return {
        f"{model.model_config['env_prefix']}{name}".upper()
        for model in VENDORS.values()
        for name, field in model.model_fields.items()
        if field.annotation is SecretStr
    }


def configured() -> list[str]:
    """Names of the vendors of which any variable is set. A mistyped one is then an error of the run, not a check less."""
    prefixes = {name: str(model.model_config["env_prefix"]) for name, model in VENDORS.items()}
    return [name for name, prefix in prefixes.items() if any(variable.upper().startswith(prefix) for variable in os.environ)]


def require_secure(url: str) -> None:
    """`ConnectorError` unless the address is https, or http to this very machine, and carries no credentials."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConnectorError("insecure_url", "an address must be scheme, host and path only")
    if parts.scheme == "https" and host:
        return
    loopback = host == "localhost"
    if not loopback:
        try:
            loopback = ipaddress.ip_address(host).is_loopback
        except ValueError:
            loopback = False
    if parts.scheme != "http" or not loopback:
        raise ConnectorError("insecure_url", f"{parts.scheme or 'no scheme'}://{host} is not encrypted")
