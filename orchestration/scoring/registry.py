"""The model registry: versions, fingerprints, lineage and aliases, kept by MLflow over SQLite in the home folder.

Belongs here: storing and finding models. Does not belong here: whether one may score (`deployment`), fitting.
An artefact is a points table (JSON), or a skops file read back with exactly the types that our own challenger is made of;
nothing here ever loads a pickle. https://mlflow.org/docs/latest/ml/model-registry/
"""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestration.lake import private_folder
from orchestration.scoring.errors import BadModel, ScoringError
from orchestration.scoring.points import PointsTable, verified
from orchestration.settings import Settings

NAME = "risk_score"
POINTS, CARD, REPORT, CHALLENGER = "points.json", "card.md", "report.json", "boosted_trees.skops"
CHAMPION, SHADOW = "champion", "shadow"
# The tag that says what keeps a version from being promoted. A version without it was never judged and is not promoted either.
BLOCKED, NOT_BLOCKED = "blocked", "nothing"
# Every type that a skops file of our challenger may name beside those that skops itself trusts; one more is refused.
TRUSTED = frozenset({"sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"})


@dataclass(frozen=True)
class Registered:
    """One registered version. `number` is the registry's, `version` the table's own name."""

    number: int
    version: str
    algorithm: str
    sha256: str
    trained_by: str
    trained_as_of: str
    aliases: tuple[str, ...]
    folder: Path
    tags: Mapping[str, str]


def quiet() -> None:
    """MLflow tells nobody that it is used, and says nothing but warnings. Before its import."""
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    for name in ("alembic", "mlflow"):
        logging.getLogger(name).setLevel(logging.WARNING)


def client(settings: Settings) -> Any:
    """MLflow's client over the home's own database; no server, no telemetry."""
    quiet()
    from mlflow import MlflowClient

    private_folder(settings.models_dir)
    database = settings.models_dir / "registry.sqlite"
    uri = f"sqlite:///{database}"
    found = MlflowClient(tracking_uri=uri, registry_uri=uri)
    if not found.search_registered_models(f"name = '{NAME}'"):
        found.create_registered_model(NAME, description="Risk score: probability of a confirmed incident, as a points table.")
    database.chmod(0o600)
    return found


def register(
    settings: Settings, table: PointsTable, trained_by: str, files: Mapping[str, str | bytes], tags: Mapping[str, str]
) -> tuple[Registered, bool]:
    """Store a table with its files; returns its version and whether it is new. The same table is registered once."""
    registry = client(settings)
    for known in versions(settings, registry):
        if known.sha256 == table.sha256:
            return known, False
    folder = private_folder(settings.models_dir / "artefacts" / f"{table.version}-{table.sha256[:12]}")
    contents = {POINTS: table.to_json(), **files}
    hashes = {}
    for name, content in contents.items():
        data = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(data)
        hashes[f"sha256.{name}"] = hashlib.sha256(data).hexdigest()
    described = {
        "version": table.version,
        "algorithm": table.algorithm,
        "sha256": table.sha256,
        "trained_by": trained_by,
        "trained_as_of": table.trained_as_of,
        "data_sha256": str(table.record["data_sha256"]),
        "lineage": json.dumps(table.record["lineage"], sort_keys=True),
        **hashes,
        **tags,
    }
    made = registry.create_model_version(NAME, source=str(folder), tags=described)
    return find(settings, str(made.version), registry), True


def versions(settings: Settings, registry: Any = None) -> list[Registered]:
    """All registered versions, newest first."""
    registry = registry or client(settings)
    aliases: dict[str, list[str]] = {}
    for alias, number in registry.get_registered_model(NAME).aliases.items():
        aliases.setdefault(str(number), []).append(alias)
    found = [
        Registered(
            int(entry.version),
            entry.tags["version"],
            entry.tags["algorithm"],
            entry.tags["sha256"],
            entry.tags["trained_by"],
            entry.tags["trained_as_of"],
            tuple(sorted(aliases.get(str(entry.version), []))),
            # The folder may have moved with the home; its name has not.
            settings.models_dir / "artefacts" / Path(entry.source).name,
            dict(entry.tags),
        )
        for entry in registry.search_model_versions(f"name = '{NAME}'")
    ]
    return sorted(found, key=lambda entry: -entry.number)


def find(settings: Settings, wanted: str, registry: Any = None) -> Registered:
    """The version of that number, name or alias. Raises `ScoringError` if there is none, or more than one."""
    found = [
        entry
        for entry in versions(settings, registry)
        if wanted in (str(entry.number), entry.version) or wanted in entry.aliases
    ]
    if len(found) != 1:
        raise ScoringError(f"{len(found)} registered models answer to {wanted!r}: see `segline model list`")
    return found[0]


def set_alias(settings: Settings, alias: str, number: int) -> None:
    """Point an alias at a version."""
    client(settings).set_registered_model_alias(NAME, alias, str(number))


def load_table(entry: Registered) -> PointsTable:
    """The points table of a version. Raises `BadModel` if the file is gone or not the one on record."""
    return verified(read(entry, POINTS), entry.sha256)


def read(entry: Registered, name: str) -> str:
    """A text file of a version, checked against its fingerprint on record."""
    return read_bytes(entry, name).decode()


def read_bytes(entry: Registered, name: str) -> bytes:
    """A file of a version, checked against its fingerprint on record. Raises `BadModel` if it differs or is gone."""
    try:
        data = (entry.folder / name).read_bytes()
    except OSError as error:
        raise BadModel(f"{name} of {entry.version} is gone: train again, or restore {entry.folder.name}") from error
    if hashlib.sha256(data).hexdigest() != entry.tags.get(f"sha256.{name}"):
        raise BadModel(f"{name} of {entry.version} is not the file on record: its SHA-256 differs")
    return data


def plots(entry: Registered) -> dict[str, str]:
    """The plots that were registered with a version: SVG by file name, each checked against its fingerprint."""
    names = sorted(tag.removeprefix("sha256.") for tag in entry.tags if tag.startswith("sha256.") and tag.endswith(".svg"))
    return {name: read(entry, name) for name in names}


def dump_challenger(model: Any) -> bytes:
    """The boosted trees as a skops file."""
    import skops.io

    return skops.io.dumps(model)


def load_challenger(data: bytes) -> Any:
    """The boosted trees of a skops file. Raises `BadModel` if it names a type that our challenger has no use for."""
    import skops.io

    try:
        foreign = set(skops.io.get_untrusted_types(data=data)) - TRUSTED
        if not foreign:
            return skops.io.loads(data, trusted=sorted(TRUSTED))
    except Exception as error:  # a zip, a schema, a node: whatever skops stumbles over, the file is not ours
        raise BadModel(f"the challenger's file cannot be read ({type(error).__name__})") from error
    raise BadModel(f"the challenger's file names foreign types: {', '.join(sorted(foreign))}")


def remove(settings: Settings, entry: Registered) -> None:
    """Forget a version that has no alias. Raises `ScoringError` if it has one."""
    if entry.aliases:
        raise ScoringError(f"{entry.version} is {', '.join(entry.aliases)}: roll back or promote another first")
    client(settings).delete_model_version(NAME, str(entry.number))
    shutil.rmtree(entry.folder, ignore_errors=True)
