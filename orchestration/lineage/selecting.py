"""One SELECT, clause by clause in the order in which SQL evaluates them.

Belongs here: groups, the select list, order, limit. Does not belong here: joins and conditions (`joining`), values
(`expressions`).
"""

from dataclasses import replace

from sqlglot import exp

from orchestration.lineage.joining import Joining
from orchestration.lineage.labels import Column, Relation, combined, distinct, limited, mix
from orchestration.lineage.scopes import NotUnderstood
from orchestration.lineage.syntax import bare, only

SELECT_PARTS = {
    "with_", "expressions", "from_", "joins", "where", "group", "having", "qualify", "distinct", "order", "limit", "offset",
}  # fmt: skip


class Selecting(Joining):
    """One whole SELECT."""

    def relation(self) -> Relation:
        """The relation that the SELECT makes."""
        node, scope = self.node, self.scope
        only(node, SELECT_PARTS)
        self.read_from()
        scope.alias_of = self.alias
        if node.args.get("where"):
            self.condition(node.args["where"].this)
        self.read_group()
        if node.args.get("having"):
            having = self.finished(self.value(node.args["having"].this))
            self.add_rows(having, "filter")
        order = self.read_order()
        scope.alias_of = None
        columns = self.projected()
        scope.alias_of = self.alias
        if node.args.get("qualify"):
            self.condition(node.args["qualify"].this)
        scope.alias_of = None
        relation = self.settled(columns)
        outer = scope.outer_owners
        if node.args.get("distinct"):
            relation = self.distinct_relation(relation, node.args["distinct"], order, outer)
        if node.args.get("limit") or node.args.get("offset"):
            relation = limited(relation, outer)
        lost = "rows that no longer name their subject"
        kept = relation.owners | outer
        return replace(
            relation,
            columns=tuple((name, replace(column, label=mix(column.label, kept, lost))) for name, column in relation.columns),
            rows=mix(relation.rows, kept, lost),
        )

    def settled(self, columns: list[tuple[str, Column]]) -> Relation:
        """The relation as far as FROM, WHERE, GROUP BY and the select list determine it."""
        scope = self.scope
        return Relation(
            tuple((name, scope.settled_column(column)) for name, column in columns),
            scope.settled(scope.rows),
            scope.row_origins,
            frozenset(scope.find(owner) for owner in scope.allowed),
            {use: (scope.find(owner), held) for use, (owner, held) in scope.facts.items()},
        )

    def read_group(self) -> None:
        """GROUP BY, or the one group of an aggregate without it."""
        node, scope = self.node, self.scope
        group = node.args.get("group")
        if group is None and not node.args.get("having") and not self.aggregates(node):
            return
        expressions: list[exp.Expression] = []
        if group is not None:
            only(group, {"expressions", "all"})
            if group.args.get("all"):
                expressions = [
                    bare(one) for one in node.expressions if not self.aggregates(exp.Select(expressions=[one.copy()]))
                ]
            for one in group.expressions:
                if isinstance(one, exp.GroupingSets | exp.Rollup | exp.Cube | exp.Tuple):
                    raise NotUnderstood("several groupings at once")
                if isinstance(one, exp.Literal) and not one.is_string:
                    expressions.append(bare(self.positional(int(one.this))))
                else:
                    expressions.append(self.unaliased(bare(one)))
        if any(isinstance(one, exp.Star) or one.is_star for one in expressions):
            raise NotUnderstood("grouping by a star")
        entries = [(one, self.value(one)) for one in expressions]
        self.kept = scope.outer_owners | {column.strong_key.owner for _, column in entries if column.strong_key}
        cause = "an aggregate over several subjects"
        for _, column in entries:
            self.add_rows(column, "group")
        scope.rows = mix(scope.settled(scope.rows), self.kept, cause)
        self.group = entries

    def unaliased(self, node: exp.Expression) -> exp.Expression:
        """The expression that an alias of the select list stands for, where no table has a column of that name."""
        if not isinstance(node, exp.Column) or node.table or self.place(node):
            return node
        meant = [one for one in self.node.expressions if isinstance(one, exp.Alias) and one.alias.lower() == node.name.lower()]
        return bare(meant[0]) if len(meant) == 1 else node

    def positional(self, position: int) -> exp.Expression:
        """The select list's entry of that number."""
        if position > len(self.node.expressions) or any(one.is_star for one in self.node.expressions[:position]):
            raise NotUnderstood("a position in the select list")
        return self.node.expressions[position - 1]

    def output(self, node: exp.Expression) -> Column:
        """A value of the select list."""
        inner = bare(node)
        if self.group is None:
            return self.value(inner)
        for grouped, column in self.group:
            same = grouped == inner
            if not same and isinstance(grouped, exp.Column) and isinstance(inner, exp.Column):
                same = self.place(grouped) is not None and self.place(grouped) == self.place(inner)
            if same:
                key = column.key if column.strong_key else None
                return replace(column, label=mix(column.label, self.kept, "an aggregate over several subjects"), key=key)
        return self.finished(self.value(inner))

    def projected(self) -> list[tuple[str, Column]]:
        """Names and columns of the select list, stars written out."""
        found: list[tuple[str, Column]] = []
        for position, node in enumerate(self.node.expressions):
            if node.is_star and not isinstance(node, exp.Count):
                found += self.star(node)
            else:
                name = node.alias or node.output_name or f"column {position}"
                found.append((name.lower(), self.output(node)))
        names = [name for name, _ in found]
        doubled = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
        if not doubled:
            return found
        # The engine renames all but the first; nothing is proven by a name that several columns bear.
        columns, seen = [], {}
        for name, column in found:
            if name in doubled:
                column = combined([one for other, one in found if other == name])
                seen[name] = seen.get(name, 0) + 1
                name = name if seen[name] == 1 else f"{name}_{seen[name] - 1}"
            columns.append((name, column))
        return columns

    def star(self, node: exp.Expression) -> list[tuple[str, Column]]:
        """The columns that a star stands for."""
        star = node if isinstance(node, exp.Star) else node.this
        if not isinstance(star, exp.Star) or self.group is not None:
            raise NotUnderstood("a star within an expression or a group")
        only(star, {"except_"})
        left_out = {one.name.lower() for one in star.args.get("except_") or []}
        table = node.table.lower() if isinstance(node, exp.Column) else ""
        if table and table not in self.scope.tables:
            raise NotUnderstood(f"{table}.* is not known")
        found, merged = [], set()
        for alias in [table] if table else self.scope.orders:
            for name in self.scope.orders[alias]:
                if name in left_out or (not table and name in merged):
                    continue
                column = self.scope.tables[alias][name]
                if not table and name in self.scope.merged and alias in self.scope.merged[name][1]:
                    merged.add(name)
                    column = self.scope.merged[name][0]
                found.append((name, self.scope.settled_column(column)))
        return found

    def read_order(self) -> list[Column]:
        """ORDER BY: what the order, and with a limit the choice of rows, depends on."""
        order = self.node.args.get("order")
        found = []
        for one in order.expressions if order is not None else []:
            inner = bare(one.this) if isinstance(one, exp.Ordered) else bare(one)
            if isinstance(inner, exp.Literal) and not inner.is_string:
                if any(entry.is_star for entry in self.node.expressions):
                    continue
                inner = bare(self.positional(int(inner.this)))
            if isinstance(inner, exp.Var) or (inner.name.lower() == "all" and isinstance(inner, exp.Column)):
                raise NotUnderstood("ordering by everything")
            column = self.finished(self.value(inner))
            self.add_rows(column, "sort")
            found.append(column)
        return found

    def distinct_relation(self, relation: Relation, clause: exp.Distinct, order: list[Column], outer: set[int]) -> Relation:
        """DISTINCT, or DISTINCT ON, which keeps one row of each group by the order."""
        on = clause.args.get("on")
        if on is None:
            return distinct(relation, outer)
        columns = [self.value(one) for one in (on.expressions if isinstance(on, exp.Tuple) else [on])]
        kept = outer | {self.scope.find(column.strong_key.owner) for column in columns if column.strong_key}
        cause = "one row of several subjects'"
        everything = relation.label.union(*(self.scope.settled(column.label) for column in [*columns, *order]))
        rows = mix(everything, kept, cause)
        return replace(
            relation,
            rows=rows,
            columns=tuple((name, replace(column, label=mix(column.label, kept, cause))) for name, column in relation.columns),
        )
