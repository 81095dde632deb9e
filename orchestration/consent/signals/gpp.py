"""Global Privacy Platform strings, version 1: a header and the sections that it lists.

Source: IAB Tech Lab, Global-Privacy-Platform, Core/Consent String Specification.md (v1.0, 28 September 2022) and
Sections/Section Information.md (b27beb41). A GPP string is understood when all of its sections are; one that is not makes the
whole `Unknown`, since a grant must never be read beside a section that may refuse it. The well-formed sections go with it,
since a refusal must never be lost for the sake of a neighbour.

Belongs here: the header, the sections' order and which decoder reads which. Does not belong here: the sections' fields.
"""

from datetime import datetime
from functools import lru_cache

from orchestration.consent.signals.bits import BitReader
from orchestration.consent.signals.results import NotUnderstood, Signal, decoder
from orchestration.consent.signals.tcf import check_rules, read_segments
from orchestration.consent.signals.us_sections import SECTION_IDS, read_us_section
from orchestration.consent.signals.usp import read_usp

HEADER_TYPE, VERSION = 3, 1
TCF_EU, USP = 2, 6
NOT_READ = {
    1: "tcfeuv1 is invalid since September 2020",
    3: "the header is no section of itself",
    4: "the signal integrity section has no published format",
    5: "tcfcav1 has two layouts under one version number, and its vendor ranges are published one way and written another",
    24: "usmd is published as a draft only",
    25: "usin is published as a draft only",
    26: "usky is published as a draft only",
    27: "usri is published as a draft only",
}


@decoder
def decode_gpp(text: str, now: datetime) -> Signal:
    """A GPP string as seen at `now` (aware): a signal of kind `gpp` with its sections, or `Unknown` with the well-formed ones."""
    header, *parts = text.split("~")
    section_ids = read_header(header, len(parts))
    sections, faults = [], []
    for number, part in zip(section_ids, parts, strict=True):
        try:
            sections.append(_read_section(number, part, now))
        except NotUnderstood as fault:
            faults.append(f"section {number}: {fault}")
    if faults:
        raise NotUnderstood("; ".join(faults), tuple(sections))
    return Signal("gpp", {"Type": HEADER_TYPE, "Version": VERSION, "SectionIds": section_ids}, tuple(sections))


@lru_cache(maxsize=1024)
def read_header(text: str, parts: int) -> tuple[int, ...]:
    """The section ids of a header that `parts` sections follow, ascending. Raises `NotUnderstood`."""
    reader = BitReader(text)
    kind, version = reader.integer(6), reader.integer(6)
    if kind != HEADER_TYPE:
        raise NotUnderstood(f"type {kind}; a GPP header has type {HEADER_TYPE}")
    if version != VERSION:
        raise NotUnderstood(f"version {version} of the GPP string; only version {VERSION} is known")
    section_ids = reader.fibonacci_range(parts)
    reader.finish()
    if not section_ids:
        raise NotUnderstood("the header lists no section")
    if len(section_ids) != parts:
        raise NotUnderstood(f"the header lists {len(section_ids)} sections and {parts} follow")
    return section_ids


def _read_section(section_id: int, text: str, now: datetime) -> Signal:
    if section_id == TCF_EU:
        fields = read_segments(text)
        check_rules(fields, now)
        return Signal("tcfeuv2", fields)
    if section_id == USP:
        return Signal("uspv1", read_usp(text).fields)
    if section_id in SECTION_IDS:
        return read_us_section(section_id, text)
    raise NotUnderstood(NOT_READ.get(section_id, "no such section is known"))
