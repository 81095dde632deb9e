"""TrustArc Consent & Preference Manager: consent records.

Belongs here: the list, its pages, what a record's status means. TrustArc publishes the list's address and filters, but no
schema of a record, so where a record holds what is declared in the vocabulary file.

GET /server/api/v1/external/consents: page, size, sort, fromModifiedDate, toModifiedDate; times are epoch seconds; Spring's
envelope (content, number, numberOfElements, totalElements, totalPages, last).
https://trustarchelp.zendesk.com/hc/en-us/articles/40520220419475-External-Consent-Controller
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import requests

from orchestration.connectors.dead_letters import DeadLetter, shape_of
from orchestration.connectors.errors import ConnectorError
from orchestration.connectors.resources import Resource, StateItem, Window, state_item
from orchestration.connectors.rows import EPOCH, ConsentRow, at, epoch_instant, instant
from orchestration.connectors.settings import Patience, TrustArc
from orchestration.connectors.transport import CheckedPaginator, Envelope, Transport, client_credentials, whole_number
from orchestration.connectors.vocabulary import TrustArcVocabulary, purpose_of

# The documented statuses of a record. Only in an active record does a choice count as it stands.
STATUSES = {"ACTIVE": None, "EXPIRED": "withdrawn", "PENDING": "denied"}
PATH = "/server/api/v1/external/consents"


class SpringPages(CheckedPaginator):
    """Numbered pages whose numbers and totals have to add up."""

    def __init__(self, most_pages: int) -> None:
        super().__init__(most_pages)
        self.number = 0
        self.total: int | None = None

    def init_request(self, request: requests.Request) -> None:
        """Begin at page 0."""
        self.update_request(request)

    def advance(self, body: Any) -> None:
        """The next page, or the end; the total must not change on the way and must be reached."""
        number, total = whole_number(body.get("number")), whole_number(body.get("totalElements"))
        if number is not None and number != self.number:
            raise ConnectorError("repeated_page", f"page {self.number} was asked for, page {number} came")
        if total is None:
            raise ConnectorError("unexpected_answer", "the answer states no totalElements")
        if self.total not in (None, total):
            raise ConnectorError("half_answer", f"the total went from {self.total} to {total} between two pages")
        self.total = total
        if self.rows >= total or body.get("last") is True:
            self._has_next_page = False
            if self.rows != total:
                raise ConnectorError("half_answer", f"{total} items are announced, {self.rows} came")
        elif body.get("content") == []:
            raise ConnectorError("half_answer", f"{total} items are announced, after {self.rows} none comes")
        self.number += 1

    def update_request(self, request: requests.Request) -> None:
        """Ask for the page."""
        request.params = {**(request.params or {}), "page": self.number}


def _moment(value: object) -> datetime | None:
    """Epoch seconds, as TrustArc's samples have it, or an ISO time."""
    return epoch_instant(value) or instant(value)


class TrustArcConnector:
    """Pulls from one account."""

    name = "trustarc"
    resources = (Resource("consents", timedelta(days=30)),)

    def __init__(self, settings: TrustArc, vocabulary: TrustArcVocabulary, patience: Patience) -> None:
        self.settings = settings
        self.vocabulary = vocabulary
        self.patience = patience
        authorise = client_credentials(
            settings.token_url, settings.client_id.get_secret_value(), settings.client_secret.get_secret_value()
        )
        self.transport = Transport(settings.url, patience, authorise)

    def first_instant(self, resource: Resource, now: datetime) -> datetime:
        """Where a first pull begins."""
        return self.settings.first_instant

    def pages(self, resource: Resource, window: Window) -> Iterator[list[Any]]:
        """The pages of the records that were changed in the window."""
        times = {"fromModifiedDate": window.since, "toModifiedDate": window.until}
        return self._list({name: int((time - EPOCH).total_seconds()) for name, time in times.items()})

    def full_state(self, now: datetime) -> Iterator[list[StateItem | DeadLetter]]:
        """The newest record of each person and form, in pages."""
        for page in self._list({"isFetchLatest": "true"}):
            yield [item for record in page for item in self._states(record, now)]

    def _list(self, params: dict[str, Any]) -> Iterator[list[Any]]:
        return self.transport.pages(
            PATH,
            Envelope("content", lambda body: whole_number(body.get("numberOfElements"))),
            SpringPages(self.patience.most_pages),
            params={**params, "size": self.settings.page_size, "sort": "createdDate,asc"},
        )

    def _states(self, record: Any, now: datetime) -> Iterator[StateItem | DeadLetter]:
        fields = self.vocabulary.fields
        for choice, outcome in self._items(record):
            purpose = self._purpose(choice)[0] if isinstance(choice, dict) else None
            changed_at = _moment(at(record, "modifiedDate")) or _moment(at(record, fields.expressed))
            yield state_item(at(record, fields.subject), purpose, outcome, changed_at, now)

    def read(self, resource: Resource, record: Any) -> Iterator[ConsentRow | DeadLetter]:
        """The rows and dead letters of one record, one per choice."""
        for _, outcome in self._items(record):
            yield outcome

    def _items(self, record: Any) -> Iterator[tuple[Any, ConsentRow | DeadLetter]]:
        fields = self.vocabulary.fields
        if not isinstance(record, dict):
            yield None, DeadLetter("consents", "", "malformed_value", "", shape_of(record))
            return
        known = str(at(record, fields.id) or "")
        choices = at(record, fields.choices)
        if not isinstance(choices, list) or not choices:
            reason = "missing_field" if not choices else "malformed_value"
            yield None, DeadLetter("consents", known, reason, fields.choices, shape_of(choices))
            return
        for choice in choices:
            yield choice, self._choice(record, known, choice)

    def _choice(self, record: dict[str, Any], known: str, choice: Any) -> ConsentRow | DeadLetter:
        fields = self.vocabulary.fields

        def dead(reason: str, field: str, value: object) -> DeadLetter:
            return DeadLetter("consents", known, reason, field, shape_of(value))

        if not isinstance(choice, dict):
            return dead("malformed_value", fields.choices, choice)
        subject = at(record, fields.subject)
        if not isinstance(subject, str) or not subject.strip():
            return dead("missing_field", fields.subject, subject)
        purpose, reason = self._purpose(choice)
        if purpose is None:
            return dead(reason, fields.purpose, at(choice, fields.purpose))
        status = at(record, fields.status)
        if not isinstance(status, str) or status not in STATUSES:
            return dead("unknown_status" if status else "missing_field", fields.status, status)
        said = at(choice, fields.choice)
        said = str(said).lower() if isinstance(said, bool) else said
        action = self.vocabulary.choices.get(said) if isinstance(said, str) else None
        if action is None:
            return dead("unknown_answer" if said is not None else "missing_field", fields.choice, said)
        expressed = at(record, fields.expressed)
        effective_at = _moment(expressed)
        if effective_at is None:
            return dead("malformed_timestamp" if expressed else "missing_field", fields.expressed, expressed)
        expires = at(record, fields.expires)
        expires_at = _moment(expires)
        if expires is not None and expires_at is None:
            return dead("malformed_timestamp", fields.expires, expires)
        if action == "granted":
            action = STATUSES[status] or "granted"
        notice = at(record, fields.notice)
        return ConsentRow(
            subject=subject,
            purpose=purpose,
            action=action,
            effective_at=effective_at,
            expires_at=expires_at if action == "granted" else None,
            notice_version=None if notice is None else str(notice),
            method=self.vocabulary.method,
            vendor_purpose=str(at(choice, fields.purpose)),
        )

    def _purpose(self, choice: dict[str, Any]) -> tuple[str | None, str]:
        word = at(choice, self.vocabulary.fields.purpose)
        return purpose_of(self.vocabulary.purposes, self.vocabulary.not_consent, word, None)
