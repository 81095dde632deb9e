"""GPP strings: the published headers, the sections in their order, and nothing understood by halves."""

import pytest

from orchestration.consent.signals.gpp import decode_gpp, read_header
from orchestration.consent.signals.meaning import PURPOSES, consent_events, findings, states
from orchestration.consent.signals.results import NotUnderstood, Signal, Unknown
from tests.unit.consent.signals.encoder import FIBONACCI, NOW, encoded, gpp_string, header, number, tc_string, us_section

TCF = tc_string(consents=(1, 2))


def unknown(text: str, reason: str) -> None:
    found = decode_gpp(text, NOW)
    assert isinstance(found, Unknown), found
    assert reason in found.reason


@pytest.mark.parametrize(("text", "ids"), [
    ("DBABM", (2,)), ("DBACNY", (2, 6)), ("DBABjw", (5, 6)),       # GPP specification, Header Examples 1 to 3
    ("DBACNYA", (2, 6)),                                           # the same, URL passing: padded to whole bytes
    ("DBABMA", (2,)), ("DBABMAAA", (2,)),                          # whole bytes, and 24 bits
])
def test_published_headers_are_read(text, ids):
    assert read_header(text, len(ids)) == ids


def test_headers_of_hand_made_bits_are_read():
    assert read_header(header(7), 1) == (7,)
    assert read_header(header(2, 6, 7, 8, 10, 12, 13, 16), 8) == (2, 6, 7, 8, 10, 12, 13, 16)
    group = encoded("000011" "000001" + number(1, 12) + "1" + FIBONACCI[7] + FIBONACCI[16])
    assert read_header(group, 17) == tuple(range(7, 24))


def test_the_published_strings_are_understood_as_far_as_their_sections_are():
    """Their TC string is of TCF v2.0 (policy version 2) and in the third stands for a Canadian section, which is not read."""
    example = "CPXxRfAPXxRfAAfKABENB-CgAAAAAAAAAAYgAAAAAAAA"
    unknown(f"DBABM~{example}", "section 2: TCF policy version 2")
    unknown(f"DBACNY~{example}~1YNN", "section 2: TCF policy version 2")
    unknown(f"DBABjw~{example}~1YNN", "section 5: tcfcav1")


def test_a_string_of_a_consent_management_platform_is_read():
    """As such a platform writes it for someone who made no choice: notices given, nobody opted out, no GPC."""
    found = decode_gpp("DBABLA~BVQqAAAAAgA.QA", NOW)
    assert [part.kind for part in found.sections] == ["usnat"]
    fields = found.sections[0].fields
    assert (fields["SaleOptOutNotice"], fields["SaleOptOut"], fields["MspaCoveredTransaction"], fields["Gpc"]) == (1, 2, 2, False)
    assert decode_gpp("DBABLA~BVQqAAAAAgA.YA", NOW).sections[0].fields["Gpc"] is True


@pytest.mark.parametrize("pad_to", [6, 8, 24])
def test_sections_are_read_in_the_header_s_order(pad_to):
    parts = {2: tc_string(consents=(1, 2), pad_to=pad_to), 6: "1YNN", 7: us_section((7, 2), gpc="1", pad_to=pad_to),
             8: us_section((8, 1), sale=1, pad_to=pad_to)}
    found = decode_gpp(gpp_string(parts, pad_to), NOW)
    assert isinstance(found, Signal), found
    assert [part.kind for part in found.sections] == ["tcfeuv2", "uspv1", "usnat", "usca"]
    assert found.fields["SectionIds"] == (2, 6, 7, 8)
    assert found.sections[0].fields["PurposesConsent"] == (1, 2)
    assert found.sections[3].fields["SaleOptOut"] == 1


@pytest.mark.parametrize(("text", "reason"), [
    (f"{header(8)}~1YNN", "section 8"),                                           # the header names another section
    (f"{header(6, 8)}~{us_section((8, 1))}~1YNN", "section 6"),                   # the right sections in the wrong order
    (f"{header(6)}~1YNN~1YNN", "lists 1 sections and 2 follow"), (f"{header(6, 7)}~1YNN", "more than the 1"),
    (f"{header(6)}", "more than the 0"), (header(), "lists no section"), (f"{header()}~", "lists no section"),
    (f"{header(6)}~", "section 6"), (f"{header(6)}~1YNN~", "lists 1 sections and 2 follow"), (f"~{header(6)}~1YNN", "empty segment"),
    (f"{header(6, kind=2)}~1YNN", "type 2"), (f"{header(6, version=2)}~1YNN", "version 2"), (f"{header(6, version=0)}~1YNN", "version 0"),
    (f"{header(6)}AA~1YNN", "bits follow"), (f"{header(6)}.{header(6)}~1YNN", "base64url"), (f"{header(6)}~1YN", "section 6"),
    (f"{encoded('000011000001' + number(2, 12) + '0' + FIBONACCI[6])}~1YNN", ""),  # announces two, lists one
    (f"{header(7)}~{us_section((7, 1), version=3)}", "version 3 of section 7"),
    (f"{header(7)}~{us_section((7, 1), version=2)}", "cut off"),                  # version 1's fields under version 2
    (f"{header(7)}~{us_section((7, 2), version=1)}", ""),
    (f"{header(2)}~{TCF}.{us_section((7, 1))}", ""),
    ("DBABLA~BVQqAAAAAgA.QA~", "lists 1 sections and 2 follow"), ("DBABLA~", "section 7"), ("DBABLA", "more than the 0"), ("D", "cut off"), ("DB", "cut off"),
])
def test_malformed_strings_are_unknown(text, reason):
    found = decode_gpp(text, NOW)
    assert isinstance(found, Unknown), found
    assert reason in found.reason


@pytest.mark.parametrize("section_id", [1, 3, 4, 5, 24, 25, 26, 27, 28, 40])
def test_sections_without_a_final_published_layout_are_unknown(section_id):
    """Even with a text that another section would read: what the id means decides."""
    head = encoded("000011" "000001" + number(1, 12) + "0" + FIBONACCI[section_id])
    assert read_header(head, 1) == (section_id,)
    unknown(f"{head}~{us_section((23, 1))}", f"section {section_id}: ")


def test_one_section_that_is_not_understood_makes_all_unknown():
    """A grant must not be read beside a section that may refuse it."""
    granting, broken = tc_string(consents=range(1, 12)), us_section((7, 1), sale=3, gpc="1")
    assert isinstance(decode_gpp(gpp_string({2: granting, 7: us_section((7, 1), gpc="1")}), NOW), Signal)
    unknown(gpp_string({2: granting, 7: broken}), "section 7")


# Header bits by hand: type 3, version 1, two sections, each a single one: 0 and the Fibonacci code of its distance.
SIX_SEVEN = "DBACTY"        # 000011 000001 000000000010 | 0 10011 (6) | 0 11 (1 further) | 000
SIX_TWENTYFOUR = "DBACTCw"  # the same with 0 0001011 (18 = 5 + 13 further) | 0000
NO_GPC, GPC = "BVQqAAAAAgA.QA", "BVQqAAAAAgA.YA"      # usnat as above


@pytest.mark.parametrize(("text", "refused", "reason"), [
    (f"{SIX_SEVEN}~1YYN~{GPC[:5]}", {"ads_sale_share": "denied"}, "section 7"),          # an opt-out beside a section cut off
    (f"{SIX_SEVEN}~1YYN~", {"ads_sale_share": "denied"}, "section 7"),
    (f"{SIX_SEVEN}~1YYN~{NO_GPC}x", {"ads_sale_share": "denied"}, "section 7"),
    (f"{SIX_TWENTYFOUR}~1YYN~BAAA", {"ads_sale_share": "denied"}, "section 24: usmd is published as a draft"),
    (f"{SIX_SEVEN}~1Y~{GPC}", {"ads_sale_share": "gpc_on"}, "section 6"),                 # the signal behind the fault
    (f"{SIX_SEVEN}~1YNN~{GPC[:5]}", {}, "section 7"),                                    # nobody refused anything
    (f"{SIX_SEVEN}~1YY~{GPC[:5]}", {}, "section 6: a US Privacy string has four characters; section 7: cut off"),
    (f"DBACTYAAA~1YYN~{NO_GPC}", {}, "bits follow"),                                      # not the header: nothing is known
    (f"{SIX_SEVEN}~1YYN", {}, "more than the 1"), (f"{SIX_SEVEN}~1YYN~{GPC}~{GPC}", {}, "lists 2 sections and 3 follow"),
])
def test_a_refusal_is_not_lost_because_of_its_neighbour(text, refused, reason):
    found = decode_gpp(text, NOW)
    assert isinstance(found, Unknown) and reason in found.reason
    assert {finding.purpose: finding.action for finding in findings(found)} == refused
    expected = {purpose: "denied" if purpose in refused else "unknown" for purpose in PURPOSES}
    assert {purpose: state for purpose, (state, _) in states(found, NOW).items()} == expected
    assert {event.purpose: event.action for event in consent_events(found, NOW)} == refused


def test_a_refusal_of_a_readable_tc_section_stands_beside_a_section_that_is_not():
    """Purpose 1 alone is no grant; with all purposes the same section grants nothing, since its neighbour may refuse."""
    broken = us_section((7, 1), sale=3)
    partly = decode_gpp(gpp_string({2: tc_string(consents=(1, 5, 6)), 7: broken}), NOW)
    assert [state for state, _ in states(partly, NOW).values()] == ["denied", "unknown", "denied", "unknown", "unknown"]
    wholly = decode_gpp(gpp_string({2: tc_string(consents=range(1, 12)), 7: broken}), NOW)
    assert findings(wholly) == ()


def test_header_reading_is_not_confused_by_what_was_read_before():
    """Headers are remembered; the number of sections that follow is part of what is remembered."""
    assert read_header("DBACNY", 2) == (2, 6)
    for parts in (0, 1, 3):
        with pytest.raises(NotUnderstood):
            read_header("DBACNY", parts)
