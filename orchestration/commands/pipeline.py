"""The commands that make and run deliveries: `sample`, `sources check`, `run`.

Belongs here: their arguments and what they print. Does not belong here: work.
"""

from pathlib import Path
from typing import Annotated

import typer

from orchestration.commands.drawing import bar, output, print_rows
from orchestration.commands.options import (
    EXIT_BLOCKED,
    EXIT_FAILED,
    EXIT_LOCKED,
    EXIT_SOURCES,
    AsOfOption,
    DataOption,
    Failure,
    ProfileOption,
    SourcesOption,
    settings_of,
)
from orchestration.settings import Settings

sources_app = typer.Typer(no_args_is_help=True, help="Look at a delivery before it is taken in; pull from vendors.")


def _make_sample(settings: Settings, out: Path, customers: int | None, transactions: int | None, seed: int, fmt: str):
    from orchestration import progress
    from orchestration.sample import generate

    with bar(f"making a sample in {out}"):
        return generate.generate_sample(
            out,
            settings.profile,
            generate.DEFAULT_CUSTOMERS if customers is None else customers,
            generate.DEFAULT_TRANSACTIONS if transactions is None else transactions,
            seed=seed,
            file_format=fmt,
            progress=progress.report,
        )


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
    settings = settings_of(profile)
    if file_format not in ("csv", "parquet"):
        raise typer.BadParameter("csv or parquet", param_hint="--file-format")
    folder = out or settings.sample_dir
    summary = _make_sample(settings, folder, customers, transactions, seed, file_format)
    print_rows(["file", "rows"], [(name, f"{rows:,}") for name, rows in summary.files.items()], f"Sample in {folder}")
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

    settings = settings_of(profile, sources, data, as_of)
    folder, files = source_folders(settings)
    mapping = load_mapping(folder)
    as_of = resolve_as_of(settings, mapping)
    with bar("checking"), engine(settings) as connection, scratch_database(connection, settings):
        delivery, errors = check_delivery(connection, mapping, files, as_of, progress.report)
    _print_counts(delivery.counts)
    for feed in delivery.absent:
        output.print(f"{feed}: no file there; taken as no rows", highlight=False)
    print_rows(["feed", "reason", "rows"], [(*key, f"{rows:,}") for key, rows in delivery.reasons.items()], "Quarantine")
    if errors:
        raise Failure("\n".join(str(error) for error in errors), EXIT_SOURCES)


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

    settings = settings_of(profile, sources, data, as_of)
    if settings.sources is None and not (settings.sample_dir / "mapping.yml").exists():
        _make_sample(settings, settings.sample_dir, None, None, 7, "csv")
    folder, files = source_folders(settings)
    if not files.is_dir():
        raise Failure(f"the data folder {files} does not exist", EXIT_SOURCES)
    as_of = resolve_as_of(settings, load_mapping(folder))
    with bar("starting Dagster and dbt"):
        outcome = execute(settings, as_of)
    if not outcome.succeeded:
        _fail(settings, outcome)
    _print_run(settings, outcome)


def _fail(settings: Settings, outcome) -> None:
    """Say what failed, what stands, and what to do; exit with the code of its kind."""
    from orchestration.running import standing
    from orchestration.store_faults import BUSY, explain, is_of_the_store

    lines = []
    code = EXIT_FAILED
    if outcome.error:
        lines.append(outcome.error)
        kind = outcome.error.split(":")[0]
        code = {"SourceError": EXIT_SOURCES, "RunLocked": EXIT_LOCKED}.get(kind, EXIT_FAILED)
        known = explain(outcome.error, settings)
        if known and kind != "SourceError":
            lines.append(known.mend)
            code = EXIT_LOCKED if known.kind == BUSY else code
    if outcome.failed_checks:
        lines.append("Blocking checks failed: " + "; ".join(outcome.failed_checks))
        code = EXIT_BLOCKED
    try:
        stands = standing(settings) if settings.catalog.exists() else None
    except Exception as error:
        if not is_of_the_store(error):
            raise
        stands = None
    # A run that fails after its publication, for example in what checks it, has published all the same.
    if stands and stands.run_id == outcome.run_id:
        lines.append("The run had published before it failed: its publication stands, whole.")
    elif stands:
        lines.append(f"Nothing was published. The publication of {stands.published_at:%Y-%m-%d %H:%M} UTC stands.")
    else:
        lines.append("Nothing was published.")
    lines.append(f"The run is {outcome.run_id}; see it with `segline ui`, dbt's output is in {settings.runs_dir / 'output.log'}")
    raise Failure("\n".join(lines), code)


def _print_run(settings: Settings, outcome) -> None:
    from orchestration.running import reconciliation, standing

    _print_counts(reconciliation(settings, outcome.run_id))
    stands = standing(settings)
    print_rows(["feed", "reason", "rows"], [(*row[:2], f"{row[2]:,}") for row in stands.quarantine], "Quarantine")
    print_rows(["segment", "cause", "subjects"], [(*row[:2], f"{row[2]:,}") for row in stands.tiers], "published.risk_segments")
    print_rows(
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
    index = settings.documentation_dir / "site" / "index.html"
    if index.exists():
        output.print(f"  {index}   the documentation, for people", highlight=False, soft_wrap=True)


def _print_counts(counts) -> None:
    rows = [
        (
            count.feed,
            *(f"{value:,}" for value in (count.rows_in_file, count.rows_excluded, count.rows_read)),
            *(f"{value:,}" for value in (count.rows_kept, count.duplicates, count.quarantined)),
        )
        for count in counts
    ]
    print_rows(
        ["feed", "in file", "excluded", "read", "= kept", "+ duplicates", "+ quarantined"], rows, "Reconciliation"
    )
