"""The proof: no row or value of a publication depends on people whom the gate did not let through, and no wall leaks.

Belongs here: labels of the project's relations, the rules over them, paths of violations. Does not belong here: SQL
(`queries`), the algebra (`labels`), exceptions (`waivers`).

Rules: `gate` no data of a person whom the gate did not let pass for the relation's role; `wall` nothing of the compliance
side in marketing; `vault` no direct identifier in any relation, and no foreign pseudonym in a publication; `evidence`
every published column rests on the gate, and its evidence is carried; `own-gate` the gate's answer about a person rests
on that person alone; `declared` a role for every relation that is proven; `understood` nothing that cannot be read;
`waiver` no waiver that is out of force or of no use.
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
from orchestration.lineage.project import Name, Node, Project, named
from orchestration.lineage.queries import Reader
from orchestration.lineage.scopes import NotUnderstood
from orchestration.lineage.waivers import Waiver

NO_ROLE, GATE_ITSELF = "none", "the gate itself"


@dataclass(frozen=True)
class Violation:
    """A broken rule: where, from which source, by which way (source first), and what is wrong."""

    rule: str
    relation: str
    source: str
    path: tuple[str, ...]
    detail: str

    @property
    def case(self) -> tuple[str, str, str]:
        """What a waiver names."""
        return self.rule, self.relation, self.source

    def __str__(self) -> str:
        return f"{self.rule}: {' -> '.join(self.path)}: {self.detail}"


@dataclass
class Side:
    """The project seen for one role: relations with their labels, and who reads whom."""

    role: str
    relations: dict[Name, Relation] = field(default_factory=dict)
    reads: dict[Name, set[Name]] = field(default_factory=dict)
    refused: dict[Name, tuple[tuple[str, ...], str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Proof:
    """What came of it. `proven` are the relations that were checked, `waived` the violations that a waiver covers."""

    profile: str
    proven: tuple[str, ...]
    violations: tuple[Violation, ...]
    waived: tuple[tuple[Violation, Waiver], ...]
    sides: dict[str, Side]

    @property
    def holds(self) -> bool:
        """Whether no rule is broken."""
        return not self.violations

    @property
    def first_violations(self) -> list[tuple[Violation, int]]:
        """Violations where they begin, each with the number of relations further down that only inherit it."""
        found = []
        places = {(one.rule, one.source, one.relation) for one in self.violations}
        for one in self.violations:
            if not any((one.rule, one.source, above) in places for above in one.path[:-1]):
                below = [other for other in self.violations if (other.rule, other.source) == (one.rule, one.source)]
                found.append((one, sum(one.relation in other.path[:-1] for other in below)))
        return found


class Refused(NotUnderstood):
    """A relation that cannot be read, with the way from it to whoever wanted it."""

    def __init__(self, path: tuple[str, ...], reason: str) -> None:
        super().__init__(reason)
        self.path, self.reason = path, reason


class Prover:
    """Labels the project's relations, once per role, and judges them."""

    def __init__(self, project: Project, waivers: Iterable[Waiver] = (), today: date | None = None) -> None:
        self.project, self.policy = project, project.policy
        self.today = today or date.today()
        self.waivers = tuple(waivers)
        self.sides: dict[str, Side] = {}
        self.parsed: dict[Name, object] = {}
        self.violations: list[Violation] = []

    # -- relations ----------------------------------------------------------------------------------------------------

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
        return self.waived(node, self.sided(node, relation))

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

    def waived(self, node: Node, relation: Relation) -> Relation:
        """The relation without flows that a waiver of the rule `gate` accepts here; violations are noted elsewhere."""
        sources = {
            waiver.source
            for waiver in self.waivers
            if waiver.rule == "gate" and waiver.relation == node.text and waiver.in_force(self.today)
        }
        if not sources:
            return relation

        def rest(label: Label) -> Label:
            return frozenset(flow for flow in label if flow.kind != PERSON or flow.source not in sources)

        for flow in relation.label - rest(relation.label):
            self.note("gate", node.name, flow.source, self.path(self.side(node.role or NO_ROLE), node.name, flow), "waived")
        columns = tuple((name, replace(column, label=rest(column.label))) for name, column in relation.columns)
        return replace(relation, columns=columns, rows=rest(relation.rows))

    # -- rules --------------------------------------------------------------------------------------------------------

    def note(self, rule: str, name: Name, source: str, path: Iterable[str], detail: str) -> None:
        violation = Violation(rule, ".".join(name), source, tuple(path) or (source, ".".join(name)), detail)
        if violation.case not in {known.case for known in self.violations}:
            self.violations.append(violation)

    def prove(self) -> Proof:
        """Judge every relation of the proven zones, the gate and the identifiers of all; raises nothing."""
        proven = []
        for hook in self.project.hooks:
            self.note("understood", ("dbt", hook), hook, (hook,), "SQL that runs besides the models may change any of them")
        for name, node in sorted(self.project.nodes.items()):
            if name[0] in self.policy.proven_zones:
                proven.append(node.text)
                if node.role not in self.policy.roles:
                    detail = f"its meta.governance.role is one of {', '.join(self.policy.roles)}"
                    self.note("declared", name, node.text, (node.text,), detail)
                else:
                    self.judge(name, node, self.side(node.role))
            elif name[0] not in self.policy.read_zones:
                self.note("declared", name, node.text, (node.text,), f"the policy does not know the zone {name[0]}")
            self.judge_identifiers(name, node)
        self.judge_gate()
        return self.ended(tuple(proven))

    def judge(self, name: Name, node: Node, side: Side) -> None:
        """The rules for one relation that is proven."""
        try:
            relation = self.relation(side, name, ())
        except Refused as refused:
            self.note("understood", name, refused.path[0], refused.path, refused.reason)
            return
        for flow in sorted(relation.label, key=lambda flow: (flow.kind, flow.source, flow.cause)):
            if flow.kind == PERSON:
                how = flow.cause or "the gate lets these rows pass nowhere on the way"
                self.note("gate", name, flow.source, self.path(side, name, flow), f"{self.where(relation, flow)}: {how}")
            elif flow.kind == COMPLIANCE and node.role != "risk":
                detail = f"{self.where(relation, flow)}: data of the compliance side in a relation that is not on it"
                self.note("wall", name, flow.source, self.path(side, name, flow), detail)
        if name[0] in self.policy.pseudonym_zones:
            self.judge_pseudonyms(name, node, relation)
        if name[0] == self.policy.published_from:
            self.judge_evidence(side, name, relation)

    @staticmethod
    def where(relation: Relation, flow: Flow) -> str:
        """Where in the relation the flow is."""
        found = [name for name, column in relation.columns if flow in column.label]
        parts = (["which rows there are"] if flow in relation.rows else []) + found[:4]
        return ", ".join(parts) + (f" and {len(found) - 4} more" if len(found) > 4 else "")

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
                if parent not in seen and carried is not None:
                    if any(one.kind == flow.kind and one.source == source for one in carried.label):
                        seen.add(parent)
                        ways.append((parent, *way))
        return (source, ".".join(name))

    def judge_pseudonyms(self, name: Name, node: Node, relation: Relation) -> None:
        own = self.policy.roles[node.role].pseudonym
        for column, found in relation.columns:
            for foreign in sorted(found.pseudonyms - {own}):
                self.note("vault", name, foreign, (foreign, f"{node.text}.{column}"), "a pseudonym that is not this zone's own")

    def judge_identifiers(self, name: Name, node: Node) -> None:
        """No relation outside the vault holds what only the vault may hold, by declaration or by flow."""
        for column, category in node.categories.items():
            if self.policy.is_identifier(category) and node.kind != "raw":
                self.note("vault", name, column, (f"{node.text}.{column}",), f"declared as {category}: only the vault holds it")
            elif self.policy.is_identifier(category):
                self.note("vault", name, column, (f"{node.text}.{column}",), f"landed as {category}: only the vault holds it")
        side = self.side(node.role if node.role in self.policy.roles else NO_ROLE)
        side = self.side(GATE_ITSELF) if name == self.gate_name else side
        try:
            relation = self.relation(side, name)
        except Refused:
            return  # reported where something proven reads it
        for flow in sorted((flow for flow in relation.label if flow.kind == IDENTIFIER), key=lambda flow: flow.source):
            if flow.source.rsplit(".", 1)[0] != node.text:
                detail = f"{self.where(relation, flow)}: an identifier has left the vault"
                self.note("vault", name, flow.source, self.path(side, name, flow), detail)

    def judge_gate(self) -> None:
        """The gate has what the proof rests on, and its answer about a person rests on that person alone."""
        gate, node = self.policy.gate, self.project.nodes.get(self.gate_name)
        if node is None:
            self.note("own-gate", self.gate_name, gate.relation, (gate.relation,), "there is no gate")
            return
        missing = {*gate.evidence, *gate.open, gate.outcome, gate.role} - set(node.categories)
        if missing:
            self.note("own-gate", node.name, gate.relation, (node.text,), f"it declares no {', '.join(sorted(missing))}")
        side = self.side(GATE_ITSELF)
        try:
            relation = self.relation(side, node.name)
        except Refused as refused:
            self.note("understood", node.name, refused.path[0], refused.path, refused.reason)
            return
        for flow in sorted(relation.label, key=lambda flow: (flow.source, flow.cause)):
            if flow.owner is None and flow.kind == PERSON:
                detail = f"{self.where(relation, flow)}: the gate's answer about one person depends on others: {flow.cause}"
                self.note("own-gate", node.name, flow.source, self.path(side, node.name, flow), detail)

    def judge_evidence(self, side: Side, name: Name, relation: Relation) -> None:
        """Published rows about subjects carry the gate's evidence, and every column rests on it."""
        text = ".".join(name)
        subjects = [column for column, found in relation.columns if found.pseudonyms]
        if subjects:
            columns = dict(relation.columns)
            for evidence in self.policy.carried:
                if evidence not in columns or columns[evidence].carries != evidence:
                    detail = "not carried from the gate as it is in every row" if evidence in columns else "not there"
                    self.note("evidence", name, evidence, (self.policy.gate.relation, f"{text}.{evidence}"), detail)
        reach = self.reach(side, name)
        if not subjects and not any(self.project.nodes[one].kind == "raw" for one in reach):
            return  # made of reference data alone
        for column, found in relation.columns:
            parents = {named(origin.relation) for origin in found.origins | relation.row_origins}
            above = parents.union(*(self.reach(side, parent) for parent in parents))
            if self.gate_name not in above:
                path = (self.policy.gate.relation, f"{text}.{column}")
                self.note("evidence", name, column, path, "the column does not rest on the consent evidence")

    def reach(self, side: Side, name: Name) -> set[Name]:
        """All relations upstream."""
        found: set[Name] = set()
        stack = [name]
        while stack:
            for parent in side.reads.get(stack.pop(), set()) - found:
                found.add(parent)
                stack.append(parent)
        return found

    def ended(self, proven: tuple[str, ...]) -> Proof:
        """The proof after the waivers; one that is out of force, or of no use, is a violation itself."""
        by_case = {(waiver.rule, waiver.relation, waiver.source): waiver for waiver in self.waivers}
        waived, standing = [], []
        for violation in self.violations:
            waiver = by_case.get(violation.case)
            if waiver is not None and waiver.in_force(self.today):
                waived.append((violation, waiver))
            else:
                standing.append(violation)
        used = {waiver for _, waiver in waived}
        for waiver in self.waivers:
            case = f"{waiver.rule} at {waiver.relation} from {waiver.source}"
            if not waiver.in_force(self.today):
                detail = f"the waiver of {waiver.reviewer} ended on {waiver.expires}"
                if self.today < waiver.reviewed:
                    detail = f"the waiver of {waiver.reviewer} is dated in the future"
            elif waiver not in used:
                detail = "the waiver covers nothing any more: remove it"
            else:
                continue
            standing.append(Violation("waiver", waiver.relation, waiver.source, (case,), detail))
        return Proof(self.project.profile, proven, tuple(standing), tuple(waived), self.sides)


def prove(project: Project, waivers: Iterable[Waiver] = (), today: date | None = None) -> Proof:
    """Prove the project, or say where the proof breaks."""
    return Prover(project, waivers, today).prove()
