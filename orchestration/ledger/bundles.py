"""What decided in a run: the compiled SQL from the gate to the segments, the reference data, and which inputs it reads.

A bundle is a JSON document named by its SHA-256; each decision names the bundle that made it. Long texts (SQL, reference
tables) are parts, named by theirs, so that a reference table that stays the same is kept once. The *decision models* are the
gate and whatever lies between features and candidates. What they read is either one subject's (it has a token column: kept
per decision, see `inputs`) or everybody's (kept here). Only columns that the SQL reads are kept.

Belongs here: making and reading bundles. Does not belong here: running them (`replay`).
Projection pushdown: https://sqlglot.com/sqlglot/optimizer/pushdown_projections.html
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

import duckdb

from orchestration.lake import identifier, relation_columns
from orchestration.ledger.errors import LedgerError

Relation = tuple[str, str]
TARGETS = {"risk": ("candidate", "risk_segments"), "audience": ("candidate", "audience_segments")}
GATE = ("consent", "gate")
DECISION_SCHEMAS = ("candidate", "risk", "audience")
TOKEN_COLUMNS = ("subject_token", "risk_subject_token", "audience_subject_token")
MAX_REFERENCE_ROWS = 200_000
_NO_TEXT_FORM = ("[", "STRUCT", "MAP", "UNION", "BLOB")


@dataclass(frozen=True)
class Bundle:
    """A bundle's document and the parts that it names, by their SHA-256."""

    document: Mapping[str, Any]
    parts: Mapping[str, str]

    @property
    def text(self) -> str:
        """The document as it is stored and hashed."""
        return canonical(self.document)

    @property
    def sha256(self) -> str:
        """The bundle's name."""
        return digest(self.text)


def canonical(value: Any) -> str:
    """JSON without blanks, keys in order."""
    return json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def digest(text: str) -> str:
    """SHA-256 of a text in UTF-8, in hex."""
    return sha256(text.encode()).hexdigest()


def make_bundle(
    connection: duckdb.DuckDBPyConnection, manifest: Mapping[str, Any], profile: str, as_of: datetime, families: list[str]
) -> Bundle:
    """The bundle of the run whose compiled manifest this is, over the lake as it stands.

    Raises `LedgerError` if a model was not compiled, reads what is not there, or its SQL is not understood.
    """
    nodes = {key: node for key, node in manifest["nodes"].items() if node["resource_type"] == "model"}
    columns = relation_columns(connection)
    models: dict[Relation, str] = {}
    read: dict[Relation, set[str]] = {}
    targets: dict[str, list[str]] = {}
    for role, target in TARGETS.items():
        closure = _decision_models(nodes, target)
        inputs: set[Relation] = set()
        for relation, sql in closure.items():
            models[relation] = sql
            for source, names in columns_read(sql, columns).items():
                if source not in closure:
                    inputs.add(source)
                    read.setdefault(source, set()).update(names)
        targets[role] = sorted(".".join(source) for source in inputs)
    parts: dict[str, str] = {}

    def part(text: str) -> str:
        name = digest(text)
        parts[name] = text
        return name

    subject_inputs, references = {}, {}
    for source in sorted(read):
        types, name = columns[source], ".".join(source)
        if set(TOKEN_COLUMNS) & set(types):
            subject_inputs[name] = [[column, _kept_type(name, column, types[column])] for column in sorted(read[source])]
        else:
            references[name] = part(_reference_text(connection, source, types))
    document = {
        "form": 1,
        "engine": f"duckdb {duckdb.__version__}",
        "profile": profile,
        "as_of": as_of.isoformat(),
        "families": families,
        "models": [[".".join(relation), part(sql)] for relation, sql in models.items()],
        "targets": targets,
        "inputs": subject_inputs,
        "references": references,
    }
    return Bundle(document, parts)


def store_bundle(connection: duckdb.DuckDBPyConnection, bundle: Bundle) -> None:
    """Keep a bundle and those of its parts that are new."""
    known = {row[0] for row in connection.execute("select part_sha256 from lake.ops.ledger_parts").fetchall()}
    for name, content in bundle.parts.items():
        if name not in known:
            connection.execute("insert into lake.ops.ledger_parts values (?, ?)", [name, content])
    held = connection.execute("select count(*) from lake.ops.ledger_bundles where bundle_sha256 = ?", [bundle.sha256])
    if not held.fetchone()[0]:
        connection.execute("insert into lake.ops.ledger_bundles values (?, ?)", [bundle.sha256, bundle.text])


def load_bundle(connection: duckdb.DuckDBPyConnection, name: str) -> Bundle:
    """A bundle by its SHA-256. Raises `LedgerError` if it, or a part of it, is missing or not what its name says."""
    row = connection.execute("select document from lake.ops.ledger_bundles where bundle_sha256 = ?", [name]).fetchone()
    if row is None or digest(row[0]) != name:
        raise LedgerError(f"the bundle {name[:12]}… is missing or was changed: run `segline verify`")
    document = json.loads(row[0])
    wanted = [*(part for _, part in document["models"]), *document["references"].values()]
    held = dict(
        connection.execute(
            "select part_sha256, content from lake.ops.ledger_parts where list_contains(?, part_sha256)", [wanted]
        ).fetchall()
    )
    for part in wanted:
        if part not in held or digest(held[part]) != part:
            raise LedgerError(f"the part {part[:12]}… of a bundle is missing or was changed: run `segline verify`")
    return Bundle(document, held)


def columns_read(sql: str, columns: Mapping[Relation, Mapping[str, str]]) -> dict[Relation, set[str]]:
    """Which columns of which relations a query reads, whether they reach its result or only decide about it.

    Raises `LedgerError` for SQL that is not understood, or that reads a relation that is not there.
    """
    from sqlglot import exp, parse_one
    from sqlglot.errors import SqlglotError
    from sqlglot.optimizer.pushdown_projections import pushdown_projections
    from sqlglot.optimizer.qualify import qualify
    from sqlglot.optimizer.scope import traverse_scope

    tree: dict[str, Any] = {"lake": {}}
    for (schema, name), types in columns.items():
        tree["lake"].setdefault(schema, {})[name] = dict(types)
    try:
        query = pushdown_projections(qualify(parse_one(sql, read="duckdb"), dialect="duckdb", schema=tree, catalog="lake"))
        found: dict[Relation, set[str]] = {}
        for scope in traverse_scope(query):
            for source in scope.sources.values():
                if isinstance(source, exp.Table) and source.db:
                    found.setdefault((source.db, source.name), set())
            for column in scope.columns:
                source = scope.sources.get(column.table)
                if isinstance(source, exp.Table):
                    found[source.db, source.name].add(column.name)
    except (SqlglotError, KeyError, RecursionError) as error:
        raise LedgerError(f"the SQL of a decision model is not understood: {type(error).__name__}: {error}") from None
    missing = [".".join(relation) for relation in found if relation not in columns]
    if missing:
        raise LedgerError(f"a decision model reads {', '.join(missing)}, which is not in the lake: run the whole job")
    return found


def _decision_models(nodes: Mapping[str, Any], target: Relation) -> dict[Relation, str]:
    """Compiled SQL of the target and of the decision models that it rests on, each after those that it reads."""
    by_relation = {(node["schema"], node["name"]): node for node in nodes.values()}
    found: dict[Relation, str] = {}

    def visit(relation: Relation) -> None:
        node = by_relation.get(relation)
        if node is None or not node.get("compiled_code"):
            raise LedgerError(f"{'.'.join(relation)} was not compiled in this run: run the whole job")
        for parent in node["depends_on"]["nodes"]:
            # What dbt only has to build first decides nothing: it is not read.
            if parent in nodes and _is_read(nodes[parent], node["compiled_code"]):
                above = (nodes[parent]["schema"], nodes[parent]["name"])
                if (above == GATE or above[0] in DECISION_SCHEMAS) and above not in found:
                    visit(above)
        found[relation] = node["compiled_code"]

    visit(GATE)  # also where no segment reads it: it decides who is excluded
    visit(target)
    return found


def _is_read(node: Mapping[str, Any], sql: str) -> bool:
    return not node.get("relation_name") or node["relation_name"] in sql


def _kept_type(relation: str, column: str, kind: str) -> str:
    if any(mark in kind for mark in _NO_TEXT_FORM):
        raise LedgerError(f"{relation}.{column} is a {kind}; an input of a decision must be a plain value")
    return kind


def _reference_text(connection: duckdb.DuckDBPyConnection, source: Relation, types: Mapping[str, str]) -> str:
    name = ".".join(source)
    kept = [[column, _kept_type(name, column, kind)] for column, kind in types.items()]
    casts = ", ".join(f"cast({identifier(column)} as varchar)" for column in types)
    relation = f"lake.{identifier(source[0])}.{identifier(source[1])}"
    rows = connection.execute(f"select {casts} from {relation} order by all limit {MAX_REFERENCE_ROWS + 1}").fetchall()
    if len(rows) > MAX_REFERENCE_ROWS:
        raise LedgerError(f"{name} has more than {MAX_REFERENCE_ROWS} rows and no subject: too much to keep as reference data")
    return canonical({"columns": kept, "rows": rows})
