"""What every connector offers: lists to pull, windows to pull them by, and a full state.

Belongs here: the shapes that vendors share. Does not belong here: HTTP (`transport`), the order of a pull (`pulling`).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol

from orchestration.connectors.dead_letters import DeadLetter
from orchestration.connectors.rows import ConsentRow, Row


@dataclass(frozen=True)
class Resource:
    """A vendor's list; `longest` is the longest window that one walk through it may ask for."""

    name: str
    longest: timedelta


@dataclass(frozen=True)
class Window:
    """From `since` to `until`, UTC without zone."""

    since: datetime
    until: datetime

    def slices(self, longest: timedelta) -> Iterator["Window"]:
        """The window in pieces of at most that length, without gap."""
        begin = self.since
        while begin < self.until:
            end = min(begin + longest, self.until)
            yield Window(begin, end)
            begin = end


@dataclass(frozen=True)
class StateItem:
    """One subject and purpose of the vendor's full state.

    `state` is granted, refused (whatever is not an explicit standing grant, an unknown status included) or unjudged (a
    status that states no will, with which no state of ours disagrees). `changed_at` is UTC.
    """

    subject: str
    purpose: str
    state: Literal["granted", "refused", "unjudged"]
    changed_at: datetime | None


def state_item(
    subject: object, purpose: str | None, outcome: Row | DeadLetter, changed_at: datetime | None, now: datetime
) -> StateItem | DeadLetter:
    """The state that a record's outcome amounts to at `now`; a dead letter if it names nobody or no purpose of ours."""
    if not isinstance(subject, str) or not subject.strip() or purpose is None:
        return outcome if isinstance(outcome, DeadLetter) else DeadLetter("state", "", "missing_field", "subject", "nothing")
    if isinstance(outcome, DeadLetter):
        unjudged = outcome.reason in ("no_expression", "not_consent", "test_record")
        return StateItem(subject, purpose, "unjudged" if unjudged else "refused", changed_at)
    granted = isinstance(outcome, ConsentRow) and outcome.action == "granted"
    stands = granted and (outcome.expires_at is None or outcome.expires_at > now)
    return StateItem(subject, purpose, "granted" if stands else "refused", changed_at)


class Connector(Protocol):
    """A vendor."""

    name: str

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The lists that are pulled."""
        ...

    def first_instant(self, resource: Resource, now: datetime) -> datetime:
        """Where the first pull of a list begins, UTC."""
        ...

    def pages(self, resource: Resource, window: Window) -> Iterator[list[Any]]:
        """The records of one window, page by page. Raises `ConnectorError`."""
        ...

    def read(self, resource: Resource, record: Any) -> Iterator[Row | DeadLetter]:
        """What one record says: at least one row or dead letter."""
        ...

    def full_state(self, now: datetime) -> Iterator[list[StateItem | DeadLetter]]:
        """The state of every subject and purpose, page by page. Raises `ConnectorError`."""
        ...
