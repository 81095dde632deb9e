"""The commands under `consent`: here, `decode`.

Belongs here: their arguments and what they print. Does not belong here: decoding. Other modules may add commands to `app`.
"""

import sys
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import typer

from orchestration.commands.drawing import output, print_rows
from orchestration.commands.options import Failure

EXIT_UNKNOWN = 2
MOST_SHOWN = 20

app = typer.Typer(no_args_is_help=True, help="What consent signals say, and what follows from them.")


class SignalKind(StrEnum):
    """The kinds of signal that can be decoded."""

    TCF = "tcf"
    GPP = "gpp"
    USP = "usp"
    GPC = "gpc"


class DocumentFormat(StrEnum):
    """How one document is written."""

    TABLE = "table"
    JSON = "json"


@app.command()
def decode(
    text: Annotated[str, typer.Argument(metavar="STRING", help="The signal; - reads it from standard input.")],
    kind: Annotated[SignalKind | None, typer.Option(help="What it is; default: what its beginning shows.")] = None,
    file_format: Annotated[
        DocumentFormat, typer.Option("--format", help="table for people, json for scripts.")
    ] = DocumentFormat.TABLE,
    as_of: Annotated[str | None, typer.Option("--as-of", help="Judge it at this instant (ISO 8601, UTC); default: now.")] = None,
) -> None:
    """Say what a consent signal says: its fields, and the state per purpose that follows from it.

    TC strings of TCF v2.2 and v2.3, GPP strings, US Privacy strings, the value of a Sec-GPC header (1) and the text of a
    gpc.json. What is not well-formed to the last bit says nothing: the reason is printed, every state is unknown, and the
    exit code is 2. Example: `segline consent decode 1YYN --format json`.
    """
    from orchestration.consent.signals.decoding import document
    from orchestration.querying import write_document

    shown = document(_given(text), _instant(as_of), kind and kind.value)
    if file_format is DocumentFormat.JSON:
        write_document(shown, sys.stdout)
    else:
        _print_document(shown)
    if not shown["well_formed"]:
        raise typer.Exit(EXIT_UNKNOWN)


def _given(text: str) -> str:
    """The argument, or standard input without the one line break that ends it."""
    if text != "-":
        return text
    raw = sys.stdin.buffer.read()
    return raw.decode("utf-8", errors="surrogateescape").removesuffix("\n").removesuffix("\r")


def _instant(text: str | None) -> datetime:
    from datetime import UTC

    if text is None:
        return datetime.now(UTC)
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise Failure(f"--as-of {text!r} is no ISO 8601 time, such as 2026-11-01T00:00:00", 2) from None


def _print_document(shown: dict[str, Any]) -> None:
    if not shown["well_formed"]:
        output.print(f"Not understood: {shown['reason']}.", highlight=False, markup=False, soft_wrap=True)
        output.print()
    for name, fields in _parts(shown):
        print_rows(["field", "value"], [(field, _cell(value)) for field, value in fields.items()], name)
    rows = [(purpose, state, shown["because"][purpose]) for purpose, state in shown["states"].items()]
    print_rows(["purpose", "state", "because"], rows)


def _parts(shown: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The fields of the string itself, then those of each section."""
    fields = shown.get("fields", {})
    sections = [(name, value) for name, value in fields.items() if isinstance(value, dict)]
    own = {name: value for name, value in fields.items() if not isinstance(value, dict)}
    return ([(shown["kind"], own)] if own else []) + sections


def _cell(value: Any) -> str:
    if not isinstance(value, list):
        return "" if value is None else str(value)
    more = f" … {len(value)} in all" if len(value) > MOST_SHOWN else ""
    return (", ".join(map(str, value[:MOST_SHOWN])) or "none") + more
