"""What a verification checked and what it found.

Belongs here: the report's form. Does not belong here: judging (`verification`, `reconciling`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

NAMED = 100  # findings of one kind that are named one by one; of more the number is told


@dataclass
class Report:
    """What was checked (label: number or text) and what was found wrong (sentences); good if nothing was."""

    checked: dict[str, Any] = field(default_factory=dict)
    findings: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def name_all(self, text: str, where: Sequence[Any], total: int | None = None) -> None:
        """One finding per place, up to `NAMED`; `text` has {} for the place."""
        self.findings += [text.format(place) for place in where[:NAMED]]
        count = len(where) if total is None else total
        if count > NAMED:
            self.findings.append(f"… and {count - NAMED} more like this: {text.format('…')}")
