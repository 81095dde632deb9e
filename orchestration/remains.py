"""What a killed run leaves lying, and how the next one clears it.

A killed run cannot say that it ended: Dagster shows it as running for ever. What it had written without committing it stays on
the disk, files that no catalogue knows and nobody can read, for their keys were never stored; and so does what the engine
spilled. Files of a commit that may not have taken place (`durability`) are among them. Whoever holds the home's lock clears it,
once, before his first step.

Belongs here: recognising a run whose process is gone, and clearing up after it. Does not belong here: upkeep after a
publication (`publication.tidy`), removing persons (`rights.upkeep`).
"""

import os
import shutil
from typing import Any

from orchestration.durability import UNCERTAIN
from orchestration.settings import Settings

PROCESS_TAG = "segline/process"


def this_process() -> str:
    """What tells this process from any other that had or will have its number."""
    import psutil

    return f"{os.getpid()}:{psutil.Process().create_time():.2f}"


def is_gone(process: str | None) -> bool:
    """Whether the process that a run names has ended. A run that names none belongs to the daemon, which watches its own."""
    import psutil

    if process is None:
        return False
    number, _, created = process.partition(":")
    try:
        return f"{psutil.Process(int(number)).create_time():.2f}" != created
    except psutil.NoSuchProcess:
        return True


def clear_after_killed_runs(settings: Settings, instance: Any, own: str | None) -> int:
    """Record the end of runs that were killed, and delete what they left; returns how many there were.

    `instance` is Dagster's, `own` the run that asks; the caller holds the home's lock.
    """
    import dagster as dg

    # Not started: the disk was full when it was to be.
    statuses = [dg.DagsterRunStatus.NOT_STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED]
    unended = dg.RunsFilter(statuses=statuses)
    gone = [run for run in instance.get_runs(unended) if run.run_id != own and is_gone(run.tags.get(PROCESS_TAG))]
    for run in gone:
        instance.report_run_failed(run, "The process of this run ended without a word: it was killed.")
    uncertain = [data / UNCERTAIN for data in (settings.lake_data, settings.vault_data) if (data / UNCERTAIN).exists()]
    if gone or uncertain:
        _delete_orphans(settings)
        for path in uncertain:
            path.unlink(missing_ok=True)
        # Whoever has one of them open, a reader or a check of a delivery, keeps it until he closes it.
        for path in (*settings.temp.glob("engine-*"), *settings.temp.glob("landing-*")):
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    return len(gone)


def _delete_orphans(settings: Settings) -> None:
    """Files of lake and vault that no catalogue knows. Alone at the store, so that nobody's unfinished files are among them."""
    from orchestration.lake import attach, engine
    from orchestration.turns import sole_turn

    with sole_turn(settings.turn_file, settings.lock_wait_seconds), engine(settings) as connection:
        for alias, catalog, data in (
            ("lake", settings.catalog, settings.lake_data),
            ("vault", settings.vault_catalog, settings.vault_data),
        ):
            if catalog.exists():
                attach(connection, alias, catalog, data)
                connection.execute(f"call ducklake_delete_orphaned_files('{alias}', cleanup_all => true)")
