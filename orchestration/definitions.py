"""Dagster's entry: loads everything under `defs/`.

Belongs here: loading only. Does not belong here: assets, resources, reading of files or environment at import.
https://docs.dagster.io/guides/build/projects-and-components/organizing-dagster-projects
"""

import dagster as dg

from orchestration.settings import PROJECT_ROOT


@dg.definitions
def defs() -> dg.Definitions:
    """All assets, checks, jobs, schedules, sensors and resources of the platform."""
    return dg.load_from_defs_folder(project_root=PROJECT_ROOT)
