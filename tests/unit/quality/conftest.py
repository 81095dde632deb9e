"""Tables of every checked relation, typed as the project itself declares them, in an engine without a lake.

Taking the types from the contracts, the dbt models and the landing's own statement means that a suite which names a
column that no longer exists fails here, and not in a run.
"""

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import duckdb
import pytest
import yaml

from orchestration.ingestion.contracts import load_contracts
from orchestration.ingestion.landing import RECONCILIATION_DDL
from orchestration.settings import DBT_PROJECT_DIR

Row = dict[str, Any]
MakeTable = Callable[[str, list[Row]], None]


@cache
def declared_columns(relation: str) -> dict[str, str]:
    """Name and SQL type of a relation's columns as the project declares them; `LookupError` if nothing declares it."""
    schema, table = relation.split(".")
    if schema == "raw":
        return load_contracts()[table].raw_columns()
    if relation == "ops.reconciliation":
        body = RECONCILIATION_DDL.partition("(")[2].rpartition(")")[0]
        return dict(re.split(r"\s+", column.strip(), maxsplit=1) for column in body.split(","))
    for path in sorted((DBT_PROJECT_DIR / "models" / schema).glob("*.yml")):
        for model in yaml.safe_load(path.read_text(encoding="utf-8")).get("models", []):
            if model["name"] == table:
                return {column["name"]: column["data_type"] for column in model["columns"]}
    raise LookupError(f"nothing in the project declares {relation}")


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    """An engine of its own for each test."""
    engine = duckdb.connect()
    yield engine
    engine.close()


@pytest.fixture
def make_table(connection: duckdb.DuckDBPyConnection) -> MakeTable:
    """Make a declared relation hold the given rows; columns that a row leaves out are null."""

    def make(relation: str, rows: list[Row]) -> None:
        schema, table = relation.split(".")
        columns = declared_columns(relation)
        body = ", ".join(f"{name} {sql_type}" for name, sql_type in columns.items())
        connection.execute(f"create schema if not exists {schema}")
        connection.execute(f"create or replace table {schema}.{table} ({body})")
        marks = ", ".join("?" for _ in columns)
        for row in rows:
            unknown = set(row) - set(columns)
            assert not unknown, f"{relation} has no column {unknown}"
            connection.execute(f"insert into {schema}.{table} values ({marks})", [row.get(name) for name in columns])

    return make
