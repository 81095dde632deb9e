"""What is searched for: every spelling and encoding, found wherever it begins; nothing found where nothing is."""

import base64
import hashlib
import json
import urllib.parse

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.identity.keys import load_keys
from orchestration.rights.errors import RightsError
from orchestration.rights.needles import Searcher, identifier_forms, needles_of
from orchestration.rights.requests import Subject
from orchestration.settings import Settings

NAME = "Žofie O'Hara+7@Post.Example.org"
ENCODED = {
    "plain": NAME.encode(),
    "lower case": NAME.lower().encode(),
    "upper case": NAME.upper().encode(),
    "title case": NAME.title().encode(),
    "UTF-16": NAME.encode("utf-16"),
    "URL": urllib.parse.quote(NAME, safe="").encode(),
    "URL form": urllib.parse.urlencode({"q": NAME}).encode(),
    "JSON": json.dumps({"a": NAME}).encode(),
    "JSON in JSON": json.dumps(json.dumps({"a": NAME})).encode(),
    "JSON, not escaped": json.dumps([NAME], ensure_ascii=False).encode(),
    "base64": base64.b64encode(NAME.encode()),
    "base64, shifted by one": base64.b64encode(b"x" + NAME.encode() + b"yz"),
    "base64, shifted by two": base64.b64encode(b"xy" + NAME.encode() + b"z"),
    "base64url": base64.urlsafe_b64encode(b"\xff\xfe" + NAME.encode()),
    "hex": NAME.encode().hex().encode(),
    "upper hex": NAME.encode().hex().upper().encode(),
    "SQL": NAME.replace("'", "''").encode(),
    "HTML": NAME.replace("'", "&#x27;").encode(),
    "md5": hashlib.md5(NAME.encode()).hexdigest().encode(),
    "sha1, upper": hashlib.sha1(NAME.encode()).hexdigest().upper().encode(),
    "sha256 of lower case": hashlib.sha256(NAME.lower().encode()).hexdigest().encode(),
    "sha256, raw": hashlib.sha256(NAME.encode()).digest(),
    "sha256, base64": base64.b64encode(hashlib.sha256(NAME.encode()).digest()),
}


@pytest.mark.parametrize("encoding", ENCODED)
def test_every_encoding_is_found(encoding):
    searcher = Searcher(identifier_forms(NAME))
    assert searcher.find(b"before \xff" + ENCODED[encoding] + b" after")


def test_somebody_else_is_not_found():
    searcher = Searcher(identifier_forms(NAME))
    other = "Zofie O'Hara+8@Post.Example.org"
    assert not searcher.find(b" ".join([other.encode(), base64.b64encode(other.encode()), other.encode("utf-16")]))


@given(
    needles=st.lists(st.binary(min_size=6, max_size=20), min_size=1, max_size=30, unique=True),
    pieces=st.lists(st.one_of(st.binary(max_size=30), st.integers(0, 29)), max_size=20),
)
@settings(max_examples=300, deadline=None)
def test_the_search_finds_exactly_what_a_plain_search_finds(needles, pieces):
    """It is fast because it looks up hashes; it must not be less sure for that."""
    data = b"".join(needles[piece % len(needles)] if isinstance(piece, int) else piece for piece in pieces)
    expected = sorted(
        (at, needle) for needle in needles for at in range(len(data)) if data[at : at + len(needle)] == needle
    )
    assert sorted(Searcher(needles).find(data)) == expected


@given(
    needles=st.lists(st.from_regex(rb"CU-00[01]{1,7}", fullmatch=True), min_size=1, max_size=40, unique=True),
    rows=st.lists(st.from_regex(rb"CU-00[01]{1,7}", fullmatch=True), max_size=60),
    separator=st.sampled_from([b"", b",", b"\0" * 8]),
    cut=st.integers(0, 20),
)
@settings(max_examples=300, deadline=None)
def test_identifiers_that_are_alike_are_told_apart(needles, rows, separator, cut):
    """All begin alike, end alike, or lie inside one another: what the look-up of both ends must not confuse."""
    data = separator.join([*rows, *needles])[cut:]
    needles = [needle for needle in needles if len(needle) >= 6]
    expected = sorted(
        (at, needle) for needle in needles for at in range(len(data)) if data[at : at + len(needle)] == needle
    )
    assert Searcher(needles).find(data) == expected
    assert Searcher(needles).find(memoryview(b"x" + data)[1:]) == expected


@given(
    needles=st.lists(st.from_regex(rb"[ab]{9,16}", fullmatch=True), min_size=1, max_size=20, unique=True),
    shortest=st.integers(6, 9),
    data=st.from_regex(rb"[ab]{0,200}", fullmatch=True),
)
@settings(max_examples=300, deadline=None)
def test_longer_needles_are_found_at_every_position_and_once(needles, shortest, data):
    """The longer the shortest needle, the fewer positions are looked at: none may fall between them."""
    needles = sorted({*needles, needles[0][:shortest]})
    data += b"".join(needles)
    expected = sorted(
        (at, needle) for needle in needles for at in range(len(data)) if data[at : at + len(needle)] == needle
    )
    assert Searcher(needles).find(data) == expected
    assert Searcher([needle * 2 for needle in needles]).find(data * 2) == sorted(
        (at, needle * 2) for needle in needles for at in range(2 * len(data)) if (data * 2)[at:].startswith(needle * 2)
    )


def test_a_needle_across_two_blocks_is_found():
    for needle in (b"NEEDLE", b"PLANTED-NEEDLE"):
        for at in (*range((1 << 16) - 20, (1 << 16) + 20), *range((1 << 19) - 20, (1 << 19) + 20)):
            assert Searcher([needle]).find(bytes(at) + needle + bytes(50)) == [(at, needle)]


def test_pseudonyms_of_every_zone_are_searched_for(tmp_path):
    keys = load_keys(Settings(home=tmp_path / "home"))
    wanted = needles_of(keys, "CU-00000007")
    for token in Subject.of(keys, "CU-00000007").tokens.values():
        assert token.encode() in wanted
    with pytest.raises(RightsError):
        needles_of(keys, " ")


def test_what_is_too_short_is_not_searched_for_as_text():
    """A customer called 7 would be found in every file; the hashes and pseudonyms still tell."""
    forms = identifier_forms("7")
    assert all(len(form) >= 6 for form in forms)
    assert hashlib.sha256(b"7").hexdigest().encode() in forms
