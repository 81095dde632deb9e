"""What a decision was made from is kept so that reading it again gives the very same values, whatever they are."""

import json
from datetime import datetime
from decimal import Decimal

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.ledger.bundles import Bundle
from orchestration.ledger.inputs import inputs_query
from orchestration.ledger.replay import fill, read_input

KINDS = {
    "whole": ("BIGINT", st.integers(-(2**63), 2**63 - 1)),
    "share": ("DOUBLE", st.floats(allow_nan=False)),
    "flag": ("BOOLEAN", st.booleans()),
    "word": ("VARCHAR", st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))),
    "amount": ("DECIMAL(18,2)", st.decimals(-(10**15), 10**15, places=2)),
    "moment": ("TIMESTAMP", st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))),
}
ROWS = st.lists(st.tuples(*(st.none() | values for _, values in KINDS.values())), max_size=3)
COLUMNS = ", ".join(f"{name} {kind}" for name, (kind, _) in KINDS.items())


@pytest.fixture(scope="module")
def lake():
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'; attach ':memory:' as lake; use lake; create schema lake.features")
        connection.execute(
            "create temp table ledger_people as select 1 as number, 'a' as raw_token, 'a' as risk_subject_token, "
            "'a' as audience_subject_token, 'a' as subject_token"
        )
        connection.execute("create temp table asked as select 1 as number, 'risk' as role")
        yield connection


@given(rows=ROWS)
@settings(max_examples=60, deadline=None)
def test_an_input_comes_back_as_it_was(lake, rows):
    """A replay on values that lost a digit would differ from the decision, or hide that it differs."""
    lake.execute(f"create or replace table lake.features.odd (risk_subject_token varchar, {COLUMNS})")
    for row in rows:
        lake.execute("insert into lake.features.odd values ('a', ?, ?, ?, ?, ?, ?)", list(row))
    columns = [["risk_subject_token", "VARCHAR"], *([name, kind] for name, (kind, _) in KINDS.items())]
    bundle = Bundle({"targets": {"risk": ["features.odd"]}, "inputs": {"features.odd": columns}}, {})
    (text,) = lake.execute(f"select input from ({inputs_query(lake, bundle, 'asked')})").fetchone()
    assert json.loads(text).keys() == {"features.odd"}
    lake.execute("create schema if not exists lake.again; drop table if exists lake.again.odd")
    fill(lake, "again.odd", columns, [("a", row) for row in read_input(text)["features.odd"]])
    values = ", ".join(KINDS)
    found = lake.execute(f"select {values} from lake.again.odd").fetchall()
    was = lake.execute(f"select {values} from lake.features.odd").fetchall()
    assert sorted(map(repr, found)) == sorted(map(repr, was))
    assert all(row[4] is None or isinstance(row[4], Decimal) for row in found)
