"""The command `bench` and its own: `consent`, `rights`, `ledger`, `clusters`, `model`.

Belongs here: their arguments and how figures are shown. Does not belong here: measuring.
"""

from pathlib import Path
from typing import Annotated, Any

import typer

from orchestration.commands.drawing import bar, print_rows
from orchestration.commands.options import Failure, FormatOption, OutputFormat

app = typer.Typer(invoke_without_command=True)


@app.callback()
def bench(
    context: typer.Context,
    customers: Annotated[int, typer.Option(min=1, help="How many customers.")] = 100_000,
    transactions: Annotated[int, typer.Option(min=0, help="How many transactions.")] = 2_000_000,
    file_format: FormatOption = OutputFormat.TABLE,
    file_kind: Annotated[str, typer.Option("--file-format", help="csv or parquet for the generated files.")] = "parquet",
    folder: Annotated[Path | None, typer.Option(help="Where to work; default: a temporary folder, removed at the end.")] = None,
) -> None:
    """Measure the pipeline beside its floor: the same result from bare DuckDB statements in one process.

    `bench consent` measures the decoders and the gate alone, `bench rights` opt-outs and deletions on a copy of a home,
    `bench ledger` entering, verifying and proving decisions, `bench clusters` a fit of clusters, `bench model` scores with
    reasons and a fit, `bench online` the online service under load.
    """
    if context.invoked_subcommand is not None:
        return
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
    _print_single(figures)


@app.command()
def consent(
    people: Annotated[int, typer.Option(min=1, help="How many people the gate answers for.")] = 1_000_000,
    strings: Annotated[int, typer.Option(min=1, help="How many consent strings of each kind are decoded.")] = 2_000,
    file_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Measure the decoders of consent signals, and the consent gate beside a floor.

    Decoders: strings per second of one core's time, each kind on made well-formed strings, alone and with the states that
    follow per purpose. Gate: the SQL that a run executes, for PEOPLE made people by all seven purposes, beside what a person
    might write who knows no rule but that the latest word counts.

    The figures that compare are processor seconds and ratios: wall-clock seconds of a busy machine measure its neighbours.

    Try it small first: `segline bench consent --people 10000`.
    """
    from orchestration.bench.decoders import decoder_speeds
    from orchestration.bench.gate import measure_gate
    from orchestration.bench.measure import BenchError
    from orchestration.querying import write_document

    try:
        with bar("benchmark of consent"):
            figures = {"strings_per_cpu_second": decoder_speeds(strings), "gate": measure_gate(people)}
    except BenchError as error:
        raise Failure(str(error)) from None
    if file_format is OutputFormat.JSON:
        write_document(figures)
        return
    print_rows(["decoder", "strings per processor second"], list(figures["strings_per_cpu_second"].items()))
    stages = [(name, *seconds) for name, seconds in figures["gate"]["stages"].items()]
    print_rows(["stage", "seconds", "processor seconds"], stages, f"gate, {people:,} people by 7 purposes")
    _print_single(figures["gate"])


@app.command()
def clusters(
    people: Annotated[int, typer.Option(min=1_000, help="How many made people are clustered.")] = 1_000_000,
    file_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Measure a fit of clusters on made people: the choice of the number, K-means over all, and the second look by density.

    Processor seconds compare; wall-clock seconds of a busy machine measure its neighbours. At most two threads.

    Try it small first: `segline bench clusters --people 50000`.
    """
    from orchestration.bench.clusters import measure_clusters
    from orchestration.bench.measure import BenchError
    from orchestration.querying import write_document

    try:
        with bar("benchmark of clusters"):
            figures = measure_clusters(people)
    except BenchError as error:
        raise Failure(str(error)) from None
    if file_format is OutputFormat.JSON:
        write_document(figures)
        return
    stages = [(name, *seconds) for name, seconds in figures["stages"].items()]
    print_rows(["stage", "seconds", "processor seconds"], stages, f"{people:,} people")
    _print_single(figures)


@app.command()
def model(
    people: Annotated[int, typer.Option(min=1_000, help="How many made people are scored.")] = 1_000_000,
    rows: Annotated[int, typer.Option(min=0, help="On how many made rows a model is fitted; 0 for none.")] = 15_000,
    file_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Measure scores with reasons over made people, by the very SQL of a run, beside the sum of points alone; and a fit.

    Processor seconds compare; wall-clock seconds of a busy machine measure its neighbours. The memory is that of scoring.

    Try it small first: `segline bench model --people 50000 --rows 3000`.
    """
    from orchestration.bench.measure import BenchError
    from orchestration.bench.models import measure_models
    from orchestration.querying import write_document

    try:
        with bar("benchmark of the model"):
            figures = measure_models(people, rows)
    except BenchError as error:
        raise Failure(str(error)) from None
    if file_format is OutputFormat.JSON:
        write_document(figures)
        return
    stages = [(name, *seconds) for name, seconds in figures["stages"].items()]
    print_rows(["stage", "seconds", "processor seconds"], stages, f"{people:,} people")
    _print_single(figures)


@app.command()
def rights(
    home: Annotated[Path, typer.Option(envvar="SEGLINE_HOME", help="A published home. It is copied, and never written.")] = Path(
        ".segline"
    ),
    opt_outs: Annotated[str, typer.Option(help="Opt-outs at once, as sizes with commas; empty for none.")] = "1,100",
    deletions: Annotated[str, typer.Option(help="Deletions at once, as sizes with commas; empty for none.")] = "1,1000",
    repetitions: Annotated[int, typer.Option(min=1, help="How often each size of opt-outs is measured.")] = 3,
    book: Annotated[
        int | None, typer.Option(min=1, help="Measure opt-outs in a book of so many made customers; no deletions then.")
    ] = None,
    file_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Measure opt-outs and deletions on a copy of a published home.

    An opt-out is measured from its record to what is published; a deletion from the request to the search of every file for
    the person. What the home's feed had asked for is carried out first and not counted. The last figure is what the last
    batch of deletions costs per the first one's processor second: near 1 when a thousand cost what one does.

    The copy needs as much disk as the home and is removed at the end. No run may be writing the home meanwhile.

    Examples: `segline bench rights --deletions 1,1000 --format json`; for opt-outs alone in a book of a million made customers
    `segline bench rights --opt-outs 1,100 --deletions "" --book 1000000`.
    """
    from orchestration.bench.measure import BenchError
    from orchestration.bench.people import measure_people
    from orchestration.querying import write_document

    try:
        with bar("benchmark of rights"):
            figures = measure_people(home.expanduser().resolve(), _sizes(opt_outs), _sizes(deletions), repetitions, book)
    except BenchError as error:
        raise Failure(str(error)) from None
    if file_format is OutputFormat.JSON:
        write_document(figures)
        return
    for name in ("opt_outs", "deletions"):
        rows = figures.get(name) or []
        if rows:
            print_rows([key.replace("_", " ") for key in rows[0]], [tuple(row.values()) for row in rows])
    _print_single(figures)


@app.command()
def ledger(
    decisions: Annotated[int, typer.Option(min=1, help="How many decisions are entered at once.")] = 1_000_000,
    verified: Annotated[int, typer.Option(min=1, help="How many decisions the ledger holds that is verified.")] = 1_000_000,
    exported: Annotated[int, typer.Option(min=0, help="Also the outsider's verifier, over an export of so many; 0: not.")] = 0,
    folder: Annotated[Path | None, typer.Option(help="Where to work, a new folder; default: a temporary one.")] = None,
    file_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Measure the decision ledger: entering at once, verifying all of it, the proof of one decision.

    The decisions are made up in a store of its own, and decided by the project's own policy and rules; they go through the
    real writer and the real verifiers. Beside them: the same bytes hashed by hashlib alone, the same rows copied by the engine
    alone. A million decisions lie in some 600 MB.

    Try it small first: `segline bench ledger --decisions 10000 --verified 20000 --exported 10000`.
    """
    from orchestration.bench.ledger import measure_ledger
    from orchestration.bench.measure import BenchError
    from orchestration.querying import write_document

    try:
        with bar("benchmark of the ledger"):
            figures = measure_ledger(decisions, verified, exported, folder)
    except BenchError as error:
        raise Failure(str(error)) from None
    if file_format is OutputFormat.JSON:
        write_document(figures)
    else:
        _print_single(figures)


def _sizes(text: str) -> list[int]:
    """Sizes of batches. Raises a usage error for what is none."""
    given = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isdecimal() and int(part) for part in given):
        raise typer.BadParameter(f"{text!r}: sizes are whole numbers of at least 1 with commas between them, such as 1,1000")
    return [int(part) for part in given]


def _print_single(figures: dict[str, Any]) -> None:
    """The figures that are no tables of their own."""
    single = [(key, str(value)) for key, value in figures.items() if not isinstance(value, dict | list)]
    print_rows(["figure", "value"], single)


@app.command()
def online(
    home: Annotated[Path, typer.Option(envvar="SEGLINE_HOME", help="A published home. It is copied, and never written.")] = Path(
        ".segline"
    ),
    rates: Annotated[str, typer.Option(help="Decisions a second, as rates with commas.")] = "200,500",
    events: Annotated[int, typer.Option(min=1, help="Events a second.")] = 200,
    seconds: Annotated[float, typer.Option(min=1, help="How long each load lasts.")] = 15,
    file_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Measure the online service under load on a copy of a published home, beside the ZEN engine deciding the same rules.

    Times count from when a request was due, so that a stall is not hidden. At the end the service is killed under load and
    started again: every acknowledged event must be there.
    """
    from orchestration.bench.measure import BenchError
    from orchestration.bench.online import measure_online
    from orchestration.querying import write_document

    try:
        with bar("benchmark of the online service"):
            figures = measure_online(home.expanduser().resolve(), _sizes(rates), events, seconds)
    except BenchError as error:
        raise Failure(str(error)) from None
    if file_format is OutputFormat.JSON:
        write_document(figures)
        return
    loads = {name: value for name, value in figures.items() if isinstance(value, dict)}
    columns = ["per_second", "p50_ms", "p99_ms", "longest_ms", "answers"]
    rows = [(name, *(str(value[column]) for column in columns)) for name, value in loads.items()]
    print_rows(["load", *(name.replace("_", " ") for name in columns)], rows)
    _print_single({name: value for name, value in figures.items() if name not in loads})
