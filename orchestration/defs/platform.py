"""Resources that every stage shares.

Belongs here: the platform's settings as a resource, the lock of a run, dbt's client. Does not belong here: assets.
https://docs.dagster.io/guides/build/external-resources
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from importlib import metadata

import dagster as dg
from dagster_dbt import DbtCliResource
from packaging.version import Version

from orchestration import progress
from orchestration.remains import clear_after_killed_runs
from orchestration.run_lock import run_lock
from orchestration.settings import DBT_PROJECT_DIR, Settings
from orchestration.transformation import dbt_executable

LAKE_POOL = "lake"


class Platform(dg.ConfigurableResource):
    """Gives a stage its settings and holds the home's lock while a run lasts."""

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Generator["Platform", None, None]:
        """Hold the lock from the first stage to the last, so that two runs never interleave."""
        settings = self.settings()
        with run_lock(settings, lambda message: progress.report(message)):
            clear_after_killed_runs(settings, context.instance, context.run.run_id if context.run else None)
            yield self

    def settings(self) -> Settings:
        """Settings from the environment of the process that runs the stage."""
        return Settings()


class LeanDbt(DbtCliResource):
    """dbt's client without the adapter that dagster-dbt opens inside Dagster's own process.

    That adapter serves the metadata fetchers alone, which are not used here (see `transformation`); making it, and asking
    the executable twice for its version, took fifteen seconds of a run. The two hooks are private: dagster-dbt is pinned
    exactly, and a test runs the job.
    """

    def _initialize_dbt_core_adapter(self, args: Sequence[str]) -> None:
        return None

    @property
    def _cli_version(self) -> Version:
        return Version(metadata.version("dbt-core"))


@dg.definitions
def defs() -> dg.Definitions:
    """The resources by the names that stages ask for."""
    return dg.Definitions(
        resources={
            "platform": Platform(),
            "dbt": LeanDbt(
                project_dir=str(DBT_PROJECT_DIR),
                profiles_dir=str(DBT_PROJECT_DIR),
                dbt_executable=dbt_executable(),
            ),
        }
    )
