"""What a decoded signal is to the platform: findings per purpose, the state that follows, canonical consent events.

The mapping is data, below, and printed in docs/signals.md. Its rules: a purpose is granted only where all the TCF purposes
that it rests on are consented to; legitimate interest is never a grant; an opt-out, a refused consent and GPC are refusals;
that nobody opted out is no grant; a refusal beats every grant of the same string; a known child grants nothing alone.

Belongs here: the mapping and what follows from one signal alone. Does not belong here: what earlier events make of it, and
what policy allows (the consent models).
"""

from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from orchestration.consent.signals.results import Signal, Unknown

PURPOSES = ("analytics", "personalisation", "ads_sale_share", "significant_decision_admt", "sensitive")
ADS = "ads_sale_share"

# Platform purpose: the TCF purposes (IAB Europe TCF Policies v5, Appendix A) that must all be consented to. Purpose 1 is
# access to the device, without which none of the others happens. No TCF purpose is an automated significant decision or the
# use of sensitive data, so no TC string speaks of those two.
TCF_PURPOSES = {
    "analytics": (1, 8, 9, 10),         # measure content, understand audiences, improve services
    "personalisation": (1, 5, 6),       # profile for content, select content by it
    ADS: (1, 2, 3, 4, 7),               # select ads, profile for ads, select ads by it, measure ads
}
TCF_MONTHS = 13                         # a choice is asked for again after 13 months at the latest (TCF Policies)

# Fields of US sections that refuse advertising with the value 1, «opted out».
US_AD_OPT_OUTS = ("SaleOptOut", "SharingOptOut", "TargetedAdvertisingOptOut")
# Sections whose SensitiveDataProcessing is an opt-out (1 opted out, 2 did not). In all others it is a consent (1 no, 2 yes).
US_SENSITIVE_OPT_OUT = ("usca", "usut", "usia")
# Which entry of KnownChildSensitiveDataConsents speaks of all processing of a child under 13; usca has none. Where it says
# «no consent», every purpose is refused; elsewhere in the field, advertising and sensitive data are.
US_UNDER_13_ENTRY = {"usnat": 1, "usca": None}
US_UNDER_13_ENTRY_ELSEWHERE = 0

GRANTED, DENIED, EXPIRED, UNKNOWN = "granted", "denied", "expired", "unknown"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one signal says of one purpose: `granted`, `denied` or `gpc_on`, with the field that says so.

    `effective_at` is None where the format carries no time; then the time of receipt stands in.
    """

    purpose: str
    action: str
    because: str
    source: str
    method: str
    effective_at: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class ConsentEvent:
    """The fields of a canonical consent event (contract `consent_events`) that a signal can give; instants in UTC.

    `effective_precision` is `day` where the source knows only the day (a TC string), else `instant`.
    """

    purpose: str
    action: str
    effective_at: datetime
    effective_precision: str
    received_at: datetime
    expires_at: datetime | None
    method: str
    actor: str
    source: str
    because: str


def findings(signal: Signal | Unknown) -> tuple[Finding, ...]:
    """Everything that a signal says about purposes; for `Unknown` the refusals in what was well-formed of it, if anything was.

    Grants are left out too where any section of the string says that the person is a known child.
    """
    is_unknown = isinstance(signal, Unknown)
    parts = signal.sections if is_unknown else signal.sections or (signal,)
    found = [finding for part in parts for finding in _findings_of(part)]
    if is_unknown or any(_known_child(part.fields) for part in parts):
        found = [finding for finding in found if finding.action != GRANTED]
    return tuple(found)


def states(signal: Signal | Unknown, now: datetime) -> dict[str, tuple[str, str]]:
    """State and reason of every purpose by this signal alone, as seen at `now` (aware); `unknown` where it says nothing."""
    said = "not understood: " + signal.reason if isinstance(signal, Unknown) else "neither granted nor refused in the signal"
    found = dict.fromkeys(PURPOSES, (UNKNOWN, said))
    for finding in findings(signal):
        if finding.action != GRANTED:
            found[finding.purpose] = (DENIED, finding.because)
        elif found[finding.purpose][0] != DENIED:
            expired = finding.expires_at is not None and now >= finding.expires_at
            found[finding.purpose] = (EXPIRED if expired else GRANTED, finding.because)
    return found


def consent_events(signal: Signal | Unknown, received_at: datetime) -> tuple[ConsentEvent, ...]:
    """The canonical events of a signal that came at `received_at` (aware), at most one per purpose, action and section.

    GPC and an opt-out of the same purpose are two events. A refusal leaves no grant of its purpose beside it.
    """
    events: dict[tuple[str, str, str], ConsentEvent] = {}
    found = findings(signal)
    refused = {finding.purpose for finding in found if finding.action != GRANTED}
    for finding in found:
        if finding.action == GRANTED and finding.purpose in refused:
            continue
        events.setdefault(
            (finding.purpose, finding.action, finding.source),
            ConsentEvent(
                purpose=finding.purpose,
                action=finding.action,
                effective_at=finding.effective_at or received_at,
                effective_precision="day" if finding.effective_at else "instant",
                received_at=received_at,
                expires_at=finding.expires_at,
                method=finding.method,
                actor="self",
                source=finding.source,
                because=finding.because,
            ),
        )
    return tuple(events.values())


def months_later(instant: datetime, months: int) -> datetime:
    """The same day and time so many months on; the month's last day where it is shorter."""
    year, month = divmod(instant.year * 12 + instant.month - 1 + months, 12)
    day = min(instant.day, monthrange(year, month + 1)[1])
    return instant.replace(year=year, month=month + 1, day=day)


def as_utc(instant: datetime) -> datetime:
    """The instant in UTC; one without a zone is UTC already, as everywhere in the platform."""
    if instant.tzinfo is UTC:
        return instant
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)


def _findings_of(part: Signal) -> Iterator[Finding]:
    if part.kind in ("tcf", "tcfeuv2"):
        yield from _tcf_findings(part)
    elif part.kind in ("usp", "uspv1"):
        if part.fields["OptOutSale"] == "Y":
            yield Finding(ADS, DENIED, f"{part.kind}: OptOutSale is Y", part.kind, "banner")
    elif part.kind == "gpc":
        yield Finding(ADS, "gpc_on", "Sec-GPC is 1", part.kind, "gpc_header")
    elif part.kind != "gpc_support":
        yield from _us_findings(part)


def _tcf_findings(part: Signal) -> Iterator[Finding]:
    """The publisher's own purposes, where that segment is there, count as well as the core's: both must consent."""
    fields, updated = part.fields, part.fields["LastUpdated"]
    consented = set(fields["PurposesConsent"])
    if "PubPurposesConsent" in fields:
        consented &= set(fields["PubPurposesConsent"])
    expires_at = months_later(updated, TCF_MONTHS)
    for purpose, needed in TCF_PURPOSES.items():
        missing = [number for number in needed if number not in consented]
        if missing == [1] and fields["PurposeOneTreatment"]:
            continue    # purpose 1 was not put to the person, who therefore neither granted nor refused it
        if missing:
            because = f"{part.kind}: no consent to TCF purpose {', '.join(map(str, missing))}"
            yield Finding(purpose, DENIED, because, part.kind, "banner", updated)
        else:
            because = f"{part.kind}: consent to TCF purposes {', '.join(map(str, needed))}"
            yield Finding(purpose, GRANTED, because, part.kind, "banner", updated, expires_at)


def _us_findings(part: Signal) -> Iterator[Finding]:
    fields, kind = part.fields, part.kind
    for field in US_AD_OPT_OUTS:
        if fields.get(field) == 1:
            yield Finding(ADS, DENIED, f"{kind}: {field} is 1, opted out", kind, "banner")
    if fields["Gpc"]:
        yield Finding(ADS, "gpc_on", f"{kind}: Gpc is 1", kind, "gpc_header")
    sensitive = fields["SensitiveDataProcessing"]
    if 1 in sensitive:
        said = "opted out" if kind in US_SENSITIVE_OPT_OUT else "no consent"
        yield Finding("sensitive", DENIED, f"{kind}: SensitiveDataProcessing has a 1, {said}", kind, "banner")
    elif kind not in US_SENSITIVE_OPT_OUT and set(sensitive) == {2}:
        yield Finding("sensitive", GRANTED, f"{kind}: SensitiveDataProcessing is 2, consent, throughout", kind, "banner")
    children = _children(fields)
    if 1 in children:
        entry = US_UNDER_13_ENTRY.get(kind, US_UNDER_13_ENTRY_ELSEWHERE)
        refused = PURPOSES if entry is not None and children[entry] == 1 else (ADS, "sensitive")
        for purpose in refused:
            yield Finding(purpose, DENIED, f"{kind}: KnownChildSensitiveDataConsents has a 1, no consent", kind, "banner")


def _children(fields: dict[str, Any]) -> tuple[int, ...]:
    """The entries on known children, also where the section has a single one."""
    value = fields.get("KnownChildSensitiveDataConsents", ())
    return value if isinstance(value, tuple) else (value,)


def _known_child(fields: dict[str, Any]) -> bool:
    return any(_children(fields))
