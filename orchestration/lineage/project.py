"""The project as the proof reads it: relations with their SQL, columns and declarations, and the policy.

Belongs here: reading the manifest, the contracts and `policy.yml` into plain values. Does not belong here: judging them
(`proof`).
Manifest: https://docs.getdbt.com/reference/artifacts/manifest-json
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from orchestration.ingestion.contracts import Contract
from orchestration.ingestion.strict_yaml import load_yaml

POLICY_FILE = Path(__file__).parent / "policy.yml"
Name = tuple[str, str]
NO_ROLE = "none"


class Gate(BaseModel):
    """The gate's relation, the columns that decide, and what of it anybody may see."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    relation: str
    outcome: str
    allow: str
    role: str
    evidence: tuple[str, ...]
    open: tuple[str, ...]


class Role(BaseModel):
    """A side of the platform and the pseudonym that its publications bear."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pseudonym: str | None = None


class ComplianceSide(BaseModel):
    """Where data of the compliance side begin."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    relations: tuple[str, ...]
    columns: tuple[str, ...]


class Policy(BaseModel):
    """What the proof takes as given; see `policy.yml` for the meaning of each line."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    gate: Gate
    pseudonyms: tuple[str, ...]
    other_pseudonyms: tuple[str, ...]
    roles: dict[str, Role]
    zone_roles: dict[str, str]
    proven_zones: tuple[str, ...]
    read_zones: tuple[str, ...]
    pseudonym_zones: tuple[str, ...]
    published_from: str
    published_zone: str
    compliance: ComplianceSide
    identifiers: tuple[str, ...]
    pseudonymous: tuple[str, ...]
    carried: tuple[str, ...]

    def is_identifier(self, category: str | None) -> bool:
        """Whether only the vault may hold data of the category."""
        if category is None or category in self.pseudonymous:
            return False
        return any(category == one or category.startswith(f"{one}.") for one in self.identifiers)


def load_policy(path: Path = POLICY_FILE) -> Policy:
    """The reviewed policy; raises on anything missing or unknown."""
    return Policy.model_validate(load_yaml(path))


@dataclass(frozen=True)
class Node:
    """One relation. `kind` is model, seed, raw (landed under a contract) or python (made outside dbt).

    `categories` gives each declared column's data category, `inputs` the relations that a Python step reads;
    `obstacle` says why the relation cannot be read at all.
    """

    name: Name
    kind: str
    sql: str = ""
    description: str = ""
    categories: Mapping[str, str | None] = field(default_factory=dict)
    role: str | None = None
    inputs: tuple[Name, ...] = ()
    meta: Mapping[str, Any] = field(default_factory=dict)
    obstacle: str = ""

    @property
    def text(self) -> str:
        """zone.name."""
        return ".".join(self.name)


@dataclass(frozen=True)
class PythonStep:
    """A relation that a Dagster asset makes outside dbt: the relations that it reads (`zone.name`), and its columns."""

    inputs: tuple[str, ...]
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Project:
    """Every relation by (zone, name), the policy, the profile, and what dbt would run besides models."""

    nodes: Mapping[Name, Node]
    policy: Policy
    profile: str
    hooks: tuple[str, ...] = ()


def named(text: str) -> Name:
    """(zone, name) of `zone.name`."""
    zone, _, name = text.partition(".")
    return zone, name


def read_project(
    manifest: Mapping[str, Any],
    contracts: Mapping[str, Contract],
    policy: Policy,
    profile: str,
    steps: Mapping[str, PythonStep] | None = None,
) -> Project:
    """The project that a compiled manifest describes.

    `steps` are the relations that Dagster makes outside dbt, by `zone.name`: Dagster's own graph. A relation that neither
    dbt, nor a contract, nor that graph explains cannot be read.
    """
    steps = steps or {}
    nodes: dict[Name, Node] = {}
    hooks = []
    for contract in contracts.values():
        landed = {column.name: column for column in contract.columns}
        categories = {name: landed[name].category if name in landed else None for name in contract.raw_columns()}
        node = Node(("raw", contract.entity), "raw", description=contract.description, categories=categories)
        nodes[node.name] = node
    for source in manifest["sources"].values():
        name = (source["schema"], source.get("identifier") or source["name"])
        if name not in nodes:
            key = (_meta(source).get("dagster") or {}).get("asset_key") or name
            nodes[name] = _python_node(name, source, steps.get(".".join(key)), policy)
    for entry in manifest["nodes"].values():
        if entry["resource_type"] in ("model", "seed", "snapshot"):
            node = _dbt_node(entry, manifest, policy)
            nodes[node.name] = node
        elif entry["resource_type"] == "operation":
            hooks.append(entry["name"])
    for text, step in steps.items():
        name = named(text)
        copied = name[0] == policy.published_zone and (policy.published_from, name[1]) in nodes
        if name not in nodes and not copied:
            nodes[name] = _python_node(name, {}, step, policy)
    return Project(nodes, policy, profile, tuple(sorted(hooks)))


def _categories(entry: Mapping[str, Any]) -> dict[str, str | None]:
    return {
        name.lower(): (column.get("config", {}).get("meta") or column.get("meta") or {}).get("category")
        for name, column in entry.get("columns", {}).items()
    }


def _meta(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return entry.get("config", {}).get("meta") or entry.get("meta") or {}


def _role(meta: Mapping[str, Any], zone: str, policy: Policy) -> str | None:
    """The declared role. A publication that lists several `roles` serves them all, so that no gate may open it."""
    roles = meta.get("roles") or []
    listed = (roles[0] if len(roles) == 1 else NO_ROLE) if roles else None
    return (meta.get("governance") or {}).get("role") or listed or policy.zone_roles.get(zone)


def _python_node(name: Name, entry: Mapping[str, Any], step: PythonStep | None, policy: Policy) -> Node:
    meta = _meta(entry)
    return Node(
        name,
        "python",
        description=entry.get("description", ""),
        categories=_categories(entry) or dict.fromkeys(step.columns if step else ()),
        role=_role(meta, name[0], policy),
        inputs=tuple(named(one) for one in step.inputs) if step else (),
        meta=meta,
        obstacle="" if step else "no dbt model, contract or Dagster asset says what it is made of",
    )


def _dbt_node(entry: Mapping[str, Any], manifest: Mapping[str, Any], policy: Policy) -> Node:
    config, meta = entry.get("config", {}), _meta(entry)
    obstacle = ""
    if entry["resource_type"] == "snapshot":
        obstacle = "a snapshot has no compiled SQL"
    elif entry["resource_type"] == "model":
        if entry.get("language", "sql") != "sql":
            obstacle = "a Python model"
        elif config.get("materialized") not in ("table", "view"):
            obstacle = f"materialised as {config.get('materialized')}: what it holds depends on earlier runs, or is nowhere"
        elif config.get("pre-hook") or config.get("post-hook"):
            obstacle = "it has hooks, which may change it"
        elif manifest["metadata"].get("adapter_type") != "duckdb":
            obstacle = f"SQL of {manifest['metadata'].get('adapter_type')} is not understood, only DuckDB's"
        elif not entry.get("compiled_code"):
            obstacle = "it has no compiled SQL"
    return Node(
        (entry["schema"], entry.get("alias") or entry["name"]),
        entry["resource_type"],
        entry.get("compiled_code") or "",
        entry.get("description", ""),
        _categories(entry),
        _role(meta, entry["schema"], policy),
        meta=meta,
        obstacle=obstacle,
    )
