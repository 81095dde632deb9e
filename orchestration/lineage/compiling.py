"""The project's SQL as dbt would run it, for a proof before any run.

Belongs here: compiling, and keeping what was compiled until the project changes. Does not belong here: reading it
(`project`).
"""

import json
from typing import Any

from orchestration.lake import private_folder
from orchestration.settings import Settings
from orchestration.transformation import STAMP, compile_project, prepare, target_path

COMPILED_AT = "2026-01-01 00:00:00"  # the labels do not depend on the instant


def compiled_manifest(settings: Settings) -> dict[str, Any]:
    """The manifest with compiled SQL for the settings' profile; compiled anew where the project's text changed.

    Raises `TransformationError` if dbt refuses the project.
    """
    prepare(settings)
    digest = (target_path(settings) / STAMP).read_text()
    folder = private_folder(settings.dbt_dir / "proof" / settings.profile)
    manifest, stamp = folder / "manifest.json", folder / STAMP
    if manifest.exists() and stamp.exists() and stamp.read_text() == digest:
        return json.loads(manifest.read_text(encoding="utf-8"))
    variables = {"as_of": COMPILED_AT, "profile": settings.profile}
    compiled = compile_project(settings, variables, folder, "--no-populate-cache", environment={"DAGSTER_DBT_CLI": "true"})
    stamp.write_text(digest)
    return compiled
