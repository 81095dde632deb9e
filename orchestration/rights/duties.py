"""Duties: what the law keeps of a person who asks for deletion, until when, and what it keeps out of a copy.

Belongs here: reading `duties.yml`, the end of a duty. Does not belong here: erasing, copying; periods, and retention without
a request (`retention`).
"""

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from orchestration.ingestion.strict_yaml import load_yaml

DUTIES_FILE = Path(__file__).parent / "duties.yml"


class Withheld(BaseModel):
    """What is in no copy: whole relations, rows that do not meet a condition, columns by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    relations: tuple[str, ...] = ()
    rows: dict[str, str] = {}
    columns: tuple[str, ...] = ()


class Duty(BaseModel):
    """One duty to keep. `keeps` maps a pattern of relations to `true` or to the condition of the rows that stay.

    For how long is the retention policy's to say, under `purpose` (`retention.kept_after_end`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    duty: str
    profiles: tuple[str, ...]
    purpose: str
    reason: str
    legal_reference: str
    keeps: dict[str, bool | str]
    withholds: Withheld = Withheld()

    def kept(self, schema: str, name: str) -> bool | str:
        """True if every row stays, False if none does, else the SQL condition of the rows that stay."""
        for pattern, kept in self.keeps.items():
            if fnmatchcase(f"{schema}.{name}", pattern):
                return kept
        return False

    def is_withheld(self, schema: str, name: str) -> bool:
        """Whether no copy holds that relation."""
        return any(fnmatchcase(f"{schema}.{name}", pattern) for pattern in self.withholds.relations)


@dataclass(frozen=True)
class DutyState:
    """How a duty stands for one person: `until` is its last day, or, while the relationship lasts, the earliest possible."""

    duty: Duty
    until: date
    is_relationship_over: bool

    def statement(self) -> str:
        """Why a part is refused and until when, in one sentence for the person."""
        end = f"until {self.until}" if self.is_relationship_over else f"the relationship lasts, so not before {self.until}"
        return f"{self.duty.reason} ({self.duty.legal_reference}; {end})"


@cache
def duties() -> tuple[Duty, ...]:
    """All duties."""
    return tuple(Duty.model_validate(entry) for entry in load_yaml(DUTIES_FILE))


def duty_of(profile: str) -> Duty | None:
    """The duty to keep that a profile is under, if any."""
    return next((duty for duty in duties() if profile in duty.profiles), None)


def state_of(duty: Duty | None, ended_at: datetime | None, keep: timedelta, today: date) -> DutyState | None:
    """The duty as it stands for a customer, `None` where it is over or there is none.

    `ended_at` is the end of the relationship, `None` while it lasts or nobody knows of an end; `keep` is how long the duty
    lasts from then on.
    """
    if duty is None:
        return None
    until = (ended_at.date() if ended_at else today) + keep
    return None if ended_at and until <= today else DutyState(duty, until, ended_at is not None)
