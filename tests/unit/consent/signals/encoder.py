"""An encoder of its own for the tests, written from the published field tables: bits as literal text, nothing shared with the
decoders. It writes what it is told, also what no encoder should."""

from datetime import UTC, datetime

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
LAST_DAY = datetime(2026, 10, 1, tzinfo=UTC)
BEFORE_2_3 = datetime(2026, 2, 27, tzinfo=UTC)

# Fibonacci codes by hand: the table in the GPP specification up to 7; then sums such as 16 = 13 + 3 and 40 = 34 + 5 + 1.
FIBONACCI = {
    1: "11", 2: "011", 3: "0011", 4: "1011", 5: "00011", 6: "10011", 7: "01011", 8: "000011", 16: "0010011", 21: "00000011",
    24: "00100011", 25: "10100011", 26: "00010011", 27: "10010011", 28: "01010011", 40: "100100011",
}


def fibonacci(value: int) -> str:
    """The code of any section id: the largest terms first, then the 1 that ends it."""
    terms = [1, 2, 3, 5, 8, 13, 21, 34]
    digits = ["0"] * len(terms)
    for place in reversed(range(len(terms))):
        if terms[place] <= value:
            digits[place], value = "1", value - terms[place]
    return "".join(digits).rstrip("0") + "1"


def encoded(bits: str, pad_to: int = 6) -> str:
    """Base64url with zero padding to 6, to 8 and then 6, or to 24 bits."""
    bits += "0" * (-len(bits) % pad_to)
    bits += "0" * (-len(bits) % 6)
    return "".join(ALPHABET[int(bits[at : at + 6], 2)] for at in range(0, len(bits), 6))


def raw_bits(text: str) -> str:
    return "".join(f"{ALPHABET.index(character):06b}" for character in text)


def number(value: int, width: int) -> str:
    return f"{value:0{width}b}"


def bitfield(ids, width: int) -> str:
    return "".join("1" if position in ids else "0" for position in range(1, width + 1))


def deciseconds(instant: datetime) -> str:
    return number(round(instant.timestamp() * 10), 36)


def two_letters(code: str) -> str:
    return number(ord(code[0]) - 65, 6) + number(ord(code[1]) - 65, 6)


def vendor_field(ids, max_id: int | None = None) -> str:
    """MaxVendorId, IsRangeEncoding = 0, bit field."""
    width = max(ids, default=0) if max_id is None else max_id
    return number(width, 16) + "0" + bitfield(ids, width)


def range_entries(groups) -> str:
    """NumEntries and the entries: (3, 3) as a single id, (5, 8) as a group."""
    return number(len(groups), 12) + "".join(
        "0" + number(first, 16) if first == last else "1" + number(first, 16) + number(last, 16) for first, last in groups
    )


def vendor_ranges(groups, max_id: int) -> str:
    """MaxVendorId, IsRangeEncoding = 1, ranges."""
    return number(max_id, 16) + "1" + range_entries(groups)


def core_bits(
    version=2, created=LAST_DAY, updated=None, cmp_id=31, cmp_version=4, screen=1, language="EN", vendor_list=160, policy=5,
    service_specific="1", non_standard="0", features=(), consents=(), interests=(), one_treatment="0", country="DE",
    vendors=None, li_vendors=None, restrictions="000000000000",
) -> str:
    """The bits of a core segment, field after field as the TC string specification lists them."""
    return "".join((
        number(version, 6), deciseconds(created), deciseconds(updated or created), number(cmp_id, 12), number(cmp_version, 12),
        number(screen, 6), two_letters(language), number(vendor_list, 12), number(policy, 6), service_specific, non_standard,
        bitfield(features, 12), bitfield(consents, 24), bitfield(interests, 24), one_treatment, two_letters(country),
        vendor_field((2, 6, 8)) if vendors is None else vendors, vendor_field(()) if li_vendors is None else li_vendors,
        restrictions,
    ))


def disclosed_bits(vendors=None) -> str:
    return "001" + (vendor_field((2, 6, 8)) if vendors is None else vendors)


def publisher_bits(consents=(), interests=(), custom=0, custom_consents=(), custom_interests=()) -> str:
    return (
        "011" + bitfield(consents, 24) + bitfield(interests, 24) + number(custom, 6)
        + bitfield(custom_consents, custom) + bitfield(custom_interests, custom)
    )


def tc_string(disclosed="", publisher="", pad_to=6, **core) -> str:
    """A TC string with Disclosed Vendors unless `disclosed` is None, and Publisher TC where given as bits."""
    segments = [core_bits(**core)]
    if disclosed is not None:
        segments.append(disclosed or disclosed_bits())
    if publisher:
        segments.append(publisher)
    return ".".join(encoded(bits, pad_to) for bits in segments)


def header(*section_ids: int, pad_to=6, kind=3, version=1) -> str:
    """A GPP header whose ids are all written as single ids."""
    items, last = "", 0
    for section_id in section_ids:
        items += "0" + fibonacci(section_id - last)
        last = section_id
    return encoded(number(kind, 6) + number(version, 6) + number(len(section_ids), 12) + items, pad_to)


def gpp_string(sections: dict[int, str], pad_to=6) -> str:
    return "~".join((header(*sections, pad_to=pad_to), *sections.values()))


# Section id, version: prefix, single values before SensitiveDataProcessing, its length, that of KnownChild…, values between it
# and the three MSPA values, GPC sub-section defined. Counted by hand in the published tables.
US = {
    (7, 1): ("usnat", 9, 12, 2, 1, True), (7, 2): ("usnat", 9, 16, 3, 1, True), (8, 1): ("usca", 5, 9, 2, 1, True),
    (9, 1): ("usva", 5, 8, 1, 0, False), (10, 1): ("usco", 5, 7, 1, 0, True), (11, 1): ("usut", 6, 8, 1, 0, False),
    (12, 1): ("usct", 5, 8, 3, 0, True), (13, 1): ("usfl", 5, 8, 3, 1, False), (14, 1): ("usmt", 5, 8, 3, 1, True),
    (15, 1): ("usor", 5, 11, 3, 1, True), (16, 1): ("ustx", 5, 8, 1, 1, True), (17, 1): ("usde", 5, 9, 5, 1, True),
    (18, 1): ("usia", 6, 8, 1, 0, True), (19, 1): ("usne", 5, 8, 1, 1, True), (20, 1): ("usnh", 5, 8, 3, 1, True),
    (21, 1): ("usnj", 5, 10, 5, 1, True), (22, 1): ("ustn", 5, 8, 1, 1, True), (23, 1): ("usmn", 5, 8, 1, 1, True),
}
# Where the opt-outs stand among the single values, from 0: sale, sharing (or None), targeted advertising (or None).
OPT_OUTS = {
    "usnat": (6, 7, 8), "usca": (3, 4, None), "usut": (4, None, 5), "usia": (4, None, 5),
}
OPT_OUTS_ELSEWHERE = (3, None, 4)


def us_section(key, values=None, gpc=None, pad_to=6, **changes) -> str:
    """A US section: `values` are all its two-bit values (default: notice given, nobody opted out, the rest not applicable).

    `changes` name parts: sale, sharing, ads (a value), sensitive, child (a value for all entries, or a list of them), mspa.
    """
    prefix, singles, sensitive, child, between, _ = US[key]
    sale, sharing, ads = OPT_OUTS.get(prefix, OPT_OUTS_ELSEWHERE)
    if values is None:
        first = [1] * singles
        for place, name in ((sale, "sale"), (sharing, "sharing"), (ads, "ads")):
            if place is not None:
                first[place] = changes.get(name, 2)
        values = first + _entries(changes.get("sensitive", 0), sensitive) + _entries(changes.get("child", 0), child)
        values += [0] * between + list(changes.get("mspa", (2, 0, 0)))
    core = encoded(number(changes.get("version", key[1]), 6) + "".join(number(value, 2) for value in values), pad_to)
    return core if gpc is None else core + "." + encoded("01" + gpc, pad_to)


def _entries(given, count: int) -> list[int]:
    return [given] * count if isinstance(given, int) else list(given)


def _vendors_again(max_id, ids) -> list[str]:
    """One spelling, but two for MaxVendorId 0: no bit field, or no range entries, mean and are stored the same."""
    as_field, as_ranges = vendor_field(set(ids), max_id), vendor_ranges(ids.groups, max_id)
    if max_id == 0:
        return [as_field, as_ranges]
    return [as_field] if ids.size else [as_ranges]


def tcf_again(fields) -> list[list[str]]:
    """The bits of a decoded TC string's segments, written anew from what was understood: the spellings of each segment."""
    restrictions = number(len(fields["PublisherRestrictions"]), 12) + "".join(
        number(entry["PurposeId"], 6) + number(entry["RestrictionType"], 2) + range_entries(entry["Vendors"].groups)
        for entry in fields["PublisherRestrictions"]
    )
    segments = [[
        core_bits(
            version=fields["Version"], created=fields["Created"], updated=fields["LastUpdated"], cmp_id=fields["CmpId"],
            cmp_version=fields["CmpVersion"], screen=fields["ConsentScreen"], language=fields["ConsentLanguage"],
            vendor_list=fields["VendorListVersion"], policy=fields["TcfPolicyVersion"],
            service_specific="01"[fields["IsServiceSpecific"]], non_standard="01"[fields["UseNonStandardTexts"]],
            features=fields["SpecialFeatureOptIns"], consents=fields["PurposesConsent"],
            interests=fields["PurposesLITransparency"], one_treatment="01"[fields["PurposeOneTreatment"]],
            country=fields["PublisherCC"], vendors=vendors, li_vendors=li_vendors, restrictions=restrictions,
        )
        for vendors in _vendors_again(fields["MaxVendorIdConsent"], fields["VendorConsents"])
        for li_vendors in _vendors_again(fields["MaxVendorIdLI"], fields["VendorLegitimateInterests"])
    ]]
    if "DisclosedVendors" in fields:
        segments.append(["001" + each for each in _vendors_again(fields["MaxVendorIdDisclosed"], fields["DisclosedVendors"])])
    if "PubPurposesConsent" in fields:
        segments.append([publisher_bits(
            fields["PubPurposesConsent"], fields["PubPurposesLITransparency"], fields["NumCustomPurposes"],
            fields["CustomPurposesConsent"], fields["CustomPurposesLITransparency"],
        )])
    return segments


def us_again(fields) -> list[list[str]]:
    """The same of a decoded US section's sub-sections."""
    values: list[int] = []
    for name, value in fields.items():
        if name not in ("Version", "Gpc"):
            values += value if isinstance(value, tuple) else [value]
    core = number(fields["Version"], 6) + "".join(number(value, 2) for value in values)
    return [[core]] if fields["Gpc"] is None else [[core], ["01" + "01"[fields["Gpc"]]]]


def is_encoding(text: str, segments: list[list[str]]) -> bool:
    """Whether the text is these segments, each in one of the three paddings: the independent test of well-formedness."""
    parts = text.split(".")
    return len(parts) == len(segments) and all(
        part in {encoded(bits, pad_to) for bits in spellings for pad_to in (6, 8, 24)}
        for part, spellings in zip(parts, segments, strict=True)
    )
