"""Does a valid grant exist? Said from the law, person by person, without a look at the SQL that the platform runs.

Sources: GDPR 7 (conditions, withdrawal), 8 (age), 9(2)(a) and 22(2)(c) (explicit); COPPA 16 CFR 312.5 (a parent's verified
consent, two scopes); 11 CCR 7025 (a browser's signal, and consent after notice of the conflict), 7063 (an agent may opt a
consumer out); 45 CFR 164.508 (signed authorisation with an end). Where a source knows the day alone, either order of that
day's events is possible, and a grant counts only if it counts in every one of them.
"""

from datetime import datetime, timedelta
from typing import Any

Row = dict[str, Any]
EXPLICIT = ("significant_decision_admt", "sensitive")
DAY = timedelta(days=1)


def span(event: Row) -> tuple[datetime, datetime]:
    """The earliest and the latest instant at which the event can have been made."""
    made = event["effective_at"]
    midnight = datetime(made.year, made.month, made.day)
    if event.get("effective_precision") == "instant" or (event.get("effective_precision") is None and made != midnight):
        return made, made
    return midnight, midnight + DAY


def is_refusal(event: Row) -> bool:
    """Whoever refuses, and whatever is neither a grant nor a browser's signal, counts as refusing."""
    return event.get("action") not in ("granted", "gpc_on")


def has_been_said(event: Row, instant: datetime) -> bool:
    """A refusal counts as soon as it was made or received, a grant when it was both."""
    earliest, latest = span(event)
    received = event.get("received_at")
    if event.get("action") == "granted":
        return latest <= instant and (received is None or received <= instant)
    return earliest <= instant or (received is not None and received <= instant)


def is_valid_grant(event: Row, person: Row, instant: datetime, notices: list[Row] = ()) -> bool:
    """Given by someone who may give it, in a form that the purpose asks for, under a notice that still holds."""
    if event.get("action") != "granted" or not has_been_said(event, instant):
        return False
    method, actor = event.get("method"), event.get("actor")
    if method == "gpc_header":
        return False
    received = event.get("received_at")
    if received is not None and event["effective_at"] - received > timedelta(minutes=5):
        return False
    if event["purpose"] in EXPLICIT and method not in ("form", "paper", "verified_parental"):
        return False
    if actor == "self":
        able = person.get("is_self_consent_capable") is True and event.get("is_capable_at_collection") is True
    else:
        able = actor == "parent" and method in ("paper", "verified_parental")
    if not able:
        return False
    declared = [notice for notice in notices if notice["purpose"] == event["purpose"]]
    shown = [notice for notice in declared if notice["version"] == event.get("notice_version")]
    return not declared or any(
        notice["valid_from"] <= event["effective_at"]
        and not (notice["is_material"] and notice["superseded_at"] is not None and notice["superseded_at"] <= instant)
        for notice in shown
    )


def standing_grants(
    person: Row, purpose: str, events: list[Row], requests: list[Row], instant: datetime, notices: list[Row] = ()
) -> list[Row]:
    """The last valid grant for the purpose (more than one, if made at one instant) that nothing has ended by `instant`."""
    own = [event for event in events if event["purpose"] == purpose]
    grants = [
        event
        for event in own
        if is_valid_grant(event, person, instant, notices)
        and not (event.get("actor") == "parent" and event.get("parental_scope") == "disclosure")
    ]
    if not grants:
        return []
    last = max(span(event)[0] for event in grants)
    refused = [
        span(event)[1]
        for event in own
        if is_refusal(event)
        and has_been_said(event, instant)
        and not (event.get("actor") == "parent" and event.get("parental_scope") == "disclosure")
    ]
    for request in requests:
        if request.get("status") == "refused" or request["received_at"] > instant:
            continue
        if request["request_type"] == "deletion":
            return []
        if request["request_type"] == "opt_out":
            refused.append(request["received_at"])
    if any(moment >= last for moment in refused):
        return []
    return [
        event
        for event in grants
        if span(event)[0] == last and (event.get("expires_at") is None or instant < event["expires_at"])
    ]


def browser_signal(events: list[Row], instant: datetime) -> datetime | None:
    """The latest instant at which the person's first known browser signal can have been sent; none if there is none."""
    signals = [event for event in events if event.get("action") == "gpc_on" and has_been_said(event, instant)]
    if not signals:
        return None

    def known_from(event: Row) -> datetime:
        return min(moment for moment in (span(event)[0], event.get("received_at")) if moment is not None)

    first = min(known_from(event) for event in signals)
    return min(span(event)[1] for event in signals if known_from(event) == first)


def disclosure_stands(purpose: str, person: Row, events: list[Row], requests: list[Row], instant: datetime) -> bool:
    """Whether a parent's verified consent to disclosure stands, by itself."""
    own = [event for event in events if event["purpose"] == purpose]
    given = [
        event
        for event in own
        if event.get("actor") == "parent"
        and event.get("parental_scope") == "disclosure"
        and is_valid_grant(event, person, instant)
        and (event.get("expires_at") is None or instant < event["expires_at"])
    ]
    ends = [span(event)[1] for event in own if is_refusal(event) and has_been_said(event, instant)]
    ends += [
        request["received_at"]
        for request in requests
        if request["request_type"] == "opt_out" and request.get("status") != "refused" and request["received_at"] <= instant
    ]
    return any(all(end < span(event)[0] for end in ends) for event in given)
