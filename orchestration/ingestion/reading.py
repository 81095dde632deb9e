"""Files into relations, with every row accounted for.

Belongs here: opening CSV, JSON and Parquet files, naming what is structurally wrong with a file (`SourceError`) or with
one of its rows (rejects), and numbering rows. Does not belong here: what a value means (`parsing`), contracts.
Rows are numbered as a person counts them in the file: the header, where there is one, is row 1.
CSV reading: https://duckdb.org/docs/stable/data/csv/reading_faulty_csv_files
"""

import csv
import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from orchestration.ingestion.errors import SourceError
from orchestration.ingestion.mapping import ReadOptions
from orchestration.lake import identifier, literal

SCRATCH = "scratch"
# DuckDB's name of a structural error -> our reason.
REJECT_REASONS = {"INVALID ENCODING": "not_utf8"}


@dataclass(frozen=True)
class SourceFile:
    """One file of a delivery: path, bytes, SHA-256 of its content, time of last change (UTC seconds)."""

    path: Path
    size: int
    sha256: str
    modified: float


@dataclass
class Source:
    """A readable relation with its files.

    `relation` has the file's columns plus `_file` (position in `files`) and `_row` (0-based among the readable rows of
    that file). `readable[i]` counts these rows of file i. `rejects` maps file position to {record number: reason}.
    `cut_off` holds the positions of files whose last readable row may be incomplete.
    """

    relation: str
    columns: dict[str, str]
    files: list[SourceFile]
    readable: list[int] = field(default_factory=list)
    rejects: dict[int, dict[int, str]] = field(default_factory=dict)
    cut_off: set[int] = field(default_factory=set)
    header_rows: int = 1

    @property
    def rows_in_files(self) -> int:
        """Rows of all files, unreadable ones included."""
        return sum(self.readable) + sum(len(rows) for rows in self.rejects.values())


def fingerprint(path: Path) -> SourceFile:
    """Size, SHA-256 and time of change of a file."""
    stat = path.stat()
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return SourceFile(path, stat.st_size, digest, stat.st_mtime)


def open_source(
    connection: duckdb.DuckDBPyConnection, name: str, files: list[Path], options: ReadOptions, wanted: set[str]
) -> Source:
    """Read files of one kind into a relation called `name`, taking only the `wanted` columns (lower case).

    Minimisation begins here: a column that the mapping does not use is never read. Raises `SourceError` for a file that
    is empty, unreadable or lacks a wanted column.
    """
    prints = []
    for path in files:
        if path.stat().st_size == 0:
            raise SourceError("empty_file", "the file has no bytes, not even a header", "deliver it again", str(path))
        prints.append(fingerprint(path))
    with _unreadable_is_named(files, options):
        if options.format == "parquet":
            return _open_parquet(connection, name, prints, wanted)
        if options.format == "json":
            return _open_json(connection, name, prints, wanted)
        return _open_csv(connection, name, prints, options, wanted)


@contextmanager
def _unreadable_is_named(files: list[Path], options: ReadOptions) -> Iterator[None]:
    try:
        yield
    except duckdb.Error as error:
        raise SourceError(
            "unreadable_file",
            f"the engine cannot read it as {options.format}: {type(error).__name__}",
            "check format, encoding and completeness of the file",
            ", ".join(str(path) for path in files),
        ) from error


def header_of(path: Path, options: ReadOptions) -> list[str]:
    """Column names of a file, as written. Raises `SourceError` if there are none."""
    if options.format == "parquet":
        with _unreadable_is_named([path], options), duckdb.connect() as connection:
            rows = connection.execute(f"describe select * from read_parquet({literal(path)})").fetchall()
        return [row[0] for row in rows]
    if options.format == "json":
        with _unreadable_is_named([path], options), duckdb.connect() as connection:
            rows = connection.execute(
                f"select distinct unnest(json_keys(json)) from read_ndjson_objects({literal(path)}, ignore_errors => true)"
            ).fetchall()
        return sorted(row[0] for row in rows)
    with path.open("rb") as stream:
        line = stream.readline(1_000_000)
    try:
        text = line.decode(options.encoding).lstrip("\ufeff")
    except (UnicodeDecodeError, LookupError):
        raise SourceError(
            "not_utf8", f"the header is not {options.encoding}", "save it as UTF-8 or declare `encoding`", str(path)
        ) from None
    reader = csv.reader(io.StringIO(text), delimiter=options.delimiter[0], quotechar=options.quote or None)
    names = [name.strip() for name in next(reader, [])]
    if not names or not all(names):
        raise SourceError("no_header", "the first row does not name every column", "put a header there", str(path))
    if len({name.lower() for name in names}) < len(names):
        raise SourceError("duplicate_column", "two columns have the same name", "rename one", str(path))
    return names


def _require(path: Path, present: list[str], wanted: set[str]) -> None:
    missing = wanted - {name.lower() for name in present}
    if missing:
        column = sorted(missing)[0]
        raise SourceError(
            "missing_column",
            f"the mapping uses {column}, the file has {', '.join(present[:30])}",
            "deliver the column, or correct the mapping",
            str(path),
            column,
        )


def _open_csv(
    connection: duckdb.DuckDBPyConnection, name: str, files: list[SourceFile], options: ReadOptions, wanted: set[str]
) -> Source:
    table = f"{SCRATCH}.{identifier(name)}"
    columns = sorted(wanted)
    source = Source(identifier(f"{name}_rows"), dict.fromkeys(columns, "VARCHAR"), files)
    body = ", ".join(f"{identifier(column)} varchar" for column in columns)
    connection.execute(f"create or replace table {table} (_file integer{', ' + body if body else ''})")
    offsets, total = [], 0
    for position, file in enumerate(files):
        header = header_of(file.path, options)
        _require(file.path, header, wanted)
        by_name = {column.lower(): column for column in header}
        picked = "".join(f", {identifier(by_name[column])}" for column in columns)
        spec = ", ".join(f"{literal(column)}: 'varchar'" for column in header)
        connection.execute("drop table if exists reject_errors; drop table if exists reject_scans")
        connection.execute(
            f"insert into {table} select {position}{picked} from read_csv({literal(file.path)}, auto_detect => false, "
            f"header => true, delim => {literal(options.delimiter)}, quote => {literal(options.quote)}, "
            f"escape => {literal(options.quote)}, nullstr => '', columns => {{{spec}}}, encoding => {literal(options.encoding)}, "
            "store_rejects => true, strict_mode => true, max_line_size => 4000000)"
        )
        rejects = connection.execute("select line, min(error_type::varchar) from reject_errors group by line").fetchall()
        source.rejects[position] = {int(line): REJECT_REASONS.get(kind, "malformed_row") for line, kind in rejects}
        count = connection.execute(f"select count(*) from {table}").fetchone()[0] - total
        offsets.append(total)
        total += count
        source.readable.append(count)
        _mark_cut_off(source, position, file, options)
    connection.execute("drop table if exists reject_errors; drop table if exists reject_scans")
    cases = " ".join(f"when {position} then {offset}" for position, offset in enumerate(offsets))
    connection.execute(
        f"create or replace temp view {source.relation} as "
        f"select * exclude (_file), _file, rowid - case _file {cases} end as _row from {table}"
    )
    return source


def _mark_cut_off(source: Source, position: int, file: SourceFile, options: ReadOptions) -> None:
    """A file without a final line break may have lost the end of its last row; a closing quote proves that it has not."""
    with file.path.open("rb") as stream:
        stream.seek(-1, io.SEEK_END)
        last = stream.read(1)
    if last in (b"\n", b"\r", options.quote.encode()[:1]):
        return
    last_record = source.header_rows + source.readable[position] + len(source.rejects[position])
    if last_record in source.rejects[position]:
        source.rejects[position][last_record] = "file_cut_off"
    elif options.final_newline == "required" and source.readable[position]:
        source.cut_off.add(position)


def _open_json(connection: duckdb.DuckDBPyConnection, name: str, files: list[SourceFile], wanted: set[str]) -> Source:
    table = f"{SCRATCH}.{identifier(name)}"
    source = Source(identifier(f"{name}_rows"), dict.fromkeys(sorted(wanted), "VARCHAR"), files, header_rows=0)
    connection.execute(f"create or replace table {table} (_file integer, _row bigint, content json)")
    keys: set[str] = set()
    for position, file in enumerate(files):
        connection.execute(
            f"insert into {table} select {position}, row_number() over () - 1, json from "
            f"read_ndjson_objects({literal(file.path)}, ignore_errors => true, maximum_object_size => 4000000)"
        )
        broken = connection.execute(
            f"select _row from {table} where _file = {position} and (content is null or json_type(content) != 'OBJECT')"
        ).fetchall()
        source.rejects[position] = {int(row) + 1: "malformed_row" for (row,) in broken}
        count = connection.execute(f"select count(*) from {table} where _file = {position}").fetchone()[0]
        source.readable.append(count - len(broken))
    connection.execute(f"delete from {table} where content is null or json_type(content) != 'OBJECT'")
    rows = connection.execute(f"select distinct unnest(json_keys(content)) from {table}").fetchall()
    keys = {row[0] for row in rows}
    if sum(source.readable):
        _require(files[0].path, sorted(keys), wanted)
    by_name = {key.lower(): key for key in keys}
    columns = sorted(wanted)
    # All values of an object in one call, which reads its text once; a path each would read it anew for each column.
    at = ", ".join(literal("$." + identifier(by_name.get(column, column))) for column in columns)
    picked = "".join(f"found[{place}] as {identifier(column)}, " for place, column in enumerate(columns, start=1))
    # Rows are counted among the readable ones; to number them anew where none was broken would be a sort for nothing.
    row = "row_number() over (partition by _file order by _row) - 1" if any(source.rejects.values()) else "_row"
    connection.execute(
        f"create or replace temp view {source.relation} as select {picked}_file, {row} as _row "
        f"from (select json_extract_string(content, [{at}]::varchar[]) as found, _file, _row from {table})"
    )
    return source


def _open_parquet(connection: duckdb.DuckDBPyConnection, name: str, files: list[SourceFile], wanted: set[str]) -> Source:
    source = Source(identifier(f"{name}_rows"), {}, files, header_rows=0)
    selects = []
    for position, file in enumerate(files):
        schema = connection.execute(f"describe select * from read_parquet({literal(file.path)})").fetchall()
        _require(file.path, [row[0] for row in schema], wanted)
        picked = [(row[0], row[1]) for row in schema if row[0].lower() in wanted]
        source.columns |= {column.lower(): kind for column, kind in picked}
        columns = "".join(f"{identifier(column)} as {identifier(column.lower())}, " for column, _ in sorted(picked))
        selects.append(
            f"select {columns}{position} as _file, file_row_number as _row "
            f"from read_parquet({literal(file.path)}, file_row_number => true)"
        )
        rows = connection.execute(f"select sum(num_rows) from parquet_file_metadata({literal(file.path)})").fetchone()[0]
        source.readable.append(int(rows))
        source.rejects[position] = {}
    connection.execute(f"create or replace temp view {source.relation} as {' union all by name '.join(selects)}")
    return source


def close_source(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Drop what `open_source` made."""
    connection.execute(f"drop view if exists {identifier(f'{name}_rows')}")
    connection.execute(f"drop table if exists {SCRATCH}.{identifier(name)}")
