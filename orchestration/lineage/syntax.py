"""What the analysis knows of SQL's syntax tree: which functions aggregate, which it refuses, how a condition falls apart.

Belongs here: questions to a single node. Does not belong here: labels.
Syntax tree: https://sqlglot.com/sqlglot/expressions.html
"""

from collections.abc import Iterator
from functools import cache

from sqlglot import exp

from orchestration.lineage.scopes import NotUnderstood

REFUSED = (
    exp.Columns, exp.PositionalColumn, exp.Parameter, exp.Placeholder, exp.SessionParameter, exp.Comprehension, exp.Explode,
    exp.Unnest, exp.Lateral, exp.Pivot, exp.Command, exp.ReadCSV, exp.Star,
)  # fmt: skip
# They read what no column shows: settings, variables, sequences, the process's environment.
REFUSED_FUNCTIONS = {"getvariable", "current_setting", "getenv", "nextval", "currval", "query", "query_table"}


@cache
def engine_functions() -> tuple[frozenset[str], frozenset[str]]:
    """(all, aggregates): the functions that DuckDB brings itself. A name that is not among them may read anything."""
    import duckdb

    with duckdb.connect() as connection:
        rows = connection.execute("select lower(function_name), function_type from duckdb_functions()").fetchall()
    kinds: dict[str, set[str]] = {}
    for name, kind in rows:
        kinds.setdefault(name, set()).add(kind)
    known = frozenset(name for name, found in kinds.items() if found & {"scalar", "aggregate", "macro"})
    return known, frozenset(name for name, found in kinds.items() if "aggregate" in found and "scalar" not in found)


@cache
def _aggregate_class(kind: type[exp.Expression]) -> bool:
    if issubclass(kind, exp.AggFunc):
        return True
    return issubclass(kind, exp.Func) and any(name.lower() in engine_functions()[1] for name in kind.sql_names())


def is_aggregate(node: exp.Expression) -> bool:
    """Whether the function makes one value of many rows."""
    if isinstance(node, exp.Anonymous):
        return node.name.lower() in engine_functions()[1]
    return _aggregate_class(type(node))


def conjuncts(condition: exp.Expression | None) -> Iterator[exp.Expression]:
    """The parts of which each must hold."""
    stack = [condition] if condition is not None else []
    while stack:
        node = stack.pop()
        if isinstance(node, exp.And):
            stack += [node.expression, node.this]
        elif isinstance(node, exp.Paren):
            stack.append(node.this)
        else:
            yield node


def bare(node: exp.Expression) -> exp.Expression:
    """The expression without alias and parentheses."""
    while isinstance(node, exp.Alias | exp.Paren):
        node = node.this
    return node


def only(node: exp.Expression, allowed: set[str]) -> None:
    """Refuse a node that has parts besides these."""
    extra = [name for name, value in node.args.items() if value and name not in allowed]
    if extra:
        raise NotUnderstood(f"{type(node).__name__.lower()} with {', '.join(extra)}")


def field_owner(node: exp.Dot) -> exp.Expression | None:
    """The expression whose field is taken; `None` for a lambda's parameter, which is made of the lambda's list."""
    root: exp.Expression = node
    while isinstance(root, exp.Dot):
        root = root.this
    if not isinstance(root, exp.Identifier):
        return root
    parent = node.parent
    while parent is not None:
        if isinstance(parent, exp.Lambda) and root.name in {one.name for one in parent.expressions}:
            return None
        parent = parent.parent
    raise NotUnderstood(f"the reference {node.sql(dialect='duckdb')[:60]}")
