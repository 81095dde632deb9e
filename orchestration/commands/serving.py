"""The commands of the online service: `serve`, and the keys of those who call it.

Belongs here: starting it in the home's environment. Does not belong here: what it does (`orchestration.online`).
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from orchestration.commands.drawing import output, print_rows
from orchestration.commands.options import EXIT_LOCKED, Failure, ProfileOption, settings_of

keys_app = typer.Typer(no_args_is_help=True, help="Who may call the online service: one key per caller, with roles.")


def serve(
    profile: ProfileOption = None,
    host: Annotated[str, typer.Option(help="Where to listen; put a proxy with TLS before all but loopback.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port.", min=0, max=65535)] = 8321,
    as_of: Annotated[
        str | None, typer.Option("--as-of", help="Begin the clock at this instant (UTC), for a publication of another day.")
    ] = None,
    max_age_hours: Annotated[float, typer.Option(help="Answer nothing from a publication older than this.", min=0)] = 48.0,
    rate: Annotated[int, typer.Option(help="Subjects and events that one caller may send per second.", min=1)] = 5000,
) -> None:
    """Take events in and decide at once, over HTTP: POST /v1/events, POST /v1/decisions, GET /v1/subjects/{id}.

    Each event is on the disk before it is acknowledged; its customer is evaluated again by the SQL of the standing publication,
    and the next answer about them has it. The next `segline run` lands the events with the delivery. Callers need a key:
    segline api-keys add NAME --role risk. Example for the sample, which stands for another day: segline serve --as-of 2026-11-01
    """
    from orchestration.online.errors import ServeError
    from orchestration.online.serving import AlreadyServing, run_server

    settings = settings_of(profile)
    begins = None
    if as_of:
        try:
            begins = datetime.fromisoformat(as_of)
        except ValueError:
            raise Failure(f"{as_of} is no instant: write it like 2026-11-01 or 2026-11-01T12:00:00", 2) from None
        begins = begins.astimezone(UTC).replace(tzinfo=None) if begins.tzinfo else begins
    age = timedelta(hours=max_age_hours)
    try:
        run_server(settings, host, port, begins, age, rate, lambda text: output.print(text, highlight=False))
    except AlreadyServing as error:
        raise Failure(str(error), EXIT_LOCKED) from None
    except ServeError as error:
        raise Failure(str(error)) from None


@keys_app.command("add")
def add_key(
    name: Annotated[str, typer.Argument(help="The caller: letters, digits, dot, underscore, hyphen.")],
    role: Annotated[list[str], typer.Option("--role", help="events, risk, audience, operator; may be repeated.")],
    by: Annotated[str, typer.Option("--by", help="Who gives it.")],
    days: Annotated[int | None, typer.Option(help="Days until it ends; without it it holds until it is revoked.", min=1)] = None,
) -> None:
    """Make a key and print it, once: nothing but its hash is kept."""
    from orchestration.online.api_keys import make_key
    from orchestration.online.errors import ServeError

    ends = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=days) if days else None
    try:
        secret = make_key(settings_of(), name, tuple(role), by, ends)
    except ServeError as error:
        raise Failure(str(error)) from None
    print(secret)


@keys_app.command("list")
def list_keys() -> None:
    """Every key that was ever made, with roles, by whom, and whether it holds."""
    from orchestration.online.api_keys import read_keys
    from orchestration.online.errors import ServeError

    now = datetime.now(UTC).replace(tzinfo=None)
    try:
        keys = read_keys(settings_of())
    except ServeError as error:
        raise Failure(str(error)) from None
    rows = [
        (key.name, " ".join(key.roles), "holds" if key.holds(now) else "revoked" if key.revoked_at else "ended",
         key.made_at[:16], key.made_by, (key.expires_at or "")[:16], (key.revoked_at or "")[:16])
        for key in keys
    ]  # fmt: skip
    print_rows(["caller", "roles", "state", "made_at", "made_by", "ends_at", "revoked_at"], rows, "Keys (times in UTC)")


@keys_app.command("revoke")
def revoke(name: Annotated[str, typer.Argument(help="The caller.")]) -> None:
    """Revoke a key; a running service refuses it within a second."""
    from orchestration.online.api_keys import revoke_key
    from orchestration.online.errors import ServeError

    try:
        revoke_key(settings_of(), name)
    except ServeError as error:
        raise Failure(str(error)) from None
    output.print(f"The key of {name} is revoked.", highlight=False)
