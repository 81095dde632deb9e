"""The floor's statements: what a person who knew the result would write by hand for DuckDB alone.

Belongs here: SQL text, made of the contracts, the mapping and dbt's compiled manifest. Does not belong here: executing
it (`floor`), running dbt (`measure`).
"""

import csv
from dataclasses import dataclass
from datetime import datetime
from graphlib import TopologicalSorter
from pathlib import Path

from orchestration.identity.age import age_band_sql, age_spans, capable_on_sql, country_codes, min_ages, self_consent_sql
from orchestration.identity.region import region_sql
from orchestration.ingestion.contracts import Contract, load_contracts
from orchestration.ingestion.expressions import compile_expression
from orchestration.ingestion.mapping import OWN, Feed, Mapping, column_expressions, paths
from orchestration.ingestion.parsing import TEXT, typed_columns
from orchestration.ingestion.reading import header_of
from orchestration.lake import ZONES, identifier, literal
from orchestration.settings import DBT_PROJECT_DIR

LOAD_ID = literal("floor")
SPELLING = "trim(replace(lower(delivered.country), '.', ''))"


@dataclass(frozen=True)
class Statement:
    """One statement of the floor: the stage that it belongs to (seeds, raw, models …), what it makes, its SQL."""

    stage: str
    name: str
    sql: str


class UnsupportedMapping(ValueError):
    """The floor knows generated samples; a mapping with lookups is not one."""


def opening(database: Path, temp: Path, memory_limit_mb: int) -> list[Statement]:
    """The engine's settings and the empty database. Order of rows is no part of the result, so it is not kept."""
    settings = [
        f"set memory_limit = '{memory_limit_mb}MB'",
        f"set temp_directory = {literal(temp)}",
        "set timezone = 'UTC'",
        "set preserve_insertion_order = false",
        f"attach {literal(database)} as lake (storage_version 'latest')",
        *(f"create schema lake.{zone}" for zone in ZONES),
        "use lake",
    ]
    return [Statement("open", "settings and schemas", "; ".join(settings))]


def seed_statements(manifest: dict) -> list[Statement]:
    """Each seed of the dbt project as a table, with the column types that the project declares."""
    statements = []
    for node in _nodes(manifest, "seed"):
        path = DBT_PROJECT_DIR / node["original_file_path"]
        with path.open(encoding="utf-8", newline="") as stream:
            header = next(csv.reader(stream))
        types = node["config"].get("column_types") or {}
        columns = ", ".join(f"{literal(name)}: {literal(types.get(name, 'varchar'))}" for name in header)
        read = (
            f"read_csv({literal(path)}, auto_detect => false, header => true, delim => ',', "
            f"quote => '\"', escape => '\"', nullstr => '', columns => {{{columns}}})"
        )
        statements.append(
            Statement("seeds", _relation(node), f"create table {_relation(node)} as select * from {read}")
        )
    return statements


def model_statements(manifest: dict) -> list[Statement]:
    """Each model's compiled SQL as a table or view, every model after those that it reads."""
    models = {node["unique_id"]: node for node in _nodes(manifest, "model")}
    graph = {name: sorted(set(node["depends_on"]["nodes"]) & set(models)) for name, node in models.items()}
    statements = []
    for name in TopologicalSorter(graph).static_order():
        node = models[name]
        kind = node["config"]["materialized"]
        kind = {"incremental": "table"}.get(kind, kind)  # the first run's, which makes it
        if kind not in ("table", "view"):
            raise ValueError(f"{name}: the floor has no statement for the materialization {kind}")
        sql = f"create {kind} {_relation(node)} as {node['compiled_code']}"
        statements.append(Statement("models", _relation(node), sql))
    return statements


def raw_statements(mapping: Mapping, data: Path, as_of: datetime) -> list[Statement]:
    """The raw tables of a delivery, customers first."""
    if mapping.lookups:
        raise UnsupportedMapping("the floor reads generated samples only: the mapping has lookups")
    statements = []
    for entity, contract in load_contracts().items():
        feeds = [feed for feed in mapping.feeds_of(entity) if paths(feed.files, data)]
        if contract.identifiers:
            statements += _customers(contract, [_checked(feed, contract, data, as_of) for feed in feeds], as_of)
        elif not feeds:
            statements.append(Statement("raw", f"raw.{entity}", contract.raw_ddl()))
        else:
            statements += _events(contract, [_checked(feed, contract, data, as_of) for feed in feeds])
    return statements


def _nodes(manifest: dict, kind: str) -> list[dict]:
    return [node for node in manifest["nodes"].values() if node["resource_type"] == kind]


def _relation(node: dict) -> str:
    return f"lake.{node['schema']}.{identifier(node['alias'])}"


def _customers(contract: Contract, checked: list[str], as_of: datetime) -> list[Statement]:
    """Customers in memory first: whether two rows of one key agree is also a matter of what raw leaves out."""
    ages = min_ages(as_of)
    spellings = [(spelling, ages[code]) for spelling, code in country_codes().items() if code in ages]
    values = ", ".join(f"({literal(spelling)}, {age})" for spelling, age in spellings)
    key = identifier(contract.key)
    made = {
        "subject_token": "subject_token",
        "risk_subject_token": f"'risk_' || left(sha256('risk' || {key}), 22)",
        "audience_subject_token": f"'aud_' || left(sha256('audience' || {key}), 22)",
        "age_band": age_band_sql("birth_date", "customer_type", as_of),
        "is_self_consent_capable": self_consent_sql("birth_date", "customer_type", "min_age", as_of),
        "region": region_sql("region", "postal_code"),
        "load_id": LOAD_ID,
    }
    columns = _columns(contract, made)
    delivered = "temp.delivered_customers"
    sql = f"create temp table delivered_customers as {' union all '.join(checked)}"
    subjects = (
        f"create temp table subjects as select {key}, left(sha256({key}), 22) as subject_token from {delivered}; "
        f"create temp table subject_ages as select {key}, birth_date, customer_type, {SPELLING} as spelling "
        f"from {delivered} as delivered; {_age_spans()}"
    )
    raw = (
        f"create table lake.raw.{contract.entity} as with ages (spelling, min_age) as (values {values}) "
        f"select {columns} from {delivered} as delivered inner join subjects using ({key}) "
        f"left join ages on ages.spelling = {SPELLING}"
    )
    name = f"raw.{contract.entity}"
    return [
        Statement("raw", f"{name} checked", sql),
        *_without_repeats(contract, delivered, contract.key, [column.name for column in contract.columns]),
        Statement("raw", name, f"{subjects}; {raw}; drop table {delivered}"),
    ]


def _events(contract: Contract, checked: list[str]) -> list[Statement]:
    subject = identifier(contract.subject_column.name)
    made = {"subject_token": "subjects.subject_token", "load_id": LOAD_ID}
    for column in contract.columns:
        if column.counterparty:
            made["counterparty_token"] = f"left(sha256({identifier(column.name)}), 22)"
    joined = ""
    if contract.age_checked:
        day = f"cast(delivered.{identifier(contract.event_time or contract.key)} as date)"
        made["is_capable_at_collection"] = capable_on_sql(
            "subject_ages.birth_date", "subject_ages.customer_type", "age_spans.min_age", day
        )
        joined = (
            f" left join subject_ages on delivered.{subject} = subject_ages.{subject} "
            f"left join age_spans on subject_ages.spelling = age_spans.spelling and {day} >= age_spans.valid_from "
            f"and {day} < age_spans.valid_to"
        )
    table = f"lake.raw.{contract.entity}"
    sql = (
        f"create table {table} as select {_columns(contract, made)} from ({' union all '.join(checked)}) as delivered "
        f"inner join subjects on delivered.{subject} = subjects.{subject}{joined}"
    )
    content = [name for name in contract.raw_columns() if name not in ("feed", "load_id")]
    return [
        Statement("raw", f"raw.{contract.entity}", sql),
        *_without_repeats(contract, table, contract.key, content),
    ]


def _age_spans() -> str:
    """The dated ages of consent by spelling of the country."""
    values = ", ".join(
        f"({literal(spelling)}, {span.min_age}, {literal(span.valid_from)}::date, {literal(span.valid_to)}::date)"
        for spelling, code in country_codes().items()
        for span in age_spans()
        if span.country == code
    )
    return f"create temp table age_spans as select * from (values {values}) as spans (spelling, min_age, valid_from, valid_to)"


def _columns(contract: Contract, made: dict[str, str]) -> str:
    """The raw columns in order: what is made, and the rest as it was delivered."""
    return ", ".join(
        f"cast({made.get(name, 'delivered.' + identifier(name))} as {sql_type}) as {identifier(name)}"
        for name, sql_type in contract.raw_columns().items()
    )


def _without_repeats(contract: Contract, table: str, key: str, content: list[str]) -> list[Statement]:
    """Delete the rows of repeated keys from a table, but one of those that agree."""
    columns = ", ".join(identifier(name) for name in content)
    repeated = f"hash({identifier(key)}) in (select key_hash from repeated)"
    kept = (
        f"select min(rowid) from {table} where {repeated} group by {identifier(key)} "
        f"having min(hash({columns})) = max(hash({columns}))"
    )
    # Eight bytes a row instead of the keys themselves: few are repeated, and those few are compared in full.
    found = f"create or replace temp table repeated as select hash({identifier(key)}) as key_hash from {table} "
    found += "group by key_hash having count(*) > 1"
    delete = f"delete from {table} where {repeated} and rowid not in ({kept})"
    return [Statement("raw", f"raw.{contract.entity} repeats", f"{found}; {delete}")]


def _checked(feed: Feed, contract: Contract, data: Path, as_of: datetime) -> str:
    """A `select` of the contract's columns, typed, without the rows that break the contract."""
    files = paths(feed.files, data)
    header = header_of(files[0], feed.options)
    expressions = column_expressions(feed, contract, {name.lower() for name in header})
    kinds = _kinds(files[0], feed)
    delivered, arriving = [], {}
    for name, expression in expressions.items():
        source = next((used for _, used in expression.columns), None)
        is_column = source is not None and expression.sql == f"{identifier(OWN)}.{identifier(source)}"
        arriving[name] = kinds.get(source.lower(), TEXT) if is_column else TEXT
        delivered.append(f"{expression.sql} as d_{name}")
    typed = typed_columns(contract, arriving, feed.options, as_of)
    where = f" where {compile_expression(feed.where, OWN).sql}" if feed.where else ""
    names = ", ".join(identifier(column.name) for column in contract.columns)
    return (
        f"select {names}, {literal(feed.name)} as feed from (select *, {', '.join(typed.values)} from "
        f"(select *, {', '.join(typed.texts)} from (select {', '.join(delivered)} "
        f"from {_files(files, feed, header)} as {identifier(OWN)}{where}))) "
        f"where ({' or '.join(f'({condition})' for condition, _, _ in typed.problems) or 'false'}) is not true"
    )


def _kinds(path: Path, feed: Feed) -> dict[str, str]:
    """Engine types of a Parquet file's columns by lower-case name; everything else is delivered as text."""
    if feed.options.format != "parquet":
        return {}
    import duckdb

    with duckdb.connect() as connection:
        rows = connection.execute(f"describe select * from read_parquet({literal(path)})").fetchall()
    return {row[0].lower(): row[1] for row in rows}


def _files(files: list[Path], feed: Feed, header: list[str]) -> str:
    """The table function that reads a feed's files."""
    options = feed.options
    listed = f"[{', '.join(literal(path) for path in files)}]"
    if options.format == "parquet":
        return f"read_parquet({listed})"
    columns = ", ".join(f"{literal(name)}: 'varchar'" for name in header)
    if options.format == "json":
        return f"read_json({listed}, format => 'newline_delimited', columns => {{{columns}}}, ignore_errors => true)"
    return (
        f"read_csv({listed}, auto_detect => false, header => true, delim => {literal(options.delimiter)}, "
        f"quote => {literal(options.quote)}, escape => {literal(options.quote)}, nullstr => '', "
        f"columns => {{{columns}}}, encoding => {literal(options.encoding)}, ignore_errors => true)"
    )
