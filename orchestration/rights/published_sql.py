"""The SQL that a publication leaves: of the gate, of all it rests on, and of each relation that is published.

By it the gate can be asked again between runs, in the very words that decided (`regating`, the ledger's entry of opt-outs).
It lies in `ops.published_models`, written in the publication's own transaction.

Belongs here: reading it off dbt's manifest, keeping and finding it. Does not belong here: running it (`regating`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from orchestration.lake import literal, table_exists
from orchestration.settings import Settings
from orchestration.transformation import TIMESTAMP_FORMAT, run_manifest

GATE = ("consent", "gate")
PSEUDONYM = "user.unique_id.pseudonymous"
MODELS_SCHEMA = pa.schema(
    [
        ("position", pa.int64()),
        ("zone", pa.string()),
        ("name", pa.string()),
        ("kind", pa.string()),
        ("relation", pa.string()),
        ("materialized", pa.string()),
        ("sql", pa.string()),
        ("depends_on", pa.list_(pa.string())),
        ("token_column", pa.string()),
    ]
)


class RegatingError(RuntimeError):
    """The published run left no SQL by which the gate can be asked again."""


@dataclass(frozen=True)
class Model:
    """One relation of the published run: where it stands, what it reads, the SQL that made it, its pseudonym's column."""

    zone: str
    name: str
    kind: str
    relation: str
    materialized: str
    sql: str
    depends_on: tuple[str, ...]
    token_column: str | None


def compiled_manifest(settings: Settings, run_id: str) -> dict[str, Any]:
    """The manifest with compiled SQL of that run, or of the newest build where dbt did not run in this one.

    Raises `RegatingError` if there is none.
    """
    builds = sorted((settings.dbt_dir / "runs").glob("*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for build in (run_id, *(path.name for path in builds)):
        manifest = run_manifest(settings, build)
        if manifest and any(_place(node) == GATE and node.get("compiled_code") for node in manifest["nodes"].values()):
            return manifest
    raise RegatingError("no build of dbt holds the gate's compiled SQL: run the whole job")


def _place(node: Mapping[str, Any]) -> tuple[str, str]:
    return node["schema"], node["name"]


def _token_column(node: Mapping[str, Any]) -> str | None:
    marked = [
        name
        for name, column in node["columns"].items()
        if column.get("config", {}).get("meta", column.get("meta", {})).get("category") == PSEUDONYM
    ]
    return marked[0] if len(marked) == 1 else None


def models_of(manifest: Mapping[str, Any]) -> list[Model]:
    """The gate, all it rests on, and the candidates, each after what it reads."""
    nodes = {**manifest["nodes"], **manifest["sources"]}
    gate = next(key for key, node in nodes.items() if node["resource_type"] == "model" and _place(node) == GATE)
    candidates = [key for key, node in nodes.items() if node["resource_type"] == "model" and node["schema"] == "candidate"]
    ordered: dict[str, Model] = {}

    def visit(key: str, deeper: bool) -> None:
        if key in ordered:
            return
        node = nodes[key]
        depends_on = [name for name in node.get("depends_on", {}).get("nodes", []) if name in nodes]
        if deeper:
            for name in depends_on:
                visit(name, True)
        relations = tuple(nodes[name]["relation_name"] for name in depends_on)
        ordered[key] = Model(
            *_place(node),
            node["resource_type"],
            node["relation_name"],
            node.get("config", {}).get("materialized", "source"),
            node.get("compiled_code") or "",
            relations,
            _token_column(node),
        )

    visit(gate, True)
    for key in sorted(candidates):
        visit(key, False)
    return list(ordered.values())


def manifest_at(manifest: Mapping[str, Any], as_of: datetime, instant: datetime) -> dict[str, Any]:
    """A compiled manifest of a run as of `as_of`, as it would have been compiled for `instant`."""
    nodes = {
        key: {**node, "compiled_code": at_instant(node["compiled_code"], as_of, instant)} if node.get("compiled_code") else node
        for key, node in manifest["nodes"].items()
    }
    return {**manifest, "nodes": nodes}


def at_instant(sql: str, as_of: datetime, instant: datetime) -> str:
    """Compiled SQL of a run as of `as_of`, as it would read for `instant`."""
    # The macro `as_of()` writes exactly this text.
    written = f"cast('{as_of.strftime(TIMESTAMP_FORMAT)}' as timestamp)"
    return sql.replace(written, f"cast({literal(instant)} as timestamp)")


def record_models(connection: duckdb.DuckDBPyConnection, models: Iterable[Model]) -> None:
    """Leave the SQL of what is being published, in the publication's own transaction."""
    rows = [{"position": place, **vars(model), "depends_on": list(model.depends_on)} for place, model in enumerate(models)]
    connection.register("arriving_models", pa.Table.from_pylist(rows, MODELS_SCHEMA))
    connection.execute("create or replace table lake.ops.published_models as select * from arriving_models")
    connection.unregister("arriving_models")


def published_models(connection: duckdb.DuckDBPyConnection) -> list[Model]:
    """What the last publication left. Raises `RegatingError` if it left nothing."""
    if not table_exists(connection, "ops", "published_models"):
        raise RegatingError("the last publication left no SQL of its gate: publish once with `segline run`")
    rows = connection.execute(
        "select zone, name, kind, relation, materialized, sql, depends_on, token_column from lake.ops.published_models "
        "order by position"
    ).fetchall()
    return [Model(*row[:6], tuple(row[6]), row[7]) for row in rows]
