"""Dead letters: items of a vendor that cannot become rows, each with a reason and no value.

Belongs here: the reasons, and what is kept of such an item. Does not belong here: deciding that an item is one
(the vendor modules), errors that end a pull (`errors`).
"""

import re
from dataclasses import dataclass

REASONS: dict[str, str] = {
    "missing_field": "the vendor's item lacks a field without which it means nothing",
    "malformed_timestamp": "a time is no ISO 8601 time (or epoch number, where the vendor uses them)",
    "malformed_value": "a field has another type than the documented one",
    "unknown_status": "the vendor's status is none of the documented ones; add it to the connector once its meaning is known",
    "unknown_purpose": "add the vendor's purpose to the connector's vocabulary file, or declare it as no consent there",
    "contradictory_purpose": "the purpose's id and name stand for different purposes in the vocabulary file",
    "unknown_answer": "add the answer to the question in the vocabulary file",
    "unknown_method": "the vendor's origin is none of the documented ones",
    "malformed_row": "a row of a log cannot be read; the field says why. Mend the file and it is read again",
    "not_understood": "the consent string is malformed, cut off or of an unknown version: `segline consent decode` says more",
    "unknown_question": "declare the question in the vocabulary file, if it asks for consent or for a score",
    "not_consent": "nothing to mend: the item is declared, or documented, as something that is no consent",
    "no_expression": "nothing to mend: the status states no will; an earlier expression stands",
    "test_record": "nothing to mend: the vendor marks the item as a test",
    "anonymous_subject": "nothing to mend: the item names nobody",
}
# What is expected in a healthy feed and need not be looked at.
EXPECTED = frozenset({"not_consent", "no_expression", "test_record", "anonymous_subject", "unknown_question"})
_VENDOR_WORD = re.compile(r"[A-Z][A-Z0-9_]{0,39}")


@dataclass(frozen=True)
class DeadLetter:
    """An item that becomes no row. `record` is the vendor's identifier in the clear and never written as such."""

    resource: str
    record: str
    reason: str
    field: str
    shape: str

    def __post_init__(self) -> None:
        if self.reason not in REASONS:
            raise ValueError(f"{self.reason} is no reason")


def shape_of(value: object) -> str:
    """What may be shown of a value: a vendor's constant as it stands, of all else type and length only.

    A constant has capital letters, digits and underscores; names and addresses of people are not written so.
    """
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return value if _VENDOR_WORD.fullmatch(value) else f"text of {len(value)}"
    return type(value).__name__
