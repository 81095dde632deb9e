"""US Privacy strings, version 1: four characters on the sale of data in California.

Source: IAB Tech Lab, USPrivacy, CCPA/US Privacy String.md, v1.0 (clarified February 2020). Deprecated in favour of GPP,
which carries it as section 6.

Belongs here: its four characters. Does not belong here: what they are to the platform (`meaning`).
"""

from orchestration.consent.signals.results import NotUnderstood, Signal, decoder

_ANSWERS = frozenset("YN-")


@decoder
def decode_usp(text: str) -> Signal:
    """A US Privacy string: a signal of kind `usp`, or `Unknown`."""
    return read_usp(text)


def read_usp(text: str) -> Signal:
    """The same, raising `NotUnderstood`. `1---` says that the law does not apply; else the opt-out is never unknown."""
    if len(text) != 4:
        raise NotUnderstood("a US Privacy string has four characters")
    version, notice, opt_out, covered = text
    if version != "1":
        raise NotUnderstood("the version of a US Privacy string is 1")
    if not _ANSWERS.issuperset(text[1:]):
        raise NotUnderstood("characters 2 to 4 of a US Privacy string are Y, N or -")
    if opt_out == "-" and text != "1---":
        raise NotUnderstood("the opt-out of sale is never unknown where the law applies")
    return Signal("usp", {"Version": 1, "Notice": notice, "OptOutSale": opt_out, "LspaCovered": covered})
