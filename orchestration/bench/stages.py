"""What a finished run says about itself: seconds per stage and per dbt node, rows read, segments published.

Belongs here: reading Dagster's record and the store of a run. Does not belong here: measuring processes (`sampling`).
"""

from collections.abc import Iterable
from pathlib import Path

import duckdb

from orchestration.lake import literal, open_lake
from orchestration.settings import Settings

Segments = dict[str, int]


def stage_seconds(steps: Iterable[tuple[str, float, float]], wall: float) -> dict[str, float]:
    """Seconds per stage from (step, start, end), in the order of their start, after `start`: whatever was no step.

    That is the interpreter, imports, loading the definitions, opening Dagster's instance, and printing the summary.
    """
    stages = {name: end - start for name, start, end in sorted(steps, key=lambda step: step[1])}
    return {"start": wall - sum(stages.values()), **stages}


def recorded_run(settings: Settings) -> tuple[list[tuple[str, float, float]], dict[str, float]]:
    """The newest run of a home: (step, start, end) in seconds, and seconds per dbt node, slowest first.

    The durations are those of dbt's `run_results.json`, which Dagster keeps with each asset and check.
    """
    import dagster as dg

    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        run_id = instance.get_runs(limit=1)[0].run_id
        steps = [
            (step.step_key, step.start_time, step.end_time)
            for step in instance.get_run_step_stats(run_id)
            if step.start_time and step.end_time
        ]
        kinds = {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_CHECK_EVALUATION}
        nodes: dict[str, float] = {}
        for entry in instance.all_logs(run_id, of_type=kinds):
            event = entry.dagster_event
            if event is None:
                continue
            data = event.event_specific_data
            metadata = getattr(getattr(data, "materialization", data), "metadata", {})
            if "unique_id" in metadata and "Execution Duration" in metadata:
                nodes[str(metadata["unique_id"].value)] = float(metadata["Execution Duration"].value)
    return steps, dict(sorted(nodes.items(), key=lambda node: -node[1]))


def rows_read(settings: Settings) -> int:
    """Rows of all files of the newest delivery."""
    with open_lake(settings, read_only=True) as connection:
        found = connection.execute("select sum(rows_read) from lake.ops.reconciliation").fetchone()
    return int(found[0] or 0) if found else 0


def published_segments(settings: Settings) -> Segments:
    """Subjects per published segment of a home."""
    with open_lake(settings, read_only=True) as connection:
        return segments(connection, "published")


def floor_segments(database: Path) -> Segments:
    """Subjects per segment in the floor's database."""
    with duckdb.connect() as connection:
        connection.execute(f"attach {literal(database)} as lake (read_only)")
        return segments(connection, "candidate")


def segments(connection: duckdb.DuckDBPyConnection, zone: str) -> Segments:
    """Subjects by `risk/<segment>` and `<family>/<segment>`, from that zone of the attached `lake`."""
    rows = connection.execute(
        f"select 'risk', segment, count(*) from lake.{zone}.risk_segments group by all union all "
        f"select segment_family, segment, count(*) from lake.{zone}.audience_segments group by all order by all"
    ).fetchall()
    return {f"{family}/{segment}": int(count) for family, segment, count in rows}


def differences(pipeline: Segments, floor: Segments) -> dict[str, list[int]]:
    """Segments whose counts are not the same: [pipeline, floor]."""
    names = sorted({*pipeline, *floor})
    return {
        name: [pipeline.get(name, 0), floor.get(name, 0)]
        for name in names
        if pipeline.get(name, 0) != floor.get(name, 0)
    }
