"""What a pull leaves in the lake for auditors: its counts and its dead letters, without any value.

Belongs here: the two tables in `ops`. Does not belong here: the rows themselves, which go through the landing.
"""

from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from orchestration.connectors.pulling import PullReport
from orchestration.lake import ensure_zones, literal, transaction

PULLS_DDL = (
    "create table if not exists lake.ops.connector_pulls (connector varchar, resource varchar, since timestamp, "
    "until timestamp, pages bigint, records bigint, received bigint, rows bigint, duplicates bigint, dead_letters bigint, "
    "pulled_at timestamp)"
)
DEAD_LETTERS_DDL = (
    "create table if not exists lake.ops.dead_letters (connector varchar, resource varchar, record varchar, reason varchar, "
    "field varchar, shape varchar, received_at timestamp)"
)
_LETTER = "connector: 'varchar', resource: 'varchar', record: 'varchar', reason: 'varchar', field: 'varchar', shape: 'varchar'"


def record_pull(connection: duckdb.DuckDBPyConnection, report: PullReport, folder: Path, pulled_at: datetime) -> None:
    """Append a pull's counts; add the folder's dead letters that are not on record yet (windows overlap, letters recur).

    All letters of the folder are looked at, not only this pull's: a run that died before this step loses none.
    """
    ensure_zones(connection)
    connection.execute(PULLS_DDL)
    connection.execute(DEAD_LETTERS_DDL)
    names = ("connector", "resource", "since", "until", "pages", "records", "received", "rows", "duplicates", "dead_letters")
    rows = [{**{name: getattr(count, name) for name in names}, "pulled_at": pulled_at} for count in report.counts]
    letters = sorted(folder.glob("dead_letters-*.jsonl"))
    with transaction(connection):
        if rows:
            connection.register("pulls", pa.Table.from_pylist(rows))
            connection.execute("insert into lake.ops.connector_pulls by name select * from pulls")
            connection.unregister("pulls")
        if letters:
            files = ", ".join(map(literal, letters))
            columns = f"{{{_LETTER}, received_at: 'timestamp'}}"
            same = " and ".join(
                f"letters.{name} is not distinct from known.{name}"
                for name in ("connector", "resource", "record", "reason", "field", "shape")
            )
            connection.execute(
                "insert into lake.ops.dead_letters by name "
                "select connector, resource, record, reason, field, shape, min(received_at) as received_at "
                f"from read_ndjson([{files}], columns = {columns}) as letters "
                f"where not exists (select 1 from lake.ops.dead_letters as known where {same}) group by all"
            )
