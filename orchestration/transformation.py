"""dbt as a part of a run: its environment, its manifest, its variables.

Belongs here: what dbt needs to know before it starts. Does not belong here: SQL (the dbt project), assets (`defs`).
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from orchestration.lake import install_extensions, prepare_catalog, private_folder
from orchestration.settings import DBT_PROJECT_DIR, Settings

KEPT_BUILDS = 10
STAMP = "project.sha256"  # beside a manifest: of which text of the project, and of which profile, it is
KEYS_VARIABLE = "SEGLINE_MASTER_KEYS"
SECRET_VARIABLES = (KEYS_VARIABLE, "SEGLINE_LEDGER_KEY", "SEGLINE_ANCHOR_SMTP")
TIMESTAMP_FORMAT = "%Y-%m-%d %H:%M:%S"


class TransformationError(RuntimeError):
    """dbt could not read the project; the message ends with what dbt said."""


def secret_variables() -> list[str]:
    """The variables that are set here and hold a key, a password or a vendor's credential: dbt has no use for them."""
    from orchestration.connectors.settings import credential_variables

    known = {*SECRET_VARIABLES, *credential_variables()}
    return [name for name in os.environ if name.upper() in known]


def dbt_executable() -> str:
    """The `dbt` of this very environment, whatever the PATH says."""
    return str(Path(sys.executable).with_name("dbt"))


def dbt_environment(settings: Settings) -> dict[str, str]:
    """What `profiles.yml` reads. No secret is among it: the lake's keys lie in its catalogue."""
    return {
        "SEGLINE_DBT_DB": str(settings.dbt_dir / "profile.duckdb"),
        "SEGLINE_CATALOG": str(settings.catalog),
        "SEGLINE_LAKE_DATA": f"{settings.lake_data}/",
        "SEGLINE_TURN_FILE": str(settings.turn_file),
        "SEGLINE_LOCK_WAIT_SECONDS": str(settings.lock_wait_seconds),
        "SEGLINE_DBT_RUN": str(os.getpid()),
        "SEGLINE_TEMP": str(settings.temp / "dbt"),
        "SEGLINE_MEMORY_LIMIT": f"{settings.memory_limit_mb}MB",
        "DBT_PROFILES_DIR": str(DBT_PROJECT_DIR),
        "DBT_LOG_PATH": str(settings.dbt_dir / "logs"),
        "DBT_TARGET_PATH": str(target_path(settings)),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }


def dbt_variables(settings: Settings, as_of: datetime | None) -> dict[str, str]:
    """Variables of one run: `as_of` in UTC and the tenant's profile. Whatever they lack cannot make dbt parse anew."""
    at = {"as_of": as_of.strftime(TIMESTAMP_FORMAT)} if as_of else {}
    return at | {"profile": settings.profile}


def target_path(settings: Settings) -> Path:
    """Folder of the manifest."""
    return settings.dbt_dir / "target"


@contextmanager
def keys_withheld() -> Iterator[None]:
    """While the block runs, no subprocess inherits a key, a password or a credential."""
    values = {name: os.environ.pop(name) for name in secret_variables()}
    try:
        yield
    finally:
        os.environ.update(values)


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Make sure that dbt is gone: one whose reader stopped listening would wait for ever, with its locks held."""
    if process.poll() is None:
        process.terminate()
    process.wait()


def build_target_path(settings: Settings, run_id: str) -> Path:
    """Folder of one run's artefacts: compiled SQL, results, logs."""
    return settings.dbt_dir / "runs" / run_id


def clear_old_builds(settings: Settings) -> None:
    """Keep the artefacts of the last runs; every run leaves some ten megabytes."""
    builds = sorted((settings.dbt_dir / "runs").glob("*"), key=lambda path: path.stat().st_mtime)
    for path in builds[:-KEPT_BUILDS]:
        shutil.rmtree(path, ignore_errors=True)


def prepare(settings: Settings, as_of: datetime | None = None) -> Path:
    """Make the folders, and parse the dbt project where its text changed since the last time. Returns the manifest.

    With `as_of` it is parsed for that run, which then need not parse it again: dbt keeps what it parsed only as long as
    the variables stay the same. Raises `TransformationError` if dbt refuses the project.
    """
    install_extensions()
    prepare_catalog(settings.catalog, settings.lake_data)
    for folder in (settings.dbt_dir, settings.temp / "dbt", target_path(settings)):
        private_folder(folder)
    os.environ.update(dbt_environment(settings))
    manifest = target_path(settings) / "manifest.json"
    stamp = target_path(settings) / STAMP
    digest = f"{_project_digest()} {settings.profile}"  # the rules that Dagster shows are the profile's own
    # The manifest's own hash is in it: a disk that filled up, or a kill, may have left half of one.
    if manifest.exists() and stamp.exists() and stamp.read_text() == f"{digest} {_file_digest(manifest)}":
        return manifest
    variables = ["--vars", json.dumps(dbt_variables(settings, as_of))]
    run_dbt(settings, "parse", *variables)
    stamp.write_text(f"{digest} {_file_digest(manifest)}")
    return manifest


def project_manifest(settings: Settings) -> Mapping[str, Any]:
    """dbt's manifest of the project as it lies (to be read, not changed: one for all who ask). Raises as `prepare`.

    Dagster's graph asks for it eight times while it is loaded; it is read once as long as the project stays the same.
    """
    manifest = prepare(settings)
    return _read_manifest(manifest, (manifest.parent / STAMP).read_text())


@lru_cache(maxsize=2)
def _read_manifest(path: Path, stamp: str) -> Mapping[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def run_dbt(settings: Settings, command: str, *options: str, environment: Mapping[str, str] | None = None) -> None:
    """Run one command of dbt on the project to its end, with no secret in its environment.

    Raises `TransformationError` with the end of what dbt said.
    """
    secret = secret_variables()
    plain = {name: value for name, value in os.environ.items() if name not in secret}
    done = subprocess.run(
        [dbt_executable(), "--quiet", command, "--project-dir", str(DBT_PROJECT_DIR), *options],
        capture_output=True,
        text=True,
        env=plain | dbt_environment(settings) | dict(environment or {}),
        check=False,
    )
    if done.returncode:
        raise TransformationError(f"dbt cannot {command} the project:\n{(done.stdout + done.stderr).strip()[-2000:]}")


def compile_project(
    settings: Settings,
    variables: Mapping[str, str],
    target: Path,
    *options: str,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The manifest with compiled SQL, written to the folder `target`. Raises `TransformationError` as `run_dbt`."""
    given = ("--target-path", str(target), "--vars", json.dumps(dict(variables)), *options)
    run_dbt(settings, "compile", *given, environment=environment)
    return json.loads((target / "manifest.json").read_text(encoding="utf-8"))


def run_manifest(settings: Settings, run_id: str) -> dict[str, Any] | None:
    """The manifest of one run, with the SQL that ran; None if dbt did not run in it, or its build was cleared since."""
    path = build_target_path(settings, run_id) / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def model_spans(settings: Settings, run_id: str) -> dict[str, tuple[datetime, datetime]]:
    """When dbt ran each model of one run, by its name, from its `run_results.json` (UTC); empty if that is gone."""
    path = build_target_path(settings, run_id) / "run_results.json"
    if not path.exists():
        return {}
    found = {}
    for result in json.loads(path.read_text(encoding="utf-8"))["results"]:
        kind, _, name = result["unique_id"].split(".", 2)
        ran = next((part for part in result["timing"] if part["name"] == "execute"), None)
        if kind == "model" and ran:
            times = (datetime.fromisoformat(ran[end]) for end in ("started_at", "completed_at"))
            found[name] = tuple(time.astimezone(UTC) for time in times)
    return found


def _file_digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _project_digest() -> str:
    """Hash over the project's files: paths and contents, so that a manifest never describes another text."""
    digest = hashlib.sha256()
    for path in sorted(DBT_PROJECT_DIR.rglob("*")):
        relative = path.relative_to(DBT_PROJECT_DIR)
        if path.is_file() and relative.parts[0] not in ("target", "logs", "dbt_packages"):
            digest.update(str(relative).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
