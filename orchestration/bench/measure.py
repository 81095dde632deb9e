"""The benchmark as a whole: sample, pipeline, floor, figures.

Belongs here: the order of work and what is reported. Does not belong here: the floor's SQL (`statements`), reading a
run's record (`stages`), clocks and memory (`sampling`).
"""

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from orchestration import progress
from orchestration.bench.sampling import CommandFailed, Measured, run_measured
from orchestration.bench.stages import (
    differences,
    floor_segments,
    published_segments,
    recorded_run,
    rows_read,
    stage_seconds,
)
from orchestration.bench.statements import Statement, model_statements, opening, raw_statements, seed_statements
from orchestration.ingestion.mapping import load_mapping
from orchestration.lake import install_extensions, prepare_catalog, private_folder
from orchestration.settings import PROJECT_ROOT, Settings
from orchestration.transformation import TransformationError, compile_project, dbt_variables, target_path

FLOOR_SHARE = 1.5  # what the pipeline may take per second of the floor; the rest is fixed cost
SLOWEST = 10
MARK = "bench.json"
LOAD_DEFINITIONS = "from orchestration.definitions import defs; defs()"


class BenchError(RuntimeError):
    """The benchmark cannot be done; the message says what failed."""


def measure(
    customers: int, transactions: int, file_kind: str = "parquet", folder: Path | None = None
) -> dict[str, Any]:
    """Measure a run on a new sample of that size beside its floor; profile and memory limit come from the settings.

    Works in `folder`, which must be empty or one that a benchmark has used; a sample of the same size there is used
    again, a home and a floor are made anew. Without it, a temporary folder serves and is removed. Seconds are
    wall-clock unless named otherwise; memory is in MB (10^6 bytes), over the whole process tree. Raises `BenchError`.
    """
    if file_kind not in ("csv", "parquet"):
        raise BenchError(f"the file format is csv or parquet, not {file_kind}")
    place = tempfile.TemporaryDirectory(prefix="segline-bench-") if folder is None else nullcontext(str(folder))
    with place as path:
        work = Path(path).resolve()
        _claim(work)
        try:
            return _measure(work, customers, transactions, file_kind)
        except CommandFailed as error:
            raise BenchError(str(error)) from None


def _measure(work: Path, customers: int, transactions: int, file_kind: str) -> dict[str, Any]:
    settings = Settings(home=work / "home", sources=None, data=None, as_of=None)
    environment = _environment(settings)
    sources = work / "sample"
    size = {"customers": customers, "transactions": transactions, "file_format": file_kind, "profile": settings.profile}

    progress.report("making the sample")
    sample = _sample(work, sources, size, environment)

    progress.report("running the pipeline")
    for leftover in ("home", "floor"):
        shutil.rmtree(work / leftover, ignore_errors=True)
    run = _cli(work, "run", environment, "--sources", str(sources))
    steps, nodes = recorded_run(settings)
    rows = rows_read(settings)

    progress.report("loading the definitions")
    definitions = run_measured(
        [sys.executable, "-c", LOAD_DEFINITIONS], environment, PROJECT_ROOT, work / "definitions.log"
    )

    progress.report("running the floor")
    floor, timings = run_floor(work / "floor", sources, settings)
    differing = differences(published_segments(settings), floor_segments(work / "floor" / "floor.duckdb"))

    return size | {
        "stages": rounded(stage_seconds(steps, run.seconds)),
        "seconds": round(run.seconds, 2),
        "cpu_seconds": round(run.cpu_seconds, 2),
        "peak_memory_mb": round(run.peak_memory_mb),
        "rows_read": rows,
        "rows_per_second": round(rows / run.seconds),
        **against_floor(run, floor),
        "floor_stages": rounded(by_stage(timings)),
        "same_result": not differing,
        "differing_segments": differing,
        "definitions_seconds": round(definitions.seconds, 2),
        "sample_seconds": round(sample.seconds, 2),
        "sample_peak_memory_mb": round(sample.peak_memory_mb),
        "slowest_nodes": rounded(dict(list(nodes.items())[:SLOWEST])),
        "slowest_floor_statements": rounded(slowest(timings)),
        "cores": os.cpu_count(),
        "memory_limit_mb": settings.memory_limit_mb,
    }


def against_floor(run: Measured, floor: Measured) -> dict[str, float]:
    """The floor's own figures, the ratio of wall-clock times, and the seconds beyond `FLOOR_SHARE` floors."""
    return {
        "floor_seconds": round(floor.seconds, 2),
        "floor_cpu_seconds": round(floor.cpu_seconds, 2),
        "floor_peak_memory_mb": round(floor.peak_memory_mb),
        "ratio_to_floor": round(run.seconds / floor.seconds, 2),
        "fixed_seconds": round(run.seconds - FLOOR_SHARE * floor.seconds, 2),
    }


def by_stage(timings: list[dict[str, Any]]) -> dict[str, float]:
    """Seconds per stage of the floor."""
    stages: dict[str, float] = {}
    for timing in timings:
        stages[timing["stage"]] = stages.get(timing["stage"], 0.0) + timing["seconds"]
    return stages


def slowest(timings: list[dict[str, Any]]) -> dict[str, float]:
    """The slowest statements of the floor by name."""
    ordered = sorted(timings, key=lambda timing: -timing["seconds"])
    return {timing["name"]: timing["seconds"] for timing in ordered[:SLOWEST]}


def rounded(seconds: Mapping[str, float]) -> dict[str, float]:
    """Two decimals; the rest is noise."""
    return {name: round(value, 2) for name, value in seconds.items()}


def _claim(work: Path) -> None:
    """Make the folder ours, or refuse it: a benchmark deletes what it made before, and nothing else."""
    if work.is_dir() and any(work.iterdir()) and not (work / MARK).is_file():
        raise BenchError(f"{work} holds files that are no benchmark's: name an empty folder or a new one")
    private_folder(work)
    (work / MARK).touch()


def _environment(settings: Settings) -> dict[str, str]:
    """This process's environment without what would lead the pipeline elsewhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SEGLINE_", "DAGSTER_", "DBT_"))}
    return kept | {
        "SEGLINE_HOME": str(settings.home),
        "SEGLINE_PROFILE": settings.profile,
        "SEGLINE_MEMORY_LIMIT_MB": str(settings.memory_limit_mb),
    }


def _cli(work: Path, command: str, environment: Mapping[str, str], *arguments: str) -> Measured:
    full = [sys.executable, "-m", "orchestration.cli", command, *arguments]
    return run_measured(full, environment, PROJECT_ROOT, work / f"{command}.log")


def _sample(work: Path, sources: Path, size: dict[str, Any], environment: Mapping[str, str]) -> Measured:
    """Make the sample, or take the one of the same size that an earlier benchmark left, with its figures."""
    mark = work / MARK
    earlier = json.loads(mark.read_text(encoding="utf-8") or "{}")
    if earlier.get("size") == size and (sources / "mapping.yml").is_file():
        return Measured(**earlier["sample"])
    arguments = ["--out", str(sources), "--profile", size["profile"], "--file-format", size["file_format"]]
    arguments += ["--customers", str(size["customers"]), "--transactions", str(size["transactions"])]
    sample = _cli(work, "sample", environment, *arguments)
    mark.write_text(json.dumps({"size": size, "sample": asdict(sample)}), encoding="utf-8")
    return sample


def run_floor(folder: Path, sources: Path, settings: Settings) -> tuple[Measured, list[dict[str, Any]]]:
    """Write the floor's plan, execute it in a process of its own; its figures and the seconds of each statement."""
    private_folder(folder)
    mapping = load_mapping(sources)
    if mapping.as_of is None:
        raise BenchError("the sample's mapping has no as_of")
    statements = floor_statements(folder, sources, settings, mapping.as_of)
    plan, timings = folder / "plan.json", folder / "timings.json"
    content = {"timings": str(timings), "statements": [asdict(statement) for statement in statements]}
    plan.write_text(json.dumps(content), encoding="utf-8")
    command = [sys.executable, "-m", "orchestration.bench.floor", str(plan)]
    measured = run_measured(command, _environment(settings), PROJECT_ROOT, folder / "floor.log")
    return measured, json.loads(timings.read_text(encoding="utf-8"))


def floor_statements(folder: Path, sources: Path, settings: Settings, as_of: datetime) -> list[Statement]:
    """All statements of the floor for a sample, in order; its database is `floor.duckdb` in `folder`."""
    scratch = Settings(home=folder / "dbt-home", profile=settings.profile, memory_limit_mb=settings.memory_limit_mb)
    manifest = _compiled_manifest(scratch, as_of)
    return [
        *opening(folder / "floor.duckdb", folder / "temp", settings.memory_limit_mb),
        *seed_statements(manifest),
        *raw_statements(load_mapping(sources), sources, as_of),
        *model_statements(manifest),
    ]


def _compiled_manifest(settings: Settings, as_of: datetime) -> dict[str, Any]:
    """dbt's manifest with compiled SQL, for an empty store of its own: compiling reads no data."""
    install_extensions()
    prepare_catalog(settings.catalog, settings.lake_data)
    for folder in (settings.dbt_dir, settings.temp):
        private_folder(folder)
    try:
        return compile_project(settings, dbt_variables(settings, as_of), target_path(settings), "--no-populate-cache")
    except TransformationError as error:
        raise BenchError(str(error)) from None
