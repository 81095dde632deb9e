"""US Privacy strings and Global Privacy Control: short formats of which every other text is no signal."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.consent.signals.gpc import decode_gpc, decode_gpc_support
from orchestration.consent.signals.results import Signal, Unknown
from orchestration.consent.signals.usp import decode_usp

PUBLISHED = {"1YNN": "N", "1NYY": "Y", "1---": "-", "1-Y-": "Y"}     # US Privacy String v1.0, Examples


@pytest.mark.parametrize(("text", "opt_out"), PUBLISHED.items())
def test_the_published_strings_are_read(text, opt_out):
    found = decode_usp(text)
    assert found.fields == {"Version": 1, "Notice": text[1], "OptOutSale": opt_out, "LspaCovered": text[3]}


def test_the_opt_out_is_unknown_only_where_the_law_does_not_apply():
    """All 27 strings of the three answers: those with - in the middle are refused, but for 1---."""
    read = {"".join(("1", *answers)) for answers in product("YN-", repeat=3)}
    understood = {text for text in read if isinstance(decode_usp(text), Signal)}
    assert understood == {text for text in read if text[2] != "-"} | {"1---"}


@given(st.text(max_size=6) | st.text("012YNyn- ", min_size=3, max_size=5))
def test_everything_else_is_unknown(text):
    allowed = len(text) == 4 and text[0] == "1" and set(text[1:]) <= set("YN-") and (text[2] != "-" or text == "1---")
    assert isinstance(decode_usp(text), Signal) == allowed


@pytest.mark.parametrize("text", ["1yyn", "2YYN", "0YYN", "1YYN\n", "1YYN ", " 1YYN", "1YY", "1YYNN", "\uff11YYN", "1\u03a5YN", None, 1])
def test_near_misses_are_unknown(text):
    """Small letters, another version, white space, look-alikes of other alphabets."""
    assert isinstance(decode_usp(text), Unknown)


def test_exactly_1_is_the_signal():
    assert decode_gpc("1") == Signal("gpc", {"Gpc": True})


@given(st.text(max_size=4) | st.sampled_from(["0", "1 ", " 1", "01", "11", "1.0", "true", "1,1", "1\n", "\uff11", "\u00b9", "+1", "1;q=1", ""]))
def test_any_other_header_value_is_no_signal(text):
    """GPC specification: ignored, as if the header had not been sent. Not a grant either."""
    assert isinstance(decode_gpc(text), Signal) == (text == "1")


@pytest.mark.parametrize(("text", "fields"), [
    ('{"gpc": true, "lastUpdate": "2025-04-15"}', {"gpc": True, "lastUpdate": "2025-04-15"}),     # the specification's example
    ('{"gpc": false}', {"gpc": False, "lastUpdate": None}),
    ('{"gpc": true, "lastUpdate": "2025-04-15T10:00:00.5Z", "version": 1}', {"gpc": True, "lastUpdate": "2025-04-15T10:00:00.5Z"}),
    ('{"gpc": true, "lastUpdate": "2025-02-30"}', {"gpc": True, "lastUpdate": None}),             # then only the date is unknown
    ('{"gpc": true, "lastUpdate": "15 April 2025"}', {"gpc": True, "lastUpdate": None}),
    ('{"gpc": true, "lastUpdate": "2025-W16"}', {"gpc": True, "lastUpdate": None}),
    ('{"gpc": true, "lastUpdate": 2025}', {"gpc": True, "lastUpdate": None}),
])
def test_a_support_resource_is_read(text, fields):
    assert decode_gpc_support(text) == Signal("gpc_support", fields)


@pytest.mark.parametrize("text", [
    "", "{}", "[]", "true", '{"gpc": 1}', '{"gpc": "true"}', '{"gpc": null}', '{"GPC": true}', '[{"gpc": true}]', '{"gpc": true', '{"gpc": NaN}',
    '{"gpc": true, "gpc": false}', '{"gpc": true} x', "{'gpc': true}", '{"gpc": true, "x": Infinity}', "[" * 20_000, '{"gpc": true,}',
    '{"gpc": true, "note": "\u00e9"}',
])
def test_other_resources_leave_support_unknown(text):
    assert isinstance(decode_gpc_support(text), Unknown)
