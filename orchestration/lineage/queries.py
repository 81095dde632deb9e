"""What a query's rows and columns depend on, read from its SQL.

Belongs here: queries as wholes: common table expressions, tables in FROM, VALUES, set operations. Does not belong here:
one SELECT (`selecting`), relations of the project and rules about them (`proof`). Joins, filters, EXISTS and counts are
flow; column lineage alone sees none of them. What is not understood raises `NotUnderstood`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from sqlglot import exp

from orchestration.lineage.labels import (
    NOTHING,
    Column,
    Key,
    Label,
    Relation,
    combined,
    distinct,
    fresh_number,
    limited,
    mapped,
    renamed,
)
from orchestration.lineage.scopes import NotUnderstood, Scope
from orchestration.lineage.selecting import Selecting
from orchestration.lineage.syntax import only

TABLE_PARTS = {"this", "db", "catalog", "alias"}


@dataclass
class Reader:
    """Reads queries. `relation_of` gives a table's relation by (schema, name) or raises `NotUnderstood`; `accepted` the
    values that prove, per part of the gate, that it let the subject pass for the role under proof."""

    relation_of: Callable[[str, str], Relation]
    accepted: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def query(self, node: exp.Expression, tables: Mapping[str, Relation], outer: Scope | None = None) -> Relation:
        """The relation that a query makes. `tables` are the common table expressions in force."""
        if isinstance(node, exp.Subquery):
            only(node, {"this", "alias", "with_", "order", "limit", "offset"})
            if node.args.get("order") or node.args.get("limit"):
                tables = self.common(node, tables, outer)
                return self.cut(self.query(node.this, tables, outer), node, outer)
            return self.query(node.this, self.common(node, tables, outer), outer)
        tables = self.common(node, tables, outer)
        if isinstance(node, exp.Select):
            return Selecting(self, node, tables, outer).relation()
        if isinstance(node, exp.SetOperation):
            only(node, {"this", "expression", "distinct", "with_", "order", "limit", "offset"})
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
            only(entry, {"this", "alias", "materialized"})
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
        only(node, TABLE_PARTS)
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
        only(node, {"expressions", "alias"})
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
