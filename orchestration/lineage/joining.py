"""FROM, joins and conditions: which tables meet, and what the conditions prove of the rows that stay.

Belongs here: reading these clauses into a scope. Does not belong here: what follows from them (`scopes`).
"""

from dataclasses import replace

from sqlglot import exp

from orchestration.lineage.expressions import Valuing
from orchestration.lineage.labels import NOTHING, Column, Key, Relation, combined
from orchestration.lineage.scopes import NotUnderstood, Scope, literal_parts, whole
from orchestration.lineage.syntax import bare, conjuncts, is_aggregate, only

JOIN_PARTS = {"this", "on", "using", "side", "kind"}


class Joining(Valuing):
    """One SELECT as far as FROM and WHERE go."""

    def read_from(self) -> None:
        """FROM and the joins, in order."""
        node, scope = self.node, self.scope
        source = node.args.get("from_")
        if source is None:
            if node.args.get("joins"):
                raise NotUnderstood("a join without FROM")
            return
        first = self.reader.table(source.this, self.tables, scope.outer)
        nested = list(source.this.args.get("joins") or [])
        if nested:
            raise NotUnderstood("joins in parentheses")
        entries = [(join, *self.reader.table(join.this, self.tables, scope.outer)) for join in node.args.get("joins") or []]
        needed = self.needed([first, *((alias, relation) for _, alias, relation in entries)])
        scope.add(*first)
        scope.rows, scope.row_origins = first[1].rows, first[1].row_origins
        for join, alias, relation in entries:
            self.join(join, alias, relation, needed)

    def needed(self, sources: list[tuple[str, Relation]]) -> set[str]:
        """Tables that WHERE needs to be there: a comparison with a column of theirs fails where an outer join left it
        empty, so that the outer join is an inner one."""
        where = self.node.args.get("where")
        if where is None:
            return set()
        columns = {alias: {name for name, _ in relation.columns} for alias, relation in sources}
        found = set()
        for part in conjuncts(where.this):
            sides: list[exp.Expression] = []
            if isinstance(part, exp.EQ | exp.NEQ | exp.GT | exp.GTE | exp.LT | exp.LTE):
                sides = [part.this, part.expression]
            elif isinstance(part, exp.In) and not part.args.get("query") and not part.args.get("unnest"):
                sides = [part.this]
            elif isinstance(part, exp.Not) and isinstance(part.this, exp.Is) and isinstance(part.this.expression, exp.Null):
                sides = [part.this.this]
            for side in map(bare, sides):
                if isinstance(side, exp.Column) and not side.args.get("db"):
                    name, table = side.name.lower(), side.table.lower()
                    owners = [alias for alias, names in columns.items() if name in names and table in ("", alias)]
                    if len(owners) == 1:
                        found.add(owners[0])
        return found

    def join(self, join: exp.Join, alias: str, relation: Relation, needed: set[str]) -> None:
        """One more table joined to those before it."""
        only(join, JOIN_PARTS)
        scope, side, kind = self.scope, (join.side or "").upper(), (join.kind or "").upper()
        if kind not in ("", "INNER", "OUTER", "CROSS", "SEMI", "ANTI") or side not in ("", "LEFT", "RIGHT", "FULL"):
            raise NotUnderstood(f"a join of the kind {side} {kind}".strip())
        before = list(scope.tables)
        if side == "LEFT" and alias in needed and not kind.startswith(("SEMI", "ANTI")):
            side = ""
        if side == "RIGHT" and len(before) == 1 and before[0] in needed:
            side = ""
        scope.add(alias, relation)
        using = [column.name.lower() for column in join.args.get("using") or []]
        pairs = [(self.using_column(before, name), scope.tables[alias].get(name)) for name in using]
        if any(right is None for _, right in pairs):
            raise NotUnderstood(f"{', '.join(using)} is not in {alias}")
        parts = list(conjuncts(join.args.get("on")))
        if (side or kind in ("SEMI", "ANTI")) and any(part.find(exp.Query) for part in parts):
            raise NotUnderstood("a sub-select in the condition of an outer join")
        condition, origins = NOTHING, set()
        for column in [*(self.value(part) for part in parts), *(one for pair in pairs for one in pair)]:
            condition |= column.label
            origins |= {replace(origin, how="join") for origin in column.origins}
        scope.row_origins |= relation.row_origins | origins
        keys = [(one.strong_key, other.strong_key) for one, other in pairs]
        keys += [self.equal_keys(part) for part in parts]
        equal = [(one, other) for one, other in (pair for pair in keys if pair) if one and other and one.domain == other.domain]
        if side == "FULL":
            scope.full_join(before, [alias], self.across(equal, before, alias), relation.rows, condition)
        elif side or kind in ("SEMI", "ANTI"):
            self.outer(side, kind, before, alias, relation, equal, parts, condition)
        else:
            for one, other in equal:
                scope.unite(one.owner, other.owner)
            for part in parts:
                self.prove(part)
                self.semi(part)
            scope.rows |= relation.rows | condition
        if kind not in ("SEMI", "ANTI"):
            self.merge(using, before, alias, side)

    def outer(self, side, kind, before, alias, relation, equal, parts, condition) -> None:
        """LEFT, RIGHT, SEMI and ANTI joins: what their condition proves holds only where it matched."""
        scope = self.scope
        trial = scope.fork()
        for one, other in equal:
            trial.unite(one.owner, other.owner)
        for part in parts:
            self.prove(part, trial)
        if kind in ("SEMI", "ANTI"):
            scope.semi_join(before, alias, relation.rows, trial, condition, kind == "SEMI")
        elif side == "LEFT":
            scope.outer_join([alias], before, relation.rows, trial, condition)
        else:
            optional, scope.rows = scope.rows, relation.rows
            scope.outer_join(before, [alias], optional, trial, condition)

    def across(self, equal: list[tuple[Key, Key]], before: list[str], alias: str) -> list[tuple[Key, Key]]:
        """The equal keys of which one belongs to the tables before and one to the new table."""
        old = {self.scope.find(owner) for owner in self.scope.keys_of(before)}
        new = {self.scope.find(owner) for owner in self.scope.keys_of([alias])}
        found = []
        for one, other in equal:
            sides = self.scope.find(one.owner), self.scope.find(other.owner)
            if (sides[0] in old and sides[1] in new) or (sides[0] in new and sides[1] in old):
                found.append((one, other))
        return found

    def using_column(self, before: list[str], name: str) -> Column:
        """What `name` means among the tables before a join with USING."""
        if name in self.scope.merged:
            return self.scope.settled_column(self.scope.merged[name][0])
        found = [alias for alias in before if name in self.scope.tables[alias]]
        if len(found) != 1:
            raise NotUnderstood(f"{name} is ambiguous in USING")
        return self.scope.settled_column(self.scope.tables[found[0]][name])

    def merge(self, using: list[str], before: list[str], alias: str, side: str) -> None:
        """Columns of USING stand once: of the side that is always there, or of both."""
        scope = self.scope
        for name in using:
            places = [one for one in before if name in scope.tables[one]]
            left, right = scope.tables[places[0]][name], scope.tables[alias][name]
            if side == "FULL":
                both = combined([left, right])
                column = replace(both, key=whole([left, right]))
            else:
                column = right if side == "RIGHT" else left
            scope.merged[name] = (column, {*places, alias})

    def condition(self, condition: exp.Expression) -> None:
        """Rows that fail the condition go; what it proves of those that stay is noted."""
        for part in conjuncts(condition):
            self.add_rows(self.finished(self.value(part, proving=True)), "filter")
            if self.group is None:
                keys = self.equal_keys(part)
                if keys and all(keys) and keys[0].domain == keys[1].domain:
                    self.scope.unite(keys[0].owner, keys[1].owner)
                self.prove(part)
                self.semi(part)

    def add_rows(self, column: Column, how: str) -> None:
        self.scope.rows |= column.label
        self.scope.row_origins |= {replace(origin, how=how) for origin in column.origins}

    def equal_keys(self, part: exp.Expression) -> tuple[Key | None, Key | None] | None:
        """The keys of an equation of two columns."""
        if not isinstance(part, exp.EQ):
            return None
        sides = [bare(part.this), bare(part.expression)]
        if not all(isinstance(side, exp.Column) for side in sides):
            return None
        one, other = (self.column(side) for side in sides)
        return one.strong_key, other.strong_key

    def prove(self, part: exp.Expression, scope: Scope | None = None) -> None:
        """Note what an equation of a column of the gate proves."""
        if isinstance(part, exp.EQ):
            sides = [bare(part.this), bare(part.expression)]
            columns = [side for side in sides if isinstance(side, exp.Column)]
            texts = [side for side in sides if isinstance(side, exp.Literal) and side.is_string]
        elif isinstance(part, exp.In) and not any(part.args.get(name) for name in ("query", "unnest", "field")):
            columns = [side for side in [bare(part.this)] if isinstance(side, exp.Column)]
            texts = [side for side in map(bare, part.expressions) if isinstance(side, exp.Literal) and side.is_string]
            if len(texts) != len(part.expressions):
                return
        else:
            return
        if len(columns) != 1 or not texts:
            return
        gate = self.column(columns[0]).gate
        fact = gate and literal_parts(self.reader.accepted, gate[1], {text.this for text in texts})
        if fact:
            (scope or self.scope).prove(gate[0], fact)

    def semi(self, part: exp.Expression) -> None:
        """IN and EXISTS on the subject's key let pass whom the sub-select's gate let pass."""
        scope = self.scope
        if isinstance(part, exp.In) and part.args.get("query"):
            left = bare(part.this)
            key = self.column(left).strong_key if isinstance(left, exp.Column) else None
            relation = self.sub(part.args["query"])
            inner = relation.columns[0][1].strong_key if len(relation.columns) == 1 else None
            if key and inner and key.domain == inner.domain and inner.owner in relation.allowed:
                scope.allowed.add(scope.find(key.owner))
        elif isinstance(part, exp.Exists):
            select = part.this.this if isinstance(part.this, exp.Subquery) else part.this
            if isinstance(select, exp.Select) and (select.args.get("group") or not self.aggregates(select)):
                relation = self.sub(select)
                outer = {scope.find(owner) for owner in scope.local_owners()}
                scope.allowed |= {owner for owner in relation.allowed if owner in outer}

    @staticmethod
    def aggregates(node: exp.Select) -> bool:
        """Whether the SELECT makes groups by an aggregate function of its own."""
        clauses = [*node.expressions, *(node.args.get(name) for name in ("having", "qualify", "order"))]
        stack = [clause for clause in clauses if clause is not None]
        while stack:
            one = stack.pop()
            if isinstance(one, exp.Query):
                continue
            if isinstance(one, exp.Window):
                function = one.this
                while isinstance(function, exp.IgnoreNulls | exp.RespectNulls | exp.Filter):
                    stack += [function.expression] if isinstance(function, exp.Filter) else []
                    function = function.this
                stack += [*function.iter_expressions(), *(child for child in one.iter_expressions() if child is not one.this)]
                continue
            if is_aggregate(one):
                return True
            stack += list(one.iter_expressions())
        return False
