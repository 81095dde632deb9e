"""Values: from what a feed delivers to what a contract asks for, as SQL expressions.

Belongs here: one expression per contract type, and the reason when a value does not fit. Does not belong here: files,
keys, references between entities. Everything is set-based: an expression runs inside one scan of the feed.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache

from orchestration.ingestion.contracts import SQL_TYPES, Contract, ContractColumn
from orchestration.ingestion.mapping import ReadOptions
from orchestration.lake import identifier, literal
from orchestration.settings import DBT_PROJECT_DIR

TEXT = "VARCHAR"
# Engine types that need no parsing for a contract type.
NATIVE: dict[str, tuple[str, ...]] = {
    "timestamp": ("TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS", "DATE"),
    "date": ("DATE",),
    "decimal": ("DECIMAL", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "DOUBLE", "FLOAT", "UINTEGER", "USMALLINT"),
    "number": ("DECIMAL", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "DOUBLE", "FLOAT", "UINTEGER", "USMALLINT"),
    "integer": ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "UINTEGER", "USMALLINT"),
    "boolean": ("BOOLEAN",),
}


@dataclass(frozen=True)
class TypedColumns:
    """SQL that turns a feed's delivered values `d_<column>` into a contract's columns.

    `texts` and `values` are select items, to be evaluated one layer after the other; `problems` are (condition, code,
    text) with code `column:reason`, the first that holds names what is wrong with a row.
    """

    texts: list[str]
    values: list[str]
    problems: list[tuple[str, str, str]]


def typed_columns(contract: Contract, kinds: Mapping[str, str], options: ReadOptions, as_of: datetime) -> TypedColumns:
    """Texts, typed values and problems of a contract's columns; `kinds` has the engine type of each delivered one."""
    typed = TypedColumns([], [], [])
    for column in contract.columns:
        name, quoted = column.name, identifier(column.name)
        if name not in kinds:
            typed.values.append(f"null::{SQL_TYPES[column.type]} as {quoted}")
            continue
        delivered, text = f"d_{name}", f"t_{name}"
        typed.texts.append(f"{text_of(column, delivered, kinds[name], options)} as {text}")
        typed.values.append(f"{parse(column, text, delivered, kinds[name], options)} as {quoted}")
        typed.problems.extend((condition, f"{name}:{reason}", text) for condition, reason in problem(column, text, quoted))
    event_time = contract.event_time
    if event_time in kinds:
        late = f"{identifier(event_time)} > timestamp {literal(as_of)}"
        typed.problems.append((late, f"{event_time}:timestamp_in_future", f"t_{event_time}"))
    return typed


@cache
def known_currencies() -> tuple[str, ...]:
    """Codes that the reference seed has a rate for: an amount without a rate could not be added to any other."""
    path = DBT_PROJECT_DIR / "seeds" / "reference" / "exchange_rates.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        return tuple(sorted({row["currency"] for row in csv.DictReader(stream)}))


def is_native(column: ContractColumn, kind: str) -> bool:
    """Whether a value comes in an engine type that needs no parsing for this column."""
    return kind.split("(")[0] in NATIVE.get(column.type, ()) or (
        column.type == "timestamp" and kind.startswith("TIMESTAMP WITH TIME ZONE")
    )


def text_of(column: ContractColumn, delivered: str, kind: str, options: ReadOptions) -> str:
    """A delivered value as trimmed text; the feed's null values and blanks become null.

    A value that needs no parsing stays as it is: turning twenty million timestamps into text and back is not free.
    """
    if is_native(column, kind):
        return delivered
    base = delivered if kind == TEXT else f"cast({delivered} as varchar)"
    nulls = ", ".join(literal(value) for value in options.null_values if value)
    trimmed = f"nullif(trim({base}), '')"
    return f"case when {trimmed} in ({nulls}) then null else {trimmed} end" if nulls else trimmed


def parse(column: ContractColumn, text: str, delivered: str, kind: str, options: ReadOptions) -> str:
    """SQL of the typed value, null where the value does not fit.

    `text` is the value as text, `delivered` as it came, `kind` its engine type.
    """
    family = kind.split("(")[0]
    if kind.startswith("TIMESTAMP WITH TIME ZONE") and column.type == "timestamp":
        return f"timezone('UTC', {delivered})"
    if column.type == "decimal" and family in ("DOUBLE", "FLOAT"):
        return f"case when isfinite({delivered}) then try_cast({delivered} as decimal(18, 2)) end"
    if column.type == "number" and family in ("DOUBLE", "FLOAT"):
        return f"case when isfinite({delivered}) then {delivered}::double end"
    if is_native(column, kind):
        return f"try_cast({delivered} as {SQL_TYPES[column.type]})"
    return _parse_text(column, text, options)


def _parse_text(column: ContractColumn, text: str, options: ReadOptions) -> str:
    match column.type:
        case "string":
            # Two encodings of one name are one customer; pseudonyms are made of normal form C.
            return f"nfc_normalize({text})" if column.subject or column.counterparty else text
        case "enum":
            return f"lower({text})"
        case "currency":
            return f"upper({text})"
        case "boolean":
            return (
                f"case when lower({text}) in ('true', 't', 'yes', 'y', '1') then true "
                f"when lower({text}) in ('false', 'f', 'no', 'n', '0') then false end"
            )
        case "integer":
            return f"case when regexp_full_match({text}, '[+-]?[0-9]+') then try_cast({text} as bigint) end"
        case "decimal" | "number":
            plain = text if options.decimal == "." else f"replace(replace({text}, '.', ''), ',', '.')"
            target = SQL_TYPES[column.type]
            # Thousands commas only where they group by three; a lone comma may be a decimal one and is no number here.
            in_threes = f"regexp_full_match({plain}, '[+-]?[0-9]{{1,3}}(,[0-9]{{3}})+([.][0-9]+)?')"
            grouped = f"case when {in_threes} then replace({plain}, ',', '') end"
            value = f"coalesce(try_cast({plain} as {target}), try_cast({grouped} as {target}))"
            return f"case when regexp_full_match({plain}, '[+-]?[0-9.,]+(e[+-]?[0-9]+)?', 'i') then {value} end"
        case "timestamp" | "date":
            target = column.type
            formats = [f"try_cast(try_strptime({text}, {literal(fmt)}) as {target})" for fmt in options.timestamp_formats]
            # A bare number is no date; the engine would read some of them as one.
            # A zone is honoured; without one the value is UTC. Casting to `timestamp` alone would drop the offset.
            zoned = f"regexp_matches({text}, '[0-9](Z|z|[+-][0-9]{{2}}(:?[0-9]{{2}})?)$') and contains({text}, ':')"
            iso = (
                f"case when {zoned} then timezone('UTC', try_cast({text} as timestamptz)) "
                f"when contains({text}, '-') or contains({text}, '/') then try_cast({text} as timestamp) end"
            )
            return f"coalesce({', '.join([f'cast({iso} as {target})', *formats])})"
    raise ValueError(column.type)


def problem(column: ContractColumn, text: str, value: str) -> list[tuple[str, str]]:
    """What may be wrong with one value: (SQL condition, reason), most basic first."""
    checks = []
    if column.required:
        checks.append((f"{text} is null", "missing_value"))
    if column.type == "enum":
        allowed = ", ".join(literal(item) for item in column.values)
        checks.append((f"{value} is not null and {value} not in ({allowed})", "unknown_value"))
    elif column.type == "currency":
        allowed = ", ".join(literal(code) for code in known_currencies())
        checks.append((f"{value} is not null and {value} not in ({allowed})", "unknown_currency"))
    elif column.type != "string":
        checks.append((f"{text} is not null and {value} is null", "wrong_type"))
    for bound, operator in ((column.min, "<"), (column.max, ">")):
        if bound is not None:
            limit = f"cast({literal(bound)} as {SQL_TYPES[column.type]})"
            checks.append((f"{value} {operator} {limit}", "out_of_range"))
    return checks
