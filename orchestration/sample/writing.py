"""The sample's files: CSV, newline-delimited JSON and Parquet, and the mapping that presents them to the platform.

Belongs here: bytes on disk. Does not belong here: what the rows say. The same rows give the same bytes.
"""

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

_QUOTED = pa_csv.WriteOptions(include_header=False, quoting_style="needed")
_BARE = pa_csv.WriteOptions(include_header=False, quoting_style="none")
_FEW_VALUES = (
    "direction",
    "currency",
    "payment_method",
    "channel",
    "counterparty_country",
    "category",
    "event_type",
    "page_category",
)


class GrowingFile:
    """A CSV or Parquet file written part by part; `rows` counts what was appended."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.path, self.rows, self._schema = path, 0, schema
        self._stream = path.open("wb")
        self._parquet: pq.ParquetWriter | None = None
        if path.suffix == ".parquet":
            few = [name for name in schema.names if name in _FEW_VALUES]
            self._parquet = pq.ParquetWriter(
                self._stream, schema, compression="zstd", compression_level=1, use_dictionary=few
            )
        else:
            self._stream.write((",".join(schema.names) + "\n").encode("utf-8"))

    def append(self, table: pa.Table, bare: bool = False) -> None:
        """Write the rows of a table of the file's schema; `bare` is faster, and refuses values that need quotes."""
        self.rows += table.num_rows
        # Batch by batch: an empty chunk in a table makes write_csv write junk (apache/arrow#36889).
        for batch in table.to_batches():
            if not batch.num_rows:
                continue
            if self._parquet:
                self._parquet.write_batch(batch, row_group_size=500_000)
            else:
                pa_csv.write_csv(batch, self._stream, _BARE if bare else _QUOTED)

    def close(self) -> None:
        """Finish the file; a Parquet file is not readable before."""
        if self._parquet:
            self._parquet.close()
        self._stream.close()


def write_table(path: Path, table: pa.Table) -> int:
    """One file in the format of its suffix (.csv, .parquet, .ndjson); returns its rows."""
    if path.suffix == ".ndjson":
        return _write_ndjson(path, table)
    file = GrowingFile(path, table.schema)
    try:
        file.append(table)
    finally:
        file.close()
    return table.num_rows


def _write_ndjson(path: Path, table: pa.Table) -> int:
    """One object a line, in the table's order."""
    with duckdb.connect() as engine:
        engine.execute("set enable_progress_bar = false")
        engine.register("rows_of_file", table)
        target = str(path).replace("'", "''")
        engine.execute(f"copy (from rows_of_file) to '{target}' (format json)")
    return table.num_rows


def mapping_text(profile: str, end: int, feeds: list[tuple[str, str, str, str]]) -> str:
    """`mapping.yml`: feeds are name, entity, file pattern and format; the run's as-of instant is `end`."""
    as_of = datetime.fromtimestamp(end, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S")
    lines = [
        "# Written by the sample generator: nobody in these files exists.",
        "version: 1",
        f"name: {profile.replace('_', '-')}-sample",
        f"description: Generated customers of the profile {profile}, with the oddities of real feeds planted.",
        f'as_of: "{as_of}"',
        'defaults: {format: csv, delimiter: ",", quote: \'"\', encoding: utf-8, null_values: [""], decimal: ".", '
        "final_newline: required}",
        "feeds:",
    ]
    for name, entity, files, file_format in feeds:
        lines += [
            f"  - name: {name}",
            f"    entity: {entity}",
            f'    files: "{files}"',
            f"    format: {file_format}",
            '    timestamp_formats: ["%Y/%m/%d", "%Y/%m/%d %H:%M:%S"]',
        ]
    return "\n".join(lines) + "\n"
