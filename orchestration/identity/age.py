"""From a birth date to an age band, and to whether the person may consent alone.

A band alone does not decide who may consent: in the European Union the age is 13, 14, 15 or 16 by country
(GDPR art. 8), so both leave the vault. They are made anew in each run for its `as_of`, a date in UTC; a
stored «band valid until» would be a birth date in disguise. Someone born on 29 February comes of age on 1
March in a common year, the later of the two days. What is unknown counts as the more protected case: no birth
date as `unknown` without capacity, no country as 16 years.

Belongs here: ages and their reference seeds. Does not belong here: what a band may be used for (the consent
policy).
"""

import csv
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pyarrow as pa

from orchestration.identity.errors import ReferenceDataError
from orchestration.settings import DBT_PROJECT_DIR

REFERENCE_DIR = DBT_PROJECT_DIR / "seeds" / "reference"
AGE_BANDS = ("<13", "13-15", "16-17", "18+", "unknown")
DEFAULT_MIN_AGE = 16


def utc_date(as_of: datetime) -> date:
    """The day of an instant in UTC; one without a zone is UTC already."""
    return (as_of.astimezone(UTC) if as_of.tzinfo else as_of).date()


def _age_sql(birth_date: str, today: date) -> str:
    """Completed years on that day; negative for a birth date after it."""
    return (
        f"({today.year} - year({birth_date}) "
        f"- if(month({birth_date}) * 100 + day({birth_date}) > {today.month * 100 + today.day}, 1, 0))"
    )


def age_band_sql(birth_date: str, customer_type: str, as_of: datetime) -> str:
    """SQL expression for the age band, made of two SQL expressions; firms are `18+`."""
    today = utc_date(as_of)
    age = _age_sql(birth_date, today)
    return (
        f"case when {customer_type} = 'corporate' then '18+' "
        f"when {birth_date} is null or {birth_date} > date '{today}' then 'unknown' "
        f"when {age} < 13 then '<13' when {age} < 16 then '13-15' when {age} < 18 then '16-17' else '18+' end"
    )


def self_consent_sql(birth_date: str, customer_type: str, min_age: str, as_of: datetime) -> str:
    """SQL expression, never null: may the person consent alone, given the country's age; firms may."""
    today = utc_date(as_of)
    return (
        f"coalesce({customer_type} = 'corporate', false) or coalesce({birth_date} <= date '{today}' "
        f"and {_age_sql(birth_date, today)} >= coalesce({min_age}, {DEFAULT_MIN_AGE}), false)"
    )


def _rows(path: Path, needed: Iterable[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and fields of each row of a seed that has the needed columns."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            missing = sorted(set(needed) - set(reader.fieldnames or ()))
            if missing:
                raise ReferenceDataError(f"{path}: the column {missing[0]} is missing")
            for row in reader:
                yield reader.line_num, {name: (row[name] or "").strip() for name in needed}
    except FileNotFoundError:
        raise ReferenceDataError(f"{path} is missing; it is part of the project, restore it") from None
    except UnicodeDecodeError:
        raise ReferenceDataError(f"{path} is not UTF-8") from None


def min_ages(as_of: datetime, reference: Path = REFERENCE_DIR) -> dict[str, int]:
    """Age of consent by ISO 3166-1 alpha-2 code on that day: each country's latest row that is in force."""
    path, today = reference / "age_of_consent.csv", utc_date(as_of)
    in_force: dict[str, tuple[date, int]] = {}
    seen = set()
    for line, row in _rows(path, ("country_code", "min_age", "valid_from")):
        try:
            valid_from, age = date.fromisoformat(row["valid_from"]), int(row["min_age"])
        except ValueError:
            raise ReferenceDataError(
                f"{path} line {line}: min_age is no number or valid_from no ISO date"
            ) from None
        country = row["country_code"].upper()
        if (country, valid_from) in seen:
            raise ReferenceDataError(f"{path} line {line}: {country} has two ages from {valid_from} on")
        if not 0 < age <= 21:
            raise ReferenceDataError(f"{path} line {line}: {age} is no age of consent")
        seen.add((country, valid_from))
        if valid_from <= today and valid_from >= in_force.get(country, (date.min, 0))[0]:
            in_force[country] = (valid_from, age)
    return {country: age for country, (_, age) in in_force.items()}


def _lookup_text(text: str) -> str:
    """Free text as the look-up seeds spell it; the same rule as the dbt macro `lookup_text`."""
    return text.lower().replace(".", "").strip(" ")


def country_codes(reference: Path = REFERENCE_DIR) -> dict[str, str]:
    """ISO 3166-1 alpha-2 code by spelling (codes, names, aliases), from the seed that staging uses too."""
    path = reference / "country_aliases.csv"
    codes: dict[str, str] = {}
    for line, row in _rows(path, ("alias", "iso2")):
        spelling, code = _lookup_text(row["alias"]), row["iso2"].upper()
        if not spelling or codes.setdefault(spelling, code) != code:
            raise ReferenceDataError(f"{path} line {line}: {spelling!r} is blank or stands for two countries")
    return codes


def min_ages_of(
    countries: Iterable[str | None], as_of: datetime, reference: Path = REFERENCE_DIR
) -> pa.Table:
    """Country as delivered and its age of consent, a row per given spelling; the default for unknown ones."""
    codes, ages = country_codes(reference), min_ages(as_of, reference)
    spellings = [country for country in countries if country is not None]
    found = [ages.get(codes.get(_lookup_text(country), ""), DEFAULT_MIN_AGE) for country in spellings]
    return pa.table({"country": pa.array(spellings, pa.string()), "min_age": pa.array(found, pa.int32())})
