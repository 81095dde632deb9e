"""The command `segline`: its table of contents and its entry point.

Belongs here: which commands there are, and how an expected failure ends. Does not belong here: a command's arguments
(`commands`). Heavy imports stand inside the commands, so that `--help` answers at once.
"""

import os
import sys

import typer

from orchestration.commands import (
    access,
    bench,
    clusters,
    consent,
    consent_state,
    docs,
    keys,
    lineage,
    looking,
    model,
    pipeline,
    proof,
    retention,
    rights,
    scheduling,
    serving,
    sources,
)
from orchestration.commands.drawing import console, output
from orchestration.commands.options import EXIT_FAILED, EXIT_LOCKED, EXIT_SOURCES, Failure, settings_of

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
app.command()(pipeline.sample)
sources.mount(pipeline.sources_app)
app.add_typer(pipeline.sources_app, name="sources")
app.command()(pipeline.run)
app.add_typer(retention.app, name="records")
app.command()(scheduling.schedule)
app.command()(serving.serve)
app.add_typer(serving.keys_app, name="api-keys")
app.command()(looking.ui)
app.command()(looking.query)
app.command()(looking.explain)
consent.app.command()(consent_state.state)
app.add_typer(consent.app, name="consent")
app.add_typer(lineage.lineage_app, name="lineage")
app.command()(proof.verify)
app.command()(proof.replay)
app.add_typer(proof.ledger_app, name="ledger")
app.add_typer(docs.docs_app, name="docs")
app.add_typer(rights.rights_app, name="rights")
app.add_typer(access.access_app, name="access")
app.add_typer(keys.keys_app, name="keys")
app.add_typer(model.model_app, name="model")
app.add_typer(clusters.clusters_app, name="clusters")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Entry point: runs a command and turns expected failures into a message and an exit code."""
    from orchestration.access.errors import AccessError
    from orchestration.identity.errors import MasterKeyError
    from orchestration.ingestion.errors import SourceError
    from orchestration.ledger.errors import LedgerError
    from orchestration.store_faults import BUSY, StoreFault, explain, is_of_the_store
    from orchestration.turns import TurnTimeout

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
    except (FileNotFoundError, LedgerError, AccessError, MasterKeyError, StoreFault, TurnTimeout) as error:
        console.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(EXIT_LOCKED if isinstance(error, TurnTimeout) else EXIT_FAILED)
    except Exception as error:
        known = explain(f"{type(error).__name__}: {error}", settings_of()) if is_of_the_store(error) else None
        if known is None:
            raise
        first = str(error).strip().splitlines()[0]
        console.print(f"{first}\n{known.mend}", style="red", highlight=False, markup=False, soft_wrap=True)
        sys.exit(EXIT_LOCKED if known.kind == BUSY else EXIT_FAILED)


if __name__ == "__main__":
    main()
