"""Rows that a connector delivers, and the identifiers they get.

Belongs here: the typed row of each entity, times, content keys. Does not belong here: a vendor's fields.
"""

import base64
import json
import re
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from orchestration.identity.keys import MasterKeys
from orchestration.identity.pseudonyms import hmac_sha256

EPOCH = datetime(1970, 1, 1)
_ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?")


@dataclass(frozen=True)
class ConsentRow:
    """One expression of will as the contract `consent_events` takes it; `subject` and `vendor_purpose` as the vendor says.

    Times are UTC without zone.
    """

    subject: str
    purpose: str
    action: str
    effective_at: datetime
    expires_at: datetime | None = None
    notice_version: str | None = None
    method: str | None = None
    actor: str = "self"
    vendor_purpose: str = ""

    entity = "consent_events"
    key = "event_id"


@dataclass(frozen=True)
class AnswerRow:
    """One answer to a survey's score question as the contract `survey_feedback` takes it."""

    subject: str
    answer: str
    survey_id: str
    question_type: str
    score: float | None
    responded_at: datetime

    entity = "survey_feedback"
    key = "response_id"


Row = ConsentRow | AnswerRow
COLUMNS: dict[str, dict[str, str]] = {
    "consent_events": {
        "event_id": "varchar",
        "subject": "varchar",
        "purpose": "varchar",
        "action": "varchar",
        "effective_at": "timestamp",
        "received_at": "timestamp",
        "expires_at": "timestamp",
        "notice_version": "varchar",
        "method": "varchar",
        "actor": "varchar",
        "vendor_purpose": "varchar",
    },
    "survey_feedback": {
        "response_id": "varchar",
        "subject": "varchar",
        "survey_id": "varchar",
        "question_type": "varchar",
        "score": "double",
        "responded_at": "timestamp",
    },
}
KEYS = {"consent_events": "event_id", "survey_feedback": "response_id"}


def instant(value: object) -> datetime | None:
    """An ISO 8601 time as UTC without zone; a time without zone is UTC. `None` for anything else, a date alone included."""
    if not isinstance(value, str) or not _ISO.fullmatch(value.strip()):
        return None
    try:
        moment = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    return (moment.astimezone(UTC) if moment.tzinfo else moment).replace(tzinfo=None)


def epoch_instant(value: object, per_second: int = 1) -> datetime | None:
    """Seconds (or fractions, `per_second` to one) since 1970 as UTC without zone; `None` for anything else."""
    if isinstance(value, str):
        if not re.fullmatch(r"\d{1,16}(\.\d{1,9})?", value):
            return None
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value / per_second, UTC).replace(tzinfo=None)
    except (OverflowError, OSError, ValueError):
        return None


def at(record: object, path: str) -> object:
    """The value at a dotted path; `None` where nothing is."""
    for name in path.split("."):
        if not isinstance(record, dict):
            return None
        record = record.get(name)
    return record


def _keyed(keys: MasterKeys, label: bytes, message: object) -> str:
    text = json.dumps(message, sort_keys=True, default=str).encode()
    return base64.urlsafe_b64encode(hmac_sha256(keys.pseudonym, [text], label, 16)).decode().rstrip("=")


def content_key(keys: MasterKeys, connector: str, row: Row) -> str:
    """The row's identifier: a keyed hash of all that it says, so that the same expression pulled twice is one row.

    The vendors document no idempotency key, and a retried write leaves two receipts of one act. Keyed, since an unkeyed
    hash over a person's identifier can be guessed.
    """
    return f"{connector}-{_keyed(keys, b'connector-row', {'entity': row.entity, **asdict(row)})}"


def record_key(keys: MasterKeys, connector: str, record: str) -> str:
    """A vendor's record identifier as it may be written down: the privacy team can make it again, nobody else."""
    return _keyed(keys, b"connector-record", [connector, record])
