"""What a decoder gives back: a signal that was understood to the last bit, or `Unknown` with the reason.

There is nothing in between for a grant: none is read beside a fault. A refusal is: where one section of a GPP string is not
understood, `Unknown` carries those that are, for the refusals in them. A reason names a place and a rule, never the string,
which may be somebody's.

Belongs here: the two outcomes and the guard around every decoder. Does not belong here: formats.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Concatenate, NamedTuple, ParamSpec

MAX_CHARACTERS = 32_768   # three bit fields for every possible vendor (3 x 65,535 bits) fit; a cookie holds an eighth


class NotUnderstood(Exception):
    """Raised inside the decoders where a text breaks its specification; the message is the reason.

    `sections` are those of a GPP string that were well-formed beside the fault.
    """

    def __init__(self, reason: str, sections: "tuple[Signal, ...]" = ()) -> None:
        super().__init__(reason)
        self.sections = sections


class Signal(NamedTuple):
    """A well-formed signal: its kind, its fields under their published names, and for GPP its sections in order."""

    kind: str
    fields: dict[str, Any]
    sections: tuple["Signal", ...] = ()


@dataclass(frozen=True, slots=True)
class Unknown:
    """A text that grants nothing: malformed, of an unknown version, or with a value that is not defined.

    `sections` are those of a GPP string that were well-formed beside the fault. Only their refusals count.
    """

    reason: str
    sections: tuple[Signal, ...] = ()


P = ParamSpec("P")


def decoder(read: Callable[Concatenate[str, P], Signal]) -> Callable[Concatenate[str, P], Signal | Unknown]:
    """A function that reads a text or raises `NotUnderstood`, as one that never raises and takes anything for a text."""

    @functools.wraps(read)
    def decode(text: str, *args: P.args, **kwargs: P.kwargs) -> Signal | Unknown:
        if not isinstance(text, str):
            return Unknown("not a text")
        if not text:
            return Unknown("empty")
        if len(text) > MAX_CHARACTERS:
            return Unknown(f"longer than {MAX_CHARACTERS:,} characters")
        if not text.isascii():
            return Unknown("characters outside ASCII")
        try:
            return read(text, *args, **kwargs)
        except NotUnderstood as fault:
            return Unknown(str(fault), fault.sections)

    return decode
