"""The commands over lineage: `lineage prove`, `lineage passport`.

Belongs here: their arguments and what they print. Does not belong here: work.
"""

import time
from enum import StrEnum
from typing import Annotated

import typer

from orchestration.commands.drawing import bar, output, print_rows
from orchestration.commands.options import (
    EXIT_BLOCKED,
    Failure,
    FormatOption,
    OutputFormat,
    ProfileOption,
    settings_of,
)

lineage_app = typer.Typer(no_args_is_help=True, help="Prove that every path passes the gate; show where a segment comes from.")


class PassportFormat(StrEnum):
    """How a passport is written."""

    TEXT = "text"
    JSON = "json"
    HTML = "html"


@lineage_app.command("prove")
def prove(profile: ProfileOption = None, file_format: FormatOption = OutputFormat.TABLE) -> None:
    """Prove from the SQL that no publication depends on people whom the gate did not let through.

    Also: nothing of the compliance side reaches marketing, no identifier leaves the vault, every published column rests on
    the consent evidence. Reads the dbt project and Dagster's graph, no data. A violation is printed with its path and ends
    with exit code 4; the same proof guards every publication. Exceptions: orchestration/lineage/waivers.yml.
    """
    from orchestration import progress
    from orchestration.lineage.graph import steps_of_project
    from orchestration.lineage.reporting import prove_project
    from orchestration.lineage.waivers import WaiverError
    from orchestration.transformation import TransformationError

    settings = settings_of(profile)
    try:
        with bar("proving"):
            steps = steps_of_project(settings)
            progress.report("proving")
            started = time.perf_counter()
            _, proof = prove_project(settings, steps)
            seconds = time.perf_counter() - started
    except (TransformationError, WaiverError) as error:
        raise Failure(str(error)) from None
    if file_format is OutputFormat.JSON:
        from orchestration.querying import write_document

        fields = ("rule", "relation", "source", "path", "detail")
        write_document(
            {
                "profile": proof.profile,
                "holds": proof.holds,
                "proven": list(proof.proven),
                "violations": [{name: getattr(one, name) for name in fields} for one in proof.violations],
                "waived": [{"violation": str(one), **waiver.model_dump(mode="json")} for one, waiver in proof.waived],
            }
        )
    else:
        rows = [(one.rule, " -> ".join(one.path), one.detail, below) for one, below in proof.first_violations]
        if rows:
            print_rows(["rule", "path", "what is wrong", "relations below"], rows, "Violations")
        for one, waiver in proof.waived:
            output.print(f"waived until {waiver.expires} by {waiver.reviewer}: {one}", highlight=False, markup=False)
        output.print(
            f"Profile {proof.profile}: {len(proof.proven)} relations, {len(proof.violations)} violations, "
            f"{len(proof.waived)} waived ({seconds:.1f} s)",
            highlight=False,
        )
    if not proof.holds:
        raise Failure("The proof does not hold; nothing would be published.", EXIT_BLOCKED)


@lineage_app.command("passport")
def passport(
    segment: Annotated[str, typer.Argument(help="A published relation (audience_segments) or a segment (loyal).")],
    file_format: Annotated[PassportFormat, typer.Option("--format", help="text or html for people, json for machines.")] = (
        PassportFormat.TEXT
    ),
    profile: ProfileOption = None,
) -> None:
    """Show where a published relation or segment comes from: sources, gate, purposes, basis, rules, columns, checks, verdict.

    Describes the SQL that the standing publication ran; before the first publication, the project as it stands.
    """
    from orchestration.lineage.graph import steps_of_project
    from orchestration.lineage.passport import UnknownSegment, write_text
    from orchestration.lineage.reporting import passport_of
    from orchestration.lineage.waivers import WaiverError
    from orchestration.querying import write_document
    from orchestration.transformation import TransformationError

    settings = settings_of(profile)
    try:
        with bar("proving"):
            document = passport_of(settings, segment, steps_of_project(settings))
    except UnknownSegment as error:
        raise Failure(error.args[0], 2) from None
    except (TransformationError, WaiverError) as error:
        raise Failure(str(error)) from None
    if file_format is PassportFormat.JSON:
        write_document(document)
    elif file_format is PassportFormat.HTML:
        from io import StringIO

        from rich.console import Console

        recording = Console(record=True, file=StringIO(), width=160)
        write_text(document, recording)
        output.file.write(recording.export_html(inline_styles=True))
    else:
        write_text(document, output)
