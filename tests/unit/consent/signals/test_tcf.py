"""TC strings: what is well-formed is read field by field, everything else is unknown with its reason."""

from datetime import UTC, datetime, timedelta

import pytest

from orchestration.consent.signals.bits import BitReader
from orchestration.consent.signals.results import MAX_CHARACTERS, NotUnderstood, Signal, Unknown
from orchestration.consent.signals.tcf import decode_tcf, read_segments
from tests.unit.consent.signals.encoder import (
    BEFORE_2_3,
    LAST_DAY,
    NOW,
    core_bits,
    disclosed_bits,
    encoded,
    number,
    publisher_bits,
    range_entries,
    tc_string,
    vendor_field,
    vendor_ranges,
)

ALL = tuple(range(1, 12))


def unknown(text: str, reason: str) -> None:
    found = decode_tcf(text, NOW)
    assert isinstance(found, Unknown), found
    assert reason in found.reason


def restriction(purpose: int, kind: int, groups) -> str:
    return number(purpose, 6) + number(kind, 2) + range_entries(groups)


def test_every_field_of_every_segment_is_read():
    text = tc_string(
        disclosed=disclosed_bits(vendor_ranges([(1, 3), (9, 9)], 12)), publisher=publisher_bits((1, 9), (2,), 3, (2,), (1, 3)),
        cmp_version=7, screen=2, language="FR", features=(2,), consents=(1, 3, 11), interests=(2, 7, 8), country="AT",
        li_vendors=vendor_ranges([(4, 4), (6, 7)], 9),
        restrictions=number(2, 12) + restriction(2, 0, [(5, 6)]) + restriction(7, 1, [(5, 5)]),
    )
    found = decode_tcf(text, NOW)
    assert isinstance(found, Signal), found
    spelled = {name: list(value) if hasattr(value, "groups") else value for name, value in found.fields.items()}
    spelled["PublisherRestrictions"] = [{**entry, "Vendors": list(entry["Vendors"])} for entry in spelled["PublisherRestrictions"]]
    assert (found.kind, spelled) == ("tcf", {
        "Version": 2, "Created": LAST_DAY, "LastUpdated": LAST_DAY, "CmpId": 31, "CmpVersion": 7, "ConsentScreen": 2,
        "ConsentLanguage": "FR", "VendorListVersion": 160, "TcfPolicyVersion": 5, "IsServiceSpecific": True,
        "UseNonStandardTexts": False, "SpecialFeatureOptIns": (2,), "PurposesConsent": (1, 3, 11),
        "PurposesLITransparency": (2, 7, 8), "PurposeOneTreatment": False, "PublisherCC": "AT", "MaxVendorIdConsent": 8,
        "VendorConsents": [2, 6, 8], "MaxVendorIdLI": 9, "VendorLegitimateInterests": [4, 6, 7],
        "PublisherRestrictions": [
            {"PurposeId": 2, "RestrictionType": 0, "Vendors": [5, 6]}, {"PurposeId": 7, "RestrictionType": 1, "Vendors": [5]},
        ],
        "MaxVendorIdDisclosed": 12, "DisclosedVendors": [1, 2, 3, 9], "PubPurposesConsent": (1, 9),
        "PubPurposesLITransparency": (2,), "NumCustomPurposes": 3, "CustomPurposesConsent": (2,),
        "CustomPurposesLITransparency": (1, 3),
    })
    assert len(found.fields["DisclosedVendors"]) == 4
    assert 9 in found.fields["DisclosedVendors"] and 10 not in found.fields["DisclosedVendors"]


# Strings printed in the specifications. All are of policy version 2 (TCF v2.0), so their structure is read and their rules refuse.
GPP_EXAMPLE = "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA"                        # GPP specification, GPP String Example 1
MACRO_EXAMPLE = (                                                                   # TC string specification v2.2, URL passing
    "COvFyGBOvFyGBAbAAAENAPCAAOAAAAAAAAAAAEEUACCKAAA.IFoEUQQgAIQwgIwQABAEAAAAOIAACAIAAAAQAIAgEAACEAAAAAgAQBAAAAAAAGBAAgAAAAAAAFAAEC"
    "AAAgAAQARAEQAAAAAJAAIAAgAAAYQEAAAQmAgBC3ZAYzUw"
)
FOUR_SEGMENTS = (                                                                   # the same, TC String Format
    "COw4XqLOw4XqLAAAAAENAXCAAAAAAAAAAAAAAAAAAAAA.IFukWSQgAIQwgI0QEByFAAAAeIAACAIgSAAQAIAgEQACEABAAAgAQFAEAIAAAGBAAgAAAAQAIFAAMCQAAgAA"
    "QiRAEQAAAAANAAIAAggAIYQFAAARmggBC3ZCYzU2yIA.QFukWSQgAIQwgI0QEByFAAAAeIAACAIgSAAQAIAgEQACEABAAAgAQFAEAIAAAGBAAgAAAAQAIFAAMCQAAgAAQiR"
    "AEQAAAAANAAIAAggAIYQFAAARmggBC3ZCYzU2yIA.YAAAAAAAAAAAAAAAAAA"
)
PUBLISHER_EXAMPLE = "CLcVDxRMWfGmWAVAHCENAXCkAKDAADnAABRgA5mdfCKZuYJez-NQm0TBMYA4oCAAGQYIAAAAAAEAIAEgAA.argAC0gAAAAAAAAAAAA"


def test_the_published_example_of_gpp_is_read():
    fields = read_segments(GPP_EXAMPLE)
    assert fields["Created"] == datetime(2022, 4, 20, 22, tzinfo=UTC)
    assert (fields["CmpId"], fields["CmpVersion"], fields["ConsentLanguage"], fields["PublisherCC"]) == (31, 640, "EN", "DE")
    assert (fields["PurposesConsent"], list(fields["VendorConsents"])) == ((), [])
    unknown(GPP_EXAMPLE, "policy version 2")


def test_the_published_example_with_disclosed_vendors_is_read():
    fields = read_segments(MACRO_EXAMPLE)
    assert fields["PurposesConsent"] == (1, 2, 3)
    assert list(fields["VendorConsents"]) == [2, 6, 8] == list(fields["VendorLegitimateInterests"])
    assert fields["MaxVendorIdDisclosed"] == max(fields["DisclosedVendors"]) == 720
    unknown(MACRO_EXAMPLE, "policy version 2")


def test_published_examples_that_today_s_tables_do_not_cover_are_unknown():
    """One has the Allowed Vendors segment that v2.2 took out; the other has 57 bits more than its Publisher TC fields."""
    unknown(FOUR_SEGMENTS, "segment type 2")
    unknown(PUBLISHER_EXAMPLE, "57 bits follow the last field")


@pytest.mark.parametrize("pad_to", [6, 8, 24])
def test_each_padding_says_the_same(pad_to):
    assert decode_tcf(tc_string(consents=ALL, pad_to=pad_to), NOW).fields["PurposesConsent"] == ALL


@pytest.mark.parametrize(("changes", "reason"), [
    ({"version": 1}, "version 1"), ({"version": 3}, "version 3"),
    ({"policy": 2}, "policy version 2"), ({"policy": 3}, "policy version 3"), ({"policy": 6}, "policy version 6"),
    ({"service_specific": "0"}, "IsServiceSpecific"),
    ({"cmp_id": 0}, "no consent management platform"), ({"vendor_list": 0}, "no vendor list"),
    ({"consents": (*ALL, 12)}, "purpose 12"), ({"consents": (24,)}, "purpose 24"), ({"interests": (12,)}, "purpose 12"),
    ({"features": (3,)}, "special feature 3"), ({"features": (1, 12)}, "special feature 12"),
    ({"interests": (3,)}, "legitimate interest"), ({"interests": (2, 6)}, "legitimate interest"),
    ({"one_treatment": "1", "consents": (1, 2)}, "PurposeOneTreatment"),
    ({"language": "E["}, "two-letter"), ({"country": "[A"}, "two-letter"),
    ({"vendors": vendor_ranges([(5, 3)], 9)}, "begins at 5 and ends at 3"),
    ({"vendors": number(9, 16) + "1" + number(1, 12) + "1" + number(4, 16) + number(4, 16)}, "begins at 4 and ends at 4"),
    ({"vendors": vendor_ranges([(0, 0)], 9)}, "not within 1 to 9"), ({"vendors": vendor_ranges([(0, 4)], 9)}, "not within 1 to 9"),
    ({"vendors": vendor_ranges([(10, 10)], 9)}, "not within 1 to 9"), ({"vendors": vendor_ranges([(8, 10)], 9)}, "not within 1 to 9"),
    ({"vendors": vendor_ranges([(1, 4), (4, 6)], 9)}, "overlap"), ({"vendors": vendor_ranges([(3, 3), (3, 3)], 9)}, "overlap"),
    ({"vendors": vendor_ranges([(5, 9), (1, 6)], 9)}, "overlap"), ({"vendors": vendor_ranges([(1, 9), (2, 2)], 9)}, "overlap"),
    ({"li_vendors": vendor_ranges([(7, 2)], 9)}, "begins at 7"),
    ({"vendors": number(9, 16) + "1" + number(3, 12) + "0" + number(1, 16)}, ""),     # two entries fewer than announced
    ({"vendors": number(60_000, 16) + "0" + "1" * 20}, "cut off"),                    # a bit field longer than the string
    ({"restrictions": number(1, 12) + restriction(2, 3, [(1, 1)])}, "type 3"),
    ({"restrictions": number(1, 12) + restriction(0, 0, [(1, 1)])}, "purpose 0"),
    ({"restrictions": number(1, 12) + restriction(12, 0, [(1, 1)])}, "purpose 12"),
    ({"restrictions": number(1, 12) + restriction(2, 0, [(0, 0)])}, "not within"),
    ({"restrictions": number(1, 12)}, "cut off"),
    ({"restrictions": number(2, 12) + restriction(2, 0, [(1, 4)]) + restriction(2, 1, [(4, 5)])}, "name the same vendor"),
])
def test_reserved_undefined_and_impossible_values_are_unknown(changes, reason):
    """Each beside a string that differs in nothing else and is read: the rule, not the string, is what refuses."""
    assert isinstance(decode_tcf(tc_string(consents=ALL), NOW), Signal)
    unknown(tc_string(**{"consents": ALL, **changes}), reason)


@pytest.mark.parametrize(("created", "updated", "reason"), [
    (LAST_DAY, LAST_DAY - timedelta(days=1), "before Created"),
    (LAST_DAY - timedelta(days=1), LAST_DAY, "differ"),
    (LAST_DAY + timedelta(seconds=0.1), None, "no whole day"), (LAST_DAY + timedelta(hours=1), None, "no whole day"),
    (datetime(2026, 11, 2, tzinfo=UTC), None, "future"), (datetime(2150, 1, 1, tzinfo=UTC), None, "future"),
    (datetime(2023, 4, 30, tzinfo=UTC), None, "before the release"), (datetime(1970, 1, 1, tzinfo=UTC), None, "before the release"),
])
def test_impossible_times_are_unknown(created, updated, reason):
    unknown(tc_string(created=created, updated=updated, consents=ALL), reason)


def test_a_clock_a_little_ahead_is_allowed_and_no_more():
    """A string of tomorrow, read five minutes before midnight, and a tenth of a second earlier."""
    text = tc_string(created=datetime(2026, 11, 2, tzinfo=UTC), consents=ALL)
    just = datetime(2026, 11, 1, 23, 55, tzinfo=UTC)
    assert isinstance(decode_tcf(text, just), Signal)
    assert isinstance(decode_tcf(text, just - timedelta(seconds=0.1)), Unknown)


def test_disclosed_vendors_are_mandatory_from_the_day_of_2_3():
    """The day before needs no such segment, and a string from before stays valid after it."""
    assert isinstance(decode_tcf(tc_string(disclosed=None, created=BEFORE_2_3, consents=ALL), NOW), Signal)
    unknown(tc_string(disclosed=None, created=BEFORE_2_3 + timedelta(days=1), consents=ALL), "Disclosed Vendors")
    assert isinstance(decode_tcf(tc_string(created=BEFORE_2_3 + timedelta(days=1), consents=ALL), NOW), Signal)


def test_a_segment_cut_inside_a_range_entry_is_unknown():
    """The bits that are missing must not be taken for zeros: vendor 17 cut after its 1 would be vendor 16."""
    for groups in ([(17, 17)], [(1, 3), (17, 17)], [(1, 3), (17, 4_113)]):
        bits = disclosed_bits(vendor_ranges(groups, 5_000))
        core, segment = encoded(core_bits(consents=ALL)), encoded(bits)
        assert isinstance(decode_tcf(f"{core}.{segment}", NOW), Signal)
        assert all(isinstance(decode_tcf(f"{core}.{segment[:end]}", NOW), Unknown) for end in range(len(segment)))
        for end in range(3, len(bits)):
            reader = BitReader(segment)
            reader.number, reader.length, reader.head, reader.at = int("1" + bits[:end], 2), end, bits[:end].encode(), 3
            with pytest.raises(NotUnderstood, match="cut off"):
                reader.vendors()


def test_segments_stand_once_and_in_order():
    core, disclosed, publisher = encoded(core_bits()), encoded(disclosed_bits()), encoded(publisher_bits())
    assert isinstance(decode_tcf(f"{core}.{disclosed}.{publisher}", NOW), Signal)
    for wrong in (
        f"{core}.{publisher}.{disclosed}", f"{core}.{disclosed}.{disclosed}", f"{core}.{disclosed}.{publisher}.{publisher}",
        f"{disclosed}.{core}", f"{core}.{core}.{disclosed}", f"{core}.{disclosed}.", f".{core}.{disclosed}", f"{core}..{disclosed}",
    ):
        assert isinstance(decode_tcf(wrong, NOW), Unknown), wrong


@pytest.mark.parametrize("kind", [0, 2, 4, 5, 6, 7])
def test_other_segment_types_are_unknown(kind):
    unknown(f"{tc_string()}.{encoded(number(kind, 3) + vendor_field((1,)))}", f"segment type {kind}")


@pytest.mark.parametrize("text", [
    "", " ", "C", "CP", ".", "..", "null", "undefined", tc_string() + " ", " " + tc_string(), tc_string() + "\n", tc_string() + "=",
    tc_string() + "A" * 4, tc_string().lower(), tc_string() + "\u0430", tc_string().replace("C", "\u0421", 1),
    "C" * (MAX_CHARACTERS + 1), tc_string() + tc_string(), tc_string() + "~" + tc_string(), None, 7, b"CP",
])
def test_what_is_no_tc_string_is_unknown(text):
    assert isinstance(decode_tcf(text, NOW), Unknown)


def test_a_reason_never_carries_the_string():
    """It goes into logs and quarantine; the string may be somebody's."""
    text = tc_string(consents=ALL)
    for at in range(len(text)):
        found = decode_tcf(text[:at] + "!" + text[at + 1 :], NOW)
        assert isinstance(found, Unknown) and text[:6] not in found.reason and "!" not in found.reason
