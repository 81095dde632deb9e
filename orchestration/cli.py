"""The command `segline`.

Belongs here: arguments, help, drawing, exit codes. Does not belong here: work; each command calls one function.
Heavy imports stand inside the commands, so that `--help` answers at once.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from orchestration.settings import Settings

EXIT_FAILED, EXIT_SOURCES, EXIT_BLOCKED, EXIT_LOCKED = 1, 3, 4, 5
EXIT_CODES = """Exit codes: 0 done; 1 failed; 2 wrong usage; 3 the delivery cannot be taken in; 4 a blocking check failed,
nothing was published; 5 another run holds the store."""

app = typer.Typer(
    name="segline",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Segments customers by risk and by consent, and proves each decision.\n\n"
    "Start with `segline run`: it makes a sample, runs it to published segments and says where to look. Then bring your own "
    "data with `--sources FOLDER` (a folder with a mapping.yml).\n\n" + EXIT_CODES,
)
sources_app = typer.Typer(no_args_is_help=True, help="Look at a delivery before it is taken in.")
app.add_typer(sources_app, name="sources")
console = Console(stderr=True)
output = Console()


class ProfileName(StrEnum):
    """The tenant profiles that ship."""

    FINTECH = "fintech"
    CHILDRENS_RETAIL = "childrens_retail"


class OutputFormat(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


ProfileOption = Annotated[
    ProfileName | None,
    typer.Option("--profile", help="Which purposes exist and on what basis: a bank's or a children's retailer's."),
]
SourcesOption = Annotated[
    Path | None, typer.Option("--sources", help="Folder with a mapping.yml; without it the built-in sample is used.")
]
DataOption = Annotated[Path | None, typer.Option("--data", help="Folder of the data files; default: the sources folder.")]
AsOfOption = Annotated[
    str | None, typer.Option("--as-of", help="Rate as of this instant (ISO 8601, UTC); default: the mapping's, else now.")
]


class Failure(Exception):
    """A user's mistake or a run's failure: shown as text, never as a traceback."""

    def __init__(self, message: str, code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.code = code


def _settings(
    profile: ProfileName | None = None, sources: Path | None = None, data: Path | None = None, as_of: str | None = None
) -> Settings:
    given = {"profile": profile and profile.value, "sources": sources, "data": data, "as_of": as_of}
    return Settings(**{name: value for name, value in given.items() if value is not None})


@contextmanager
def _bar(title: str) -> Iterator[None]:
    """A progress bar fed by `progress.report`; plain lines where the output is no terminal."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from orchestration import progress

    if not console.is_terminal:
        said: list[str] = []

        def say(stage: str, fraction: float) -> None:
            if stage not in said[-1:]:
                said.append(stage)
                console.print(f"  {stage} …", highlight=False)

        console.print(f"{title} …", highlight=False)
        with progress.watched_by(say):
            yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None)

        def draw(stage: str, fraction: float) -> None:
            bar.update(task, description=stage, total=1.0 if fraction else None, completed=fraction)

        with progress.watched_by(draw):
            yield


def _make_sample(settings: Settings, out: Path, customers: int | None, transactions: int | None, seed: int, fmt: str):
    from orchestration import progress
    from orchestration.sample import generate

    with _bar(f"making a sample in {out}"):
        return generate.generate_sample(
            out,
            settings.profile,
            generate.DEFAULT_CUSTOMERS if customers is None else customers,
            generate.DEFAULT_TRANSACTIONS if transactions is None else transactions,
            seed=seed,
            file_format=fmt,
            progress=progress.report,
        )


@app.command()
def sample(
    profile: ProfileOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: beside the home folder.")] = None,
    customers: Annotated[int | None, typer.Option(min=1, help="How many customers.")] = None,
    transactions: Annotated[int | None, typer.Option(min=0, help="How many transactions.")] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 7,
    file_format: Annotated[str, typer.Option("--file-format", help="csv or parquet for the large files.")] = "csv",
) -> None:
    """Generate customers, transactions, consent and everything else, with the faults that real feeds have.

    The persons are invented. Use it to try the platform: `segline sample --customers 20000 --out s; segline run --sources s`.
    """
    settings = _settings(profile)
    if file_format not in ("csv", "parquet"):
        raise typer.BadParameter("csv or parquet", param_hint="--file-format")
    folder = out or settings.sample_dir
    summary = _make_sample(settings, folder, customers, transactions, seed, file_format)
    _print_rows(["file", "rows"], [(name, f"{rows:,}") for name, rows in summary.files.items()], f"Sample in {folder}")
    output.print(f"Next: segline run --profile {settings.profile} --sources {folder}", highlight=False)


@sources_app.command("check")
def sources_check(
    sources: SourcesOption = None, data: DataOption = None, profile: ProfileOption = None, as_of: AsOfOption = None
) -> None:
    """Examine a delivery against the contracts without taking anything in.

    Shows per feed what would be kept and what would go to quarantine, and names what is wrong with a file. Exit code 3 if
    some file cannot be taken in at all.
    """
    from orchestration import progress
    from orchestration.deliveries import resolve_as_of, source_folders
    from orchestration.ingestion.delivery import check_delivery, scratch_database
    from orchestration.ingestion.mapping import load_mapping
    from orchestration.lake import engine

    settings = _settings(profile, sources, data, as_of)
    folder, files = source_folders(settings)
    mapping = load_mapping(folder)
    as_of = resolve_as_of(settings, mapping)
    with _bar("checking"), engine(settings) as connection, scratch_database(connection, settings):
        delivery, errors = check_delivery(connection, mapping, files, as_of, progress.report)
    _print_counts(delivery.counts)
    for feed in delivery.absent:
        output.print(f"{feed}: no file there; taken as no rows", highlight=False)
    _print_rows(["feed", "reason", "rows"], [(*key, f"{rows:,}") for key, rows in delivery.reasons.items()], "Quarantine")
    if errors:
        raise Failure("\n".join(str(error) for error in errors), EXIT_SOURCES)


@app.command()
def run(
    profile: ProfileOption = None, sources: SourcesOption = None, data: DataOption = None, as_of: AsOfOption = None
) -> None:
    """Run everything: land, gate by consent, rate, check, publish.

    Without `--sources` the built-in sample is made and used. A failed run leaves the last publication standing; a killed
    one is completed by the next. The home folder is `$SEGLINE_HOME` (default `.segline`).
    """
    from orchestration.deliveries import resolve_as_of, source_folders
    from orchestration.ingestion.mapping import load_mapping
    from orchestration.running import execute

    settings = _settings(profile, sources, data, as_of)
    if settings.sources is None and not (settings.sample_dir / "mapping.yml").exists():
        _make_sample(settings, settings.sample_dir, None, None, 7, "csv")
    folder, files = source_folders(settings)
    if not files.is_dir():
        raise Failure(f"the data folder {files} does not exist", EXIT_SOURCES)
    as_of = resolve_as_of(settings, load_mapping(folder))
    with _bar("starting Dagster and dbt"):
        outcome = execute(settings, as_of)
    if not outcome.succeeded:
        _fail(settings, outcome)
    _print_run(settings, outcome)


def _fail(settings: Settings, outcome) -> None:
    """Say what failed, what stands, and what to do; exit with the code of its kind."""
    from orchestration.running import standing

    lines = []
    code = EXIT_FAILED
    if outcome.error:
        lines.append(outcome.error)
        kind = outcome.error.split(":")[0]
        code = {"SourceError": EXIT_SOURCES, "RunLocked": EXIT_LOCKED}.get(kind, EXIT_FAILED)
    if outcome.failed_checks:
        lines.append("Blocking checks failed: " + "; ".join(outcome.failed_checks))
        code = EXIT_BLOCKED
    stands = standing(settings) if settings.catalog.exists() else None
    if stands:
        lines.append(f"Nothing was published. The publication of {stands.published_at:%Y-%m-%d %H:%M} UTC stands.")
    else:
        lines.append("Nothing was published.")
    lines.append(f"The run is {outcome.run_id}; see it with `segline ui`, dbt's output is in {settings.runs_dir / 'output.log'}")
    raise Failure("\n".join(lines), code)


def _print_run(settings: Settings, outcome) -> None:
    from orchestration.running import reconciliation, standing

    _print_counts(reconciliation(settings, outcome.run_id))
    stands = standing(settings)
    _print_rows(["feed", "reason", "rows"], [(*row[:2], f"{row[2]:,}") for row in stands.quarantine], "Quarantine")
    _print_rows(["segment", "cause", "subjects"], [(*row[:2], f"{row[2]:,}") for row in stands.tiers], "published.risk_segments")
    _print_rows(
        ["family", "segment", "cause", "subjects"],
        [(*row[:3], f"{row[3]:,}") for row in stands.audiences],
        "published.audience_segments",
    )
    for warning in outcome.warnings:
        output.print(f"warning: {warning}", highlight=False)
    output.print(
        f"Published for profile {stands.profile} as of {stands.as_of} UTC. Look next:\n"
        "  segline query \"select segment, count(*) from published.risk_segments group by 1\"\n"
        "  segline explain CUSTOMER     why a customer is where he is\n"
        "  segline ui                   the whole graph, read-only, in the browser",
        highlight=False,
    )


@app.command()
def ui(
    port: Annotated[int, typer.Option(help="Port on the loopback interface.")] = 3000,
    writable: Annotated[
        bool, typer.Option("--writable", help="Let the page start runs. Whoever reaches it may then forge results.")
    ] = False,
    profile: ProfileOption = None,
) -> None:
    """Open the asset graph, runs and checks in Dagster's pages, read-only unless told otherwise."""
    import subprocess

    from orchestration.running import export_settings, prepare_dagster_home
    from orchestration.settings import PROJECT_ROOT

    settings = _settings(profile)
    export_settings(settings)
    prepare_dagster_home(settings)
    command = [str(Path(sys.executable).with_name("dagster-webserver")), "-w", str(PROJECT_ROOT / "workspace.yaml")]
    command += ["-h", "127.0.0.1", "-p", str(port)] + ([] if writable else ["--read-only"])
    output.print(f"http://127.0.0.1:{port}/asset-groups  (end with Ctrl-C)", highlight=False)
    raise typer.Exit(subprocess.call(command))


@app.command()
def query(
    sql: Annotated[str, typer.Argument(help='One SELECT, for example "select * from published.risk_segments limit 5".')],
    file_format: Annotated[OutputFormat, typer.Option("--format", help="How to write the rows.")] = OutputFormat.TABLE,
) -> None:
    """Read the published and operational tables with SQL, also while a run writes.

    Relations: `published.risk_segments`, `published.audience_segments`, `published.risk_rules`, `consent.gate`,
    `ops.reconciliation`, `ops.quarantine`, `ops.loads`, `ops.publications`.
    """
    from orchestration.querying import QueryError, run_query, write_csv, write_json

    try:
        columns, rows = run_query(_settings(), sql)
    except QueryError as error:
        raise Failure(str(error), 2) from None
    if file_format is OutputFormat.CSV:
        write_csv(columns, rows)
    elif file_format is OutputFormat.JSON:
        write_json(columns, rows)
    else:
        _print_rows(columns, [[("" if value is None else str(value)) for value in row] for row in rows])


@app.command()
def explain(
    customer: Annotated[str, typer.Argument(help="The customer's identifier as your source system writes it.")],
    file_format: Annotated[OutputFormat, typer.Option("--format", help="table for people, json for scripts.")] = OutputFormat.TABLE,
    profile: ProfileOption = None,
) -> None:
    """Say why a customer is where he is: tier, points, rules with their text, consent, legal basis, sources.

    Needs the pseudonym key, so it is for compliance and privacy officers, not for analysts.
    """
    from orchestration.explanation import explain_customer, write_text
    from orchestration.querying import write_document

    explanation = explain_customer(_settings(profile), customer)
    if file_format is OutputFormat.JSON:
        write_document(explanation)
    else:
        write_text(explanation, output)


@app.command()
def bench(
    customers: Annotated[int, typer.Option(min=1, help="How many customers.")] = 100_000,
    transactions: Annotated[int, typer.Option(min=0, help="How many transactions.")] = 2_000_000,
    file_format: Annotated[OutputFormat, typer.Option("--format", help="table or json.")] = OutputFormat.TABLE,
    file_kind: Annotated[str, typer.Option("--file-format", help="csv or parquet for the generated files.")] = "parquet",
    folder: Annotated[Path | None, typer.Option(help="Where to work; default: a temporary folder, removed at the end.")] = None,
) -> None:
    """Measure the pipeline beside its floor: the same result from bare DuckDB statements in one process."""
    from orchestration.bench.measure import BenchError, measure
    from orchestration.querying import write_document

    try:
        with _bar("benchmark"):
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
        _print_rows(columns, [(name, str(value)) for name, value in seconds.items()], title if key == "stages" else None)
    _print_rows(["figure", "value"], [(key, str(value)) for key, value in figures.items() if not isinstance(value, dict)])


def _print_counts(counts) -> None:
    rows = [
        (
            count.feed,
            *(f"{value:,}" for value in (count.rows_in_file, count.rows_excluded, count.rows_read)),
            *(f"{value:,}" for value in (count.rows_kept, count.duplicates, count.quarantined)),
        )
        for count in counts
    ]
    _print_rows(
        ["feed", "in file", "excluded", "read", "= kept", "+ duplicates", "+ quarantined"], rows, "Reconciliation"
    )


def _print_rows(columns: list[str], rows: list, title: str | None = None) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        numeric = bool(rows) and all(str(row[columns.index(column)]).replace(",", "").isdigit() for row in rows)
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    output.print(table)
    output.print()


def main() -> None:
    """Entry point: runs a command and turns expected failures into a message and an exit code."""
    from orchestration.ingestion.errors import SourceError

    if not output.is_terminal and "COLUMNS" not in os.environ:
        output.width = 120
    try:
        app()
    except Failure as failure:
        console.print(str(failure), style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(failure.code)
    except SourceError as error:
        console.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(EXIT_SOURCES)
    except FileNotFoundError as error:
        console.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(EXIT_FAILED)


if __name__ == "__main__":
    main()
