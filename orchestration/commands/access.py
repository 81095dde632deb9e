"""The commands of roles: `access roles|grant|revoke|list|refresh|open`.

Belongs here: their arguments and what they print. Does not belong here: work; anything that reads the lake by itself.
"""

from pathlib import Path
from typing import Annotated

import typer

from orchestration.commands.drawing import bar, output, print_rows
from orchestration.commands.options import FormatOption, OutputFormat, settings_of

access_app = typer.Typer(no_args_is_help=True, help="Roles: who opens what. A role gets a bundle of its own, never the lake.")
ByOption = Annotated[str, typer.Option("--by", help="Who does this; kept with the grant.")]


@access_app.command("roles")
def roles(markdown: Annotated[bool, typer.Option("--markdown", help="As docs/access.md shows it.")] = False) -> None:
    """Show what each role opens."""
    from orchestration.access.roles import load_roles, markdown_table

    if markdown:
        typer.echo(markdown_table(load_roles()))
        return
    for role in load_roles().values():
        rows = [(one.relation, ", ".join(one.columns) or "all", one.where or "") for one in role.opens]
        print_rows(["relation", "columns", "rows"], rows, f"{role.role}: {role.title}; pseudonyms of zone {role.zone}")
        output.print(f"Pages: {', '.join(role.pages) or 'none'}. {role.works_with}\n", highlight=False)


@access_app.command("grant")
def grant(
    role: Annotated[str, typer.Argument(help="analyst, compliance, auditor, privacy or engineer.")],
    holder: Annotated[str, typer.Option("--to", help="Who gets the role: a person, never a shared account.")],
    by: ByOption,
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle, outside the home.")],
    group: Annotated[
        str | None, typer.Option("--group", help="Group of the operating system that may read the bundle; default: nobody else.")
    ] = None,
) -> None:
    """Give a role: write its encrypted bundle into a folder, and make the key that opens it.

    Hand the key file over by another way than the bundle. Every publication writes the bundle anew; `access revoke` ends it.
    """
    from orchestration.access import bundles, grants
    from orchestration.access.errors import AccessError
    from orchestration.ledger.reading_log import log_reading

    settings = settings_of()
    made = grants.add(settings, role, holder, out, by, group)
    try:
        log_reading(settings, f"grant:{role}:{made.grant_id}")
        with bar(f"writing the bundle of {role}"):
            (written,) = bundles.write_bundles(settings, [made])
    except (AccessError, FileNotFoundError):
        grants.revoke(settings, made.grant_id, by)
        raise
    _print_written(written)
    output.print(f"Bundle: {made.bundle}", highlight=False, soft_wrap=True)
    output.print(f"Key, by another way: {grants.key_path(settings, made)}", highlight=False, soft_wrap=True)
    output.print(f'Open: segline access open {made.bundle.name} --key FILE "select * from about.relations"', highlight=False)


def _print_written(written) -> None:
    print_rows(["relation", "rows"], [(name, f"{rows:,}") for name, rows in written.rows.items()])
    if written.absent:
        output.print(f"Not there yet: {', '.join(written.absent)}", highlight=False)


@access_app.command("revoke")
def revoke(grant_id: Annotated[str, typer.Argument(help="As `access list` shows it.")], by: ByOption) -> None:
    """End a grant: its bundle and key are removed. What somebody copied from the bundle before stays with him."""
    from orchestration.access import grants
    from orchestration.ledger.reading_log import log_reading

    settings = settings_of()
    ended = grants.revoke(settings, grant_id, by)
    log_reading(settings, f"revoke:{ended.role}:{ended.grant_id}")
    output.print(f"{ended.holder} is no {ended.role} any more; {ended.bundle} is gone", highlight=False, soft_wrap=True)


@access_app.command("list")
def list_grants() -> None:
    """Show every grant, revoked ones included."""
    from orchestration.access.grants import grants

    rows = [
        (one.grant_id, one.role, one.holder, one.granted_by, one.granted_at, one.revoked_at or "in force", str(one.bundle))
        for one in grants(settings_of())
    ]
    print_rows(["grant", "role", "holder", "by", "since (UTC)", "until", "bundle"], rows, "Grants")


@access_app.command("refresh")
def refresh() -> None:
    """Write every bundle anew from what stands now, for example after an opt-out. Every publication does this by itself."""
    from orchestration.access.bundles import write_bundles

    settings = settings_of()
    with bar("writing bundles"):
        written = write_bundles(settings)
    rows = [(one.grant.grant_id, one.grant.role, one.grant.holder, f"{sum(one.rows.values()):,}") for one in written]
    print_rows(["grant", "role", "holder", "rows"], rows, "Bundles written")


@access_app.command("open")
def open_bundle(
    bundle: Annotated[Path, typer.Argument(help="The bundle that you were given.")],
    sql: Annotated[str, typer.Argument(help='One SELECT, for example "select * from about.relations".')],
    key: Annotated[Path, typer.Option("--key", help="The key file that you were given; mode 0600.")],
    file_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Read a bundle with SQL. Needs no home; any DuckDB does the same with ATTACH … (ENCRYPTION_KEY …, READ_ONLY)."""
    from orchestration.access.bundles import read_bundle
    from orchestration.querying import write_csv, write_json

    columns, rows = read_bundle(bundle, key, sql)
    if file_format is OutputFormat.CSV:
        write_csv(columns, rows)
    elif file_format is OutputFormat.JSON:
        write_json(columns, rows)
    else:
        print_rows(columns, [["" if value is None else str(value) for value in row] for row in rows])
