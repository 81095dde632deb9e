"""Ages: exact birthdays, 29 February, the country's own age of consent, protection of what is unknown."""

from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pytest
from hypothesis import example, given
from hypothesis import settings as trials
from hypothesis import strategies as st

from orchestration.identity.age import (
    AGE_BANDS,
    age_band_sql,
    country_codes,
    min_ages,
    min_ages_of,
    self_consent_sql,
    utc_date,
)
from orchestration.identity.errors import ReferenceDataError

ENGINE = duckdb.connect()
DAYS = st.dates(date(1900, 1, 1), date(2060, 12, 31))


def evaluate(
    birth_date: date | None, today: date, min_age: int | None = 16, customer_type: str | None = "individual"
) -> tuple[str, bool]:
    """Band and capacity as the engine computes them."""
    as_of = datetime(today.year, today.month, today.day, 12)
    row = ENGINE.execute(
        f"select {age_band_sql('birth_date', 'customer_type', as_of)}, "
        f"{self_consent_sql('birth_date', 'customer_type', 'min_age', as_of)} "
        "from (select ?::date as birth_date, ?::varchar as customer_type, ?::integer as min_age)",
        [birth_date, customer_type, min_age],
    ).fetchone()
    return row


def birthday(birth_date: date, age: int) -> date:
    """The day on which someone completes that many years; 1 March for 29 February in a common year."""
    try:
        return birth_date.replace(year=birth_date.year + age)
    except ValueError:
        return date(birth_date.year + age, 3, 1)


@trials(deadline=None)
@given(birth_date=DAYS, today=DAYS, min_age=st.integers(10, 21))
@example(date(2008, 2, 29), date(2026, 2, 28), 18)
@example(date(2008, 2, 29), date(2026, 3, 1), 18)
@example(date(2008, 2, 29), date(2024, 2, 29), 16)
def test_band_and_capacity_follow_the_calendar(birth_date: date, today: date, min_age: int) -> None:
    if birth_date > today:
        expected: tuple[str, bool] = ("unknown", False)
    else:
        reached = [birthday(birth_date, limit) <= today for limit in (13, 16, 18)]
        expected = (AGE_BANDS[sum(reached)], birthday(birth_date, min_age) <= today)
    assert evaluate(birth_date, today, min_age) == expected


@pytest.mark.parametrize(
    ("birth_date", "today", "band"),
    [
        (date(2013, 11, 2), date(2026, 11, 1), "<13"),
        (date(2013, 11, 1), date(2026, 11, 1), "13-15"),
        (date(2010, 11, 2), date(2026, 11, 1), "13-15"),
        (date(2010, 11, 1), date(2026, 11, 1), "16-17"),
        (date(2008, 11, 2), date(2026, 11, 1), "16-17"),
        (date(2008, 11, 1), date(2026, 11, 1), "18+"),
        (date(2026, 11, 1), date(2026, 11, 1), "<13"),
        (date(2008, 2, 29), date(2026, 2, 28), "16-17"),
        (date(2008, 2, 29), date(2026, 3, 1), "18+"),
        (date(2008, 2, 29), date(2024, 2, 28), "13-15"),
        (date(2008, 2, 29), date(2024, 2, 29), "16-17"),
    ],
)
def test_a_band_changes_on_the_birthday(birth_date: date, today: date, band: str) -> None:
    assert evaluate(birth_date, today)[0] == band


def test_what_is_unknown_is_protected() -> None:
    assert evaluate(None, date(2026, 11, 1)) == ("unknown", False)
    assert evaluate(date(2026, 11, 2), date(2026, 11, 1)) == ("unknown", False)
    assert evaluate(date(2011, 11, 1), date(2026, 11, 1), min_age=None) == ("13-15", False)
    assert evaluate(date(2010, 11, 1), date(2026, 11, 1), min_age=None) == ("16-17", True)
    assert evaluate(None, date(2026, 11, 1), customer_type=None) == ("unknown", False)


@pytest.mark.parametrize("birth_date", [None, date(2020, 1, 1), date(2030, 1, 1)])
def test_a_firm_is_of_age(birth_date: date | None) -> None:
    assert evaluate(birth_date, date(2026, 11, 1), customer_type="corporate") == ("18+", True)


def test_the_day_is_taken_in_utc() -> None:
    assert utc_date(datetime(2026, 11, 1, 23, 30)) == date(2026, 11, 1)
    assert utc_date(datetime(2026, 11, 1, 23, 30, tzinfo=UTC)) == date(2026, 11, 1)
    assert utc_date(datetime(2026, 11, 2, 1, 30, tzinfo=timezone(timedelta(hours=2)))) == date(2026, 11, 1)


def test_countries_are_found_in_any_spelling() -> None:
    spellings = [
        "CZ",
        "cze",
        " Czech Republic ",
        "Czechia",
        "Germany",
        "U.S.A.",
        "us",
        "United States",
        "Atlantis",
        "",
        None,
    ]
    table = min_ages_of(spellings, datetime(2026, 11, 1))
    found = dict(zip(table["country"].to_pylist(), table["min_age"].to_pylist(), strict=True))
    assert found == {
        "CZ": 15, "cze": 15, " Czech Republic ": 15, "Czechia": 15, "Germany": 16, "U.S.A.": 13, "us": 13,
        "United States": 13, "Atlantis": 16, "": 16,
    }  # fmt: skip


def seeds(folder: Path, ages: str, aliases: str = "alias,iso2\nczech republic,CZ\n") -> Path:
    (folder / "age_of_consent.csv").write_text(
        "country_code,min_age,valid_from,valid_to,source\n" + ages, encoding="utf-8"
    )
    (folder / "country_aliases.csv").write_text(aliases, encoding="utf-8")
    return folder


def test_the_row_in_force_on_the_day_counts(tmp_path: Path) -> None:
    folder = seeds(tmp_path, "CZ,15,2019-04-24,2027-01-01,act\nCZ,16,2018-05-25,2019-04-24,gdpr\nCZ,14,2027-01-01,,bill\n")
    for day, age in (
        ("2018-05-24", None),
        ("2018-05-25", 16),
        ("2019-04-23", 16),
        ("2019-04-24", 15),
        ("2027-01-01", 14),
    ):
        assert min_ages(datetime.fromisoformat(day), folder).get("CZ") == age
    unknown_yet = min_ages_of(["Czech Republic"], datetime(2018, 1, 1), folder)
    assert unknown_yet["min_age"].to_pylist() == [16]


@pytest.mark.parametrize(
    ("ages", "cause"),
    [
        ("CZ,fifteen,2018-05-25,,x\n", "line 2"),
        ("CZ,15,25.5.2018,,x\n", "line 2"),
        ("CZ,15,2018-05-25,never,x\n", "line 2"),
        ("CZ,15,2018-05-25,2018-05-25,x\n", "line 2"),
        ("DE,16,2018-05-25,,x\nCZ,150,2018-05-25,,x\n", "line 3"),
        ("CZ,0,2018-05-25,,x\n", "line 2"),
        ("CZ,15,2018-05-25,,x\nCZ,16,2018-05-25,,y\n", "two ages"),
        ("CZ,15,2018-05-25,2020-01-02,x\nCZ,16,2020-01-01,,y\n", "two ages"),
    ],
)
def test_a_doubtful_age_seed_stops_the_run(tmp_path: Path, ages: str, cause: str) -> None:
    with pytest.raises(ReferenceDataError, match=cause):
        min_ages(datetime(2026, 1, 1), seeds(tmp_path, ages))


def test_a_missing_seed_or_column_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(ReferenceDataError, match="is missing"):
        min_ages(datetime(2026, 1, 1), tmp_path)
    (tmp_path / "country_aliases.csv").write_text("alias,code\nx,CZ\n", encoding="utf-8")
    with pytest.raises(ReferenceDataError, match="column iso2"):
        country_codes(tmp_path)
    (tmp_path / "country_aliases.csv").write_bytes(b"alias,iso2\n\xff\xfe,CZ\n")
    with pytest.raises(ReferenceDataError, match="UTF-8"):
        country_codes(tmp_path)


def test_a_spelling_of_two_countries_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(ReferenceDataError, match="two countries"):
        country_codes(seeds(tmp_path, "", "alias,iso2\nkorea,KR\nKorea,KP\n"))


def test_a_law_that_ended_leaves_the_default_and_the_default_protects_most(tmp_path: Path) -> None:
    folder = seeds(tmp_path, "CZ,15,2019-04-24,2025-01-01,act\n")
    assert min_ages(datetime(2024, 12, 31), folder) == {"CZ": 15}
    assert min_ages(datetime(2025, 1, 1), folder) == {}


def test_the_seed_has_denmarks_two_ages() -> None:
    """A grant of 2023 is judged by the age of 2023: Denmark raised it from 13 to 15 in 2024."""
    assert min_ages(datetime(2023, 12, 31))["DK"] == 13
    assert min_ages(datetime(2024, 1, 1))["DK"] == 15
