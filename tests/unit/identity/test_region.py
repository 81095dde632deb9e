"""Regions: coarse, and never the whole postal code."""

import re

import duckdb
import pytest
from hypothesis import given
from hypothesis import settings as trials
from hypothesis import strategies as st

from orchestration.identity.region import region_sql

ENGINE = duckdb.connect()
QUERY = (
    f"select {region_sql('region', 'postal_code')} "
    "from (select ?::varchar as region, ?::varchar as postal_code)"
)


def region(given_region: str | None, postal_code: str | None) -> str | None:
    return ENGINE.execute(QUERY, [given_region, postal_code]).fetchone()[0]


@pytest.mark.parametrize(
    ("given_region", "postal_code", "expected"),
    [
        ("Bavaria", "80331", "Bavaria"),
        (" Bavaria ", None, "Bavaria"),
        (None, "80331", "postal:80"),
        ("", "80331", "postal:80"),
        ("  ", " 80331 ", "postal:80"),
        (None, "CZ-110 00", "postal:11"),
        (None, "D 10115", "postal:10"),
        (None, "sw1a 1aa", "postal:SW"),
        (None, "1-0", None),
        (None, "10", None),
        (None, "7", None),
        (None, " - ", None),
        (None, "", None),
        (None, None, None),
        ("Praha 110 00", "11000", "postal:11"),
        ("11000", "11000", "postal:11"),
        ("10", "10", None),
        ("CA", "94107", "CA"),
    ],
)
def test_region_text_first_then_two_characters(
    given_region: str | None, postal_code: str | None, expected: str | None
) -> None:
    assert region(given_region, postal_code) == expected


@trials(deadline=None)
@given(
    given_region=st.none() | st.text(max_size=12),
    postal_code=st.none() | st.text(st.sampled_from("0123456789ABCxyzé -."), max_size=10),
)
def test_the_whole_code_never_comes_out(given_region: str | None, postal_code: str | None) -> None:
    """With any region text, even one made of the code itself."""
    plain = re.sub(r"[ .-]", "", postal_code or "").upper()
    for text in (given_region, postal_code, f"Town {postal_code}"):
        made = region(text, postal_code)
        if made is not None and made.startswith("postal:"):
            assert len(made) == len("postal:") + 2 and len(plain) > 2
        elif (
            made is not None
            and len(plain) > 2
            and not re.match(r"[A-Z]{1,3}[ -]", (postal_code or "").strip().upper())
        ):
            assert plain not in re.sub(r"[ .-]", "", made).upper()
