"""SQL expressions of a mapping file: what a tenant may write, and nothing beyond.

Belongs here: parsing, the allow-list, qualifying columns. Does not belong here: what the columns mean.
A mapping is written by the operator, yet it travels by e-mail and pull request: an expression that reads another file,
a setting or an environment variable is refused before the engine sees it. Syntax tree: https://sqlglot.com/
"""

from dataclasses import dataclass

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

MAX_LENGTH = 10_000
ALLOWED_FUNCTIONS = {
    "abs", "cast", "ceil", "coalesce", "concat", "concat_ws", "contains", "date_part", "date_trunc", "ends_with",
    "extract", "floor", "greatest", "if", "least", "left", "length", "lower", "lpad", "ltrim", "nullif", "regexp_extract",
    "regexp_full_match", "regexp_like", "regexp_matches", "regexp_replace", "replace", "right", "round", "rpad", "rtrim",
    "split_part", "starts_with", "str_to_time", "strftime", "strptime", "str_position", "strip_accents", "substr",
    "substring", "time_to_str", "timestamp_trunc", "trim", "try_cast", "try_strptime", "upper", "year", "month", "day",
    "make_date", "date_from_parts", "case", "and", "or", "not", "in", "between", "xor", "dpipe", "pad", "str_to_date",
    "ts_or_ds_to_date", "to_days", "to_months", "int_div", "mod",
}  # fmt: skip
ALLOWED_OPERATORS = (
    exp.Column, exp.Identifier, exp.Literal, exp.Null, exp.Boolean, exp.Paren, exp.Case, exp.If, exp.Binary, exp.Unary,
    exp.In, exp.Between, exp.DataType, exp.DataTypeParam, exp.Interval, exp.Var, exp.Tuple,
)  # fmt: skip


class ExpressionError(ValueError):
    """An expression that is not allowed or not readable; the message says which part."""


@dataclass(frozen=True)
class Expression:
    """A checked expression: its SQL with every column qualified, and the columns it reads per relation."""

    sql: str
    columns: frozenset[tuple[str, str]]


def compile_expression(text: str, own: str, lookups: frozenset[str] = frozenset()) -> Expression:
    """Check one scalar expression and qualify its columns.

    `own` is the alias for unqualified columns, `lookups` are the aliases that may be named besides.
    Raises `ExpressionError` for anything but literals, columns, operators and the allowed functions.
    """
    if len(text) > MAX_LENGTH:
        raise ExpressionError(f"longer than {MAX_LENGTH} characters")
    try:
        tree = sqlglot.parse_one(f"select {text}", read="duckdb")
    except (SqlglotError, RecursionError) as error:
        raise ExpressionError(f"not readable as SQL: {str(error).splitlines()[0]}") from None
    if not isinstance(tree, exp.Select) or len(tree.expressions) != 1 or tree.args.get("from_") or tree.args.get("from"):
        raise ExpressionError("one scalar expression is expected")
    root = tree.expressions[0]
    if isinstance(root, exp.Alias) or any(key != "expressions" and value for key, value in tree.args.items() if key != "kind"):
        raise ExpressionError("one scalar expression is expected, without alias or clauses")
    columns = set()
    for node in root.walk():
        _check(node)
        if isinstance(node, exp.Column):
            relation = node.table or own
            if relation != own and relation not in lookups:
                raise ExpressionError(f"{relation}.{node.name}: no lookup of that name is joined")
            columns.add((relation, node.name))
            node.set("table", exp.to_identifier(relation, quoted=True))
            node.set("this", exp.to_identifier(node.name, quoted=True))
    return Expression(root.sql(dialect="duckdb"), frozenset(columns))


def _check(node: exp.Expression) -> None:
    if isinstance(node, exp.Column) and (node.args.get("db") or node.args.get("catalog")):
        raise ExpressionError(f"{node.sql()}: name columns as column or lookup.column")
    if isinstance(node, exp.Func) and not isinstance(node, ALLOWED_OPERATORS):
        name = (node.name if isinstance(node, exp.Anonymous) else node.sql_name()).lower()
        if name not in ALLOWED_FUNCTIONS:
            raise ExpressionError(f"the function {name} is not allowed here")
    elif not isinstance(node, (*ALLOWED_OPERATORS, exp.Func)):
        raise ExpressionError(f"{type(node).__name__.lower()} is not allowed here")
