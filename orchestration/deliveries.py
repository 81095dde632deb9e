"""The record of deliveries: which point in time and profile the raw tables stand for.

Belongs here: writing and reading `ops.deliveries`. Later stages of a run, or a run resumed after a crash, read it here
instead of guessing: the clock is asked once per delivery.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from orchestration.ingestion.errors import SourceError
from orchestration.ingestion.mapping import Mapping
from orchestration.lake import table_exists
from orchestration.settings import Settings

DELIVERIES_DDL = (
    "create table if not exists lake.ops.deliveries (run_id varchar, mapping varchar, profile varchar, as_of timestamp, "
    "landed_at timestamp)"
)


@dataclass(frozen=True)
class DeliveryRecord:
    """Run, tenant profile and point in time (UTC) of the newest delivery."""

    run_id: str
    profile: str
    as_of: datetime


def resolve_as_of(settings: Settings, mapping: Mapping) -> datetime:
    """The point in time that a run rates for: asked for, else the mapping's, else now (UTC, whole seconds)."""
    if settings.as_of:
        try:
            moment = datetime.fromisoformat(settings.as_of)
        except ValueError:
            raise SourceError(
                "bad_as_of", f"{settings.as_of!r} is no ISO 8601 time", "write it like 2026-11-01T00:00:00"
            ) from None
        return (moment.astimezone(UTC) if moment.tzinfo else moment).replace(tzinfo=None, microsecond=0)
    return (mapping.as_of or datetime.now(UTC)).replace(tzinfo=None, microsecond=0)


def source_folders(settings: Settings) -> tuple[Path, Path]:
    """Folder of the mapping and folder of the data; without settings, the built-in sample's."""
    sources = settings.sources or settings.sample_dir
    folder = sources if sources.is_dir() else sources.parent
    return sources, (settings.data or folder)


def record_delivery(
    connection: duckdb.DuckDBPyConnection, run_id: str, mapping: str, profile: str, as_of: datetime
) -> None:
    """Note a delivery that has been taken in.

    The newest is known by its time, so it gets a later one than all before it, also where the clock was set back meanwhile.
    """
    connection.execute(DELIVERIES_DDL)
    connection.execute(
        "insert into lake.ops.deliveries select ?, ?, ?, ?, greatest(?, max(landed_at) + interval 1 microsecond) "
        "from lake.ops.deliveries",
        [run_id, mapping, profile, as_of, datetime.now(UTC).replace(tzinfo=None)],
    )


def newest_delivery(connection: duckdb.DuckDBPyConnection, settings: Settings) -> DeliveryRecord:
    """The newest delivery. Raises `SourceError` if there is none, or if it was taken in for another profile."""
    row = None
    if table_exists(connection, "ops", "deliveries"):
        row = connection.execute(
            "select run_id, profile, as_of from lake.ops.deliveries order by landed_at desc limit 1"
        ).fetchone()
    if row is None:
        raise SourceError("no_delivery", "nothing has been landed yet", "materialise the landing first, or `segline run`")
    if row[1] != settings.profile:
        raise SourceError(
            "other_profile",
            f"the raw tables were landed for the profile {row[1]}, this run is for {settings.profile}",
            "land again with this profile, or use another SEGLINE_HOME for it",
        )
    return DeliveryRecord(*row)
