"""Column lineage: which columns of which relations a model's columns come from.

Belongs here: reading lineage out of compiled SQL. Does not belong here: judging it, or Dagster's form of it.
Columns that only filter or join do not appear; that is why the gate's evidence columns are carried along.
Library: https://sqlglot.com/sqlglot/lineage.html
"""

from collections.abc import Mapping

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.lineage import Node, lineage
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import build_scope

Relation = tuple[str, str]
Source = tuple[str, str, str]
CATALOG = "lake"


class LineageError(ValueError):
    """SQL whose lineage cannot be read."""


def column_sources(sql: str, schemas: Mapping[Relation, Mapping[str, str]]) -> dict[str, set[Source]]:
    """For each output column of a query the (schema, relation, column) that its value is made of.

    `schemas` gives column types of the relations that the query reads. Raises `LineageError` for SQL that is not
    understood: no lineage is better than a wrong one.
    """
    tree: dict[str, dict[str, dict[str, dict[str, str]]]] = {CATALOG: {}}
    try:
        parsed = parse_one(sql, read="duckdb")
        # Only what the query reads: building the store's whole schema for each of many models takes seconds.
        for relation in {(table.db, table.name) for table in parsed.find_all(exp.Table)} & set(schemas):
            tree[CATALOG].setdefault(relation[0], {})[relation[1]] = dict(schemas[relation])
        query = qualify(parsed, dialect="duckdb", schema=tree, catalog=CATALOG, validate_qualify_columns=False)
        scope = build_scope(query)
        if scope is None:
            raise LineageError("no query")
        return {
            name: _leaves(lineage(name, query, schema=tree, dialect="duckdb", scope=scope, trim_selects=False, copy=False))
            for name in query.named_selects
        }
    except (SqlglotError, ValueError, RecursionError) as error:
        raise LineageError(f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}") from error


def _leaves(node: Node) -> set[Source]:
    found = set()
    for leaf in node.walk():
        table = leaf.expression
        if isinstance(table, exp.Table):
            found.add((table.db, table.name, leaf.name.split(".")[-1].strip('"')))
    return found
