"""What the API answers, as types: for its OpenAPI description. A test holds the real answers against it.

Belongs here: the form of replies. Does not belong here: making them (`answers`).
"""

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, Field


class ProblemReply(BaseModel):
    """A refusal (RFC 9457); `type` is for programs, `detail` for people. It repeats nothing that was sent."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[str] | None = Field(None, description="Where the body does not fit: a path and the kind of fault each.")


class Basis(BaseModel):
    """What the gate said, and on which ground."""

    gate_outcome: str | None
    gate_reason: str | None
    consent_status: str | None
    consent_event_id: str | None
    legal_basis: str | None
    legal_reference: str | None
    policy_version: str | None


class Reason(BaseModel):
    """A rule that fired."""

    code: str
    factor: str | None
    points: int | None
    floor_tier: str | None
    text: str | None
    reference: str | None


class ScoreReply(BaseModel):
    """What the model said; without one, `model_status` says why and the rules stand alone."""

    model_status: str | None
    model_version: str | None
    tier: str | None
    log_odds: float | None
    probability: float | None
    base_points: float | None
    family_points: dict[str, float] | None
    reasons: list[str]


class RiskReply(BaseModel):
    """The risk side. The default segment has neither tier nor points."""

    segment: str
    tier: str | None
    rules_tier: str | None
    points: int | None
    reasons: list[Reason]
    score: ScoreReply
    rule_set_version: str | None
    review_due_date: date | None
    basis: Basis
    as_of: datetime = Field(description="UTC.")


class AudienceReply(BaseModel):
    """One family of the audience side."""

    family: str
    segment: str
    purpose: str
    basis: Basis
    as_of: datetime


class DecisionReply(BaseModel):
    """What holds for one subject. `none`: nobody of that identifier is known, or the policy forbids to hold a decision."""

    subject: str
    status: Literal["decided", "none"]
    source: Literal["published", "online"] = Field(description="online: events since the publication are in it.")
    run_id: str = Field(description="The publication that it rests on.")
    risk: RiskReply | None = Field(None, description="With the role risk only.")
    audience: list[AudienceReply] | None = Field(None, description="With the role audience only.")


class DecisionsReply(BaseModel):
    """One decision per subject asked for, in the order asked."""

    decisions: list[DecisionReply]


class AcceptedReply(BaseModel):
    """An event that is on the disk. `decision` is there unless `Prefer: respond-async` was sent, or the key may not see one."""

    sequence: int = Field(description="The event's place in the log.")
    replayed: bool = Field(description="Whether it was accepted before, with the same content.")
    decision: DecisionReply | None = None


class EventsReply(BaseModel):
    """One entry per event, in the order sent."""

    events: list[AcceptedReply]


class HealthReply(BaseModel):
    """Whether the service lives, or may answer; `detail` says why not."""

    status: Literal["ok", "not_ready"]
    detail: str = ""
    run_id: str | None = None
    as_of: datetime | None = None
    reconciled: bool | None = Field(None, description="Whether online and batch decided a sample alike.")
    pending: int = Field(0, description="Persons whose newest event waits for its evaluation.")
