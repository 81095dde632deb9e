"""The batch's compiled consent SQL over a few rows, at any instant: one evaluator for the batch, the auditor and the tests.

Nothing here knows a rule. dbt compiles each model for one point in time, which stands in the text as one timestamp literal;
another one is put in its place, and the text runs over tables of the same names in an engine of its own.

Belongs here: finding the compiled models and executing them. Does not belong here: what a state means (the dbt models), who
the subject is (`state`).
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from orchestration.lake import identifier, literal
from orchestration.settings import Settings
from orchestration.transformation import TIMESTAMP_FORMAT

# In the order of dependence; what they read besides each other is given to them.
MODELS = ("consent_states", "gate")
INPUTS = (
    ("consent", "policy_in_force"),
    ("policy", "notices"),
    ("reference", "countries"),
    ("staging", "stg_cmp__consent_events"),
    ("staging", "stg_cmp__privacy_requests"),
    ("staging", "stg_crm__customers"),
)


class NotCompiledError(RuntimeError):
    """No run has left compiled models behind; the message says which is missing."""


@dataclass(frozen=True)
class CompiledModels:
    """The SQL of the consent models as a run compiled it: name to text, and the point in time it was compiled for (UTC)."""

    run_id: str
    as_of: datetime
    texts: Mapping[str, str]

    def at(self, name: str, instant: datetime) -> str:
        """One model's SQL for another point in time (UTC, without zone)."""
        text, own = self.texts[name], _timestamp(self.as_of)
        return text.replace(own, _timestamp(instant))


def _timestamp(instant: datetime) -> str:
    """A point in time as `as_of()` writes it into SQL."""
    precise = instant.strftime(f"{TIMESTAMP_FORMAT}.%f") if instant.microsecond else instant.strftime(TIMESTAMP_FORMAT)
    return f"cast({literal(precise)} as timestamp)"


def read_compiled(target: Path, run_id: str, names: Iterable[str] = MODELS) -> CompiledModels:
    """The compiled models of one dbt target folder. Raises `NotCompiledError` if the folder has not all of them."""
    try:
        nodes = json.loads((target / "manifest.json").read_text(encoding="utf-8"))["nodes"]
        variables = json.loads((target / "run_results.json").read_text(encoding="utf-8"))["args"]["vars"]
    except (FileNotFoundError, KeyError) as error:
        raise NotCompiledError(f"{target.name} holds no finished dbt run: {error}") from None
    models = {node["name"]: node.get("compiled_code") for node in nodes.values() if node["resource_type"] == "model"}
    missing = [name for name in names if not models.get(name)]
    if missing:
        raise NotCompiledError(f"{target.name} holds no compiled SQL of {', '.join(missing)}")
    as_of = datetime.strptime(variables["as_of"], TIMESTAMP_FORMAT)
    compiled = CompiledModels(run_id, as_of, {name: models[name] for name in names})
    if _timestamp(as_of) not in compiled.texts[MODELS[0]]:
        raise NotCompiledError(f"{target.name}: the compiled SQL does not carry the run's point in time")
    return compiled


def newest_compiled(settings: Settings) -> CompiledModels:
    """The models as the newest run of this home compiled them. Raises `NotCompiledError` if none did."""
    folders = sorted((settings.dbt_dir / "runs").glob("*"), key=lambda path: path.stat().st_mtime, reverse=True)
    for folder in folders:
        try:
            return read_compiled(folder, folder.name)
        except NotCompiledError:
            continue  # a run that failed before it compiled the models
    raise NotCompiledError("no run of this home has compiled the consent models")


def open_bench(tables: Mapping[tuple[str, str], pa.Table]) -> duckdb.DuckDBPyConnection:
    """An engine in memory whose database is called `lake`, as the compiled SQL expects, with those tables in it."""
    connection = duckdb.connect()
    connection.execute("set timezone = 'UTC'")
    connection.execute("attach ':memory:' as lake")
    for schema in sorted({"consent", *(schema for schema, _ in tables)}):
        connection.execute(f"create schema lake.{identifier(schema)}")
    for (schema, name), rows in tables.items():
        connection.register("arriving", rows)
        connection.execute(f"create table lake.{identifier(schema)}.{identifier(name)} as select * from arriving")
        connection.unregister("arriving")
    return connection


def evaluate(connection: duckdb.DuckDBPyConnection, models: CompiledModels, instant: datetime) -> None:
    """Make `lake.consent.consent_states` and `lake.consent.gate` anew for that point in time (UTC)."""
    for name in models.texts:
        connection.execute(f"create or replace table lake.consent.{name} as {models.at(name, instant)}")


def as_utc(text: str) -> datetime:
    """A point in time written in ISO 8601, in UTC without a zone; one without a zone is UTC. Raises `ValueError`."""
    instant = datetime.fromisoformat(text)
    return instant.astimezone(UTC).replace(tzinfo=None) if instant.tzinfo else instant
