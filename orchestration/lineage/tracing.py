"""Labels of the project's relations: each model read after those that it reads, once for each role.

Belongs here: from sources to labelled relations, and the ways between them. Does not belong here: SQL (`queries`), the
rules over the labels (`proof`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import date
from functools import cached_property

from sqlglot import parse_one
from sqlglot.errors import SqlglotError

from orchestration.lineage.labels import (
    COMPLIANCE,
    IDENTIFIER,
    NOTHING,
    PERSON,
    Column,
    Flow,
    Key,
    Label,
    Origin,
    Relation,
    as_parent,
    fresh_number,
)
from orchestration.lineage.project import NO_ROLE, Name, Node, Project, named
from orchestration.lineage.queries import Reader
from orchestration.lineage.scopes import NotUnderstood
from orchestration.lineage.waivers import Waiver

GATE_ITSELF = "the gate itself"


@dataclass
class Side:
    """The project seen for one role: relations with their labels, and who reads whom."""

    role: str
    relations: dict[Name, Relation] = field(default_factory=dict)
    reads: dict[Name, set[Name]] = field(default_factory=dict)
    refused: dict[Name, tuple[tuple[str, ...], str]] = field(default_factory=dict)


class Refused(NotUnderstood):
    """A relation that cannot be read, with the way from it to whoever wanted it."""

    def __init__(self, path: tuple[str, ...], reason: str) -> None:
        super().__init__(reason)
        self.path, self.reason = path, reason


class Tracer:
    """Labels the project's relations. `accepted` are the flows that a waiver in force took out, with role and relation."""

    def __init__(self, project: Project, waivers: Iterable[Waiver], today: date) -> None:
        self.project, self.policy, self.today = project, project.policy, today
        self.waivers = tuple(waivers)
        self.sides: dict[str, Side] = {}
        self.parsed: dict[Name, object] = {}
        self.accepted: set[tuple[str, Name, Flow]] = set()

    @cached_property
    def gate_name(self) -> Name:
        return named(self.policy.gate.relation)

    def side(self, role: str) -> Side:
        """The project seen for one role."""
        return self.sides.setdefault(role, Side(role))

    def relation(self, side: Side, name: Name, reading: tuple[Name, ...] = ()) -> Relation:
        """The relation with its labels for the side's role. Raises `Refused` if it cannot be read."""
        if name in side.refused:
            raise Refused(*side.refused[name])
        if name in side.relations:
            return side.relations[name]
        text = ".".join(name)
        try:
            if name in reading:
                raise Refused((text,), "it reads itself")
            relation = self.made(side, name, reading)
        except Refused as refused:
            way = refused.path if refused.path[-1] == text else (*refused.path, text)
            side.refused[name] = way, refused.reason
            raise Refused(way, refused.reason) from None
        side.relations[name] = relation
        return relation

    def made(self, side: Side, name: Name, reading: tuple[Name, ...]) -> Relation:
        node = self.project.nodes.get(name)
        text = ".".join(name)
        if node is None:
            raise Refused((text,), f"the project does not know {text or 'it'}")
        if node.obstacle:
            raise Refused((text,), node.obstacle)
        if name == self.gate_name and side.role != GATE_ITSELF:
            return self.gate(node)
        if node.kind == "raw":
            relation = self.landed(node)
        elif node.kind == "seed":
            relation = self.seed(node)
        elif node.kind == "python":
            relation = self.python(side, node, reading)
        else:
            relation = self.model(side, node, reading)
        return self.waived(side, node, self.sided(node, relation))

    def gate(self, node: Node) -> Relation:
        """The gate as those see it that read it: evidence and pseudonyms are open, the rest is the person's."""
        gate, owner, use = self.policy.gate, fresh_number(), fresh_number()
        own = frozenset({Flow(PERSON, gate.relation, owner)})
        columns = []
        for column in node.categories:
            part = {gate.outcome: "outcome", gate.role: "role"}.get(column)
            key = Key(owner, column) if column in self.policy.pseudonyms else None
            opened = key or column in gate.evidence or column in gate.open
            columns.append(
                (
                    column,
                    Column(
                        NOTHING if opened else own,
                        key,
                        (use, part) if part else None,
                        column if column in gate.evidence else None,
                        frozenset({column} if key else ()),
                    ),
                )
            )
        return Relation(tuple(columns), facts={use: (owner, frozenset())})

    def landed(self, node: Node) -> Relation:
        """A raw table: each row is one person's."""
        return self.person_source(node, node.categories)

    def person_source(self, node: Node, categories) -> Relation:
        owner, text = fresh_number(), node.text
        own = frozenset({Flow(PERSON, text, owner)})
        names_subject = any(column in self.policy.pseudonyms for column in categories)
        if not names_subject:
            own = frozenset({Flow(PERSON, text, None, "rows that do not name their subject")})
        columns = []
        for column, category in categories.items():
            label: Label = own
            if f"{text}.{column}" in self.policy.compliance.columns:
                label |= {Flow(COMPLIANCE, f"{text}.{column}")}
            if self.policy.is_identifier(category):
                label |= {Flow(IDENTIFIER, f"{text}.{column}")}
            key = Key(owner, column) if column in self.policy.pseudonyms else None
            gives = {column} & {*self.policy.pseudonyms, *self.policy.other_pseudonyms}
            columns.append((column, Column(label, key, pseudonyms=frozenset(gives))))
        return Relation(tuple(columns), own)

    def seed(self, node: Node) -> Relation:
        """A seed is public, unless it names subjects or holds their data: then it is a source like any other."""
        personal = any((category or "").startswith("user.") for category in node.categories.values())
        if personal or any(column in self.policy.pseudonyms for column in node.categories):
            return self.person_source(node, node.categories)
        if not node.categories:
            raise Refused((node.text,), "a seed without declared columns")
        return Relation(tuple((column, Column()) for column in node.categories))

    def python(self, side: Side, node: Node, reading: tuple[Name, ...]) -> Relation:
        """What a Python step makes: everything that it reads may be in everything that it writes."""
        if not node.categories:
            raise Refused((node.text,), "made outside dbt, and its columns are not declared")
        side.reads[node.name] = set(node.inputs)
        label: Label = NOTHING
        origins: set[Origin] = set()
        for name in node.inputs:
            given = self.relation(side, name, (*reading, node.name))
            cause = "a Python step that may use everybody's rows"
            label |= {replace(flow, owner=None, cause=cause if flow.owner else flow.cause) for flow in given.label}
            origins |= {Origin(".".join(name), column, "transformation") for column, _ in given.columns}
        owner = fresh_number()
        columns = tuple(
            (
                column,
                Column(
                    label,
                    Key(owner, column) if column in self.policy.pseudonyms else None,
                    pseudonyms=frozenset({column} & {*self.policy.pseudonyms, *self.policy.other_pseudonyms}),
                    origins=frozenset(origins),
                ),
            )
            for column in node.categories
        )
        return Relation(columns, label, frozenset(replace(origin, how="join") for origin in origins))

    def model(self, side: Side, node: Node, reading: tuple[Name, ...]) -> Relation:
        """What a model's SQL makes."""
        reads = side.reads.setdefault(node.name, set())

        def relation_of(zone: str, name: str) -> Relation:
            found = (zone, name)
            reads.add(found)
            return as_parent(self.relation(side, found, (*reading, node.name)), ".".join(found))

        gate = self.policy.gate
        accepted = {"outcome": frozenset({gate.allow}), "role": frozenset({side.role} - {NO_ROLE})}
        try:
            if node.name not in self.parsed:
                self.parsed[node.name] = parse_one(node.sql, read="duckdb")
            return Reader(relation_of, accepted).query(self.parsed[node.name], {})
        except Refused:
            raise
        except NotUnderstood as error:
            raise Refused((node.text,), f"not understood: {error}") from None
        except SqlglotError as error:
            raise Refused((node.text,), f"not readable as SQL: {str(error).splitlines()[0][:80]}") from None
        except RecursionError:
            raise Refused((node.text,), "nested too deeply to be read") from None

    def sided(self, node: Node, relation: Relation) -> Relation:
        """The relation with the mark of the compliance side, if it is on it."""
        if node.role != "risk" and node.text not in self.policy.compliance.relations:
            return relation
        mark = frozenset({Flow(COMPLIANCE, node.text)})
        columns = tuple((name, replace(column, label=column.label | mark)) for name, column in relation.columns)
        return replace(relation, columns=columns, rows=relation.rows | mark)

    def waived(self, side: Side, node: Node, relation: Relation) -> Relation:
        """The relation without flows that a waiver of the rule `gate` accepts here; what was taken out is in `accepted`."""
        sources = {
            waiver.source
            for waiver in self.waivers
            if waiver.rule == "gate" and waiver.relation == node.text and waiver.in_force(self.today)
        }
        if not sources:
            return relation

        def rest(label: Label) -> Label:
            return frozenset(flow for flow in label if flow.kind != PERSON or flow.source not in sources)

        self.accepted |= {(side.role, node.name, flow) for flow in relation.label - rest(relation.label)}
        columns = tuple((name, replace(column, label=rest(column.label))) for name, column in relation.columns)
        return replace(relation, columns=columns, rows=rest(relation.rows))

    def path(self, side: Side, name: Name, flow: Flow) -> tuple[str, ...]:
        """The shortest way from the source to the relation, by relations that carry the flow."""
        source = flow.source
        ways: list[tuple[Name, ...]] = [(name,)]
        seen = {name}
        while ways:
            way = ways.pop(0)
            text = ".".join(way[0])
            if text == source or (len(way) > 1 and source.startswith(f"{text}.")):
                start = (source,) if source != text else ()
                return (*start, *(".".join(one) for one in way))
            for parent in sorted(side.reads.get(way[0], ())):
                carried = side.relations.get(parent)
                if parent in seen or carried is None:
                    continue
                if any(one.kind == flow.kind and one.source == source for one in carried.label):
                    seen.add(parent)
                    ways.append((parent, *way))
        return (source, ".".join(name))

    def reach(self, side: Side, name: Name) -> set[Name]:
        """All relations upstream."""
        found: set[Name] = set()
        stack = [name]
        while stack:
            for parent in side.reads.get(stack.pop(), set()) - found:
                found.add(parent)
                stack.append(parent)
        return found
