"""The US sections of GPP: what fields each has in each version, and one reader for all of them.

Source: IAB Tech Lab, Global-Privacy-Platform, Sections/US-National and Sections/US-States (b27beb41). Every
core sub-section is Int(6) Version and then fields of two bits; a field marked `*n` is the published N-Bitfield(2,n). A GPC
sub-section (Int(2) type 1, one bit) may follow where the section defines it.

Traps that the tables keep: usnat has two versions of different length; usva, usut and usfl define no GPC sub-section;
usfl, usor and ustx publish AdditionalDataProcessingConsent with 1 = consent, the others with 2 = consent (nothing rests on
that field here); MspaCoveredTransaction has no value 0; ustn publishes KnownChildSensitiveDataConsent without its last s,
which is added here.

Not here, because only drafts are published: usmd, usin, usky, usri (24 to 27, public comment of October 2025) and usnat 3
(public comment of August 2026), all with a section header that no final text defines. They are `Unknown`.

Belongs here: fields and their widths. Does not belong here: what a value is to the platform (`meaning`).
"""

from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from struct import Struct
from typing import Any, NamedTuple

from orchestration.consent.signals.bits import BitReader, layout
from orchestration.consent.signals.results import NotUnderstood, Signal

_VALUES = {b"00": 0, b"01": 1, b"10": 2}
_RESERVED = b"11"                       # 3 is reserved everywhere
_NEVER_ZERO = "MspaCoveredTransaction"
GPC_TYPE = 1


class Section(NamedTuple):
    """One section of one version: its name, its fields, what picks their values out of all, whether GPC may follow."""

    prefix: str
    fields: tuple[str, ...]
    places: Callable[[tuple[int, ...]], tuple[int | tuple[int, ...], ...]]
    values: Struct
    has_gpc: bool


_TABLE = {
    (7, 1): """usnat+gpc SharingNotice SaleOptOutNotice SharingOptOutNotice TargetedAdvertisingOptOutNotice
        SensitiveDataProcessingOptOutNotice SensitiveDataLimitUseNotice SaleOptOut SharingOptOut TargetedAdvertisingOptOut
        SensitiveDataProcessing*12 KnownChildSensitiveDataConsents*2 PersonalDataConsents
        MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode""",
    (7, 2): """usnat+gpc SharingNotice SaleOptOutNotice SharingOptOutNotice TargetedAdvertisingOptOutNotice
        SensitiveDataProcessingOptOutNotice SensitiveDataLimitUseNotice SaleOptOut SharingOptOut TargetedAdvertisingOptOut
        SensitiveDataProcessing*16 KnownChildSensitiveDataConsents*3 PersonalDataConsents
        MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode""",
    (8, 1): """usca+gpc SaleOptOutNotice SharingOptOutNotice SensitiveDataLimitUseNotice SaleOptOut SharingOptOut
        SensitiveDataProcessing*9 KnownChildSensitiveDataConsents*2 PersonalDataConsents
        MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode""",
    (9, 1): """usva SharingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut TargetedAdvertisingOptOut
        SensitiveDataProcessing*8 KnownChildSensitiveDataConsents
        MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode""",
    (10, 1): """usco+gpc SharingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut TargetedAdvertisingOptOut
        SensitiveDataProcessing*7 KnownChildSensitiveDataConsents
        MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode""",
    (11, 1): """usut SharingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SensitiveDataProcessingOptOutNotice
        SaleOptOut TargetedAdvertisingOptOut SensitiveDataProcessing*8 KnownChildSensitiveDataConsents
        MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode""",
    (12, 1): """usct+gpc SharingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut TargetedAdvertisingOptOut
        SensitiveDataProcessing*8 KnownChildSensitiveDataConsents*3
        MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode""",
    (13, 1): """usfl ProcessingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut TargetedAdvertisingOptOut
        SensitiveDataProcessing*8 KnownChildSensitiveDataConsents*3 AdditionalDataProcessingConsent
        MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode""",
    (14, 1): """usmt+gpc SharingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut TargetedAdvertisingOptOut
        SensitiveDataProcessing*8 KnownChildSensitiveDataConsents*3 AdditionalDataProcessingConsent
        MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode""",
    (15, 1): """usor+gpc ProcessingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut TargetedAdvertisingOptOut
        SensitiveDataProcessing*11 KnownChildSensitiveDataConsents*3 AdditionalDataProcessingConsent
        MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode""",
    (16, 1): """ustx+gpc ProcessingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut TargetedAdvertisingOptOut
        SensitiveDataProcessing*8 KnownChildSensitiveDataConsents AdditionalDataProcessingConsent
        MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode""",
    (17, 1): """usde+gpc ProcessingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut TargetedAdvertisingOptOut
        SensitiveDataProcessing*9 KnownChildSensitiveDataConsents*5 AdditionalDataProcessingConsent
        MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode""",
    (18, 1): """usia+gpc ProcessingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SensitiveDataOptOutNotice
        SaleOptOut TargetedAdvertisingOptOut SensitiveDataProcessing*8 KnownChildSensitiveDataConsents
        MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode""",
    (19, 1): """usne+gpc ProcessingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut TargetedAdvertisingOptOut
        SensitiveDataProcessing*8 KnownChildSensitiveDataConsents AdditionalDataProcessingConsent
        MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode""",
    (20, 1): """usnh+gpc ProcessingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut TargetedAdvertisingOptOut
        SensitiveDataProcessing*8 KnownChildSensitiveDataConsents*3 AdditionalDataProcessingConsent
        MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode""",
    (21, 1): """usnj+gpc ProcessingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut TargetedAdvertisingOptOut
        SensitiveDataProcessing*10 KnownChildSensitiveDataConsents*5 AdditionalDataProcessingConsent
        MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode""",
    (22, 1): """ustn+gpc ProcessingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut TargetedAdvertisingOptOut
        SensitiveDataProcessing*8 KnownChildSensitiveDataConsents AdditionalDataProcessingConsent
        MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode""",
    (23, 1): """usmn+gpc ProcessingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut TargetedAdvertisingOptOut
        SensitiveDataProcessing*8 KnownChildSensitiveDataConsents AdditionalDataProcessingConsent
        MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode""",
}


def _section(text: str) -> Section:
    name, *columns = text.split()
    prefix, _, gpc = name.partition("+")
    places: dict[str, slice | int] = {}
    at = 0
    for column in columns:
        field, _, count = column.partition("*")
        places[field] = slice(at, at + int(count)) if count else at
        at += int(count or 1)
    return Section(prefix, tuple(places), itemgetter(*places.values()), layout([2] * at), gpc == "gpc")


SECTIONS: dict[tuple[int, int], Section] = {key: _section(text) for key, text in _TABLE.items()}
SECTION_IDS = frozenset(section_id for section_id, _ in SECTIONS)


def read_us_section(section_id: int, text: str) -> Signal:
    """A US section: a signal of its prefix's kind (`usca`), `Gpc` None without a GPC sub-section. Raises `NotUnderstood`."""
    core, *others = text.split(".")
    reader = BitReader(core)
    version = reader.integer(6)
    section = SECTIONS.get((section_id, version))
    if section is None:
        raise NotUnderstood(f"version {version} of section {section_id} is not known")
    pairs = reader.fields(section.values)
    if _RESERVED in pairs:
        raise NotUnderstood(f"value {pairs.index(_RESERVED) + 1} of {section.prefix} is 3, which is reserved")
    values = tuple(map(_VALUES.__getitem__, pairs))
    fields: dict[str, Any] = {"Version": version, **dict(zip(section.fields, section.places(values), strict=True))}
    if not fields[_NEVER_ZERO]:
        raise NotUnderstood(f"{_NEVER_ZERO} has the value 0, which is not defined")
    reader.finish()
    if len(others) > section.has_gpc:
        raise NotUnderstood(f"{section.prefix} has more sub-sections than are defined for it")
    fields["Gpc"] = _read_gpc(others[0]) if others else None
    return Signal(section.prefix, fields)


@lru_cache(maxsize=64)
def _read_gpc(text: str) -> bool:
    reader = BitReader(text)
    kind = reader.integer(2)
    if kind != GPC_TYPE:
        raise NotUnderstood(f"a sub-section of type {kind} where GPC (type {GPC_TYPE}) is the only one defined")
    gpc = reader.flag()
    reader.finish()
    return gpc
