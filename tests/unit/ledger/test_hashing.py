"""The hashes of the ledger's leaves and inputs are made here: a wrong one would be signed."""

from hashlib import sha256

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.ledger import hashing
from orchestration.ledger.hashing import digests, hash_each

VALUES = st.lists(st.one_of(st.none(), st.binary(max_size=80)), max_size=30)


@settings(deadline=None)
@given(VALUES, st.integers(0, 30), st.integers(0, 30))
def test_every_value_of_any_slice_is_hashed_as_it_lies(values, start, length):
    column = pa.array(values, pa.binary()).slice(start, length)
    found = digests(column)
    found.validate(full=True)
    assert found.to_pylist() == [None if value is None else sha256(value).digest() for value in column.to_pylist()]


@pytest.mark.parametrize("rows", [0, 1, 70_000])
def test_the_engine_says_the_same_of_every_row(rows, monkeypatch):
    """Over several batches, nulls, empty texts and texts of several bytes a letter among them; none is lost or doubled."""
    monkeypatch.setattr(hashing, "BATCH_ROWS", 4096)
    with duckdb.connect() as connection:
        connection.execute(
            "create table t as select range as leaf_index, case when range % 7 > 0 then repeat('ž', range % 5) || range % 3 "
            f"when range % 2 = 0 then '' end as value from range({rows})"
        )
        found = hash_each(connection, "select leaf_index, value from t")
        different = connection.execute(
            "select count(*) from t full join found using (leaf_index) where found.hash is distinct from unhex(sha256(value))"
        ).fetchone()
        assert found.num_rows == rows and different == (0,)


def test_an_error_of_the_engine_reaches_who_asked():
    """Rows read so far must not pass for all of them."""
    with duckdb.connect() as connection, pytest.raises(duckdb.Error, match="not a number"):
        hash_each(
            connection,
            "select range, case when range < 200000 then 'a' else error('not a number') end from range(300000)",
        )
