"""A delivery as a whole: its counts, its scratch space, and a look at it without taking it in.

Belongs here: what landing and `segline sources check` share. Does not belong here: writing to the lake (`landing`),
judging rows (`examining`).
"""

import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb

from orchestration.ingestion.contracts import load_contracts
from orchestration.ingestion.errors import SourceError
from orchestration.ingestion.examining import Examination, Examiner, FeedCount
from orchestration.ingestion.mapping import Mapping
from orchestration.ingestion.reading import SCRATCH
from orchestration.lake import literal, private_folder
from orchestration.settings import Settings

Report = Callable[[str, float], None]
LEFTOVER_SECONDS = 3600


@dataclass
class Delivery:
    """What one landing did: counts per feed, feeds without a file, and quarantined rows per reason."""

    counts: list[FeedCount] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    reasons: dict[tuple[str, str], int] = field(default_factory=dict)

    def rows(self, entity: str) -> int:
        """Rows of an entity that are now in its raw table."""
        return sum(count.rows_kept for count in self.counts if count.entity == entity)


@contextmanager
def scratch_database(connection: duckdb.DuckDBPyConnection, settings: Settings) -> Iterator[None]:
    """A temporary database beside memory, for text rows that do not fit into it.

    Its key is random and never kept, so what a killed run leaves behind is noise, until `clear_leftovers`.
    """
    private_folder(settings.temp)
    path = settings.temp / f"landing-{secrets.token_hex(8)}.duckdb"
    connection.execute(f"attach {literal(path)} as {SCRATCH} (encryption_key {literal(secrets.token_hex(32))})")
    try:
        yield
    finally:
        connection.execute(f"detach {SCRATCH}")
        for leftover in settings.temp.glob(f"{path.name}*"):
            leftover.unlink(missing_ok=True)


def clear_leftovers(settings: Settings) -> None:
    """Remove what killed runs left in the temporary folder, once an hour old: a reader may be using the newer ones."""
    for path in settings.temp.glob("*"):
        if path.name == "dbt" or time.time() - path.stat().st_mtime < LEFTOVER_SECONDS:
            continue
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)


def check_delivery(
    connection: duckdb.DuckDBPyConnection, mapping: Mapping, data: Path, as_of: datetime, report: Report
) -> tuple[Delivery, list[SourceError]]:
    """Examine a delivery without storing anything; errors of single entities are gathered, not raised."""
    examiner = Examiner(connection, mapping, data, as_of)
    delivery, errors = Delivery(), []
    try:
        examiner.open_lookups()
    except SourceError as error:
        return delivery, [error]
    subjects: str | None = None
    for step, (entity, contract) in enumerate(load_contracts().items()):
        report(f"checking {entity}", step / len(load_contracts()))
        try:
            examination = examiner.examine(contract, subjects)
        except SourceError as error:
            errors.append(error)
            if entity == "customers":
                break
            continue
        for count in examination.counts.values():
            count.rows_kept = count_rows(connection, f"{examination.kept} where feed = {literal(count.feed)}")
        record(delivery, examination, connection)
        if entity == "customers":
            subjects = "subjects"
            connection.execute(
                "create or replace temp table subjects as "
                f"select customer_id, null::varchar as subject_token from {examination.kept}"
            )
        examiner.close(examination)
    delivery.counts += examiner.lookup_counts.values()
    return delivery, errors


def record(delivery: Delivery, examination: Examination, connection: duckdb.DuckDBPyConnection) -> None:
    """Add an examination's counts to the delivery's."""
    delivery.counts += examination.counts.values()
    delivery.absent += examination.absent
    for feed, reason, rows in connection.execute(
        f"select feed, reason, count(*) from {examination.quarantine} group by feed, reason"
    ).fetchall():
        delivery.reasons[(feed, reason)] = rows


def count_rows(connection: duckdb.DuckDBPyConnection, relation: str) -> int:
    """Rows of a relation (or of a relation with a condition)."""
    return int(connection.execute(f"select count(*) from {relation}").fetchone()[0])
