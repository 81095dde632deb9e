"""Legal holds: who may not be deleted for the time being, by whose word, why and until when.

There is one register, the table `holds` of the rights log: what it names is kept by retention and by an erasure alike. It knows
a person by the keyed hash by which the log does. A hold is lifted, never deleted, and can be placed while a run is writing.

Belongs here: placing and lifting a hold of a customer, and which are in force. Does not belong here: what they keep
(`retention`, `receiving`), the table (`requests`).
"""

from datetime import date, datetime, time, timedelta

import pyarrow as pa

from orchestration.identity.keys import load_keys
from orchestration.rights.requests import Subject, has_log, open_log
from orchestration.settings import Settings


class HoldError(ValueError):
    """A hold that cannot be placed or lifted as asked."""


def place_hold(settings: Settings, customer: str, reason: str, placed_by: str, until: date | None = None) -> str:
    """Keep everything of that customer, to the end of the day `until` or until lifted; returns the hold's id."""
    if not reason.strip() or not placed_by.strip():
        raise HoldError("a hold needs a reason and the one who places it")
    end = datetime.combine(until + timedelta(days=1), time.min) if until else None
    with open_log(settings) as log:
        return log.hold(Subject.of(load_keys(settings), customer).hash, reason, placed_by, end)


def lift_hold(settings: Settings, hold_id: str, lifted_by: str) -> None:
    """End a hold now. Raises `HoldError` if there is none of that id in force."""
    with open_log(settings) as log:
        lifted = log.lift(hold_id, lifted_by)
    if not lifted:
        raise HoldError(f"there is no hold {hold_id} in force")


def holds_in_force(settings: Settings, instant: datetime) -> pa.Table:
    """The persons whom a hold names at that instant (UTC): column subject_hash."""
    names: list[str] = []
    if has_log(settings):
        with open_log(settings) as log:
            names = log.held_on(instant)
    return pa.table({"subject_hash": pa.array(names, pa.string())})
