"""dbt over an empty store, shared by the tests of the dbt project."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from orchestration.consent.evaluation import CompiledModels
from orchestration.ingestion.contracts import load_contracts
from orchestration.lake import ensure_zones, install_extensions, open_lake, private_folder
from orchestration.settings import DBT_PROJECT_DIR, Settings
from orchestration.transformation import dbt_environment, dbt_executable
from tests.dbt.consent_rows import MODELS, compiled
from tests.effort import made_once

INVARIANTS = "consent_decision_table_keeps_its_invariants"
VARIABLES = json.dumps({"as_of": "2026-11-01 00:00:00", "profile": "fintech", "run_id": "test"})


class Dbt:
    """dbt with a home of its own."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings(home=home)
        if home.exists():
            return
        install_extensions()
        private_folder(self.settings.dbt_dir)
        with open_lake(self.settings) as connection:
            ensure_zones(connection)
            for contract in load_contracts().values():
                connection.execute(contract.raw_ddl())

    def __call__(self, *arguments: str, folder: str = "target") -> str:
        target = self.settings.dbt_dir / folder
        # As in a run: the process keeps the lake attached, instead of attaching it for each node.
        environment = {**os.environ, **dbt_environment(self.settings), "DAGSTER_DBT_CLI": "true"}
        done = subprocess.run(
            [dbt_executable(), *arguments, "--project-dir", str(DBT_PROJECT_DIR), "--target-path", str(target)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    def artefact(self, name: str, folder: str = "target") -> dict:
        return json.loads((self.settings.dbt_dir / folder / name).read_text())


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Dbt:
    """Every model over no rows at all: a tenant's first day. In `compiled` lies what a later run makes of the consent models.

    Built once for all workers, each with a home of its own.
    """

    def make(folder: Path) -> None:
        dbt = Dbt(folder / "home")
        dbt("build", "--exclude-resource-type", "unit_test", "--vars", VARIABLES)
        dbt("compile", "--select", *MODELS, INVARIANTS, "--vars", VARIABLES, folder="compiled")
        shutil.copytree(folder / "home", folder / "untouched")

    folder, is_ours = made_once(tmp_path_factory, "dbt", make)
    if is_ours:
        return Dbt(folder / "home")
    home = tmp_path_factory.mktemp("dbt") / "home"
    shutil.copytree(folder / "untouched", home)
    return Dbt(home)


@pytest.fixture(scope="session")
def consent_models(built) -> CompiledModels:
    """The SQL of the consent models and of what marketing builds on them, as a later run compiles it."""
    return compiled(built.artefact("manifest.json", "compiled"))
