"""What a query's rows and columns depend on, read from its SQL.

Belongs here: SQL turned into labels (`labels`, `scopes`), clause by clause in the order in which SQL evaluates them.
Does not belong here: relations of the project and rules about them (`proof`). Joins, filters, EXISTS and counts are
flow; column lineage alone sees none of them. What is not understood raises `NotUnderstood`.
Syntax tree: https://sqlglot.com/sqlglot/expressions.html
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from sqlglot import exp

from orchestration.lineage.labels import (
    NOTHING,
    Column,
    Key,
    Label,
    Relation,
    combined,
    fresh_number,
    mapped,
    mix,
    renamed,
)
from orchestration.lineage.scopes import NotUnderstood, Scope, literal_parts, whole

SELECT_PARTS = {
    "with_", "expressions", "from_", "joins", "where", "group", "having", "qualify", "distinct", "order", "limit", "offset",
}  # fmt: skip
TABLE_PARTS = {"this", "db", "catalog", "alias"}
JOIN_PARTS = {"this", "on", "using", "side", "kind"}
WINDOW_PARTS = {"this", "partition_by", "order", "spec", "over"}
REFUSED = (
    exp.Columns, exp.PositionalColumn, exp.Parameter, exp.Placeholder, exp.SessionParameter, exp.Comprehension, exp.Explode,
    exp.Unnest, exp.Lateral, exp.Pivot, exp.Dot, exp.Command, exp.ReadCSV, exp.Star,
)  # fmt: skip
# They read what no column shows: settings, variables, sequences, the process's environment.
REFUSED_FUNCTIONS = {"getvariable", "current_setting", "getenv", "nextval", "currval", "query", "query_table"}
NAMES_NOBODY = (exp.Count, exp.CountIf, exp.RowNumber, exp.Rank, exp.DenseRank, exp.Predicate, exp.Sum, exp.Avg)


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
    return _aggregate_class(type(node)) and not isinstance(node, exp.Anonymous)


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


def _only(node: exp.Expression, allowed: set[str]) -> None:
    extra = [name for name, value in node.args.items() if value and name not in allowed]
    if extra:
        raise NotUnderstood(f"{type(node).__name__.lower()} with {', '.join(extra)}")


@dataclass
class Reader:
    """Reads queries. `relation_of` gives a table's relation by (schema, name) or raises `NotUnderstood`; `accepted` the
    values that prove, per part of the gate, that it let the subject pass for the role under proof."""

    relation_of: Callable[[str, str], Relation]
    accepted: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def query(self, node: exp.Expression, tables: Mapping[str, Relation], outer: Scope | None = None) -> Relation:
        """The relation that a query makes. `tables` are the common table expressions in force."""
        if isinstance(node, exp.Subquery):
            _only(node, {"this", "alias", "with_", "order", "limit", "offset"})
            if node.args.get("order") or node.args.get("limit"):
                tables = self.common(node, tables, outer)
                return self.cut(self.query(node.this, tables, outer), node, outer)
            return self.query(node.this, self.common(node, tables, outer), outer)
        tables = self.common(node, tables, outer)
        if isinstance(node, exp.Select):
            return Selecting(self, node, tables, outer).relation()
        if isinstance(node, exp.SetOperation):
            _only(node, {"this", "expression", "distinct", "with_", "order", "limit", "offset"})
            return self.cut(self.set_operation(node, tables, outer), node, outer)
        if isinstance(node, exp.Values):
            return self.values(node, tables, outer)
        raise NotUnderstood(f"a query of the kind {type(node).__name__.lower()}")

    def common(self, node: exp.Expression, tables: Mapping[str, Relation], outer: Scope | None) -> Mapping[str, Relation]:
        """The common table expressions in force within a query."""
        clause = node.args.get("with_")
        if not clause:
            return tables
        if clause.args.get("recursive"):
            raise NotUnderstood("a recursive query")
        known = dict(tables)
        for entry in clause.expressions:
            _only(entry, {"this", "alias", "materialized"})
            known[entry.alias.lower()] = _with_names(self.query(entry.this, known, outer), entry.args["alias"])
        return known

    def table(self, node: exp.Expression, tables: Mapping[str, Relation], outer: Scope | None) -> tuple[str, Relation]:
        """(alias, relation) of something that stands in FROM."""
        alias = node.args.get("alias")
        if isinstance(node, exp.Subquery):
            relation = self.query(node, tables, outer)
            return (node.alias or f"subquery {id(node)}").lower(), _with_names(relation, alias)
        if isinstance(node, exp.Values):
            return (node.alias or "values").lower(), self.values(node, tables, outer)
        if not isinstance(node, exp.Table):
            raise NotUnderstood(f"{type(node).__name__.lower()} in FROM")
        if isinstance(node.this, exp.Func):
            raise NotUnderstood(f"the table function {node.this.sql_name().lower()}")
        _only(node, TABLE_PARTS)
        if not isinstance(node.this, exp.Identifier):
            raise NotUnderstood(f"the table function {node.this.sql(dialect='duckdb')[:40]}")
        name = node.name.lower()
        if not node.db and name in tables:
            relation = tables[name]
        else:
            if node.catalog and node.catalog.lower() != "lake":
                raise NotUnderstood(f"the database {node.catalog}")
            relation = self.relation_of(node.db.lower(), name)
        keep = {outer.find(owner) for owner in outer.local_owners()} | outer.outer_owners if outer else ()
        return (node.alias or name).lower(), renamed(_with_names(relation, alias), keep)

    def values(self, node: exp.Values, tables: Mapping[str, Relation], outer: Scope | None) -> Relation:
        """Rows that stand in the query itself."""
        _only(node, {"expressions", "alias"})
        scope = Scope(outer)
        rows = [entry.expressions if isinstance(entry, exp.Tuple) else [entry] for entry in node.expressions]
        reading = Selecting(self, exp.select("1"), tables, outer, scope)
        columns = [combined([reading.value(row[position]) for row in rows]) for position in range(len(rows[0]))]
        label = NOTHING.union(*(column.label for column in columns))
        relation = Relation(tuple((f"col{position}", column) for position, column in enumerate(columns)), label)
        return _with_names(relation, node.args.get("alias"))

    def set_operation(self, node: exp.SetOperation, tables: Mapping[str, Relation], outer: Scope | None) -> Relation:
        """Union, intersection or difference: own flows stay own where both sides name the subject in one column."""
        left, right = self.query(node.this, tables, outer), self.query(node.expression, tables, outer)
        if len(left.columns) != len(right.columns):
            raise NotUnderstood("a set operation of unequal width")
        keep = Scope(outer).outer_owners if outer else set()
        owners: dict[tuple[int, int], int] = {}
        keys: list[Key | None] = []
        for (_, one), (_, other) in zip(left.columns, right.columns, strict=True):
            first, second = one.strong_key, other.strong_key
            if first and second and first.domain == second.domain and not {first.owner, second.owner} & keep:
                pair = (first.owner, second.owner)
                clash = [known for known in owners if known != pair and (known[0] == pair[0] or known[1] == pair[1])]
                if not clash:
                    keys.append(Key(owners.setdefault(pair, fresh_number()), first.domain))
                    continue
            keys.append(None)
        left_owner, right_owner = {pair[0]: owner for pair, owner in owners.items()}, {p[1]: o for p, o in owners.items()}
        cause = "a set operation of rows that do not name the subject in one column"

        def seen(label: Label, numbers: Mapping[int, int]) -> Label:
            return mapped(
                label,
                lambda flow: replace(flow, owner=numbers[flow.owner])
                if flow.owner in numbers
                else (flow if flow.owner in keep else replace(flow, owner=None, cause=cause)),
            )

        columns = []
        for key, (name, one), (_, other) in zip(keys, left.columns, right.columns, strict=True):
            columns.append(
                (
                    name,
                    Column(
                        seen(one.label, left_owner) | seen(other.label, right_owner),
                        key,
                        None,
                        one.carries if one.carries == other.carries or isinstance(node, exp.Except) else None,
                        one.pseudonyms | other.pseudonyms,
                        one.origins | other.origins,
                    ),
                )
            )
        rows = seen(left.rows, left_owner) | seen(right.rows, right_owner)
        row_origins = left.row_origins | right.row_origins
        allowed = {
            owner for (one, other), owner in owners.items() if one in left.allowed and other in right.allowed
        }
        relation = Relation(tuple(columns), rows, row_origins, frozenset(allowed))
        if node.args.get("distinct") or not isinstance(node, exp.Union):
            relation = distinct(relation, keep)
        return relation

    def cut(self, relation: Relation, node: exp.Expression, outer: Scope | None) -> Relation:
        """The relation after ORDER BY, LIMIT and OFFSET on a whole set operation."""
        if node.args.get("limit") or node.args.get("offset"):
            return limited(relation, Scope(outer).outer_owners if outer else set())
        return relation


def _with_names(relation: Relation, alias: exp.Expression | None) -> Relation:
    names = [column.name.lower() for column in alias.args.get("columns") or []] if alias is not None else []
    if len(names) > len(relation.columns):
        raise NotUnderstood("more column names than columns")
    columns = [
        (names[position] if position < len(names) else name, column)
        for position, (name, column) in enumerate(relation.columns)
    ]
    return replace(relation, columns=tuple(columns))


def distinct(relation: Relation, keep: set[int]) -> Relation:
    """One row for each set of equal rows: separable by subject only if a column names the subject."""
    kept = keep | {column.strong_key.owner for _, column in relation.columns if column.strong_key}
    cause = "distinct rows of several subjects"
    rows = mix(relation.label, kept, cause)
    columns = tuple((name, replace(column, label=mix(column.label, kept, cause))) for name, column in relation.columns)
    return replace(relation, columns=columns, rows=rows)


def limited(relation: Relation, keep: set[int]) -> Relation:
    """The first so many rows: which they are depends on everybody's."""
    cause = "a limited number of several subjects' rows"
    columns = tuple((name, replace(column, label=mix(column.label, keep, cause))) for name, column in relation.columns)
    return replace(relation, columns=columns, rows=mix(relation.label, keep, cause))


class Selecting:
    """One SELECT, read clause by clause."""

    def __init__(
        self, reader: Reader, node: exp.Select, tables: Mapping[str, Relation], outer: Scope | None, scope: Scope | None = None
    ) -> None:
        self.reader, self.node, self.tables = reader, node, tables
        self.scope = scope or Scope(outer)
        self.group: list[tuple[exp.Expression, Column]] | None = None
        self.kept: set[int] = set()

    # -- the clauses --------------------------------------------------------------------------------------------------

    def relation(self) -> Relation:
        """The relation that the SELECT makes."""
        node, scope = self.node, self.scope
        _only(node, SELECT_PARTS)
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
        scope.rows = first[1].rows
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
        _only(join, JOIN_PARTS)
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

    # -- conditions ---------------------------------------------------------------------------------------------------

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

    # -- groups and the select list -----------------------------------------------------------------------------------

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

    def read_group(self) -> None:
        """GROUP BY, or the one group of an aggregate without it."""
        node, scope = self.node, self.scope
        group = node.args.get("group")
        if group is None and not node.args.get("having") and not self.aggregates(node):
            return
        expressions: list[exp.Expression] = []
        if group is not None:
            _only(group, {"expressions", "all"})
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

    def finished(self, column: Column) -> Column:
        """A value as it is after grouping: made of its whole group's rows."""
        if self.group is None:
            return column
        cause = "an aggregate over several subjects"
        label = mix(self.scope.settled(column.label | self.scope.rows), self.kept, cause)
        return Column(label, pseudonyms=column.pseudonyms, origins=column.origins)

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

    def place(self, column: exp.Column) -> tuple[str, str] | None:
        try:
            return self.scope.place(column.name.lower(), column.table.lower())
        except NotUnderstood:
            return None

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
        _only(star, {"except_"})
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
            if isinstance(inner, exp.Var) or inner.name.lower() == "all" and isinstance(inner, exp.Column):
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

    # -- expressions --------------------------------------------------------------------------------------------------

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
        _only(node, WINDOW_PARTS)
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

