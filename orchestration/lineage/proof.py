"""The proof: no row or value of a publication depends on people whom the gate did not let through, and no wall leaks.

Belongs here: the rules over labelled relations. Does not belong here: labels (`tracing`), SQL (`queries`), the form of
exceptions (`waivers`).

Rules: `gate` no data of a person whom the gate did not let pass for the relation's role; `wall` nothing of the compliance
side in marketing; `vault` no direct identifier in any relation, and no foreign pseudonym in a publication; `evidence`
every published column rests on the gate, and its evidence is carried; `own-gate` the gate's answer about a person rests
on that person alone; `declared` a role for every relation that is proven; `understood` nothing that cannot be read;
`waiver` no waiver that is out of force or of no use.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from orchestration.lineage.labels import COMPLIANCE, IDENTIFIER, PERSON, Flow, Relation
from orchestration.lineage.project import NO_ROLE, Name, Node, Project, named
from orchestration.lineage.tracing import GATE_ITSELF, Refused, Side, Tracer
from orchestration.lineage.waivers import Waiver


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


class Prover(Tracer):
    """Judges the labelled relations."""

    def __init__(self, project: Project, waivers: Iterable[Waiver] = (), today: date | None = None) -> None:
        super().__init__(project, waivers, today or date.today())
        self.violations: list[Violation] = []

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
        for role, name, flow in sorted(self.accepted, key=str):
            self.note("gate", name, flow.source, self.path(self.side(role), name, flow), flow.cause or "own data, not gated")
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
