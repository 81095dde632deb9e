"""Deadlines of a request, and how much of each has passed.

Two clocks run from the receipt of a request, not from its verification (11 CCR 7021): the law's and our own. Ours
stands still while the request is paused, the law's does not. The law's is the shortest of those that may apply: one
month (GDPR 12(3)) for access, correction, portability and deletion, where the CCPA gives 45 days; 15 business days for
an opt-out (11 CCR 7026(f)).

Belongs here: arithmetic with instants (naive UTC). Does not belong here: the states of a request (`requests`).
"""

import calendar
from dataclasses import dataclass
from datetime import datetime, timedelta

OWN_HOURS = {"deletion": 48, "access": 48, "portability": 48, "correction": 48, "opt_out": 24}
ALERTS = (50, 75, 90, 100)


@dataclass(frozen=True)
class Clock:
    """One deadline: `elapsed` is the share of its time that has passed, `alert` the highest mark reached (0, 50 … 100)."""

    name: str
    due: datetime
    elapsed: float
    alert: int


def a_month_later(moment: datetime) -> datetime:
    """The same day of the next month, or its last day where it has none (Regulation 1182/71, art. 3)."""
    year, month = (moment.year + 1, 1) if moment.month == 12 else (moment.year, moment.month + 1)
    return moment.replace(year=year, month=month, day=min(moment.day, calendar.monthrange(year, month)[1]))


def business_days_later(moment: datetime, days: int) -> datetime:
    """So many weekdays later; public holidays are not known here, so the deadline is never too late."""
    while days:
        moment += timedelta(days=1)
        days -= moment.weekday() < 5
    return moment


def statutory_due(kind: str, received_at: datetime) -> datetime:
    """The law's deadline for a request of that kind."""
    return business_days_later(received_at, 15) if kind == "opt_out" else a_month_later(received_at)


def clocks(kind: str, received_at: datetime, paused: timedelta, now: datetime) -> tuple[Clock, Clock]:
    """The own and the statutory clock at an instant; `paused` is how long the request has stood still so far."""
    own = timedelta(hours=OWN_HOURS[kind])
    law = statutory_due(kind, received_at) - received_at
    return (
        _clock("own", received_at + own + paused, (now - received_at - paused) / own),
        _clock("statutory", received_at + law, (now - received_at) / law),
    )


def _clock(name: str, due: datetime, elapsed: float) -> Clock:
    share = max(0.0, elapsed)
    return Clock(name, due, share, max((mark for mark in ALERTS if share * 100 >= mark), default=0))
