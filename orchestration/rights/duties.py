"""Duties: what the law keeps of a person who asks for deletion, until when, and what it keeps out of a copy.

Belongs here: reading `duties.yml`, the end of a duty. Does not belong here: erasing, copying; retention without a request.
"""

from dataclasses import dataclass
from datetime import date, datetime
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
    """One duty to keep. `keeps` maps a pattern of relations to `true` or to the condition of the rows that stay."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    duty: str
    profiles: tuple[str, ...]
    years_after_end: int
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


def state_of(duty: Duty | None, status: str | None, updated_at: datetime | None, today: date) -> DutyState | None:
    """The duty as it stands for a customer, `None` where it is over or there is none.

    `status` and `updated_at` are the customer's in the newest delivery. The end of a closed relationship is taken to be the
    instant of its last change; of whomever no delivery speaks it is not known to have ended. Both err towards keeping.
    """
    if duty is None:
        return None
    is_over = status == "closed" and updated_at is not None
    start = updated_at.date() if is_over and updated_at else today
    until = _years_later(start, duty.years_after_end)
    return None if is_over and until <= today else DutyState(duty, until, is_over)


def _years_later(day: date, years: int) -> date:
    """The same day so many years later; 29 February becomes 1 March."""
    try:
        return day.replace(year=day.year + years)
    except ValueError:
        return day.replace(year=day.year + years, month=3, day=1)
