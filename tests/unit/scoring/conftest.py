"""A small points table, synthetic training rows, and the dbt macro that scores, rendered as dbt renders it."""

import json
import re
import shutil
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import jinja2
import numpy as np
import pandas as pd
import pytest

from orchestration.lake import ensure_zones, open_lake
from orchestration.scoring import registry
from orchestration.scoring.deployment import document
from orchestration.scoring.features import FEATURES
from orchestration.scoring.points import PointsTable, Term
from orchestration.scoring.training_set import TrainingSet, Windows, coerced
from orchestration.settings import DBT_PROJECT_DIR, Settings

AS_OF = datetime(2026, 11, 1)


def small_table(**changes) -> PointsTable:
    """One rising number, one falling number, one category."""
    given = {
        "version": "t1",
        "algorithm": "additive_ebm",
        "intercept": -3.125,
        "terms": (
            Term("cash_share_90d", "cash", "number", (-0.4, 0.1, 1.7), cuts=(0.1, 0.30000000000000004), missing=0.2, monotone=1),
            Term("forward_days_90d", "flow", "number", (0.9, -0.35), cuts=(2.5,), missing=-0.05, monotone=-1),
            Term("onboarding_channel", "profile", "category", (-0.1, 0.6), categories=("branch", "o'clock"), missing=0.03, unseen=0.45),
        ),
        "medium_from": -2.0,
        "high_from": 0.5,
        "trained_as_of": "2026-10-01 00:00:00",
        "valid_days": 180,
        "record": {"data_sha256": "d", "lineage": {"delivery_run_id": "r"}, "columns": {}},
    }
    return PointsTable(**(given | changes))


@pytest.fixture
def table() -> PointsTable:
    return small_table()


def training_rows(rows: int, seed: int = 3, base: float = -3.2) -> pd.DataFrame:
    """Behaviour that foretells an incident in part: cash and quick forwarding raise it, the rest is noise."""
    rng = np.random.default_rng(seed)
    frame = {}
    for feature in FEATURES:
        if feature.kind == "number":
            values = rng.gamma(1.5, 1.0, rows)
            values[rng.random(rows) < 0.1] = np.nan
            frame[feature.name] = values
        else:
            frame[feature.name] = rng.choice(np.array(["a", "b", None], dtype=object), rows, p=[0.6, 0.3, 0.1])
    found = coerced(pd.DataFrame(frame))
    logit = base + 1.1 * found["cash_share_90d"].fillna(0.5) - 0.5 * found["forward_days_90d"].fillna(1.0)
    logit += np.where(found["onboarding_channel"] == "b", 0.7, 0.0)
    found.insert(0, "label", (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(int))
    return found


def training_set(rows: int = 2400, seed: int = 3) -> TrainingSet:
    """Two training windows and one test window of such rows, with audits of every tenth test row."""
    frame = training_rows(rows, seed)
    third = rows // 3
    starts = np.repeat(["2026-01-01 00:00:00", "2026-04-01 00:00:00", "2026-07-01 00:00:00"], third)
    frame = frame.iloc[: 3 * third].copy()
    frame.insert(0, "window_start", starts)
    frame.insert(0, "split", np.where(starts == "2026-07-01 00:00:00", "test", "train"))
    rng = np.random.default_rng(seed)
    protected = pd.DataFrame({"age_band": rng.choice(["18+", "unknown"], len(frame)), "customer_type": "individual"})
    audited = np.arange(2 * third, 3 * third, 10)
    audits = pd.DataFrame(
        {"has_issue": frame["label"].to_numpy()[audited] > 0, "selection_probability": 0.1, "row": audited}
    )
    lineage = {"delivery_run_id": "r", "profile": "fintech", "feature_sql_sha256": "f", "training_purpose": "fraud_security"}
    return TrainingSet(frame, protected, audits, AS_OF, Windows(), lineage)


class _Adapter:
    """`adapter.dispatch` for DuckDB: the macro of that prefix in the same file."""

    def __init__(self) -> None:
        self.macros: dict = {}

    def dispatch(self, name: str):
        return self.macros[f"duckdb__{name}"]


class _Returned(Exception):
    def __init__(self, value) -> None:
        self.value = value


class Macros:
    """The macros of risk_score.sql, and those that they call, without dbt: the very text of the project, so that no second SQL is tested."""

    def __init__(self) -> None:
        environment = jinja2.Environment(extensions=["jinja2.ext.do"], undefined=jinja2.StrictUndefined)
        files = ("risk_score.sql", "fitted_record.sql")
        text = "\n".join((DBT_PROJECT_DIR / "macros" / name).read_text(encoding="utf-8") for name in files)
        adapter = _Adapter()
        self._globals = {
            "adapter": adapter,
            "dbt": SimpleNamespace(type_string=lambda: "varchar"),
            "return": self._return,
            "fromjson": json.loads,
            "modules": SimpleNamespace(datetime=__import__("datetime"), re=re),
            "execute": True,
        }
        # Under another name inside, so that macros reach each other through the wrapper that catches `return`.
        names = re.findall(r"\{% macro (\w+)\(", text)
        text = re.sub(r"\{% macro (\w+)\(", r"{% macro inner__\1(", text)
        adapter.macros = {name: self._caller(name) for name in names}
        self._globals.update(adapter.macros)
        self._module = environment.from_string(text, globals=self._globals).make_module({})
        self.call = adapter.macros

    @staticmethod
    def _return(value):
        raise _Returned(value)

    def _caller(self, name):
        def call(*args, **kwargs):
            try:
                return getattr(self._module, f"inner__{name}")(*args, **kwargs)
            except _Returned as returned:
                return returned.value

        return call

    def scores_sql(self, table: PointsTable, relation: str) -> str:
        """The model's own SQL over a relation that has the features and a column `row_number`."""
        text = (DBT_PROJECT_DIR / "models" / "risk" / "model_scores.sql").read_text(encoding="utf-8")
        model = json.loads(document(table)) | {"status": "current", "model_version": table.version, "model_sha256": table.sha256}
        environment = jinja2.Environment(extensions=["jinja2.ext.do"])
        template = environment.from_string(
            text, globals=self.call | self._globals | {"score_model": lambda: model, "ref": lambda name: relation}
        )
        return template.render()


@pytest.fixture(scope="session")
def macros() -> Macros:
    return Macros()


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory) -> Path:
    """A home with an empty lake and an empty registry, made once: MLflow takes seconds to lay out its tables."""
    made = Settings(home=tmp_path_factory.mktemp("scoring") / "home")
    with open_lake(made) as connection:
        ensure_zones(connection)
    registry.client(made)
    return made.root


@pytest.fixture
def settings(empty_home: Path, tmp_path: Path) -> Settings:
    """A home of its own with an empty lake and an empty registry."""
    shutil.copytree(empty_home, tmp_path / "home")
    return Settings(home=tmp_path / "home")
