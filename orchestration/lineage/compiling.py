"""The project's SQL as dbt would run it, for a proof before any run.

Belongs here: compiling, and keeping what was compiled until the project changes. Does not belong here: reading it
(`project`).
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from orchestration.lake import private_folder
from orchestration.settings import DBT_PROJECT_DIR, Settings
from orchestration.transformation import (
    KEYS_VARIABLE,
    TransformationError,
    build_target_path,
    dbt_environment,
    dbt_executable,
    prepare,
    target_path,
)

COMPILED_AT = "2026-01-01 00:00:00"  # the labels do not depend on the instant


def compiled_manifest(settings: Settings) -> dict[str, Any]:
    """The manifest with compiled SQL for the settings' profile; compiled anew where the project's text changed.

    Raises `TransformationError` if dbt refuses the project.
    """
    prepare(settings)
    digest = (target_path(settings) / "project.sha256").read_text()
    folder = private_folder(settings.dbt_dir / "proof" / settings.profile)
    manifest, stamp = folder / "manifest.json", folder / "project.sha256"
    if not (manifest.exists() and stamp.exists() and stamp.read_text() == digest):
        variables = json.dumps({"as_of": COMPILED_AT, "profile": settings.profile})
        environment = {name: value for name, value in os.environ.items() if name != KEYS_VARIABLE}
        done = subprocess.run(
            [dbt_executable(), "--quiet", "compile", "--no-populate-cache", "--project-dir", str(DBT_PROJECT_DIR),
             "--target-path", str(folder), "--vars", variables],
            capture_output=True, text=True, check=False,
            env=environment | dbt_environment(settings) | {"DAGSTER_DBT_CLI": "true"},
        )  # fmt: skip
        if done.returncode:
            raise TransformationError(f"dbt cannot compile the project:\n{(done.stdout + done.stderr).strip()[-2000:]}")
        stamp.write_text(digest)
    return json.loads(manifest.read_text(encoding="utf-8"))


def run_manifest(settings: Settings, run_id: str) -> Path:
    """The manifest of one run, with the SQL that ran; it may be gone (old builds are cleared)."""
    return build_target_path(settings, run_id) / "manifest.json"
