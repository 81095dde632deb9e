"""What an expression depends on: columns, functions, windows, sub-selects.

Belongs here: values. Does not belong here: clauses (`joining`, `selecting`).
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlglot import exp

from orchestration.lineage.labels import Column, Key, Relation, combined, mapped, mix
from orchestration.lineage.scopes import NotUnderstood, Scope, whole
from orchestration.lineage.syntax import REFUSED, REFUSED_FUNCTIONS, bare, engine_functions, field_owner, is_aggregate, only

WINDOW_PARTS = {"this", "partition_by", "order", "spec", "over"}
NAMES_NOBODY = (exp.Count, exp.CountIf, exp.RowNumber, exp.Rank, exp.DenseRank, exp.Predicate, exp.Sum, exp.Avg)


class Valuing:
    """One SELECT as far as its expressions go. `reader` reads sub-selects; `tables` are the common table expressions."""

    def __init__(
        self, reader: Any, node: exp.Select, tables: Mapping[str, Relation], outer: Scope | None, scope: Scope | None = None
    ) -> None:
        self.reader, self.node, self.tables = reader, node, tables
        self.scope = scope or Scope(outer)
        self.group: list[tuple[exp.Expression, Column]] | None = None
        self.kept: set[int] = set()

    def place(self, column: exp.Column) -> tuple[str, str] | None:
        try:
            return self.scope.place(column.name.lower(), column.table.lower())
        except NotUnderstood:
            return None

    def finished(self, column: Column) -> Column:
        """A value as it is after grouping: made of its whole group's rows."""
        if self.group is None:
            return column
        cause = "an aggregate over several subjects"
        label = mix(self.scope.settled(column.label | self.scope.rows), self.kept, cause)
        return Column(label, pseudonyms=column.pseudonyms, origins=column.origins)

    def alias(self, name: str) -> Column | None:
        """What a name means as an alias of the select list; `None` if it is none, or only repeats the column."""
        entries = [one for one in self.node.expressions if isinstance(one, exp.Alias) and one.alias.lower() == name]
        entries = [one for one in entries if not (isinstance(bare(one), exp.Column) and bare(one).name.lower() == name
                                                  and not bare(one).table)]  # fmt: skip
        if not entries:
            return None
        keep, self.scope.alias_of = self.scope.alias_of, None
        try:
            columns = [self.value(bare(one)) for one in entries]
        finally:
            self.scope.alias_of = keep
        return columns[0] if len(columns) == 1 else combined(columns)

    def column(self, node: exp.Column) -> Column:
        """The column that a reference means."""
        if node.args.get("db") or not isinstance(node.this, exp.Identifier):
            raise NotUnderstood(f"the reference {node.sql(dialect='duckdb')[:60]}")
        name, table = node.name.lower(), node.table.lower()
        try:
            return self.scope.lookup(name, table)
        except NotUnderstood:
            lateral = None if table or self.scope.alias_of else self.alias(name)
            if lateral is None:
                raise
            return lateral

    def sub(self, node: exp.Expression) -> Relation:
        """The relation of a sub-select, which may refer to this query's tables."""
        return self.reader.query(node, self.tables, self.scope)

    def value(self, node: exp.Expression, proving: bool = False) -> Column:
        """What a value depends on; a bare column is that column, with all that is known of it.

        With `proving` the value is a condition that must hold: an IN or EXISTS on the subject's key then stays own.
        """
        node = bare(node)
        if isinstance(node, exp.Column):
            return self.column(node)
        parts: list[Column] = []
        halves: list[Column] = []
        aggregated = False
        if isinstance(node, exp.Coalesce):
            operands = [bare(one) for one in [node.this, *node.expressions]]
            if all(isinstance(one, exp.Column) for one in operands):
                halves = [self.column(one) for one in operands]
        stack = [node]
        while stack:
            one = stack.pop()
            if isinstance(one, exp.Column):
                parts.append(self.column(one))
            elif isinstance(one, exp.Exists):
                parts.append(self.sub_column(self.sub(one.this), None, proving and one is node))
            elif isinstance(one, exp.In) and one.args.get("query"):
                key = self.value(one.this).strong_key if isinstance(bare(one.this), exp.Column) else None
                parts.append(self.sub_column(self.sub(one.args["query"]), key, proving and one is node))
                stack.append(one.this)
            elif isinstance(one, exp.Query):
                parts.append(self.sub_column(self.sub(one), None, False))
            elif isinstance(one, exp.Window):
                parts.append(self.window(one))
            elif isinstance(one, exp.Dot):
                owner = field_owner(one)
                stack += [owner] if owner is not None else []
            elif isinstance(one, exp.Star) and isinstance(one.parent, exp.Count):
                aggregated = True
            elif isinstance(one, REFUSED):
                raise NotUnderstood(f"the expression {one.sql(dialect='duckdb')[:60]}")
            else:
                self.check_function(one)
                if is_aggregate(one):
                    aggregated = True
                stack += [child for child in one.iter_expressions()]
        found = combined(parts, "aggregation" if aggregated else "transformation", not isinstance(node, NAMES_NOBODY))
        return replace(found, key=whole(halves)) if halves else found

    def check_function(self, node: exp.Expression) -> None:
        """Refuse functions that may read what no column shows, and aggregates of an enclosing query's columns."""
        if isinstance(node, exp.Anonymous | exp.AnonymousAggFunc):
            name = (node.this if isinstance(node.this, str) else node.name).lower()
            if name not in engine_functions()[0] or name in REFUSED_FUNCTIONS:
                raise NotUnderstood(f"the function {name}")
        elif isinstance(node, exp.Func) and node.sql_name().lower() in REFUSED_FUNCTIONS:
            raise NotUnderstood(f"the function {node.sql_name().lower()}")
        if self.scope.outer is not None and is_aggregate(node):
            columns = list(node.find_all(exp.Column))
            if columns and not any(self.place(column) for column in columns):
                raise NotUnderstood("an aggregate of an enclosing query's columns")

    def sub_column(self, relation: Relation, key: Key | None, proving: bool) -> Column:
        """What a sub-select contributes. Its own subjects are others, unless it is tied to the subject by the key."""
        outer = {self.scope.find(owner) for owner in self.scope.local_owners()} | self.scope.outer_owners
        inner = relation.columns[0][1].strong_key if len(relation.columns) == 1 else None
        tied = key and inner and key.domain == inner.domain and proving

        def see(flow):
            if flow.owner in outer:
                return flow
            if tied and flow.owner == inner.owner:
                return replace(flow, owner=key.owner)
            return replace(flow, owner=None, cause="a sub-select over several subjects")

        origins = {origin for _, column in relation.columns for origin in column.origins} | relation.row_origins
        pseudonyms = frozenset().union(*(column.pseudonyms for _, column in relation.columns))
        return Column(mapped(relation.label, see), pseudonyms=pseudonyms, origins=frozenset(origins))

    def window(self, node: exp.Window) -> Column:
        """A window function: it reads the rows of its partition."""
        only(node, WINDOW_PARTS)
        partition = [self.value(one) for one in node.args.get("partition_by") or []]
        order = node.args.get("order")
        function = node.this
        inner = function
        while isinstance(inner, exp.IgnoreNulls | exp.RespectNulls | exp.Filter):
            inner = inner.this
        self.check_function(inner)
        operands = [
            *(self.value(one) for one in inner.iter_expressions() if not isinstance(one, exp.Star)),
            *(self.value(one.expression.this) for one in function.find_all(exp.Filter)),
        ]
        sorting = [
            self.value(one.this if isinstance(one, exp.Ordered) else one) for one in (order.expressions if order else [])
        ]
        kept = self.scope.outer_owners | {column.strong_key.owner for column in partition if column.strong_key}
        found = combined([*operands, *partition, *sorting], "aggregation", not isinstance(inner, NAMES_NOBODY))
        label = mix(found.label | self.scope.settled(self.scope.rows), kept, "a window over several subjects")
        return replace(found, label=label)
