"""SHA-256 of what a query gives, by OpenSSL, while the engine makes the next rows.

A ledger of millions of leaves is hashed when it is entered and again whenever it is verified. DuckDB's own `sha256` takes
4.5 µs for a leaf of 900 bytes, this one 1.6 µs (measured, one core): OpenSSL uses the processor's own instructions for it. As a
function within SQL it kept the engine's threads waiting for Python's lock, one after another; beside the engine it does not.
Batches are small enough to stay in a core's cache from the engine's hand to OpenSSL's: of 65,536 rows, fetched by one of Python's
threads, the same work took a quarter longer.

Belongs here: rows in batches, hashing them. Does not belong here: what is hashed (`leaves`, `inputs`), the tree (`merkle`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256

import duckdb
import pyarrow as pa

from orchestration.ledger.merkle import HASH_BYTES

BATCH_ROWS = 4_096
READ_AHEAD = 8
FORM = pa.schema({"leaf_index": pa.int64(), "hash": pa.binary(HASH_BYTES)})


def hash_each(connection: duckdb.DuckDBPyConnection, query: str) -> pa.Table:
    """Of a query for (leaf_index, value), a blob or a text: leaf_index and hash (blob of 32 bytes; null of null).

    40 bytes per row in memory. In the order in which the engine gives the rows, that is: in none. Raises `duckdb.Error`.
    """
    given = batches(connection, query, BATCH_ROWS)
    made = (pa.record_batch([rows.column(0), digests(rows.column(1))], schema=FORM) for rows in given)
    return pa.Table.from_batches(made, FORM)


@contextmanager
def hashed(connection: duckdb.DuckDBPyConnection, query: str) -> Iterator[str]:
    """The name of a relation with what `hash_each` gives, for SQL on this connection within the block."""
    connection.register("ledger_hashed", hash_each(connection, query))
    try:
        yield "ledger_hashed"
    finally:
        connection.unregister("ledger_hashed")


def batches(connection: duckdb.DuckDBPyConnection, query: str, rows: int) -> Iterator[pa.RecordBatch]:
    """The query's answer in batches of at most so many rows, the next of which are made while one is being used.

    Arrow's own threads fetch them, up to `READ_AHEAD` batches: one of Python's would have to wait for the lock with each. Until
    the last is taken the connection is busy. Raises `duckdb.Error`.
    """
    from pyarrow.dataset import Scanner

    reader = connection.execute(query).to_arrow_reader(rows)
    try:
        yield from Scanner.from_batches(reader, batch_size=rows, batch_readahead=READ_AHEAD).to_batches()
    except (OSError, pa.ArrowException) as error:  # what becomes of an error of the engine on its way through Arrow
        if "Interrupted" in str(error):  # where one of the engine's threads fails, the others' end sometimes comes out first
            read_through(connection, f"({query})")
        raise duckdb.IOException(str(error)) from None


def read_through(connection: duckdb.DuckDBPyConnection, relation: str) -> None:
    """Make every value of a relation or of a query in brackets, to no end but its error. Raises `duckdb.Error`, the true one."""
    connection.execute(f"select bit_xor(hash(rows)) from {relation} as rows").fetchall()


def digests(values: pa.BinaryArray | pa.StringArray) -> pa.FixedSizeBinaryArray:
    """The hash of each value, null of null."""
    import pyarrow.compute as pc

    given = values.cast(pa.binary()).to_pylist()
    made = b"".join([bytes(HASH_BYTES) if value is None else sha256(value).digest() for value in given])
    known = pc.is_valid(values).buffers()[1] if values.null_count else None
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(HASH_BYTES), len(values), [known, pa.py_buffer(made)])
