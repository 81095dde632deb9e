"""What does not stay, as a table that a person can work with: file, row as the person counts it, reason, shape.

Belongs here: the table `quarantine_<entity>` of one examination. Does not belong here: deciding what is wrong (`rows`,
`examining`), keeping it (`landing`).
"""

import duckdb
import pyarrow as pa

from orchestration.ingestion.contracts import Contract
from orchestration.ingestion.errors import REASONS
from orchestration.ingestion.reading import Source
from orchestration.lake import literal

SIDE_TABLES = ("delivery_files", "delivery_gaps", "delivery_rejects")


def fill_quarantine(connection: duckdb.DuckDBPyConnection, contract: Contract, sources: dict[str, Source]) -> None:
    """Bad rows with file and the row's number as a person counts it, rejected rows above it included.

    Reads the side tables `problems_<entity>` and `repeats_<entity>` of the examination.
    """
    entity = contract.entity
    files = [
        (name, position, file.path.name, source.header_rows)
        for name, source in sources.items()
        for position, file in enumerate(source.files)
    ]
    # The k-th rejected record at line n leaves n - header - k readable rows above it.
    gaps = [
        (name, position, line - source.header_rows - order - 1)
        for name, source in sources.items()
        for position, rows in source.rejects.items()
        for order, line in enumerate(sorted(rows))
    ]
    rejects = [
        (name, position, line, reason)
        for name, source in sources.items()
        for position, rows in source.rejects.items()
        for line, reason in rows.items()
    ]
    _small_table(connection, "delivery_files", "feed varchar, _file integer, file varchar, header_rows integer", files)
    _small_table(connection, "delivery_gaps", "feed varchar, _file integer, above bigint", gaps)
    columns = "feed varchar, _file integer, row_number bigint, reason varchar"
    _small_table(connection, "delivery_rejects", columns, rejects)
    connection.execute(
        f"insert into quarantine_{entity} with bad as ("
        f"select feed, _file, _row, nullif(split_part(_problem, ':', 1), '') as column_name, "
        f"split_part(_problem, ':', 2) as reason, _shape from problems_{entity} union all "
        f"select feed, _file, _row, {literal(contract.key)}, 'contradictory_key', null from repeats_{entity} "
        "where fate = 'contradictory'), shifts as (select bad.feed, bad._file, bad._row, count(gap.above) as shift "
        "from bad left join delivery_gaps as gap on bad.feed = gap.feed and bad._file = gap._file and gap.above <= bad._row "
        "group by bad.feed, bad._file, bad._row) "
        "select bad.feed, file, bad._row + 1 + header_rows + shift, column_name, reason, _shape "
        "from bad join shifts using (feed, _file, _row) join delivery_files using (feed, _file) "
        "union all select feed, file, row_number, null, reason, null "
        "from delivery_rejects join delivery_files using (feed, _file)"
    )
    unknown = {row[0] for row in connection.execute(f"select distinct reason from quarantine_{entity}").fetchall()} - set(REASONS)
    if unknown:
        raise RuntimeError(f"quarantine reasons without a description: {unknown}")


def _small_table(connection: duckdb.DuckDBPyConnection, name: str, columns: str, rows: list[tuple]) -> None:
    connection.execute(f"create or replace temp table {name} ({columns})")
    if rows:
        arrow = pa.table({f"c{i}": pa.array(values) for i, values in enumerate(zip(*rows, strict=True))})
        connection.register("small_rows", arrow)
        connection.execute(f"insert into {name} select * from small_rows")
        connection.unregister("small_rows")
