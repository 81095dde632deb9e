"""The score outside of the platform: an MLflow model whose code is this file and whose artefact is the points table.

Belongs here: reading the table and scoring rows with numpy alone. Does not belong here: anything of this project, for the file
is copied into the model and runs where nothing of it is installed (`exporting`). MLflow calls this «models from code»; no object
is ever unpickled. https://mlflow.org/docs/latest/ml/model/models-from-code/
"""

import hashlib
import json
from datetime import UTC, datetime, timedelta

import mlflow
import numpy as np
import pandas as pd
from mlflow.pyfunc import PythonModel


class PointsTableModel(PythonModel):
    """Rows of features in; score (log-odds), probability, tier asked for and reasons out. Stateless but for the table."""

    def load_context(self, context) -> None:
        """Read the table. Raises `ValueError` if it is not the one that was exported."""
        with open(context.artifacts["points"], "rb") as stream:
            data = stream.read()
        expected = context.model_config["sha256"]
        if hashlib.sha256(data).hexdigest() != expected:
            raise ValueError("the points table is not the one that was exported: its SHA-256 differs")
        self.table = json.loads(data)
        self.families = context.model_config["families"]
        self.reason_count = int(context.model_config["reason_count"])

    def predict(self, context, model_input: pd.DataFrame, params=None) -> pd.DataFrame:
        """Score every row. Raises `ValueError` for a column that is absent, and once the table is older than it is good for."""
        trained = datetime.strptime(self.table["trained_as_of"][:19], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
        end = trained + timedelta(days=self.table["valid_days"])
        if datetime.now(UTC) > end:
            raise ValueError(f"this model was good until {end:%Y-%m-%d}: train again")
        families = {name: np.zeros(len(model_input)) for name in self.families}
        missing, unseen = np.zeros(len(model_input), dtype=np.int64), np.zeros(len(model_input), dtype=np.int64)
        for term in self.table["terms"]:
            if term["feature"] not in model_input.columns:
                raise ValueError(f"there is no column {term['feature']}")
            points, is_missing, is_unseen = _term_points(term, model_input[term["feature"]])
            families[term["family"]] = families[term["family"]] + points
            missing += is_missing
            unseen += is_unseen
        score = np.full(len(model_input), self.table["intercept"])
        for points in families.values():
            score = score + points
        tiers = np.where(score >= self.table["high_from"], "high", np.where(score >= self.table["medium_from"], "medium", "low"))
        raised = np.exp(-np.abs(score))
        return pd.DataFrame(
            {
                "score": score,
                "probability": np.where(score >= 0, 1 / (1 + raised), raised / (1 + raised)),
                "tier": tiers.astype(object),
                "reasons": self._reasons(families),
                "missing_count": missing,
                "unseen_count": unseen,
            }
        )

    def _reasons(self, families: dict) -> list:
        """The families that raise each row's score most, most first; of two alike the later in the alphabet first."""
        names = sorted(families, reverse=True)
        points = np.column_stack([families[name] for name in names])
        order = np.argsort(-points, axis=1, kind="stable")[:, : self.reason_count]
        return [
            ",".join(names[place] for place in places if row[place] > 0) for row, places in zip(points, order, strict=True)
        ]


def _term_points(term: dict, values: pd.Series) -> tuple:
    """Points of a column, and where it was missing or held a category that training had not seen."""
    none = np.zeros(len(values), dtype=bool)
    if term["kind"] == "number":
        numbers = pd.to_numeric(values).to_numpy(dtype=float, na_value=np.nan)
        absent = np.isnan(numbers)
        # Bins are closed on the left: cuts[i - 1] <= value < cuts[i].
        places = np.searchsorted(np.asarray(term["cuts"], dtype=float), numbers, side="right").clip(0, len(term["cuts"]))
        return np.where(absent, term["missing"], np.asarray(term["points"])[places]), absent, none
    absent = values.isna().to_numpy(dtype=bool)
    known = dict(zip(term["categories"], term["points"], strict=True))
    foreign = np.array([value not in known for value in values], dtype=bool) & ~absent
    points = [term["missing"] if gone else known.get(value, term["unseen"]) for value, gone in zip(values, absent, strict=True)]
    return np.array(points, dtype=float), absent, foreign


mlflow.models.set_model(PointsTableModel())
