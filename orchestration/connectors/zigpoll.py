"""Zigpoll: answers to questions about consent, and to questions for a score.

Belongs here: the list of responses, its pages, what an answer to a declared question means. Zigpoll is a survey tool: no
field of it is a consent status, and a question is one only because the vocabulary file says so.

GET /responses with accountId, limit, startCursor, createdAfter, createdBefore (epoch milliseconds); the answer is {data,
hasNextPage, endCursor}; the key is the whole Authorization header; a bad key gets 422. https://apidocs.zigpoll.com
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import requests

from orchestration.connectors.dead_letters import DeadLetter, shape_of
from orchestration.connectors.errors import ConnectorError
from orchestration.connectors.resources import Resource, StateItem, Window
from orchestration.connectors.rows import EPOCH, AnswerRow, ConsentRow, Row, at, instant
from orchestration.connectors.settings import Patience, Zigpoll
from orchestration.connectors.transport import UNAUTHORISED, CheckedPaginator, Envelope, RawKey, Transport
from orchestration.connectors.vocabulary import ConsentQuestion, ScoreQuestion, ZigpollVocabulary


class EndCursor(CheckedPaginator):
    """Zigpoll's cursor."""

    def __init__(self, most_pages: int) -> None:
        super().__init__(most_pages)
        self._cursor: str | None = None

    def advance(self, body: Any) -> None:
        """The cursor counts only while the answer says that a page follows."""
        more = body.get("hasNextPage")
        if not isinstance(more, bool):
            raise ConnectorError("half_answer", "the answer does not say whether a page follows")
        if not more:
            self._has_next_page = False
            return
        self._cursor = self.take_cursor(body.get("endCursor"), more)

    def update_request(self, request: requests.Request) -> None:
        """Ask from the cursor on."""
        if self._cursor is not None:
            request.params = {**(request.params or {}), "startCursor": self._cursor}


class ZigpollConnector:
    """Pulls from one account."""

    name = "zigpoll"
    resources = (Resource("responses", timedelta(days=36_500)),)

    def __init__(self, settings: Zigpoll, vocabulary: ZigpollVocabulary, patience: Patience) -> None:
        self.settings = settings
        self.vocabulary = vocabulary
        self.patience = patience
        self.transport = Transport(settings.url, patience, lambda session: RawKey(settings.key.get_secret_value()))
        self._consent = {question.slide: question for question in vocabulary.consent_questions}
        self._scores = {question.slide: question for question in vocabulary.score_questions}

    def first_instant(self, resource: Resource, now: datetime) -> datetime:
        """Where a first pull begins."""
        return self.settings.first_instant

    def pages(self, resource: Resource, window: Window) -> Iterator[list[Any]]:
        """The pages of the window's responses.

        With a filter on time Zigpoll's cursor is known to come round again. Then everything is read once more without the
        filter: what was there before is recognised by its content. If the cursor repeats even so, the pull fails.
        """
        times = {"createdAfter": window.since, "createdBefore": window.until}
        filtered = {name: int((time - EPOCH).total_seconds() * 1000) for name, time in times.items()}
        try:
            yield from self._list(filtered)
        except ConnectorError as error:
            if error.name not in ("repeated_cursor", "repeated_page"):
                raise
            yield from self._list({})

    def _list(self, times: dict[str, int]) -> Iterator[list[Any]]:
        return self.transport.pages(
            "/responses",
            Envelope("data", unauthorised=UNAUTHORISED | {422}),
            EndCursor(self.patience.most_pages),
            params={"accountId": self.settings.account_id, "limit": self.settings.page_size, **times},
        )

    def full_state(self, now: datetime) -> Iterator[list[StateItem | DeadLetter]]:
        """A survey tool holds answers, no state."""
        raise ConnectorError("not_configured", "zigpoll holds no consent state that could be compared")

    def read(self, resource: Resource, record: Any) -> Iterator[Row | DeadLetter]:
        """The row or dead letter of one response."""
        if not isinstance(record, dict):
            yield DeadLetter("responses", "", "malformed_value", "", shape_of(record))
            return
        known = str(record.get("_id") or "")

        def dead(reason: str, field: str, value: object) -> DeadLetter:
            return DeadLetter("responses", known, reason, field, shape_of(value))

        slide = record.get("slideId")
        question = self._consent.get(slide) or self._scores.get(slide) if isinstance(slide, str) else None
        if not known:
            yield dead("missing_field", "_id", record.get("_id"))
        elif question is None:
            yield dead("unknown_question" if slide else "missing_field", "slideId", slide)
        else:
            yield self._answer(record, known, question, dead)

    def _answer(self, record: dict[str, Any], known: str, question: ConsentQuestion | ScoreQuestion, dead) -> Row | DeadLetter:
        subject = at(record, self.vocabulary.subject)
        if not isinstance(subject, str) or not subject.strip():
            return dead("missing_field", self.vocabulary.subject, subject)
        created = instant(record.get("createdAt"))
        if created is None:
            reason = "malformed_timestamp" if record.get("createdAt") else "missing_field"
            return dead(reason, "createdAt", record.get("createdAt"))
        answer = record.get("response")
        if not isinstance(answer, str | int | float) or isinstance(answer, bool) or not str(answer).strip():
            return dead("malformed_value" if answer else "missing_field", "response", answer)
        text = str(answer).strip()
        if isinstance(question, ScoreQuestion):
            return self._score(record, known, question, subject, created, text, dead)
        # Typed words are no choice: whoever types the text of an answer has not chosen it.
        if record.get("valueType") != "vote":
            return dead("unknown_answer", "valueType", record.get("valueType"))
        action = question.answers.get(text)
        if action is None:
            return dead("unknown_answer", "response", answer)
        return ConsentRow(
            subject=subject,
            purpose=question.purpose,
            action=action,
            effective_at=created,
            notice_version=question.notice_version,
            method=question.method,
            vendor_purpose=question.slide,
        )

    def _score(self, record, known, question: ScoreQuestion, subject, created, text, dead) -> AnswerRow | DeadLetter:
        try:
            score = float(text)
        except ValueError:
            return dead("malformed_value", "response", text)
        if not 0 <= score <= 10:
            return dead("malformed_value", "response", text)
        survey = str(record.get("pollId") or "")
        return AnswerRow(subject, known, survey, question.question_type, score, created)
