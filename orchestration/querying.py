"""Reading the published tables from the command line, also while a run writes.

Belongs here: a read-only look with the output formats. Does not belong here: what the tables mean.
"""

import csv
import json
import sys
from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TextIO

import duckdb

from orchestration.lake import literal, open_lake
from orchestration.ledger.reading_log import log_reading, reads_ledger
from orchestration.settings import Settings

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


class QueryError(ValueError):
    """A query that the engine refuses; the message is the engine's own first line."""


def run_query(settings: Settings, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of one read-only statement. The engine can reach nothing but the lake.

    Raises `QueryError` for SQL that is refused, `FileNotFoundError` where no run has made a store yet.
    """
    with open_lake(settings, read_only=True) as connection:
        allowed = f"[{literal(f'{settings.lake_data}/')}, {literal(f'{settings.temp}/')}]"
        connection.execute(f"set allowed_directories = {allowed}")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        try:
            statements = connection.extract_statements(sql)
            if len(statements) != 1 or statements[0].type not in (
                duckdb.StatementType.SELECT,
                duckdb.StatementType.EXPLAIN,
            ):
                raise QueryError("one SELECT is expected")
            if reads_ledger(sql):
                log_reading(settings, "query")
            cursor = connection.execute(statements[0])
            return [column[0] for column in cursor.description], cursor.fetchall()
        except duckdb.Error as error:
            raise QueryError(str(error).splitlines()[0]) from None


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return value


def _safe_cell(value: Any) -> Any:
    """A text that a spreadsheet would run as a formula gets a quote in front."""
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return "'" + value
    return _plain(value)


def write_csv(columns: list[str], rows: Iterable[tuple[Any, ...]], stream: TextIO | None = None) -> None:
    """RFC 4180 with a header, on standard output where no stream is given; formulas are made harmless."""
    writer = csv.writer(stream or sys.stdout, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_safe_cell(value) for value in row] for row in rows)


def write_json(columns: list[str], rows: Iterable[tuple[Any, ...]], stream: TextIO | None = None) -> None:
    """A list of objects, on standard output where no stream is given; times in ISO 8601."""
    stream = stream or sys.stdout
    json.dump([dict(zip(columns, map(_plain, row), strict=True)) for row in rows], stream, ensure_ascii=False, default=str)
    stream.write("\n")


def write_document(document: dict[str, Any], stream: TextIO | None = None) -> None:
    """One nested document as JSON, on standard output where no stream is given."""
    stream = stream or sys.stdout
    json.dump(document, stream, ensure_ascii=False, indent=2, default=_plain_text)
    stream.write("\n")


def _plain_text(value: Any) -> Any:
    plain = _plain(value)
    return plain if plain is not value else str(value)
