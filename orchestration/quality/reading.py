"""Reading: the columns that a suite names, from the lake into a frame.

Belongs here: the one query of a relation and row mode. Does not belong here: what is expected (`suites`), whether it
holds (`validation`).
"""

from typing import TYPE_CHECKING

import duckdb

from orchestration.lake import identifier
from orchestration.quality.suites import Rows, Suite, SuiteError, UnknownColumnError, UnknownRelationError

if TYPE_CHECKING:
    import pandas as pd


def read_frame(connection: duckdb.DuckDBPyConnection, suite: Suite, relation: str, rows: Rows) -> "pd.DataFrame":
    """What the suite's expectations on that relation and row mode read, and no other column.

    Raises `UnknownRelationError`, `UnknownColumnError`, and `SuiteError` if a derived column hides a real one or is no
    valid SQL.
    """
    derived = suite.meta.derived.get(relation, {})
    columns = list(dict.fromkeys(column for expectation in suite.of(relation, rows) for column in expectation.columns))
    source = ".".join(identifier(part) for part in relation.split("."))
    present = _columns(connection, suite, relation, source)
    unknown = [column for column in columns if column not in present and column not in derived]
    if unknown:
        raise UnknownColumnError(f"{suite.name}.json: {relation} has no column {', '.join(unknown)}")
    hidden = sorted(present & set(derived))
    if hidden:
        raise SuiteError(f"{suite.name}.json: {relation} has a column of its own called {', '.join(hidden)}")
    selected = ", ".join(
        f"({derived[column]}) as {identifier(column)}" if column in derived else identifier(column)
        for column in columns
    )
    where = suite.meta.where.get(relation, "true")
    query = f"select {'distinct' if rows == 'distinct' else ''} {selected} from {source} where {where}"
    try:
        return connection.execute(query).df()
    except (duckdb.BinderException, duckdb.ParserException):
        raise SuiteError(f"{suite.name}.json: what it derives or demands of {relation} is no valid SQL there") from None


def _columns(connection: duckdb.DuckDBPyConnection, suite: Suite, relation: str, source: str) -> set[str]:
    """The relation's own columns."""
    try:
        return {row[0] for row in connection.execute(f"describe {source}").fetchall()}
    except duckdb.CatalogException:
        raise UnknownRelationError(f"{suite.name}.json: there is no relation {relation}") from None
