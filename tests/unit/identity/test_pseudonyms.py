"""Pseudonyms: keyed, per zone, stable, equal to an independent calculation."""

import base64
import hmac
import re
import unicodedata
from itertools import combinations

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st

from orchestration.identity.keys import MasterKeys
from orchestration.identity.pseudonyms import PREFIXES, few_tokens, hmac_sha256, token, tokens, tokens_by_zone

KEYS = MasterKeys(1, b"k" * 32, bytes(range(32)), b"f" * 32)
# Letters, marks, digits, punctuation, symbols, spaces; no control, surrogate or unassigned code points.
TEXT = st.text(st.characters(exclude_categories=("C", "Zl", "Zp")), max_size=12)


def reference(zone: str, value: str | None) -> str | None:
    """The definition, written with the standard library one value at a time."""
    plain = unicodedata.normalize("NFC", value.strip()) if value else ""
    if not plain:
        return None
    digest = hmac.new(KEYS.pseudonym, f"{zone}\0{plain}".encode(), "sha256").digest()
    return PREFIXES[zone] + base64.urlsafe_b64encode(digest[:16]).decode().rstrip("=")


@pytest.mark.parametrize(
    ("zone", "value", "expected"),
    [
        # printf 'raw\0C-1001' | openssl dgst -sha256 -mac HMAC -macopt hexkey:000102…1f -binary | head -c 16
        # | base64
        ("raw", "C-1001", "wQocBn2Pzk6Z96Dn0tJ0uQ"),
        ("risk", "C-1001", "risk_UfAhSvOau8N7lvMbT3jz6A"),
        ("audience", "C-1001", "aud_KLVp1RdBcCYwccIldo6kgA"),
        ("raw", "José", "R92PR-fO_kZRaKJhqudITA"),
    ],
)
def test_tokens_equal_openssl(zone: str, value: str, expected: str) -> None:
    assert token(KEYS, zone, value) == expected


@trials(deadline=None)
@given(
    key=st.binary(min_size=1, max_size=64),
    label=st.binary(max_size=20),
    messages=st.lists(st.binary(max_size=200)),
)
def test_the_written_out_hmac_is_hmac(key: bytes, label: bytes, messages: list[bytes]) -> None:
    expected = b"".join(hmac.digest(key, label + b"\0" + message, "sha256")[:16] for message in messages)
    assert hmac_sha256(key, messages, label, 16) == expected


@trials(deadline=None)
@given(
    values=st.lists(st.none() | TEXT, max_size=30),
    repeats=st.integers(1, 3),
    zone=st.sampled_from(list(PREFIXES)),
)
def test_a_batch_equals_one_value_at_a_time(values: list[str | None], repeats: int, zone: str) -> None:
    values = values * repeats
    made = tokens(KEYS, zone, pa.array(values, pa.string()))
    assert made.to_pylist() == [reference(zone, value) for value in values]


@trials(deadline=None)
@given(st.lists(TEXT.filter(str.strip), min_size=1, max_size=20))
def test_no_two_zones_share_a_token(values: list[str]) -> None:
    made = tokens_by_zone(KEYS, list(PREFIXES), pa.array(values))
    stripped = [
        {token[len(prefix) :] for token in zone.to_pylist()} for zone, prefix in zip(made, PREFIXES.values(), strict=True)
    ]
    assert all(not one & other for one, other in combinations(stripped, 2))


@trials(deadline=None)
@given(st.lists(TEXT.filter(str.strip), unique_by=lambda text: unicodedata.normalize("NFC", text.strip())))
def test_different_customers_get_different_tokens_of_one_shape(values: list[str]) -> None:
    made = tokens(KEYS, "raw", pa.array(values, pa.string())).to_pylist()
    assert len(set(made)) == len(values)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{22}", one) for one in made)


def test_another_key_gives_other_tokens() -> None:
    other = MasterKeys(1, KEYS.kek, bytes(32), KEYS.fingerprint)
    assert token(KEYS, "raw", "C-1001") != token(other, "raw", "C-1001")


@pytest.mark.parametrize(
    "spelling", ["Jose\N{COMBINING ACUTE ACCENT}", "  José", "José\t\n", "\N{NO-BREAK SPACE}José"]
)
def test_encodings_of_one_identifier_are_one_customer(spelling: str) -> None:
    assert token(KEYS, "raw", spelling) == token(KEYS, "raw", "José")


@pytest.mark.parametrize("other", ["jose", "JOSÉ", "Jose", "José 2", "J osé"])
def test_different_identifiers_stay_different(other: str) -> None:
    assert token(KEYS, "raw", other) != token(KEYS, "raw", "José")


def test_null_and_blank_have_no_token() -> None:
    given_values = pa.array([None, "", "  ", "\N{EM SPACE}", "a"])
    assert tokens(KEYS, "raw", given_values).to_pylist()[:4] == [None] * 4
    assert tokens(KEYS, "raw", given_values.slice(4)).to_pylist() == [token(KEYS, "raw", "a")]
    assert tokens(KEYS, "raw", pa.array([], pa.string())).to_pylist() == []
    with pytest.raises(ValueError, match="blank"):
        token(KEYS, "raw", " ")


def test_an_unknown_zone_is_refused_without_the_value() -> None:
    with pytest.raises(ValueError, match="unknown zone 'marketing'") as caught:
        token(KEYS, "marketing", "planted-value")
    assert "planted" not in str(caught.value)


def test_tokens_arrive_in_the_engine_as_they_are() -> None:
    """The token array is built from raw buffers; an engine that reads it must see the same strings."""
    table = pa.table({"token": tokens(KEYS, "risk", pa.array([str(number) for number in range(5000)]))})
    engine = duckdb.connect()
    engine.register("made", table)
    row = engine.execute(
        "select count(distinct token), min(length(token)), max(length(token)) from made"
    ).fetchone()
    assert row == (5000, 27, 27)


@given(st.lists(TEXT.filter(lambda text: text.strip()), max_size=4))
def test_the_quick_way_for_a_few_makes_the_same_pseudonyms(values):
    """The online service and the landing must find the same person."""
    zones = ["raw", "risk", "audience"]
    columns = [column.to_pylist() for column in tokens_by_zone(KEYS, zones, pa.array(values, pa.string()))]
    assert few_tokens(KEYS, zones, values) == list(zip(*columns, strict=True))


@pytest.mark.parametrize("value", ["", "  ", "\u2003"])
def test_the_quick_way_names_nobody_by_a_blank(value):
    with pytest.raises(ValueError, match="blank"):
        few_tokens(KEYS, ["raw"], ["a", value])
