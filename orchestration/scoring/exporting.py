"""A promoted model as an MLflow model folder, which SageMaker and Azure ML take by MLflow's own means.

Belongs here: writing the folder. Does not belong here: the code that scores in it (`portable_model`), deploying: that needs an
account. What is written is the points table, one file of code, signature, invented example, pinned requirements; no pickle.
https://mlflow.org/docs/latest/ml/model/
"""

import os
import shutil
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

from orchestration.lake import open_lake
from orchestration.scoring import registry
from orchestration.scoring.deployment import history
from orchestration.scoring.errors import ScoringError
from orchestration.scoring.features import FAMILIES
from orchestration.scoring.points import REASON_COUNT, PointsTable
from orchestration.scoring.training import prove_parity
from orchestration.settings import Settings

CODE = Path(__file__).with_name("portable_model.py")
# What the folder needs where it runs. The registry's own client is the part of MLflow without its server.
REQUIRED = {"mlflow": "mlflow-skinny", "numpy": "numpy", "pandas": "pandas"}


def export(settings: Settings, wanted: str, folder: Path) -> registry.Registered:
    """Write a version that a second person promoted as an MLflow model. Raises `ScoringError` for one that nobody promoted,
    and for a folder that holds anything; the folder appears whole or not at all."""
    entry = registry.find(settings, wanted)
    with open_lake(settings, read_only=True) as connection:
        promoted = {line.sha256 for line in history(connection) if line.action == "promote"}
    if entry.sha256 not in promoted:
        raise ScoringError(f"{entry.version} was promoted by nobody: what scores elsewhere needs a second person too")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ScoringError(f"{folder} holds something already: name a folder that is empty or not there")
    table = registry.load_table(entry)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as work:
        made = Path(work) / "model"
        write(table, made)
        if folder.exists():
            folder.rmdir()
        os.replace(made, folder)
    return entry


def write(table: PointsTable, folder: Path) -> None:
    """Write the MLflow model of a table and score its example with what was written. Raises `ScoringError` if it does not load,
    does not score (as a stale table does not), or scores otherwise than the table."""
    registry.quiet()
    import mlflow.pyfunc
    from mlflow.models import ModelSignature

    with tempfile.TemporaryDirectory(prefix="segline-export-") as work:
        points = Path(work) / registry.POINTS
        points.write_text(table.to_json(), encoding="utf-8")
        code = shutil.copy(CODE, work)
        inputs, outputs = schemas(table)
        try:
            mlflow.pyfunc.save_model(
                str(folder),
                python_model=str(code),
                artifacts={"points": str(points)},
                model_config={"sha256": table.sha256, "families": list(FAMILIES), "reason_count": REASON_COUNT},
                signature=ModelSignature(inputs=inputs, outputs=outputs),
                input_example=example(table),
                pip_requirements=[f"{name}=={metadata.version(package)}" for name, package in REQUIRED.items()],
                metadata={"version": table.version, "sha256": table.sha256, "trained_as_of": table.trained_as_of},
            )
            theirs = mlflow.pyfunc.load_model(str(folder)).predict(example(table))["score"].to_numpy()
        except (mlflow.MlflowException, ValueError) as error:
            raise ScoringError(f"MLflow does not take the model: {str(error).splitlines()[0]}") from error
    ours, _ = table.score_columns(example(table))
    prove_parity(ours, theirs)
    for name in folder.rglob("__pycache__"):
        shutil.rmtree(name)


def schemas(table: PointsTable) -> tuple[Any, Any]:
    """Columns in and out. Every column must be there; a value may be missing."""
    from mlflow.types import ColSpec, Schema

    inputs = [ColSpec("double" if term.kind == "number" else "string", term.feature) for term in table.terms]
    outputs = [("double", "score"), ("double", "probability"), ("string", "tier"), ("string", "reasons"),
               ("long", "missing_count"), ("long", "unseen_count")]  # fmt: skip
    return Schema(inputs), Schema([ColSpec(kind, name) for kind, name in outputs])


def example(table: PointsTable) -> Any:
    """Two invented rows: the first bin of everything, and the last. Nobody's data."""
    import pandas as pd

    rows = []
    for place in (0, -1):
        row: dict[str, Any] = {}
        for term in table.terms:
            if term.kind == "number":
                cuts = term.cuts or (0.0,)
                row[term.feature] = float(cuts[place]) + (-1.0 if place == 0 else 1.0)
            else:
                row[term.feature] = term.categories[place] if term.categories else "unknown"
        rows.append(row)
    return pd.DataFrame(rows)
