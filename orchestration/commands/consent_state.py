"""The command `consent state`: what a customer's consent amounted to at a point in time.

Belongs here: its arguments and how they are refused. Does not belong here: the answer (`orchestration.consent.state`).
"""

from typing import Annotated

import typer

from orchestration.commands.drawing import output
from orchestration.commands.options import Failure, FormatOption, OutputFormat, settings_of


def state(
    customer: Annotated[str, typer.Argument(help="The customer's identifier as your source system writes it.")],
    as_of: Annotated[str, typer.Option("--as-of", help="The point in time (ISO 8601, UTC), also one before the first run.")],
    known_at: Annotated[
        str | None,
        typer.Option("--known-at", help="Count only what had been received by then (ISO 8601, UTC); default: everything."),
    ] = None,
    file_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Say what a customer's consent amounted to at any point in time, per purpose, and what the gate makes of it.

    Evaluated from the stored events by the very SQL of the runs. Age and residence are the newest run's. Needs the pseudonym
    key, so it is for compliance and privacy officers.
    """
    from orchestration.consent.evaluation import as_utc
    from orchestration.consent.state import state_of, write_state
    from orchestration.querying import write_document

    instants = {}
    for option, text in (("--as-of", as_of), ("--known-at", known_at)):
        try:
            instants[option] = as_utc(text) if text is not None else None
        except ValueError:
            raise Failure(f"{option}: {text!r} is no point in time; write it like 2026-03-01T12:00:00Z", 2) from None
    instant = instants["--as-of"]
    assert instant is not None  # the option is required
    if file_format is OutputFormat.CSV:
        raise Failure("the answer is one document: --format table or json", 2)
    answer = state_of(settings_of(), customer, instant, instants["--known-at"])
    if file_format is OutputFormat.JSON:
        write_document(answer)
    else:
        write_state(answer, output)
