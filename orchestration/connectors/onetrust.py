"""OneTrust: consent receipts and data subjects' purposes.

Belongs here: the two lists, their pages, what each status means. Receipts are the expressions, of the last 90 days;
profiles are the state that they left, and reach further back. Both are read: an expression that both tell is one more row
with the same meaning, never another decision.

Receipts: POST /api/consent/v2/receipts, at most 24 hours a call, scope CONSENT.
Profiles: GET /rest/api/consent/v4/datasubjects/profiles/unordered, at most 7 days a call (the specification says 30, the
newer page 7), scope CONSENT_READ. https://developer.onetrust.com/onetrust/reference/welcome-to-the-v4-apis
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import requests

from orchestration.connectors.dead_letters import DeadLetter, shape_of
from orchestration.connectors.resources import Resource, StateItem, Window, state_item
from orchestration.connectors.rows import ConsentRow, instant
from orchestration.connectors.settings import OneTrust, Patience
from orchestration.connectors.transport import CheckedPaginator, Envelope, Transport, client_credentials, whole_number
from orchestration.connectors.vocabulary import OneTrustVocabulary, purpose_of

# Only an explicit yes grants. What says that no consent stands refuses. What says neither is no expression: an earlier
# one stands, and the drift check compares it with the vendor's full state.
TRANSACTIONS = {
    "CONFIRMED": "granted",
    "OPT_IN": "granted",
    "WITHDRAWN": "withdrawn",
    "EXPIRED": "withdrawn",
    "CANCEL": "withdrawn",
    "NOTGIVEN": "denied",
    "NO_CHOICE": "denied",
    "PENDING": "denied",
    "OPT_OUT": "denied",
    "HARD_OPT_OUT": "denied",
    "NO_OPT_OUT": "no_expression",
    "IMPLICIT": "no_expression",
    "EXTEND": "no_expression",
    "CHANGE_PREFERENCES": "no_expression",
}
STATUSES = {
    "ACTIVE": "granted",
    "OPT_IN": "granted",
    "WITHDRAWN": "withdrawn",
    "EXPIRED": "withdrawn",
    "NO_CONSENT": "denied",
    "PENDING": "denied",
    "OPT_OUT": "denied",
    "HARD_OPT_OUT": "denied",
    "NOT_OPT_OUT": "no_expression",
    "IMPLICIT": "no_expression",
    "EXTEND": "no_expression",
    "CHANGE_PREFERENCES": "no_expression",
    "ALWAYS_ACTIVE": "not_consent",
}
# An origin tells how a receipt came to OneTrust. Only the preference centre is a form that a person filled in.
METHODS = {
    "PREFERENCE_CENTER": "form",
    "SDK": "banner",
    "API": "api",
    "ONETRUST": "api",
    "EMAIL_CLIENT_ONE_CLICK": "api",
    "IMPORT": "import",
    "HISTORIC_IMPORT": "import",
}
RECEIPT_DAYS_KEPT = 90
PROFILE_PAGE = 50


class Continuation(CheckedPaginator):
    """OneTrust's request continuation: the answer's token goes into the next request's header or body."""

    def __init__(self, most_pages: int, in_header: bool) -> None:
        super().__init__(most_pages)
        self.in_header = in_header
        self._token: str | dict[str, Any] | None = None

    def advance(self, body: Any) -> None:
        """The token stands beside the items, or under `pageable`."""
        pageable = body.get("pageable") if isinstance(body.get("pageable"), dict) else {}
        self._token = body.get("requestContinuation") or pageable.get("requestContinuation")
        last = body.get("last")
        if last is True:
            self._has_next_page = False
            return
        self.take_cursor(self._token, last is False)

    def update_request(self, request: requests.Request) -> None:
        """Put the token where this list expects it."""
        if not self._has_next_page:
            return
        if self.in_header:
            request.headers = {**(request.headers or {}), "requestContinuation": str(self._token)}
        else:
            request.json = {**(request.json or {}), "requestContinuation": self._token}


def _announced(body: dict[str, Any]) -> int | None:
    return whole_number(body.get("numberOfElements"))


class OneTrustConnector:
    """Pulls from one tenant."""

    name = "onetrust"

    def __init__(self, settings: OneTrust, vocabulary: OneTrustVocabulary, patience: Patience) -> None:
        self.settings = settings
        self.vocabulary = vocabulary
        self.patience = patience
        secret = settings.client_secret.get_secret_value()
        authorise = client_credentials(
            f"{settings.url.rstrip('/')}/api/access/v1/oauth/token", settings.client_id.get_secret_value(), secret
        )
        self.transport = Transport(settings.url, patience, authorise)

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The lists that are pulled, with the longest window that one call may ask for."""
        longest = {"receipts": timedelta(hours=24), "profiles": timedelta(days=7)}
        return tuple(Resource(name, longest[name]) for name in self.settings.resources)

    def first_instant(self, resource: Resource, now: datetime) -> datetime:
        """Where a first pull begins: receipts are listed for 90 days only."""
        start = self.settings.first_instant
        return max(start, now - timedelta(days=RECEIPT_DAYS_KEPT - 1)) if resource.name == "receipts" else start

    def pages(self, resource: Resource, window: Window) -> Iterator[list[Any]]:
        """The pages of one window of one list."""
        envelope = Envelope("content", _announced)
        if resource.name == "receipts":
            return self.transport.pages(
                "/api/consent/v2/receipts",
                envelope,
                Continuation(self.patience.most_pages, in_header=False),
                params={"fromDate": _text(window.since), "toDate": _text(window.until), "sort": "consentCreationDate,asc"},
                json_body={},
            )
        return self.transport.pages(
            "/rest/api/consent/v4/datasubjects/profiles/unordered",
            envelope,
            Continuation(self.patience.most_pages, in_header=True),
            params={"updatedSince": _text(window.since), "updatedUntil": _text(window.until), "size": PROFILE_PAGE},
        )

    def read(self, resource: Resource, record: Any) -> Iterator[ConsentRow | DeadLetter]:
        """The rows and dead letters of one record, one per purpose."""
        if resource.name == "receipts":
            yield from self._receipt(record)
        else:
            yield self._profile(record)

    def full_state(self, now: datetime) -> Iterator[list[StateItem | DeadLetter]]:
        """The state of every subject and purpose that the tenant holds, in pages."""
        resource = Resource("profiles", timedelta(days=7))
        for window in Window(self.settings.first_instant, now).slices(resource.longest):
            for page in self.pages(resource, window):
                yield [self._state(record, now) for record in page]

    def _state(self, record: Any, now: datetime) -> StateItem | DeadLetter:
        outcome = self._profile(record)
        if not isinstance(record, dict):
            return outcome
        changed_at = instant(record.get("lastUpdatedDate"))
        return state_item(record.get("identifier"), self._purpose(record)[0], outcome, changed_at, now)

    def _receipt(self, receipt: Any) -> Iterator[ConsentRow | DeadLetter]:
        if not isinstance(receipt, dict):
            yield DeadLetter("receipts", "", "malformed_value", "", shape_of(receipt))
            return
        record = str(receipt.get("id") or "")
        purposes = receipt.get("purposes")
        if not isinstance(purposes, list) or not purposes:
            reason = "missing_field" if not purposes else "malformed_value"
            yield DeadLetter("receipts", record, reason, "purposes", shape_of(purposes))
            return
        for purpose in purposes:
            yield self._transaction(receipt, record, purpose)

    def _transaction(self, receipt: dict[str, Any], record: str, purpose: Any) -> ConsentRow | DeadLetter:
        def dead(reason: str, field: str, value: object) -> DeadLetter:
            return DeadLetter("receipts", record, reason, field, shape_of(value))

        if not isinstance(purpose, dict):
            return dead("malformed_value", "purposes", purpose)
        if receipt.get("test") not in (None, False):
            return dead("test_record", "test", receipt.get("test"))
        if receipt.get("isAnonymous") not in (None, False):
            return dead("anonymous_subject", "isAnonymous", receipt.get("isAnonymous"))
        subject = receipt.get("dataSubjectIdentifier")
        if not isinstance(subject, str) or not subject.strip():
            return dead("missing_field", "dataSubjectIdentifier", subject)
        ours, reason = self._purpose(purpose)
        if ours is None:
            return dead(reason, "purposes.id", purpose.get("id"))
        status = purpose.get("transactionType")
        action = TRANSACTIONS.get(status) if isinstance(status, str) else None
        if action is None:
            return dead("unknown_status" if status else "missing_field", "transactionType", status)
        if action == "no_expression":
            return dead("no_expression", "transactionType", status)
        origin = receipt.get("origin")
        if origin is not None and (not isinstance(origin, str) or origin not in METHODS):
            return dead("unknown_method", "origin", origin)
        said = receipt.get("interactionDate") or receipt.get("consentCreationDate")
        effective_at = instant(said)
        if effective_at is None:
            return dead("malformed_timestamp" if said else "missing_field", "interactionDate", said)
        return self._row(purpose, subject, ours, action, effective_at, METHODS.get(origin or ""), dead)

    def _row(self, purpose, subject, ours, action, effective_at, method, dead) -> ConsentRow | DeadLetter:
        """The row of a readable item: a snoozed purpose is refused, and a grant keeps its expiry."""
        times = {}
        for field in ("expiryDate", "reactivationDate"):
            times[field] = instant(purpose.get(field))
            if purpose.get(field) is not None and times[field] is None:
                return dead("malformed_timestamp", field, purpose.get(field))
        if action == "granted" and times["reactivationDate"] is not None:
            # Snoozed. Whether it is over depends on the clock, and a row must say the same at every pull: the
            # reactivation, when it comes, is a state of its own.
            action = "denied"
        version = purpose.get("version")
        return ConsentRow(
            subject=subject,
            purpose=ours,
            action=action,
            effective_at=effective_at,
            expires_at=times["expiryDate"] if action == "granted" else None,
            notice_version=None if version is None else str(version),
            method=method,
            vendor_purpose=str(purpose.get("id") or purpose.get("name")),
        )

    def _profile(self, record: Any) -> ConsentRow | DeadLetter:
        if not isinstance(record, dict):
            return DeadLetter("profiles", "", "malformed_value", "", shape_of(record))
        known = str(record.get("lastReceiptId") or record.get("id") or "")

        def dead(reason: str, field: str, value: object) -> DeadLetter:
            return DeadLetter("profiles", known, reason, field, shape_of(value))

        subject = record.get("identifier")
        if not isinstance(subject, str) or not subject.strip():
            return dead("missing_field", "identifier", subject)
        ours, reason = self._purpose(record)
        if ours is None:
            return dead(reason, "id", record.get("id"))
        status = record.get("status")
        action = STATUSES.get(status) if isinstance(status, str) else None
        if action is None:
            return dead("unknown_status" if status else "missing_field", "status", status)
        if action in ("no_expression", "not_consent"):
            return dead(action, "status", status)
        # A grant begins when it was last given; a refusal when it was made, or else when the profile last changed.
        fields = ["consentDate"] if action == "granted" else ["withdrawalDate", "lastTransactionDate", "lastUpdatedDate"]
        said = next((record[field] for field in fields if record.get(field)), None)
        effective_at = instant(said)
        if effective_at is None:
            return dead("malformed_timestamp" if said else "missing_field", fields[0], said)
        return self._row(record, subject, ours, action, effective_at, None, dead)

    def _purpose(self, item: dict[str, Any]) -> tuple[str | None, str]:
        return purpose_of(self.vocabulary.purposes, self.vocabulary.not_consent, item.get("id"), item.get("name"))


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
