"""Bits as the specifications print them, and nothing read that is not there."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.consent.signals.bits import BitReader, bits_of
from orchestration.consent.signals.results import NotUnderstood
from tests.unit.consent.signals.encoder import ALPHABET, FIBONACCI, encoded, fibonacci, raw_bits


@given(st.text(ALPHABET, min_size=1, max_size=60))
def test_every_character_is_six_bits(text):
    """Also where the count is no multiple of four characters, which base64 of whole bytes never is."""
    assert f"{bits_of(text):b}" == "1" + raw_bits(text) and BitReader(text).take(6 * len(text)).decode() == raw_bits(text)


@pytest.mark.parametrize("text", ["", "AB=", "AB+", "A/B", "A B", "AB\n", "\nAB", "A.B", "AÄ", "A\x00"])
def test_other_characters_are_refused(text):
    with pytest.raises(NotUnderstood):
        bits_of(text)


@pytest.mark.parametrize(("value", "code"), FIBONACCI.items())
def test_fibonacci_codes_are_read(value, code):
    reader = BitReader(encoded(code + "01"))    # what follows a code is not part of it
    assert (reader.fibonacci(), reader.at) == (value, len(code))
    assert fibonacci(value) == code     # the tests' own coding of other numbers


@pytest.mark.parametrize("code", ["", "0", "10", "0101010101", "0" * 17 + "11"])
def test_fibonacci_codes_without_end_or_beyond_all_ids_are_refused(code):
    with pytest.raises(NotUnderstood):
        BitReader(encoded(code + "0" * 6)).fibonacci()


def test_the_published_fibonacci_range_is_read():
    """GPP specification, data type Range (Fibonacci): 3, 5, 6, 7, 8."""
    assert BitReader(encoded("000000000010" "0" "0011" "1" "011" "0011")).fibonacci_range(9) == (3, 5, 6, 7, 8)


def test_a_group_that_names_more_ids_than_can_be_there_costs_nothing():
    """A few characters could otherwise ask for a list of thousands of sections."""
    with pytest.raises(NotUnderstood, match="more than the 2"):
        BitReader(encoded("000000000001" "1" "11" "00000000000000011")).fibonacci_range(2)


def test_the_published_integer_range_is_read():
    """GPP specification, data type Range (Int): 3, 5, 6, 7, 8; in any order, says its note."""
    bits = "000000000010" "0" "0000000000000011" "1" "0000000000000101" "0000000000001000"
    assert list(BitReader(encoded(bits)).vendor_ranges(8)) == [3, 5, 6, 7, 8]
    turned = "000000000010" "1" "0000000000000101" "0000000000001000" "0" "0000000000000011"
    assert list(BitReader(encoded(turned)).vendor_ranges(8)) == [3, 5, 6, 7, 8]


@pytest.mark.parametrize(("used", "pad_to"), [(used, pad_to) for used in range(1, 50) for pad_to in (6, 8, 24)])
def test_three_paddings_are_accepted_and_no_fourth(used, pad_to):
    """Of 6, 8 and 24 bits; a character more, a character less or one padding bit set is no padding."""
    text = encoded("1" * used, pad_to)
    reader = BitReader(text)
    reader.take(used)
    reader.finish()
    lengths = {len(encoded("1" * used, each)) for each in (6, 8, 24)}
    for count in range(1, 5):
        longer = BitReader(text + "A" * count)
        longer.take(used)
        if len(text) + count not in lengths:
            with pytest.raises(NotUnderstood, match="follow the last field"):
                longer.finish()
    if 6 * len(text) > used:
        flipped = BitReader(encoded(raw_bits(text)[:-1] + "1"))
        flipped.take(used)
        with pytest.raises(NotUnderstood, match="padding is not zero"):
            flipped.finish()


@given(st.text(ALPHABET, min_size=1, max_size=8), st.integers(0, 80))
def test_a_bit_that_is_not_there_is_never_read(text, count):
    """The fault of the one public Python library: an empty slice read as a set bit."""
    reader = BitReader(text)
    if count > 6 * len(text):
        with pytest.raises(NotUnderstood, match="cut off"):
            reader.take(count)
    else:
        assert reader.take(count).decode() == raw_bits(text)[:count]
