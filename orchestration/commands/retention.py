"""The commands of record keeping: `retention`, `hold`, `data-map`, `opt-out-times`.

Belongs here: their arguments and what they print. Does not belong here: work.
"""

import json
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestration.commands.drawing import output, print_rows
from orchestration.commands.options import EXIT_LOCKED, Failure, ProfileOption, settings_of

app = typer.Typer(no_args_is_help=True, help="How long what is kept, who is on hold, and the record of processing.")


class MapFormat(StrEnum):
    """How the data map is written."""

    TABLE = "table"
    JSON = "json"
    HTML = "html"


@app.command("retention")
def retention(
    profile: ProfileOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what is due; change nothing.")] = False,
    as_of: Annotated[str | None, typer.Option("--as-of", help="Judge as of this instant (ISO 8601, UTC); default: now.")] = None,
) -> None:
    """Remove what is kept longer than the policy says, and report that nothing older is left.

    The policy is the seed policy/retention.csv. Legal holds keep what they name. Exit code 1 if anything that is due is
    still there afterwards.
    """
    from datetime import UTC
    from uuid import uuid4

    from orchestration.rights.retention import apply_retention, plan
    from orchestration.rights.retention_policy import RetentionError
    from orchestration.run_lock import RunLocked
    from orchestration.turns import TurnTimeout

    settings = settings_of(profile)
    try:
        instant = datetime.fromisoformat(as_of).replace(tzinfo=None) if as_of else datetime.now(UTC).replace(tzinfo=None)
    except ValueError:
        raise Failure(f"{as_of!r} is no ISO 8601 time; write it like 2026-11-01T00:00:00") from None
    try:
        lines = plan(settings, instant) if dry_run else apply_retention(settings, instant, f"command-{uuid4()}")
    except RetentionError as error:
        raise Failure(str(error)) from None
    except (RunLocked, TurnTimeout) as error:
        raise Failure(str(error), EXIT_LOCKED) from None
    print_rows(
        ["relation", "rules", "rows", "due", "held", "removed"],
        [
            (line.relation, line.rules, *(f"{n:,}" for n in (line.rows_total, line.rows_due, line.rows_held, line.rows_removed)))
            for line in lines
        ],
        f"Retention as of {instant:%Y-%m-%d %H:%M} UTC, profile {settings.profile}",
    )
    due = sum(line.rows_due for line in lines)
    held = sum(line.rows_held for line in lines)
    if not lines:
        output.print("Nothing was ever landed: nothing to judge.")
    elif dry_run:
        output.print(f"{due:,} rows are due; {held:,} more are kept by legal holds. Without --dry-run they would be removed.")
    else:
        output.print(f"{due:,} rows removed. Nothing older than policy is left, but for {held:,} rows on legal hold.")


@app.command("hold")
def hold(
    customer: Annotated[str, typer.Argument(help="The customer identifier as the source system writes it.")],
    reason: Annotated[str, typer.Option(help="Why: the case or order.")],
    by: Annotated[str, typer.Option(help="Who places it.")],
    until: Annotated[str | None, typer.Option(help="Last day, like 2027-12-31; default: until it is lifted.")] = None,
) -> None:
    """Keep everything of one customer, whatever retention says, until a day or until the hold is lifted."""
    from orchestration.rights.holds import HoldError, place_hold

    try:
        last = date.fromisoformat(until) if until else None
        hold_id = place_hold(settings_of(), customer, reason, by, last)
    except HoldError as error:
        raise Failure(str(error)) from None
    except ValueError:
        raise Failure("--until is a day like 2027-12-31, and the customer must not be blank") from None
    output.print(f"{hold_id} is in force. Lift it with: lift-hold {hold_id} --by NAME", highlight=False)


@app.command("lift-hold")
def lift(
    hold_id: Annotated[str, typer.Argument(help="As `hold` printed it.")],
    by: Annotated[str, typer.Option(help="Who lifts it.")],
) -> None:
    """End a legal hold; what is due then goes with the next retention run."""
    from orchestration.rights.holds import HoldError, lift_hold

    try:
        lift_hold(settings_of(), hold_id, by)
    except HoldError as error:
        raise Failure(str(error)) from None
    output.print(f"{hold_id} is lifted.", highlight=False)


@app.command("data-map")
def data_map(
    profile: ProfileOption = None,
    sources: Annotated[Path | None, typer.Option(help="Folder with a mapping.yml: adds the tenant's columns.")] = None,
    fmt: Annotated[MapFormat, typer.Option("--format", help="table: in short. json, html: everything.")] = MapFormat.TABLE,
    out: Annotated[Path | None, typer.Option("--out", help="File to write; default: standard output.")] = None,
) -> None:
    """The record of processing (GDPR art. 30): every attribute with category, purpose, basis, recipients, retention, use.

    Generated from contracts, dbt, policy and lineage. Which segments use an attribute is known after a first run. Exit
    code 1 if anything has no entry.
    """
    from orchestration.ingestion.mapping import load_mapping
    from orchestration.lineage.data_map import build_data_map, document, missing_entries, to_html
    from orchestration.rights.published_sql import RegatingError, compiled_manifest
    from orchestration.transformation import project_manifest

    settings = settings_of(profile)
    try:
        manifest = compiled_manifest(settings, "")
    except RegatingError:
        manifest = project_manifest(settings)
    built = build_data_map(manifest, settings.profile, load_mapping(sources) if sources else None)
    if fmt is MapFormat.TABLE:
        relations: dict[str, list] = {}
        for entry in built.entries:
            relations.setdefault(entry.relation, []).append(entry)
        print_rows(
            ["relation", "columns", "categories", "purposes", "retention rules"],
            [
                (
                    relation,
                    len(entries),
                    ", ".join(sorted({entry.category or "?" for entry in entries})),
                    ", ".join(sorted({purpose for entry in entries for purpose in entry.purposes})),
                    ", ".join(sorted({text.split(":")[0] for entry in entries for text in entry.retention})),
                )
                for relation, entries in relations.items()
            ],
            f"Data map, profile {built.profile}",
        )
    else:
        text = to_html(built) if fmt is MapFormat.HTML else json.dumps(document(built), indent=2, ensure_ascii=False) + "\n"
        if out:
            out.write_text(text, encoding="utf-8")
            output.print(f"{len(built.entries):,} entries in {out}", highlight=False)
        else:
            typer.echo(text, nl=False)
    missing = missing_entries(built)
    if missing:
        raise Failure("Not in the data map:\n" + "\n".join(f"  {one}" for one in missing))


@app.command("opt-out-times")
def opt_out_times() -> None:
    """How long opt-outs took from their arrival until they held in what is published."""
    from orchestration.rights.opt_out import processing_time

    found = processing_time(settings_of())
    if found is None:
        output.print("No opt-out was ever carried out.")
        return
    print_rows(
        ["requests", "p50 (s)", "p99 (s)", "longest (s)"],
        [(found.requests, f"{found.p50_seconds:.1f}", f"{found.p99_seconds:.1f}", f"{found.longest_seconds:.1f}")],
        "Opt-out processing time",
    )
