"""The commands that look at what stands: `ui`, `query`, `explain`.

Belongs here: their arguments and what they print. Does not belong here: work; anything that writes to the store.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from orchestration.commands.drawing import output, print_rows
from orchestration.commands.options import Failure, FormatOption, OutputFormat, ProfileOption, settings_of


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

    settings = settings_of(profile)
    export_settings(settings)
    prepare_dagster_home(settings)
    command = [str(Path(sys.executable).with_name("dagster-webserver")), "-w", str(PROJECT_ROOT / "workspace.yaml")]
    command += ["-h", "127.0.0.1", "-p", str(port)] + ([] if writable else ["--read-only"])
    output.print(f"http://127.0.0.1:{port}/asset-groups  (end with Ctrl-C)", highlight=False)
    raise typer.Exit(subprocess.call(command))


def query(
    sql: Annotated[str, typer.Argument(help='One SELECT, for example "select * from published.risk_segments limit 5".')],
    file_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Read the published and operational tables with SQL, also while a run writes.

    Relations: `published.risk_segments`, `published.risk_scores`, `published.audience_segments`, `published.clusters`,
    `published.cluster_profiles`, `published.risk_clusters`, `published.risk_cluster_profiles`, `published.risk_rules`,
    `consent.gate`, `ops.reconciliation`, `ops.quarantine`, `ops.loads`,
    `ops.publications`, `ops.decisions` (each reading of which is logged in `ops.ledger_readings`).
    """
    from orchestration.querying import QueryError, run_query, write_csv, write_json

    try:
        columns, rows = run_query(settings_of(), sql)
    except QueryError as error:
        raise Failure(str(error), 2) from None
    if file_format is OutputFormat.CSV:
        write_csv(columns, rows)
    elif file_format is OutputFormat.JSON:
        write_json(columns, rows)
    else:
        print_rows(columns, [[("" if value is None else str(value)) for value in row] for row in rows])


def explain(
    customer: Annotated[str, typer.Argument(help="The customer's identifier as your source system writes it.")],
    file_format: FormatOption = OutputFormat.TABLE,
    profile: ProfileOption = None,
) -> None:
    """Say why a customer is where he is: tier, points, rules with their text, consent, legal basis, sources.

    Needs the pseudonym key, so it is for compliance and privacy officers, not for analysts.
    """
    from orchestration.explanation import explain_customer, write_text
    from orchestration.querying import write_document

    explanation = explain_customer(settings_of(profile), customer)
    if file_format is OutputFormat.JSON:
        write_document(explanation)
    else:
        write_text(explanation, output)
