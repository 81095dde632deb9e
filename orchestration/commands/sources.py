"""The commands about vendors' interfaces: `sources pull`, `sources drift`.

Belongs here: their arguments and what they print. Does not belong here: work. They are mounted into the group `sources`,
which `pipeline` holds.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestration.commands.drawing import bar, output, print_rows
from orchestration.commands.options import EXIT_BLOCKED, EXIT_LOCKED, DataOption, Failure, SourcesOption, settings_of


class ConnectorChoice(StrEnum):
    """The vendors that have a connector, and `signals`: a folder of logged consent strings."""

    ONETRUST = "onetrust"
    TRUSTARC = "trustarc"
    ZIGPOLL = "zigpoll"
    SIGNALS = "signals"


ConnectorOption = Annotated[ConnectorChoice, typer.Option("--connector", help="The vendor to ask.")]


def pull(
    connector: ConnectorOption,
    sources: SourcesOption = None,
    data: DataOption = None,
    from_start: Annotated[
        bool, typer.Option("--from-start", help="Ask for everything again; what is known is recognised.")
    ] = False,
    hint: Annotated[
        Path | None,
        typer.Option("--hint", help="A webhook's payload: checked for being one, then forgotten. It is no evidence."),
    ] = None,
) -> None:
    """Pull consent (or survey answers) from a vendor into the data folder, from where `segline run` takes it in.

    Address and credentials come from the environment, the vendor's words from a vocabulary file beside the mapping: see
    docs/connectors.md. Only what is new is asked for; the same receipt twice is one row; what cannot be understood becomes
    a dead letter with a reason. Exit code 3 if the vendor cannot be read.
    """
    from datetime import UTC, datetime

    from orchestration.connectors.errors import PullNotReconciled
    from orchestration.connectors.hints import hint as read_hint
    from orchestration.connectors.registry import pull_into_data
    from orchestration.run_lock import RunLocked

    settings = settings_of(None, sources, data)
    if hint:
        if not hint.is_file():
            raise Failure(f"{hint} does not exist", 2)
        read_hint(connector.value, hint.read_bytes())
    try:
        with bar(f"pulling from {connector.value}"):
            report = pull_into_data(settings, connector.value, datetime.now(UTC).replace(tzinfo=None), from_start)
    except PullNotReconciled as error:
        raise Failure(str(error)) from None
    except RunLocked as error:
        raise Failure(f"{error}\nThe rows are pulled; only their record in the store is missing.", EXIT_LOCKED) from None
    numbers = ("records", "received", "rows", "duplicates", "dead_letters")
    rows = [(count.resource, *(f"{getattr(count, name):,}" for name in numbers)) for count in report.counts]
    columns = ["list", "records", "items", "= rows", "+ duplicates", "+ dead letters"]
    print_rows(columns, rows, f"Pulled from {connector.value}")
    letters = [(*key, f"{count:,}") for key, count in sorted(report.reasons.items())]
    if letters:
        print_rows(["list", "reason", "items"], letters, "Dead letters")
    if report.unexpected:
        output.print(f"warning: {report.unexpected} dead letters need a look: see docs/connectors.md", highlight=False)


def drift(connector: ConnectorOption, sources: SourcesOption = None, data: DataOption = None) -> None:
    """Compare the vendor's full state with the platform's consent state, and say what differs.

    Exit code 4 if a grant stands here that the vendor does not hold, or the last complete pull is too old. The figures are
    kept in `ops.consent_drift`.
    """
    from orchestration.connectors.drift import DriftLimits
    from orchestration.connectors.registry import drift_of
    from orchestration.run_lock import RunLocked

    settings = settings_of(None, sources, data)
    try:
        with bar(f"comparing with {connector.value}"):
            report = drift_of(settings, connector.value, "command line")
    except RunLocked as error:
        raise Failure(str(error), EXIT_LOCKED) from None
    kinds = ("equal", "permissive", "restrictive", "missing_here", "missing_there", "in_flight", "unjudged")
    rows = [
        (part.purpose, *(f"{getattr(part, kind):,}" for kind in kinds), f"{part.drift_share:.2%}")
        for part in (*report.purposes, report.total)
    ]
    print_rows(["purpose", *(kind.replace("_", " ") for kind in kinds), "differ"], rows, f"Drift against {connector.value}")
    age = report.pull_age_hours
    output.print(
        f"{report.unresolved:,} entries are of nobody known here, {sum(report.unreadable.values()):,} unreadable; last pull "
        + ("never" if age is None else f"{age:.1f} h ago")
        + f", newest event {report.newest_event_at or 'none'}",
        highlight=False,
    )
    verdict, reasons = report.verdict(DriftLimits())
    if verdict == "blocked":
        raise Failure("\n".join(reasons), EXIT_BLOCKED)
    for reason in reasons:
        output.print(f"warning: {reason}", highlight=False)


def mount(app: typer.Typer) -> None:
    """Add the commands to the group `sources`."""
    app.command("pull")(pull)
    app.command("drift")(drift)
