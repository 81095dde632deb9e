"""What the online evaluation runs: the compiled SQL of the run that published, from the raw tables to the segments.

Read off the manifest of that very run, so that batch and online cannot differ in a rule, a number or a policy. Relations that
hold no person and do not hang on the instant are taken from the lake as the run built them; the others are steps, run again
for the few.

Belongs here: reading the manifest. Does not belong here: running anything (`evaluating`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestration.ingestion.contracts import load_contracts
from orchestration.online.errors import ServeError
from orchestration.transformation import TIMESTAMP_FORMAT

TARGETS = ("risk_segments", "risk_scores", "audience_segments")


@dataclass(frozen=True)
class Step:
    """One model: the relation that it makes, and its SQL."""

    relation: str
    sql: str


@dataclass(frozen=True)
class Plan:
    """How a person is evaluated: raw entities that are read, relations to copy from the lake, steps in their order."""

    entities: tuple[str, ...]
    copied: tuple[str, ...]
    steps: tuple[Step, ...]


def plan_of(manifest: Mapping[str, Any], as_of: datetime) -> Plan:
    """The plan by which the run whose manifest this is decided. Raises `ServeError` if a model was not compiled in it."""
    nodes = {**manifest["nodes"], **manifest["sources"]}
    by_name = {node["name"]: key for key, node in nodes.items() if node["resource_type"] == "model"}
    contracts = load_contracts()
    written = f"cast('{as_of.strftime(TIMESTAMP_FORMAT)}' as timestamp)"
    entities: list[str] = []
    copied: list[str] = []
    steps: list[Step] = []
    moves: dict[str, bool] = {}

    def visit(key: str) -> bool:
        """Whether the relation must be made again: it rests on persons' rows, or on the instant."""
        if key in moves:
            return moves[key]
        node = nodes[key]
        above = [visit(name) for name in node.get("depends_on", {}).get("nodes", []) if name in nodes]
        if node["resource_type"] == "source" and node["schema"] == "raw" and node["name"] in contracts:
            entities.append(node["name"])
            moves[key] = True
        elif node["resource_type"] == "model":
            sql = node.get("compiled_code")
            if not sql:
                raise ServeError(f"{node['schema']}.{node['name']} was not compiled in the published run: run the whole job")
            moves[key] = any(above) or written in sql
            if moves[key]:
                steps.append(Step(node["relation_name"], sql))
        else:
            moves[key] = False
        if not moves[key]:
            copied.append(node["relation_name"])
        return moves[key]

    for name in TARGETS:
        if name in by_name:
            visit(by_name[name])
    if not entities:
        raise ServeError("the published run's SQL reads no person's rows: run the whole job")
    return Plan(tuple(entities), tuple(copied), tuple(steps))
