"""What can be wrong with a delivery as a whole, each with a name, a place and a mend.

Belongs here: the errors that stop a run. A single bad row stops nothing: it goes to quarantine with one of `REASONS`.
"""

from dataclasses import dataclass

# One reason per quarantined row, and what the deliverer can do about it.
REASONS: dict[str, str] = {
    "missing_value": "fill the column, or map it to one that is always filled",
    "wrong_type": "deliver the type that the contract asks for, or declare the format in the mapping",
    "unknown_value": "use one of the contract's values, or translate it in the mapping with CASE",
    "unknown_currency": "use an ISO 4217 code, and add its rate to seeds/reference/exchange_rates.csv",
    "out_of_range": "check the value; the contract gives its limits",
    "timestamp_in_future": "check the source's clock and time zone, or run with a later --as-of",
    "unknown_customer": "deliver the customer too; the row is taken in on the next run after that",
    "contradictory_key": "deliver one row per key: the same key came with different content, so none of them is used",
    "malformed_row": "mend the row: wrong number of columns, an unclosed quote or unreadable JSON",
    "file_cut_off": "deliver the file again: it ends in the middle of its last row (or say final_newline: optional)",
    "suppressed": "nothing: the person's data were erased on request, and no delivery brings them back",
    "not_utf8": "save the file as UTF-8, or declare its encoding in the mapping",
}


@dataclass
class SourceError(Exception):
    """A delivery that cannot be taken in at all.

    `name` is stable for scripts (for example `missing_column`), `mend` says what to do.
    """

    name: str
    message: str
    mend: str
    file: str | None = None
    column: str | None = None

    def __str__(self) -> str:
        place = ", ".join(
            part for part in (f"file {self.file}" if self.file else "", f"column {self.column}" if self.column else "") if part
        )
        return f"{self.name}: {self.message}" + (f" ({place})" if place else "") + f". To mend: {self.mend}"
