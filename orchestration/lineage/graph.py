"""Dagster's graph as the proof reads it: what is made outside dbt, and of what.

Belongs here: turning the asset graph into plain values. Does not belong here: assets (`defs`), judging (`proof`).
"""

from typing import Any

from orchestration import progress
from orchestration.lineage.project import PythonStep
from orchestration.settings import Settings

ELSEWHERE = ("sources", "raw", "vault", "ops")  # proven by contract (raw), or feeding no relation that is proven


def python_steps(graph: Any) -> dict[str, PythonStep]:
    """The relations of Dagster's asset graph that no dbt node makes, by `zone.name`. Every parent counts as read.

    In a job's own graph the assets of other jobs cannot be executed, but what they are made of is known there too.
    """
    steps = {}
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        if len(key.path) != 2 or key.path[0] in ELSEWHERE or "dbt" in node.kinds or not (node.is_executable or node.parent_keys):
            continue
        schema = node.metadata.get("dagster/column_schema")
        schema = getattr(schema, "value", schema)
        columns = tuple(column.name for column in schema.columns) if schema is not None else ()
        steps[".".join(key.path)] = PythonStep(tuple(sorted(".".join(parent.path) for parent in node.parent_keys)), columns)
    return steps


def steps_of_project(settings: Settings) -> dict[str, PythonStep]:
    """What Dagster makes outside dbt, from its own definitions: for who stands outside a run. Takes seconds."""
    from orchestration.running import export_settings

    progress.report("reading Dagster's graph")
    export_settings(settings)
    from orchestration.definitions import defs

    return python_steps(defs().resolve_asset_graph())
