"""One door to all decoders: by a given kind, or by the kind that the text itself shows.

Belongs here: kinds, detection, and the document that the command prints. Does not belong here: formats and meanings.
"""

from datetime import datetime
from typing import Any

from orchestration.consent.signals.bits import IdSet
from orchestration.consent.signals.gpc import decode_gpc, decode_gpc_support
from orchestration.consent.signals.gpp import decode_gpp
from orchestration.consent.signals.meaning import ConsentEvent, as_utc, consent_events, states
from orchestration.consent.signals.results import Signal, Unknown
from orchestration.consent.signals.tcf import decode_tcf
from orchestration.consent.signals.usp import decode_usp

KINDS = ("tcf", "gpp", "usp", "gpc")


def detect(text: str) -> str | None:
    """The kind that a text shows by its beginning, or None. The four beginnings exclude each other.

    The first six bits of a TC string are its version 2 (C), those of a GPP string its type 3 (D): so the GPP specification
    tells them apart. A US Privacy string begins with its version, 1; a lone 1 is a GPC header, and { opens a gpc.json.
    """
    if text == "1" or text[:1] == "{":
        return "gpc"
    return {"C": "tcf", "D": "gpp", "1": "usp"}.get(text[:1])


def decode(text: str, now: datetime, kind: str | None = None) -> Signal | Unknown:
    """A text as seen at `now`, by the given kind or the one that it shows. Raises ValueError for a kind that is none."""
    if kind is not None and kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of signal; kinds are {', '.join(KINDS)}")
    found = kind or (detect(text) if isinstance(text, str) else None)
    if found == "tcf":
        return decode_tcf(text, as_utc(now))
    if found == "gpp":
        return decode_gpp(text, as_utc(now))
    if found == "usp":
        return decode_usp(text)
    if found == "gpc":
        return decode_gpc_support(text) if text[:1] == "{" else decode_gpc(text)
    return Unknown("the text does not show what kind of signal it is")


def document(text: str, now: datetime, kind: str | None = None) -> dict[str, Any]:
    """What a text says, for people and scripts: kind, fields, states and their reasons by purpose, consent events.

    Where it is not well-formed, `reason` takes the place of the fields and every state is unknown.
    """
    signal, instant = decode(text, now, kind), as_utc(now)
    found = states(signal, instant)
    shown: dict[str, Any] = {"kind": kind or detect(text), "well_formed": isinstance(signal, Signal)}
    if isinstance(signal, Unknown):
        shown["reason"] = signal.reason
    else:
        shown["kind"] = signal.kind
        shown["fields"] = _shown(signal.fields) | {part.kind: _shown(part.fields) for part in signal.sections}
    shown["states"] = {purpose: state for purpose, (state, _) in found.items()}
    shown["because"] = {purpose: because for purpose, (_, because) in found.items()}
    shown["events"] = [_shown_event(event) for event in consent_events(signal, instant)]
    return shown


def _shown(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: _shown_value(value) for name, value in fields.items()}


def _shown_value(value: Any) -> Any:
    if isinstance(value, dict):
        return _shown(value)
    if isinstance(value, IdSet | tuple):
        return [_shown_value(entry) for entry in value]
    if isinstance(value, datetime):
        return value.isoformat()
    return value


def _shown_event(event: ConsentEvent) -> dict[str, Any]:
    return {name: _shown_value(getattr(event, name)) for name in ConsentEvent.__dataclass_fields__}
