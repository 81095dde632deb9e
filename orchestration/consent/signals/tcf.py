"""TC strings of the IAB Europe Transparency and Consent Framework, versions 2.2 and 2.3.

Source: IAB Tech Lab, GDPR-Transparency-and-Consent-Framework, TCFv2/IAB Tech Lab - Consent string and vendor list formats
v2.md, v2.2 (May 2023) with the v2.3 change (April 2025: the Disclosed Vendors segment is mandatory). Structure is read
first, every bit of it; then the rules on values. What breaks either is `Unknown`.

Belongs here: the fields and the rules of a TC string. Does not belong here: what its purposes are to the platform (`meaning`).
"""

from collections.abc import Callable
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from struct import Struct
from typing import Any

from orchestration.consent.signals.bits import (
    MAX_VENDOR_ID,
    BitReader,
    Group,
    IdSet,
    instant,
    layout,
    letters,
    numbers_set,
    overlap,
)
from orchestration.consent.signals.results import NotUnderstood, Signal, decoder

POLICY_VERSIONS = (4, 5)    # 4 came with TCF v2.2; 5 with vendor list 62 (July 2024) and is kept by v2.3
DEFINED_PURPOSES = 11       # purposes 12 to 24 and special features 3 to 12 have bits but no meaning yet
DEFINED_SPECIAL_FEATURES = 2
NO_LEGITIMATE_INTEREST = frozenset((3, 4, 5, 6))   # since v2.2 these bits are required to be 0
EARLIEST = datetime(2023, 5, 1, tzinfo=UTC)   # v2.2 was released in this month: no string of its policy is older
# From 28 February 2026 a new string without Disclosed Vendors is invalid, and one from before stays valid (IAB Europe's
# transition notice, as carried out in prebid-server #4750). Whether that day itself still belongs to the old rule is not
# said; days are all that a TC string knows, so the day counts as the new rule's.
DISCLOSED_VENDORS_FROM = datetime(2026, 2, 28, tzinfo=UTC)
ALLOWED_SKEW = timedelta(minutes=5)   # a CMP's clock may be ahead when it stamps a new day at midnight
_CORE, _DISCLOSED_VENDORS, _PUBLISHER_TC = 0, 1, 3
_MIDNIGHT = time(0)


def _integer(digits: bytes) -> int:
    return int(digits, 2)


def _flag(digits: bytes) -> bool:
    return digits == b"1"


@lru_cache(maxsize=4096)
def _purposes(digits: bytes) -> tuple[int, ...]:
    found = numbers_set(digits)
    if found and found[-1] > DEFINED_PURPOSES:
        raise NotUnderstood(f"a bit for purpose {found[-1]}, which is not defined")
    return found


def _special_features(digits: bytes) -> tuple[int, ...]:
    found = numbers_set(digits)
    if found and found[-1] > DEFINED_SPECIAL_FEATURES:
        raise NotUnderstood(f"a bit for special feature {found[-1]}, which is not defined")
    return found


# The fields of fixed width at the head of the core segment, in their order: bits, and how the digits are read. In two halves,
# which are remembered: many people meet the same platform on the same day, and many choose the same.
_Fields = dict[str, tuple[int, Callable[[bytes], Any]]]
_PLATFORM_FIELDS: _Fields = {
    "Version": (6, _integer),
    "Created": (36, instant),
    "LastUpdated": (36, instant),
    "CmpId": (12, _integer),
    "CmpVersion": (12, _integer),
    "ConsentScreen": (6, _integer),
    "ConsentLanguage": (12, letters),
    "VendorListVersion": (12, _integer),
    "TcfPolicyVersion": (6, _integer),
    "IsServiceSpecific": (1, _flag),
    "UseNonStandardTexts": (1, _flag),
}
_CHOICE_FIELDS: _Fields = {
    "SpecialFeatureOptIns": (12, _special_features),
    "PurposesConsent": (24, _purposes),
    "PurposesLITransparency": (24, _purposes),
    "PurposeOneTreatment": (1, _flag),
    "PublisherCC": (12, letters),
}
_PLATFORM_LAYOUT, _CHOICE_LAYOUT = (layout(width for width, _ in part.values()) for part in (_PLATFORM_FIELDS, _CHOICE_FIELDS))
_PUBLISHER_LAYOUT = layout((24, 24, 6))     # consents, legitimate interests, number of custom purposes


@decoder
def decode_tcf(text: str, now: datetime) -> Signal:
    """A TC string as seen at `now` (aware): a signal of kind `tcf`, or `Unknown`."""
    fields = read_segments(text)
    check_rules(fields, now)
    return Signal("tcf", fields)


def read_segments(text: str) -> dict[str, Any]:
    """The fields of all segments of a version 2 string under their published names; rules between fields not yet applied.

    The core segment comes first, then Disclosed Vendors, then Publisher TC, each at most once, as the specification lists
    them. Raises `NotUnderstood`.
    """
    core, *others = text.split(".")
    fields = _read_core(core)
    last = _CORE
    for segment in others:
        reader = BitReader(segment)
        kind = reader.integer(3)
        if kind not in (_DISCLOSED_VENDORS, _PUBLISHER_TC):
            raise NotUnderstood(f"segment type {kind} is not defined in TCF v2.2 and v2.3")
        if kind <= last:
            raise NotUnderstood(f"segment type {kind} stands twice or in the wrong order")
        last = kind
        fields |= _read_disclosed_vendors(reader) if kind == _DISCLOSED_VENDORS else _read_publisher_tc(reader)
        reader.finish()
    return fields


def _read_core(text: str) -> dict[str, Any]:
    reader = BitReader(text)
    version = int(reader.head[:6], 2)
    if version != 2:
        raise NotUnderstood(f"version {version} of the TC string; only version 2 is known")
    fields = _platform(reader.take(_PLATFORM_LAYOUT.size)) | _choices(reader.take(_CHOICE_LAYOUT.size))
    fields["MaxVendorIdConsent"], fields["VendorConsents"] = reader.vendors()
    fields["MaxVendorIdLI"], fields["VendorLegitimateInterests"] = reader.vendors()
    fields["PublisherRestrictions"] = _read_restrictions(reader)
    reader.finish()
    return fields


@lru_cache(maxsize=4096)
def _platform(digits: bytes) -> dict[str, Any]:
    return _read(digits, _PLATFORM_LAYOUT, _PLATFORM_FIELDS)


@lru_cache(maxsize=4096)
def _choices(digits: bytes) -> dict[str, Any]:
    return _read(digits, _CHOICE_LAYOUT, _CHOICE_FIELDS)


def _read(digits: bytes, places: Struct, fields: _Fields) -> dict[str, Any]:
    given = zip(fields.items(), places.unpack(digits), strict=True)
    return {name: read(value) for (name, (_, read)), value in given}


def _read_restrictions(reader: BitReader) -> tuple[dict[str, Any], ...]:
    found = []
    named: dict[int, tuple[Group, ...]] = {}
    for _ in range(reader.integer(12)):
        purpose, kind = reader.integer(6), reader.integer(2)
        if not 1 <= purpose <= DEFINED_PURPOSES:
            raise NotUnderstood(f"a publisher restriction on purpose {purpose}, which is not defined")
        if kind == 3:
            raise NotUnderstood("publisher restriction type 3 is not defined")
        vendors = reader.vendor_ranges(MAX_VENDOR_ID)
        named[purpose] = named.get(purpose, ()) + vendors.groups
        found.append({"PurposeId": purpose, "RestrictionType": kind, "Vendors": vendors})
    for purpose, groups in named.items():
        if overlap(groups):
            raise NotUnderstood(f"two publisher restrictions on purpose {purpose} name the same vendor")
    return tuple(found)


def _read_disclosed_vendors(reader: BitReader) -> dict[str, int | IdSet]:
    max_id, vendors = reader.vendors()
    return {"MaxVendorIdDisclosed": max_id, "DisclosedVendors": vendors}


def _read_publisher_tc(reader: BitReader) -> dict[str, Any]:
    consents, interests, custom = reader.fields(_PUBLISHER_LAYOUT)
    count = int(custom, 2)
    return {
        "PubPurposesConsent": _purposes(consents),
        "PubPurposesLITransparency": _purposes(interests),
        "NumCustomPurposes": count,
        "CustomPurposesConsent": reader.ids(count),
        "CustomPurposesLITransparency": reader.ids(count),
    }


def check_rules(fields: dict[str, Any], now: datetime) -> None:
    """Raise `NotUnderstood` where a string of this structure is impossible, of another policy, or invalid at `now`."""
    if fields["TcfPolicyVersion"] not in POLICY_VERSIONS:
        raise NotUnderstood(f"TCF policy version {fields['TcfPolicyVersion']}; known are {POLICY_VERSIONS} (TCF v2.2, v2.3)")
    if not fields["IsServiceSpecific"]:
        raise NotUnderstood("IsServiceSpecific is 0: global scope is invalid since September 2021")
    if not fields["CmpId"] or not fields["VendorListVersion"]:
        raise NotUnderstood("no consent management platform or no vendor list: the id or the version is 0")
    _check_times(fields, now)
    if not NO_LEGITIMATE_INTEREST.isdisjoint(fields["PurposesLITransparency"]):
        raise NotUnderstood("legitimate interest for one of the purposes 3 to 6, excluded since TCF v2.2")
    if fields["PurposeOneTreatment"] and 1 in fields["PurposesConsent"]:
        raise NotUnderstood("consent to purpose 1, which PurposeOneTreatment says was not disclosed")
    if "DisclosedVendors" not in fields and fields["LastUpdated"] >= DISCLOSED_VENDORS_FROM:
        raise NotUnderstood("no Disclosed Vendors segment, mandatory from 28 February 2026 (TCF v2.3)")


def _check_times(fields: dict[str, Any], now: datetime) -> None:
    created, updated = fields["Created"], fields["LastUpdated"]
    if updated < created:
        raise NotUnderstood("LastUpdated lies before Created")
    if updated != created:
        raise NotUnderstood("Created and LastUpdated differ; since TCF v2.2 they are the same day")
    if updated.time() != _MIDNIGHT:
        raise NotUnderstood("LastUpdated is no whole day in UTC")
    if updated < EARLIEST:
        raise NotUnderstood("LastUpdated lies before the release of TCF v2.2")
    if updated > now + ALLOWED_SKEW:
        raise NotUnderstood("LastUpdated lies in the future")
