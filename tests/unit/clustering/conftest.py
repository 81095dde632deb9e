"""Made people in planted groups, and the models of the clusters rendered as dbt renders them, without dbt."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import duckdb
import jinja2
import numpy as np
import pyarrow as pa
import pytest

from orchestration.clustering import stability
from orchestration.clustering.sides import AUDIENCE
from orchestration.identity.keys import load_keys
from orchestration.lake import ensure_zones, open_lake
from orchestration.settings import DBT_PROJECT_DIR, Settings

INSTANT = "2026-11-01 00:00:00"
MEASURED = (
    "purchase_count_365d", "purchase_count_90d", "purchase_value_eur_365d", "days_since_first_purchase", "days_since_last_purchase",
    "web_event_count_90d", "intent_event_count_90d", "days_since_last_visit",
)  # fmt: skip
FEATURES = [feature.name for feature in AUDIENCE.features]


def planted(people: int, groups: int = 3, seed: int = 1, spread: float = 0.6) -> np.ndarray:
    """People around as many centres as groups, features on unlike scales; sizes uneven."""
    rng = np.random.default_rng(seed)
    centres = rng.choice([-2.0, 0.0, 2.0], (groups, len(FEATURES)))
    centres[np.arange(groups), np.arange(groups)] += 4
    shares = np.linspace(2, 1, groups) / np.linspace(2, 1, groups).sum()
    members = rng.choice(groups, people, p=shares)
    scales = np.array([1, 1, 2, 0.5, 100, 0.3, 0.1, 90])
    return ((centres[members] + spread * rng.standard_normal((people, len(FEATURES)))) * scales + 3).astype(np.float32)


def shapeless(people: int, seed: int = 1) -> np.ndarray:
    """People without any groups."""
    return np.random.default_rng(seed).standard_normal((people, len(FEATURES))).astype(np.float32)


class _Returned(Exception):
    def __init__(self, value) -> None:
        self.value = value


class Rendered:
    """Models of the project rendered over a clustering: the very text of the project, so that no second SQL is tested."""

    def __init__(self) -> None:
        files = ("clusters.sql", "fitted_record.sql", "risk_score.sql")
        texts = [(DBT_PROJECT_DIR / "macros" / name).read_text(encoding="utf-8") for name in files]
        self._environment = jinja2.Environment(extensions=["jinja2.ext.do"])
        names = [name for text in texts for name in re.findall(r"\{% macro (\w+)\(", text)]
        whole = re.sub(r"\{% macro (\w+)\(", r"{% macro inner__\1(", "\n".join(texts))
        self._row = None
        self._globals = {
            "dbt": SimpleNamespace(type_string=lambda: "varchar"), "return": self._give, "fromjson": json.loads, "execute": True,
            "adapter": SimpleNamespace(dispatch=lambda name: None), "modules": SimpleNamespace(datetime=__import__("datetime")),
            "source": lambda *name: "it", "load_relation": lambda relation: self._row,
            "run_query": lambda sql: SimpleNamespace(rows=[self._row]), "var": lambda name: INSTANT, "config": lambda **kwargs: "",
            "as_of": lambda: f"timestamp '{INSTANT}'", "ref": lambda name: name,
        }  # fmt: skip
        self._globals |= {name: self._caller(name) for name in names}
        self._module = self._environment.from_string(whole, globals=self._globals).make_module({})

    @staticmethod
    def _give(value):
        raise _Returned(value)

    def _caller(self, name):
        def call(*args):
            try:
                return getattr(self._module, f"inner__{name}")(*args)
            except _Returned as returned:
                return returned.value

        return call

    def sql(self, zone: str, model: str, row: tuple | None = None) -> str:
        """A model's SQL; `row` is what lies in cluster_model: status, reason, document, names."""
        self._row = row
        text = (DBT_PROJECT_DIR / "models" / zone / f"{model}.sql").read_text(encoding="utf-8")
        return self._environment.from_string(text, globals=self._globals).render()


@pytest.fixture(scope="session")
def rendered() -> Rendered:
    return Rendered()


def lay_out(connection, rendered: Rendered) -> None:
    """The gate and the marketing features, still empty, and the project's own gated view over them."""
    ensure_zones(connection)
    evidence = "consent_event_id consent_status legal_basis legal_reference policy_version gate_outcome gate_reason"
    columns = ", ".join(f"{name} varchar" for name in ["audience_subject_token", *evidence.split()])
    connection.execute(f"create table lake.consent.gate ({columns}, purpose_role varchar)")
    numbers = ", ".join(f"{name} bigint" for name in MEASURED)
    connection.execute(f"create table lake.features.audience_features ({columns}, {numbers}, as_of timestamp)")
    view = rendered.sql("features", "audience_cluster_inputs")
    for zone, name in (("features", "audience_features"), ("consent", "gate")):
        view = view.replace(f"select * from {name}\n", f"select * from lake.{zone}.{name}\n", 1)
    connection.execute(f"create view lake.features.audience_cluster_inputs as {view}")


def fill(connection, people: list[str], seed: int = 1, prefix: str = "t") -> None:
    """People with some features; `people` is what the gate says of each."""
    tokens = [f"{prefix}{place:05}" for place in range(len(people))]
    rng = np.random.default_rng(seed)
    measured = {name: rng.integers(0, 400, len(people)) for name in MEASURED}
    arriving = {"audience_subject_token": pa.array(tokens, pa.string()), "gate_outcome": pa.array(people, pa.string()), **measured}
    connection.register("arriving", pa.table(arriving))
    connection.execute(
        "insert into lake.consent.gate by name select audience_subject_token, gate_outcome, 'audience' as purpose_role from arriving"
    )
    connection.execute(
        "insert into lake.features.audience_features by name "
        f"select * exclude (gate_outcome), timestamp '{INSTANT}' as as_of from arriving"
    )
    connection.unregister("arriving")


@pytest.fixture
def bare_lake(rendered):
    """The same in memory, for what is asked many times."""
    with duckdb.connect() as connection:
        connection.execute("attach ':memory:' as lake; use lake")
        lay_out(connection, rendered)
        yield connection


@pytest.fixture(scope="session")
def empty_home(tmp_path_factory, rendered) -> Path:
    """A home with the gated view over a gate and features that are still empty, made once."""
    made = Settings(home=tmp_path_factory.mktemp("clustering") / "home")
    with open_lake(made) as connection:
        lay_out(connection, rendered)
    load_keys(made)
    return made.root


@pytest.fixture
def settings(empty_home, tmp_path) -> Settings:
    """A copy of that home."""
    shutil.copytree(empty_home, tmp_path / "home")
    return Settings(home=tmp_path / "home")


@pytest.fixture(scope="session", autouse=True)
def fewer_resamples():
    """Planted groups need no dozen resamples to come out again, nor does noise to fail to."""
    patch = pytest.MonkeyPatch()
    patch.setattr(stability, "RESAMPLES", 4)
    yield
    patch.undo()
