"""The passport of a published relation or segment: where it comes from, by what right, and what was proven of it.

Belongs here: gathering what manifest, policy and proof say about one publication, as plain values and as text. Does not
belong here: proving (`proof`), reading stores.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestration.lineage.labels import Origin
from orchestration.lineage.project import NO_ROLE, Name, Node, Project, named
from orchestration.lineage.proof import Proof
from orchestration.lineage.tracing import GATE_ITSELF, Side

SHOWN = ("rule_id", "id", "version", "segment", "family", "text", "predicate", "points", "floor", "owner", "legal_reference")


class UnknownSegment(LookupError):
    """No publication and no segment of that name; the message lists what there is."""


def publications(project: Project) -> list[str]:
    """Names of the published relations."""
    return sorted(name for zone, name in project.nodes if zone == project.policy.published_from)


def upstream(side: Side, name: Name) -> list[Name]:
    """The relations that a relation is made of, nearest last, itself included."""
    ordered: list[Name] = []

    def visit(one: Name) -> None:
        for parent in sorted(side.reads.get(one, ())):
            if parent not in ordered:
                visit(parent)
        if one not in ordered:
            ordered.append(one)

    visit(name)
    return ordered


def leaves(side: Side, name: Name, column: str, known: dict[tuple[Name, str], frozenset[str]]) -> frozenset[str]:
    """The columns of sources that a column's values are made of, as `zone.name.column`."""
    place = name, column
    if place not in known:
        known[place] = frozenset()
        relation = side.relations.get(name)
        origins = dict(relation.columns)[column].origins if relation and column in dict(relation.columns) else ()
        if origins:
            found = (leaves(side, named(origin.relation), origin.column, known) for origin in origins)
            known[place] = frozenset().union(*found)
        elif not side.reads.get(name):
            known[place] = frozenset({f"{'.'.join(name)}.{column}"})
    return known[place]


def resolved(project: Project, proof: Proof, wanted: str) -> tuple[Name, dict[str, Any] | None]:
    """(relation, definition) that a name means: a published relation, or a segment that a model's meta defines."""
    plain = wanted.removeprefix(f"{project.policy.published_zone}.").removeprefix(f"{project.policy.published_from}.")
    names = publications(project)
    if plain in names:
        return (project.policy.published_from, plain), None
    segments = []
    for name in names:
        place = (project.policy.published_from, name)
        for one in upstream(side_of(project, proof, place), place):
            for entry in project.nodes[one].meta.get("segments", []):
                segments.append(entry["segment"])
                if entry["segment"] == plain:
                    return place, {key: entry[key] for key in SHOWN if key in entry} | {"relation": ".".join(one)}
    known = f"Published: {', '.join(names)}. Segments: {', '.join(sorted(set(segments)))}"
    raise UnknownSegment(f"{wanted} is neither published nor a segment. {known}")


def side_of(project: Project, proof: Proof, name: Name) -> Side:
    """The side that proves the relation."""
    role = project.nodes[name].role
    return proof.sides.get(role if role in project.policy.roles else NO_ROLE) or Side(NO_ROLE)


def passport(
    project: Project,
    proof: Proof,
    wanted: str,
    purposes: Iterable[Mapping[str, Any]] = (),
    checks: Iterable[str] = (),
    publication: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Everything about one publication as plain values. Raises `UnknownSegment` for a name that means nothing.

    `purposes` are the profile's purposes (rows of the policy), `checks` the names of the checks that guard the relation,
    `publication` what stands published, if anything does.
    """
    policy = project.policy
    name, definition = resolved(project, proof, wanted)
    node, side = project.nodes[name], side_of(project, proof, name)
    way = upstream(side, name)
    texts = {".".join(one) for one in way}
    violations = [str(one) for one in proof.violations if one.relation in texts or one.rule in ("waiver", "own-gate")]
    relation = side.relations.get(name)
    rules = [
        {"relation": ".".join(one)} | {key: rule[key] for key in SHOWN if rule.get(key) is not None}
        for one in way
        for rule in project.nodes[one].meta.get("rules", [])
    ]
    return {
        "relation": f"{policy.published_zone}.{name[1]}",
        "segment": definition,
        "description": " ".join(node.description.split()),
        "profile": project.profile,
        "role": node.role,
        "verdict": "proven" if not violations else "not proven",
        "violations": violations,
        "waivers": [
            {"violation": str(one), "reviewer": waiver.reviewer, "reason": waiver.reason, "expires": waiver.expires.isoformat()}
            for one, waiver in proof.waived
            if one.relation in texts
        ],
        "publication": dict(publication) if publication else None,
        "gate": {
            "relation": policy.gate.relation,
            "condition": _condition(project, node),
            "read_by": sorted(".".join(one) for one in way if named(policy.gate.relation) in side.reads.get(one, ())),
        },
        "purposes": [dict(purpose) for purpose in purposes if purpose.get("role") == node.role],
        "sources": _sources(project, side, way),
        "gate_rests_on": _gate_sources(project, proof),
        "way": [".".join(one) for one in way] + [f"{policy.published_zone}.{name[1]}"],
        "columns": _columns(node, side, name, relation),
        "rows_depend_on": _row_origins(side, name),
        "rules": rules,
        "checks": sorted(checks),
    }


def _condition(project: Project, node: Node) -> str:
    gate = project.policy.gate
    if node.role not in project.policy.roles or node.role == NO_ROLE:
        return "none: holds no person's data but the gate's own evidence"
    return f"{gate.role} = '{node.role}' and {gate.outcome} = '{gate.allow}'; all others only with the gate's evidence"


def _sources(project: Project, side: Side, way: list[Name]) -> list[dict[str, str]]:
    found = [one for one in way if not side.reads.get(one) and one != named(project.policy.gate.relation)]
    nodes = [project.nodes[one] for one in found]
    return [{"relation": one.text, "kind": one.kind, "description": " ".join(one.description.split())} for one in nodes]


def _gate_sources(project: Project, proof: Proof) -> list[str]:
    side = proof.sides.get(GATE_ITSELF) or Side(GATE_ITSELF)
    return [".".join(one) for one in upstream(side, named(project.policy.gate.relation)) if not side.reads.get(one)]


def _columns(node: Node, side: Side, name: Name, relation: Any) -> list[dict[str, Any]]:
    known: dict[tuple[Name, str], frozenset[str]] = {}
    return [
        {"name": column, "category": node.categories.get(column), "from": sorted(leaves(side, name, column, known))}
        for column, _ in (relation.columns if relation else ())
    ]


def _row_origins(side: Side, name: Name) -> list[dict[str, str]]:
    """Columns that decide which rows there are, at every step of the way: joins, filters, groups, windows, order."""
    found: set[Origin] = set()
    for one in upstream(side, name):
        relation = side.relations.get(one)
        found |= set(relation.row_origins) if relation else set()
    keys = sorted({(origin.relation, origin.column, origin.how) for origin in found})
    return [{"relation": relation, "column": column, "how": how} for relation, column, how in keys]


def write_text(document: Mapping[str, Any], console: Console) -> None:
    """The passport for people."""
    console.print(Text(f"{document['relation']}: {document['verdict']}", style="bold"))
    console.print(Text(document["description"]))
    if document["segment"]:
        _pairs(console, "Segment", document["segment"])
    publication = document["publication"]
    if publication:
        _pairs(console, "Published", publication)
    for violation in document["violations"]:
        console.print(Text(f"violation  {violation}", style="red"))
    for waiver in document["waivers"]:
        until = f"waived until {waiver['expires']} by {waiver['reviewer']}"
        console.print(Text(f"{until}: {waiver['violation']} ({waiver['reason']})"))
    gate = document["gate"]
    console.print(Text(f"\nGate: {gate['relation']}; {gate['condition']}"))
    console.print(Text(f"Passed at: {', '.join(gate['read_by']) or 'nowhere: no person is in it'}"))
    console.print(Text(f"The gate rests on: {', '.join(document['gate_rests_on'])}"))
    _table(console, "Purposes", document["purposes"], ("purpose", "mode", "legal_basis", "reads_signals", "legal_reference"))
    _table(console, "Sources", document["sources"], ("relation", "kind", "description"))
    console.print(Text(f"\nWay: {' -> '.join(document['way'])}"))
    columns = [{**column, "from": ", ".join(_shortened(column["from"]))} for column in document["columns"]]
    _table(console, "Columns and the source columns that their values are made of", columns, ("name", "category", "from"))
    by_relation: dict[str, set[str]] = {}
    for origin in document["rows_depend_on"]:
        by_relation.setdefault(origin["relation"], set()).add(f"{origin['column']} ({origin['how']})")
    rows = [{"relation": relation, "columns": ", ".join(sorted(found))} for relation, found in sorted(by_relation.items())]
    _table(console, "What decides which rows there are", rows, ("relation", "columns"))
    rules = document["rules"]
    _table(console, "Rules", rules, [key for key in SHOWN if any(key in rule for rule in rules)])
    _table(console, "Checks", [{"check": check} for check in document["checks"]], ("check",))


def _shortened(names: list[str], most: int = 12) -> list[str]:
    return names if len(names) <= most else [*names[:most], f"and {len(names) - most} more (in the JSON form)"]


def _pairs(console: Console, title: str, values: Mapping[str, Any]) -> None:
    console.print(Text(f"{title}: " + "; ".join(f"{key} {value}" for key, value in values.items())))


def _table(console: Console, title: str, rows: list[dict[str, Any]], columns: Iterable[str]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    columns = list(columns)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text("" if row.get(column) is None else str(row[column])) for column in columns))
    console.print()
    console.print(table)
