"""Which model scores: promotion by a second person, rollback, and the one row that dbt scores with.

Belongs here: the rules of change control and the record of deployments. Does not belong here: fitting, MLflow's side
(`registry`). A daily run reads the record and the points table alone; it loads no machine-learning library and fits nothing.
"""

import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from orchestration.lake import open_lake, table_exists, transaction
from orchestration.run_lock import run_lock
from orchestration.scoring import registry
from orchestration.scoring.errors import BadModel, PromotionRefused
from orchestration.scoring.points import PointsTable, verified
from orchestration.settings import Settings

DEPLOYMENTS_DDL = (
    "create table if not exists lake.ops.model_deployments (deployed_at timestamp, action varchar, number integer, "
    "version varchar, sha256 varchar, folder varchar, trained_by varchar, deployed_by varchar, reason varchar)"
)
MODEL_DDL = "create table if not exists lake.risk.score_model (status varchar, reason varchar, document varchar)"
NUMBERS = frozenset({"double", "bigint", "integer"})


@dataclass(frozen=True)
class Deployment:
    """One line of the record: what was put in charge, when (UTC), by whom, and why."""

    deployed_at: datetime
    action: str
    number: int
    version: str
    sha256: str
    folder: str
    trained_by: str
    deployed_by: str
    reason: str


@dataclass(frozen=True)
class Standing:
    """Whether a model may score: status `current`, `no_model` or `refused`, with the reason, and the table if current."""

    status: str
    reason: str
    table: PointsTable | None = None


def history(connection: duckdb.DuckDBPyConnection) -> list[Deployment]:
    """All deployments, oldest first."""
    if not table_exists(connection, "ops", "model_deployments"):
        return []
    names = ", ".join(Deployment.__dataclass_fields__)
    rows = connection.execute(f"select {names} from lake.ops.model_deployments order by deployed_at").fetchall()
    return [Deployment(*row) for row in rows]


def person(name: str) -> str:
    """A person's name as compared: case and blanks do not make a second person. Raises `PromotionRefused` if empty."""
    compared = " ".join(name.split()).casefold()
    if not compared:
        raise PromotionRefused("say who you are: --by NAME")
    return compared


def promote(settings: Settings, wanted: str, by: str, reason: str) -> Deployment:
    """Put a registered version in charge. Raises `PromotionRefused` unless a second person says why, and `BadModel` if the
    stored table is not the one that was trained."""
    entry = registry.find(settings, wanted)
    if person(by) == person(entry.trained_by):
        raise PromotionRefused(f"{by} trained {entry.version}; another person has to promote it")
    if registry.BLOCKED not in entry.tags:
        raise PromotionRefused(f"{entry.version} was trained before models were held to thresholds: train again")
    if entry.tags[registry.BLOCKED] != registry.NOT_BLOCKED:
        raise PromotionRefused(f"{entry.version} failed what every model is held to: {entry.tags[registry.BLOCKED]}")
    with open_lake(settings, read_only=True) as connection:
        past = history(connection)
    if past and past[-1].sha256 == entry.sha256:
        raise PromotionRefused(f"{entry.version} is already in charge")
    return _deploy(settings, "promote", entry, by, reason)


def rollback(settings: Settings, by: str, reason: str) -> Deployment:
    """Put the champion before the present one back in charge. Raises `PromotionRefused` if there is none."""
    with open_lake(settings, read_only=True) as connection:
        past = history(connection)
    stack: list[Deployment] = []
    for line in past:
        # A rollback takes the last promotion back; it does not become a step to roll back to.
        if line.action == "rollback" and stack:
            stack.pop()
        elif line.action == "promote":
            stack.append(line)
    if len(stack) < 2:
        raise PromotionRefused("there is no earlier champion to roll back to")
    return _deploy(settings, "rollback", registry.find(settings, str(stack[-2].number)), by, reason)


def _deploy(settings: Settings, action: str, entry: registry.Registered, by: str, reason: str) -> Deployment:
    person(by)
    if not reason.strip():
        raise PromotionRefused("say why: --reason TEXT")
    registry.load_table(entry)
    line = Deployment(
        datetime.now(UTC).replace(tzinfo=None), action, entry.number, entry.version, entry.sha256, entry.folder.name,
        entry.trained_by, by.strip(), reason.strip(),
    )  # fmt: skip
    with run_lock(settings), open_lake(settings) as connection:
        connection.execute("create schema if not exists lake.ops")
        connection.execute(DEPLOYMENTS_DDL)
        fields = asdict(line)
        marks = ", ".join("?" for _ in fields)
        connection.execute(f"insert into lake.ops.model_deployments values ({marks})", list(fields.values()))
    # The record decides what scores; the alias follows it, for whoever deploys by the registry's own means.
    registry.set_alias(settings, registry.CHAMPION, entry.number)
    return line


def standing(settings: Settings, connection: duckdb.DuckDBPyConnection, columns: Mapping[str, str]) -> Standing:
    """Whether the model in charge may score rows with those columns (name to type). Never raises: whatever is wrong with a
    model leaves the rules standing, and the reason says so."""
    past = history(connection)
    if not past:
        return Standing("no_model", "no model was promoted yet")
    try:
        table = verified(_points_text(settings, past[-1].folder), past[-1].sha256)
        require_columns(table, columns)
    except BadModel as error:
        return Standing("refused", str(error))
    return Standing("current", f"{past[-1].version}, {past[-1].action} by {past[-1].deployed_by}", table)


def _points_text(settings: Settings, folder: str) -> str:
    path = settings.models_dir / "artefacts" / Path(folder).name / registry.POINTS
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise BadModel("the points table on record is no file")
            return stream.read().decode()
    except (OSError, UnicodeDecodeError) as error:
        raise BadModel(f"the points table on record cannot be read ({type(error).__name__})") from error


def require_columns(table: PointsTable, columns: Mapping[str, str]) -> None:
    """Raise `BadModel` unless every feature of the table is a column of that kind."""
    for term in table.terms:
        kind = columns.get(term.feature)
        if kind is None:
            raise BadModel(f"the model was trained on {term.feature}, which features.risk_features no longer has")
        if (kind.lower() in NUMBERS) != (term.kind == "number"):
            raise BadModel(f"the model was trained on {term.feature} as a {term.kind}; it is {kind} now")


def document(table: PointsTable) -> str:
    """What dbt compiles: the table without its record."""
    kept = {name: value for name, value in asdict(table).items() if name != "record"}
    return json.dumps({**kept, "sha256": table.sha256}, sort_keys=True)


def refresh(settings: Settings, connection: duckdb.DuckDBPyConnection, columns: Mapping[str, str]) -> Standing:
    """Write the one row of risk.score_model that dbt scores with, in one transaction; returns what it says."""
    found = standing(settings, connection, columns)
    connection.execute("create schema if not exists lake.risk")
    connection.execute(MODEL_DDL)
    text = document(found.table) if found.table else None
    with transaction(connection):
        connection.execute("delete from lake.risk.score_model")
        connection.execute("insert into lake.risk.score_model values (?, ?, ?)", [found.status, found.reason, text])
    return found
