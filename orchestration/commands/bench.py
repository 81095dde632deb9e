"""The command `bench`.

Belongs here: its arguments and how its figures are shown. Does not belong here: measuring.
"""

from pathlib import Path
from typing import Annotated

import typer

from orchestration.commands.drawing import bar, print_rows
from orchestration.commands.options import Failure, FormatOption, OutputFormat


def bench(
    customers: Annotated[int, typer.Option(min=1, help="How many customers.")] = 100_000,
    transactions: Annotated[int, typer.Option(min=0, help="How many transactions.")] = 2_000_000,
    file_format: FormatOption = OutputFormat.TABLE,
    file_kind: Annotated[str, typer.Option("--file-format", help="csv or parquet for the generated files.")] = "parquet",
    folder: Annotated[Path | None, typer.Option(help="Where to work; default: a temporary folder, removed at the end.")] = None,
) -> None:
    """Measure the pipeline beside its floor: the same result from bare DuckDB statements in one process."""
    from orchestration.bench.measure import BenchError, measure
    from orchestration.querying import write_document

    try:
        with bar("benchmark"):
            figures = measure(customers, transactions, file_kind, folder)
    except BenchError as error:
        raise Failure(str(error)) from None
    if file_format is OutputFormat.JSON:
        write_document(figures)
        return
    title = f"{customers:,} customers, {transactions:,} transactions"
    tables = {key: value for key, value in figures.items() if isinstance(value, dict) and value}
    for key, seconds in tables.items():
        columns = [key.replace("_", " "), *(["pipeline, floor"] if key == "differing_segments" else ["seconds"])]
        print_rows(columns, [(name, str(value)) for name, value in seconds.items()], title if key == "stages" else None)
    print_rows(["figure", "value"], [(key, str(value)) for key, value in figures.items() if not isinstance(value, dict)])
