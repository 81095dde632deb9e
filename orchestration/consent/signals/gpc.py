"""Global Privacy Control: the request header `Sec-GPC` and a site's `/.well-known/gpc.json`.

Source: W3C, Global Privacy Control, sections "The Sec-GPC Header Field" and "GPC Support Representation" (w3c/gpc,
59e10953). The header is a person's wish; the resource is a site's statement about itself and says nothing of a person.

Belongs here: the two formats. Does not belong here: requests, and what the wish is to the platform (`meaning`).
"""

import json
import re
from datetime import date, datetime
from typing import Any

from orchestration.consent.signals.results import NotUnderstood, Signal, decoder

_FULL_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


@decoder
def decode_gpc(text: str) -> Signal:
    """The value of a `Sec-GPC` header: exactly `1` is a signal; every other value counts as if no header had come."""
    if text != "1":
        raise NotUnderstood("a Sec-GPC value other than exactly 1 is ignored, as if it were absent")
    return Signal("gpc", {"Gpc": True})


@decoder
def decode_gpc_support(text: str) -> Signal:
    """The text of `/.well-known/gpc.json`: a JSON object with the boolean `gpc`; other members are ignored.

    `lastUpdate` is None where it is no RFC 3339 date or date-time: then, says the specification, only the date is unknown.
    """
    try:
        document = json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise NotUnderstood("gpc.json is not valid JSON, or repeats a member") from None
    if not isinstance(document, dict):
        raise NotUnderstood("gpc.json is no JSON object")
    if not isinstance(document.get("gpc"), bool):
        raise NotUnderstood("the member gpc is neither true nor false: support is unknown")
    return Signal("gpc_support", {"gpc": document["gpc"], "lastUpdate": _rfc_3339(document.get("lastUpdate"))})


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("repeated member")
    return members


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _rfc_3339(value: Any) -> str | None:
    if not isinstance(value, str):
        return None
    try:
        if _FULL_DATE.fullmatch(value):
            date.fromisoformat(value)
        elif _DATE_TIME.fullmatch(value):
            datetime.fromisoformat(value.upper())
        else:
            return None
    except ValueError:
        return None
    return value
