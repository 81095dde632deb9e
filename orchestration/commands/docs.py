"""The command of the documentation: `docs build`.

Belongs here: its arguments and what it prints. Does not belong here: work.
"""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from orchestration.commands.drawing import bar, output
from orchestration.commands.options import Failure, settings_of

docs_app = typer.Typer(no_args_is_help=True, help="The documentation of what stands published, as pages for people.")


@docs_app.command("build")
def build(
    out: Annotated[Path | None, typer.Option("--out", help="Folder to write; default: documentation/site in the home.")] = None,
) -> None:
    """Write the documentation of the standing publication as a static site that opens offline.

    Rules with hits and history, policy tables, consent, data map, lineage passports, models, check results, the ledger and how
    to verify it, controls by article, glossary, privacy training. Every publication does this by itself; use the command for
    another folder. No page holds a person or a pseudonym. The reading of the ledger's head is logged.
    """
    from orchestration import progress
    from orchestration.documentation.building import build_documentation
    from orchestration.documentation.gathering import NothingPublished
    from orchestration.documentation.site import DocumentationError
    from orchestration.ledger.reading_log import log_reading

    settings = settings_of()
    try:
        with bar("reading the publication"):
            folder = out.expanduser().resolve() if out else None
            noted = partial(log_reading, settings, "documentation")
            site = build_documentation(settings, folder, progress.report, note_reading=noted)
    except (NothingPublished, DocumentationError) as error:
        raise Failure(str(error)) from None
    output.print(f"{site.pages} pages, {site.bytes / 1e6:.1f} MB, {site.seconds:.1f} s", highlight=False)
    output.print(f"Open {site.index}", highlight=False, soft_wrap=True)
