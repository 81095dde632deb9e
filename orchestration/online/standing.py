"""What stands published, in memory: one person's rows found in microseconds, without a database in the path.

Belongs here: loading the published relations, finding rows. Does not belong here: what changed since (`service`).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestration.lake import identifier, table_exists
from orchestration.online.sql import TARGETS

Row = dict[str, Any]
MOST_DISTINCT = 65_536


class Sorted:
    """A table sorted by a pseudonym of fixed length."""

    def __init__(self, table: pa.Table, column: str = "subject_token") -> None:
        self._columns = {name: _reader(table[name].combine_chunks()) for name in table.column_names}
        self._tokens = _fixed(table[column])

    def rows(self, token: str) -> list[Row]:
        """The rows of that token."""
        at, end = self._span(token)
        return [{name: value_at(place) for name, value_at in self._columns.items()} for place in range(at, end)]

    def __contains__(self, token: str) -> bool:
        at, end = self._span(token)
        return end > at

    def __len__(self) -> int:
        return len(self._tokens)

    def sample(self, size: int) -> list[str]:
        """Some tokens, evenly over the table."""
        places = np.unique(np.linspace(0, len(self._tokens) - 1, size, dtype=int)) if len(self._tokens) else []
        return sorted({self._tokens[place].decode() for place in places})

    def _span(self, token: str) -> tuple[int, int]:
        # A longer text would be cut off by numpy, and found as somebody else's.
        if len(token.encode()) != self._tokens.dtype.itemsize:
            return 0, 0
        wanted = np.bytes_(token.encode())
        return int(np.searchsorted(self._tokens, wanted, "left")), int(np.searchsorted(self._tokens, wanted, "right"))


def _reader(column: pa.Array) -> Callable[[int], Any]:
    """How to read one value of a column. What repeats is made a Python value once, and not at each request."""
    encoded = column.dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    if len(encoded.dictionary) > MOST_DISTINCT:
        return lambda place: column[place].as_py()
    values = [*encoded.dictionary.to_pylist(), None]
    codes = encoded.indices.fill_null(len(values) - 1).to_numpy(zero_copy_only=False)
    return lambda place: values[codes[place]]


def _fixed(column: pa.ChunkedArray) -> np.ndarray:
    if not len(column):
        return np.empty(0, "S1")
    width = int(pc.max(pc.binary_length(column)).as_py())
    values = pc.cast(column.combine_chunks(), pa.binary()).cast(pa.binary(width))
    return np.frombuffer(values.buffers()[1], f"S{width}", len(values), values.offset * width)


@dataclass(frozen=True)
class Published:
    """A publication in memory: its record, each relation by the pseudonym of its zone, the texts of the rules, the customers."""

    run_id: str
    profile: str
    as_of: datetime
    published_at: datetime
    relations: Mapping[str, Sorted]
    rules: Mapping[str, Row]
    customers: Sorted

    def of(self, relation: str, token: str) -> list[Row]:
        """One person's rows of a published relation."""
        found = self.relations.get(relation)
        return found.rows(token) if found else []


def load_published(connection: duckdb.DuckDBPyConnection, publication: tuple[str, str, datetime, datetime]) -> Published:
    """Read what stands published; `publication` as `publication.last_publication` gives it."""
    relations = {}
    for name in TARGETS:
        if table_exists(connection, "published", name):
            sql = f"select * from lake.published.{identifier(name)} order by subject_token"
            relations[name] = Sorted(connection.execute(sql).to_arrow_table())
    day = publication[2].date()
    cursor = connection.execute(
        "select rule_id, version, factor, name, rule_text, points, floor_tier, legal_reference from lake.published.risk_rules "
        "where valid_from <= ? and (valid_to is null or valid_to > ?)",
        [day, day],
    )
    names = [column[0] for column in cursor.description]
    rules = {row[0]: dict(zip(names, row, strict=True)) for row in cursor.fetchall()}
    customers = connection.execute(
        "select subject_token, risk_subject_token, audience_subject_token, is_self_consent_capable from lake.raw.customers "
        "order by subject_token"
    ).to_arrow_table()
    return Published(*publication, relations, rules, Sorted(customers))
