"""From a birth date to an age band, and to whether the person may consent alone.

A band alone does not decide who may consent: in the European Union the age is 13, 14, 15 or 16 by country
(GDPR art. 8), so both leave the vault. They are made anew in each run for its `as_of`, a date in UTC; a
stored «band valid until» would be a birth date in disguise. A grant is judged by the age on the day it was given, by
the law of that day: what a child granted does not become valid on a birthday. Someone born on 29 February comes of age on 1
March in a common year, the later of the two days. What is unknown counts as the more protected case: no birth
date as `unknown` without capacity, no country as 16 years.

Belongs here: ages and their reference seeds. Does not belong here: what a band may be used for (the consent
policy).
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path

import pyarrow as pa

from orchestration.identity.errors import ReferenceDataError
from orchestration.settings import DBT_PROJECT_DIR

REFERENCE_DIR = DBT_PROJECT_DIR / "seeds" / "reference"
AGE_BANDS = ("<13", "13-15", "16-17", "18+", "unknown")
DEFAULT_MIN_AGE = 16


@dataclass(frozen=True)
class AgeSpan:
    """An age of consent (years) and the days on which it applies: from `valid_from` on, no longer from `valid_to` on."""

    country: str
    min_age: int
    valid_from: date
    valid_to: date


def utc_date(as_of: datetime) -> date:
    """The day of an instant in UTC; one without a zone is UTC already."""
    return (as_of.astimezone(UTC) if as_of.tzinfo else as_of).date()


def _age_sql(birth_date: str, today: str) -> str:
    """Completed years on that day, two SQL expressions; negative for a birth date after it."""
    return (
        f"(year({today}) - year({birth_date}) "
        f"- if(month({birth_date}) * 100 + day({birth_date}) > month({today}) * 100 + day({today}), 1, 0))"
    )


def age_band_sql(birth_date: str, customer_type: str, as_of: datetime) -> str:
    """SQL expression for the age band, made of two SQL expressions; firms are `18+`."""
    today = f"date '{utc_date(as_of)}'"
    age = _age_sql(birth_date, today)
    return (
        f"case when {customer_type} = 'corporate' then '18+' "
        f"when {birth_date} is null or {birth_date} > {today} then 'unknown' "
        f"when {age} < 13 then '<13' when {age} < 16 then '13-15' when {age} < 18 then '16-17' else '18+' end"
    )


def self_consent_sql(birth_date: str, customer_type: str, min_age: str, as_of: datetime) -> str:
    """SQL expression, never null: may the person consent alone, given the country's age; firms may."""
    return capable_on_sql(birth_date, customer_type, min_age, f"date '{utc_date(as_of)}'")


def capable_on_sql(birth_date: str, customer_type: str, min_age: str, day: str) -> str:
    """SQL expression, never null: could the person consent alone on that day; `min_age` is the country's on it."""
    return (
        f"coalesce({customer_type} = 'corporate', false) or coalesce({birth_date} <= {day} "
        f"and {_age_sql(birth_date, day)} >= coalesce({min_age}, {DEFAULT_MIN_AGE}), false)"
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


def age_spans(reference: Path = REFERENCE_DIR) -> list[AgeSpan]:
    """Every country's ages of consent with the days from and until which (not on which) they apply, in order.

    Raises `ReferenceDataError` for a row that cannot be read, or if a country has two ages on one day.
    """
    path = reference / "age_of_consent.csv"
    spans: dict[str, list[AgeSpan]] = {}
    for line, row in _rows(path, ("country_code", "min_age", "valid_from", "valid_to")):
        try:
            valid_from, age = date.fromisoformat(row["valid_from"]), int(row["min_age"])
            valid_to = date.fromisoformat(row["valid_to"]) if row["valid_to"] else date.max
        except ValueError:
            raise ReferenceDataError(
                f"{path} line {line}: min_age is no number or a day no ISO date"
            ) from None
        country = row["country_code"].upper()
        if not 0 < age <= 21:
            raise ReferenceDataError(f"{path} line {line}: {age} is no age of consent")
        if valid_from >= valid_to:
            raise ReferenceDataError(f"{path} line {line}: valid_to is not after valid_from")
        spans.setdefault(country, []).append(AgeSpan(country, age, valid_from, valid_to))
    ordered = [sorted(found, key=lambda span: span.valid_from) for _, found in sorted(spans.items())]
    for found in ordered:
        for earlier, later in pairwise(found):
            if later.valid_from < earlier.valid_to:
                raise ReferenceDataError(f"{path}: {later.country} has two ages from {later.valid_from} on")
    return [span for found in ordered for span in found]


def min_ages(as_of: datetime, reference: Path = REFERENCE_DIR) -> dict[str, int]:
    """Age of consent by ISO 3166-1 alpha-2 code on that day; a country without one is not among them."""
    today = utc_date(as_of)
    return {
        span.country: span.min_age for span in age_spans(reference) if span.valid_from <= today < span.valid_to
    }


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


def age_spans_of(countries: Iterable[str | None], reference: Path = REFERENCE_DIR) -> pa.Table:
    """Country as delivered, min_age, valid_from and valid_to: the spans of each given spelling that stands for a country.

    On a day that no span covers the default applies.
    """
    codes, spans = country_codes(reference), age_spans(reference)
    found = [
        {"country": country, "min_age": span.min_age, "valid_from": span.valid_from, "valid_to": span.valid_to}
        for country in countries
        if country is not None
        for span in spans
        if span.country == codes.get(_lookup_text(country))
    ]
    schema = [("country", pa.string()), ("min_age", pa.int32()), ("valid_from", pa.date32()), ("valid_to", pa.date32())]
    return pa.Table.from_pylist(found, pa.schema(schema))
