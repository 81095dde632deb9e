"""The data map: the record of processing (GDPR art. 30), read out of what runs.

Nothing is written down for it a second time. Attributes and categories come from the contracts and from dbt's YAML (a
column's own, else its model's), purposes and bases from the profile's purposes by way of the roles that the published
models declare (a model serves whatever is built on it), recipients from the exposures, periods from the retention policy,
the use of an attribute in segments from the column lineage of the compiled SQL, the tenant's own columns from the mapping
file. A column for which one of them says nothing is missing from the map, and that fails the build.

Belongs here: gathering the map, what is missing in it, writing it. Does not belong here: lineage itself (`columns`).
"""

import csv
import html
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from orchestration.ingestion.contracts import CUSTOMER_DERIVED, PROVENANCE, Contract, load_contracts
from orchestration.ingestion.mapping import Mapping as SourceMapping
from orchestration.lineage.categories import is_category, is_personal
from orchestration.lineage.columns import LineageError, column_sources
from orchestration.rights.retention_policy import RetentionRule, load_rules, rules_for
from orchestration.settings import DBT_PROJECT_DIR

PURPOSES_FILE = DBT_PROJECT_DIR / "seeds" / "policy" / "profile_purposes.csv"
PROOF = "proof_of_consent"
IDENTIFICATION = "identification"
# What is kept for reasons that no profile declares, with the duty that asks for it.
OWN_BASES = {PROOF: "legal_obligation (GDPR 7(1), 5(2))", IDENTIFICATION: "as the purposes that it serves (GDPR 11, 15 to 22)"}
Relation = tuple[str, str]
Column = tuple[str, str, str]


@dataclass(frozen=True)
class Entry:
    """One column of one relation: what it is, whence, what for, on what basis, who receives it, for how long, where used."""

    relation: str
    column: str
    category: str | None
    subject: str | None
    description: str
    source: tuple[str, ...]
    purposes: tuple[str, ...]
    bases: tuple[str, ...]
    recipients: tuple[str, ...]
    retention: tuple[str, ...]
    segments: tuple[str, ...]


@dataclass(frozen=True)
class Missing:
    """What the map cannot say about a column, and where to say it."""

    relation: str
    column: str
    what: str

    def __str__(self) -> str:
        return f"{self.relation}.{self.column}: {self.what}"


@dataclass
class DataMap:
    """All entries of one profile, the profile's purposes, and whether the lineage of values could be read."""

    profile: str
    entries: list[Entry]
    purposes: list[dict[str, str]]
    has_lineage: bool
    controls: dict[str, str] = field(default_factory=dict)


def load_purposes(profile: str) -> list[dict[str, str]]:
    """The purposes that the profile declares, with role, basis and reference."""
    with PURPOSES_FILE.open(encoding="utf-8", newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["profile"] == profile and row["is_declared"] == "true"]


def _meta(node: Mapping[str, Any]) -> dict[str, Any]:
    config = node.get("config", {})
    return (config["meta"] if "meta" in config else node.get("meta")) or {}


class _Graph:
    """The manifest's relations: what each is made from, and what is made of it."""

    def __init__(self, manifest: Mapping[str, Any]) -> None:
        kinds = ("model", "seed", "source", "snapshot")
        everything = {**manifest["nodes"], **manifest["sources"]}
        self.nodes = {key: node for key, node in everything.items() if node["resource_type"] in kinds}
        self.children: dict[str, set[str]] = {key: set() for key in self.nodes}
        for key, node in self.nodes.items():
            for parent in node.get("depends_on", {}).get("nodes", []):
                if parent in self.children:
                    self.children[parent].add(key)
        self.exposures: dict[str, set[str]] = {parent: set() for parent in self.nodes}
        for exposure in manifest.get("exposures", {}).values():
            for parent in exposure["depends_on"]["nodes"]:
                self.exposures[parent].add(exposure.get("label") or exposure["name"])

    def downstream(self, key: str) -> set[str]:
        """The relation itself and everything made of it."""
        found, edge = {key}, {key}
        while edge:
            edge = {child for parent in edge for child in self.children[parent]} - found
            found |= edge
        return found

    def roles(self, key: str) -> set[str]:
        return {role for name in self.downstream(key) for role in _meta(self.nodes[name]).get("roles", [])}

    def recipients(self, key: str) -> set[str]:
        return {label for name in self.downstream(key) for label in self.exposures[name]}


def _published_uses(graph: _Graph, contracts: Mapping[str, Contract]) -> tuple[dict[Column, set[str]], bool]:
    """For each column the published columns whose values are made of it; whether any compiled SQL was there to tell."""
    schemas: dict[Relation, dict[str, str]] = {}
    for node in graph.nodes.values():
        schemas[(node["schema"], node["name"])] = {
            name: column.get("data_type") or "varchar" for name, column in node["columns"].items()
        }
    for entity, contract in contracts.items():
        schemas[("raw", entity)] = contract.raw_columns()
    uses: dict[Column, set[str]] = {}
    sources: dict[Column, set[Column]] = {}
    compiled = [node for node in graph.nodes.values() if node.get("compiled_code")]
    for node in compiled:
        try:
            for name, origins in column_sources(node["compiled_code"], schemas).items():
                sources[(node["schema"], node["name"], name)] = origins
        except LineageError:
            continue  # no lineage is better than a wrong one; a test asserts that every published column has it
    for (schema, name, column), origins in sources.items():
        if schema != "candidate":
            continue
        seen: set[Column] = set()
        edge = {(schema, name, column), *origins}
        while edge:
            seen |= edge
            edge = {origin for one in edge for origin in sources.get(one, ())} - seen
        for one in seen:
            uses.setdefault(one, set()).add(f"published.{name}.{column}")
    return uses, bool(sources)


def build_data_map(
    manifest: Mapping[str, Any], profile: str, mapping: SourceMapping | None = None
) -> DataMap:
    """The map of one profile. With a manifest that carries compiled SQL it says which segments use an attribute.

    `mapping` adds the tenant's own columns. Raises nothing for what is missing: see `missing_entries`.
    """
    contracts = load_contracts()
    graph = _Graph(manifest)
    purposes = load_purposes(profile)
    rules = load_rules(profile)
    uses, has_lineage = _published_uses(graph, contracts)
    context = _Context(graph, contracts, purposes, rules, uses, mapping)
    entries = [*context.vault_entries(), *context.raw_entries(), *context.dbt_entries(), *context.ops_entries()]
    controls = {
        "pseudonymisation": "keyed HMAC with a zone label; zones cannot be joined (GDPR 4(5), 32)",
        "encryption": "vault value by value under a key per person; lake files by DuckLake",
        "transfers": "none by the platform; exposures name the recipients",
    }
    return DataMap(profile, entries, purposes, has_lineage, controls)


@dataclass
class _Context:
    graph: _Graph
    contracts: Mapping[str, Contract]
    purposes: list[dict[str, str]]
    rules: list[RetentionRule]
    uses: dict[Column, set[str]]
    mapping: SourceMapping | None

    def serving(self, roles: Iterable[str], extra: Iterable[str] = ()) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Purposes with these roles and their bases; the extra ones are kept for duties of the platform itself."""
        chosen = [row for row in self.purposes if row["role"] in set(roles)]
        names = [row["purpose"] for row in chosen] + list(extra)
        bases = {f"{row['legal_basis']} ({row['legal_reference']})" for row in chosen} | {OWN_BASES[name] for name in extra}
        return tuple(names), tuple(sorted(bases))

    def retention(self, relation: str) -> tuple[str, ...]:
        return tuple(
            f"{rule.rule_id}: {_days(rule)} ({rule.legal_reference})" for rule in rules_for(self.rules, relation)
        )

    def source_of(self, entity: str, column: str) -> tuple[str, ...]:
        """The contract's column and, if a mapping is given, the tenant's expression for it per feed."""
        texts = [f"contract {entity}.{column}"]
        for feed in self.mapping.feeds_of(entity) if self.mapping else []:
            given = (feed.columns or {}).get(column) if feed.columns is not None else column
            if given:
                texts.append(f"feed {feed.name}: {given}")
        return tuple(texts)

    def source_nodes(self) -> dict[str, str]:
        return {node["name"]: key for key, node in self.graph.nodes.items() if node["resource_type"] == "source"}

    def vault_entries(self) -> Iterator[Entry]:
        customers = self.contracts["customers"]
        names, bases = self.serving((), [IDENTIFICATION])
        for column in (customers.subject_column, *customers.identifiers):
            yield Entry(
                "vault.persons", column.name, column.category, "customer", column.description,
                self.source_of("customers", column.name), names, bases, ("Rights jobs",),
                self.retention("vault.persons"), (),
            )  # fmt: skip

    def raw_entries(self) -> Iterator[Entry]:
        keys = self.source_nodes()
        for entity, contract in self.contracts.items():
            key = keys.get(entity)
            roles = self.graph.roles(key) if key else set()
            recipients = tuple(sorted(self.graph.recipients(key))) if key else ()
            zones = {self.graph.nodes[name]["schema"] for name in self.graph.downstream(key)} if key else set()
            names, bases = self.serving(roles, [PROOF] if "consent" in zones else [])
            staged = self._staged(key)
            delivered = {("counterparty_token" if one.counterparty else one.name): one for one in contract.columns}
            for name in contract.raw_columns():
                one = delivered.get(name)
                if name == "subject_token":
                    one = contract.subject_column
                category = one.category if one and not name.endswith("_token") else staged.get(name, {}).get("category")
                description = one.description if one else staged.get(name, {}).get("description", "")
                made = name in CUSTOMER_DERIVED or name in PROVENANCE
                yield Entry(
                    f"raw.{entity}", name, category, "customer" if is_personal(category or "user") else None, description,
                    (f"contract {entity}",) if made else self.source_of(entity, one.name if one else name),
                    names, bases, recipients, self.retention(f"raw.{entity}"),
                    tuple(sorted(self.uses.get(("raw", entity, name), ()))),
                )  # fmt: skip

    def _staged(self, key: str | None) -> dict[str, dict[str, str]]:
        """Category and description of a source's columns as the staging model that renames them has them."""
        found: dict[str, dict[str, str]] = {}
        for child in sorted(self.graph.children.get(key, ())) if key else []:
            node = self.graph.nodes[child]
            for name, column in node["columns"].items():
                found.setdefault(name, {"category": _category(node, column), "description": column["description"]})
        return found

    def dbt_entries(self) -> Iterator[Entry]:
        for key, node in sorted(self.graph.nodes.items(), key=lambda item: (item[1]["schema"], item[1]["name"])):
            if node["resource_type"] == "source" and node["schema"] == "raw":
                continue
            relation = f"{node['schema']}.{node['name']}"
            shown = [relation] + ([f"published.{node['name']}"] if node["schema"] == "candidate" else [])
            names, bases = self.serving(self.graph.roles(key), [PROOF] if node["schema"] == "consent" else [])
            recipients = tuple(sorted(self.graph.recipients(key)))
            columns = node["columns"] or {"*": {"name": "*", "description": node.get("description", "")}}
            for name, column in columns.items():
                category = _category(node, column)
                used = tuple(sorted(self.uses.get((node["schema"], node["name"], name), ())))
                for place in shown:
                    yield Entry(
                        place, name, category, "customer" if is_personal(category or "user") else None,
                        column.get("description") or "", (), names, bases, recipients, self.retention(place), used,
                    )  # fmt: skip

    def ops_entries(self) -> Iterator[Entry]:
        for rule in self.rules:
            if rule.relation.startswith("ops.") or rule.relation == "published.publication":
                yield Entry(
                    rule.relation, "*", "system.operations", None, "Evidence: counts, times, request ids.", (),
                    (rule.purpose,), (f"legal_obligation ({rule.legal_reference})",), ("Auditors",),
                    self.retention(rule.relation), (),
                )  # fmt: skip


def _category(node: Mapping[str, Any], column: Mapping[str, Any]) -> str | None:
    return _meta(column).get("category") or _meta(node).get("category")


def _days(rule: RetentionRule) -> str:
    tier = "" if rule.tier == "*" else f", tier {rule.tier}"
    return f"{rule.keep.days} days after {rule.clock.replace('_', ' ')} for {rule.purpose}{tier}"


def missing_entries(data_map: DataMap) -> list[Missing]:
    """What the map cannot say: the build fails unless this is empty.

    A column needs a category of the taxonomy and a retention rule; if it is about a person also a purpose and a basis.
    """
    found = []
    for entry in data_map.entries:
        if not is_category(entry.category):
            found.append(Missing(entry.relation, entry.column, f"category {entry.category!r}: give one of `categories`"))
        elif is_personal(str(entry.category)) and not (entry.purposes and entry.bases):
            found.append(Missing(entry.relation, entry.column, "no purpose: nothing that is published is built on it; drop it"))
        if not entry.retention:
            found.append(Missing(entry.relation, entry.column, "no retention: add a rule to seeds/policy/retention.csv"))
        if not entry.description:
            found.append(Missing(entry.relation, entry.column, "no description"))
    return found


def unmapped_relations(data_map: DataMap, relations: Mapping[Relation, Mapping[str, str]]) -> list[Missing]:
    """Columns of the store that the map does not know: tables made by other code, or changed behind dbt's back.

    `relations` as `lake.relation_columns` gives them.
    """
    known = {(entry.relation, entry.column) for entry in data_map.entries}
    return [
        Missing(f"{zone}.{table}", column, "is in the store but in no contract, model or rule")
        for (zone, table), columns in sorted(relations.items())
        for column in columns
        if (f"{zone}.{table}", column) not in known and (f"{zone}.{table}", "*") not in known
    ]


def document(data_map: DataMap) -> dict[str, Any]:
    """The map as plain values, for JSON."""
    return {
        "profile": data_map.profile,
        "record": "records of processing activities (GDPR art. 30)",
        "segments_traced": data_map.has_lineage,
        "controls": data_map.controls,
        "purposes": data_map.purposes,
        "entries": [asdict(entry) for entry in data_map.entries],
    }


STYLE = (
    "body{font:14px/1.45 system-ui,sans-serif;margin:2rem;color:#1b1b1b}h1{font-size:1.4rem}h2{font-size:1.1rem;margin-top:2rem}"
    "table{border-collapse:collapse;width:100%}th,td{border:1px solid #d5d5d5;padding:.3rem .5rem;text-align:left;"
    "vertical-align:top;font-size:13px}th{background:#f2f2f2;position:sticky;top:0}code{font-size:12px}"
)
HEADINGS = ("column", "category", "what it is", "source", "purposes", "basis", "recipients", "retention", "segments that use it")


def to_html(data_map: DataMap) -> str:
    """The map for people: one table per relation in one page that loads nothing."""
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Data map</title>",
        f"<style>{STYLE}</style></head><body><h1>Data map: records of processing, profile {_safe(data_map.profile)}</h1>",
        "<p>Generated from contracts, dbt, policy and lineage. ",
        "Uses in segments are traced through the compiled SQL.</p>" if data_map.has_lineage else "Uses are not traced.</p>",
        "<ul>",
        *(f"<li>{_safe(name)}: {_safe(text)}</li>" for name, text in data_map.controls.items()),
        "</ul>",
    ]
    relations: dict[str, list[Entry]] = {}
    for entry in data_map.entries:
        relations.setdefault(entry.relation, []).append(entry)
    for relation, entries in relations.items():
        parts.append(f"<h2 id='{_safe(relation)}'>{_safe(relation)}</h2><table><tr>")
        parts.extend(f"<th>{heading}</th>" for heading in HEADINGS)
        parts.append("</tr>")
        for entry in entries:
            lists = (entry.source, entry.purposes, entry.bases, entry.recipients, entry.retention, entry.segments)
            cells = [f"<code>{_safe(entry.column)}</code>", _safe(entry.category or ""), _safe(entry.description)]
            cells += ["<br>".join(map(_safe, texts)) for texts in lists]
            parts.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
        parts.append("</table>")
    return "".join([*parts, "</body></html>\n"])


def _safe(text: str) -> str:
    return html.escape(str(text), quote=True)
