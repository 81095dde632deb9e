"""Publication: one transaction replaces what the world sees.

Belongs here: the copy from `candidate` to `published`, its record, and the upkeep of the store afterwards.
Does not belong here: deciding whether a run may publish (the checks upstream).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from orchestration.lake import identifier, literal, table_exists, transaction

PUBLICATIONS_DDL = (
    "create table if not exists lake.ops.publications (run_id varchar, profile varchar, as_of timestamp, "
    "published_at timestamp, relation varchar, row_count bigint, source_snapshot bigint)"
)
SNAPSHOT_DAYS = 2  # short-term time travel only; an erasure has to be done within two days


class PublicationError(RuntimeError):
    """The candidates are not fit to be published; the last publication stands."""


@dataclass(frozen=True)
class Published:
    """One relation of a publication with its rows."""

    relation: str
    rows: int


def publish(
    connection: duckdb.DuckDBPyConnection,
    names: Iterable[str],
    run_id: str,
    profile: str,
    as_of: datetime,
    amend: Callable[[], object] = lambda: None,
) -> list[Published]:
    """Replace the named published relations at once, and record it. Readers see the old or the new, never a mix.

    `names` come from dbt's manifest, not from the store: the table of a model that is gone must not be published again.
    `amend` runs inside the transaction once the relations are copied: what must hold of them however they were built, such
    as opt-outs that arrived during the run, and the decisions of the ledger: no segment without its decision.
    Raises `PublicationError` if a candidate is missing or was built for another point in time.
    """
    candidates = sorted(names)
    missing = [name for name in candidates if not table_exists(connection, "candidate", name)]
    if missing:
        raise PublicationError(f"no candidate for {', '.join(missing)}: run the whole job")
    _require_point_in_time(connection, as_of)
    snapshot = connection.execute("select max(snapshot_id) from ducklake_snapshots('lake')").fetchone()[0]
    now = datetime.now(UTC).replace(tzinfo=None)
    connection.execute(PUBLICATIONS_DDL)
    published = []
    with transaction(connection):
        for name in candidates:
            relation = f"lake.published.{identifier(name)}"
            connection.execute(f"create or replace table {relation} as select * from lake.candidate.{identifier(name)}")
        amend()
        for name in candidates:
            relation = f"lake.published.{identifier(name)}"
            rows = int(connection.execute(f"select count(*) from {relation}").fetchone()[0])
            published.append(Published(f"published.{name}", rows))
            connection.execute(
                "insert into lake.ops.publications values (?, ?, ?, ?, ?, ?, ?)",
                [run_id, profile, as_of, now, f"published.{name}", rows, snapshot],
            )
        connection.execute(
            "create or replace table lake.published.publication as select "
            f"{literal(run_id)} as run_id, {literal(profile)} as profile, timestamp {literal(as_of)} as as_of, "
            f"timestamp {literal(now)} as published_at"
        )
    return published


def last_publication(connection: duckdb.DuckDBPyConnection) -> tuple[str, str, datetime, datetime] | None:
    """run id, profile, as-of and time (UTC) of what stands published, if anything."""
    if not table_exists(connection, "published", "publication"):
        return None
    return connection.execute("select run_id, profile, as_of, published_at from lake.published.publication").fetchone()


def tidy(connection: duckdb.DuckDBPyConnection) -> None:
    """Forget old snapshots and remove the files that only they needed; otherwise every run would keep the last one's."""
    older = f"older_than => now() - interval '{SNAPSHOT_DAYS} days'"
    connection.execute(f"call ducklake_expire_snapshots('lake', {older})")
    connection.execute("call ducklake_cleanup_old_files('lake', cleanup_all => true)")


def _require_point_in_time(connection: duckdb.DuckDBPyConnection, as_of: datetime) -> None:
    found = connection.execute(
        "select distinct as_of from lake.candidate.risk_segments "
        "union select distinct as_of from lake.candidate.audience_segments"
    ).fetchall()
    others = [row[0] for row in found if row[0] != as_of]
    if others:
        raise PublicationError(f"candidates were built as of {others[0]}, this run is as of {as_of}: build them again")
