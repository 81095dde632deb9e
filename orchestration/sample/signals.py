"""Expressions of will and requests of the sample's customers: consent events and privacy requests.

Belongs here: consent stories, among them the awkward ones (one instant, two answers; a child alone; a browser signal
against a grant). Does not belong here: damaged rows (`oddities`), and what a story should lead to (the policy decides).
"""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from orchestration.sample import places
from orchestration.sample.people import People
from orchestration.sample.text import DAY, instants, numbered, pick

_HOUR = 1 / 24
_HISTORY = 900  # days of consent history


@dataclass(frozen=True)
class Step:
    """One event, `after` days into the story, void `expires` days later (0 never), received `lag` days late."""

    purpose: str
    action: str
    after: float = 0.0
    method: str = "banner"
    actor: str = "self"
    scope: str | None = None
    expires: float = 0.0
    lag: float = 0.0


_P, _A, _ADS, _ADMT, _SENSITIVE = (
    "personalisation",
    "analytics",
    "ads_sale_share",
    "significant_decision_admt",
    "sensitive",
)


def _parent(purpose: str, scope: str, action: str = "granted", after: float = 0.0) -> Step:
    return Step(purpose, action, after, "verified_parental", "parent", scope)


STORIES: dict[str, tuple[Step, ...]] = {
    "silent": (),
    "grant": (Step(_P, "granted"),),
    "deny": (Step(_P, "denied"),),
    "grant_two": (Step(_A, "granted"), Step(_P, "granted")),
    "deny_two": (Step(_A, "denied"), Step(_P, "denied")),
    "grant_all": (
        Step(_A, "granted", 0, "form"),
        Step(_P, "granted", 0, "form"),
        Step(_ADS, "granted", 0, "form"),
        Step(_ADMT, "granted", 0, "form"),
    ),
    "withdraw": (Step(_P, "granted"), Step(_P, "withdrawn", 40, "form")),
    "change_of_mind": (Step(_P, "denied"), Step(_P, "granted", 45, "form")),
    "refuse_decisions": (Step(_ADMT, "denied", 0, "form"), Step(_SENSITIVE, "denied", 0, "form")),
    "sensitive_grant": (Step(_SENSITIVE, "granted", 0, "paper"), Step(_P, "granted", 0, "paper")),
    "imported": (Step(_P, "granted", 0, "import"),),
    "year_long": (Step(_P, "granted", 0, "banner", expires=395),),
    "expired": (Step(_P, "granted", 0, "banner", expires=30),),
    "same_instant": (Step(_P, "granted", 0, "api"), Step(_P, "withdrawn", 0, "api")),
    "late": (Step(_P, "granted", 0, "paper", lag=100),),
    "late_withdrawal": (Step(_P, "granted"), Step(_P, "withdrawn", 20, "paper", lag=60)),
    "out_of_order": (Step(_P, "granted", 0, "api", lag=3 * _HOUR), Step(_P, "withdrawn", _HOUR, "api")),
    "gpc": (Step(_ADS, "gpc_on", 0, "gpc_header"),),
    "gpc_then_grant": (Step(_ADS, "gpc_on", 0, "gpc_header"), Step(_ADS, "granted", 20, "form")),
    "grant_then_gpc": (Step(_ADS, "granted"), Step(_ADS, "gpc_on", 30, "gpc_header")),
    "gpc_and_personalisation": (Step(_P, "granted"), Step(_ADS, "gpc_on", 3, "gpc_header")),
    "agent_opt_out": (Step(_ADS, "withdrawn", 0, "api", "agent"),),
    "parent_collection": (_parent(_P, "collection_use"),),
    "parent_both": (_parent(_P, "collection_use"), _parent(_P, "disclosure")),
    "parent_ads": (_parent(_P, "collection_use"), _parent(_ADS, "disclosure", after=2)),
    "parent_withdraws": (_parent(_P, "collection_use"), _parent(_P, "collection_use", "withdrawn", 35)),
}
_ADULT = {
    "silent": 16,
    "grant": 20,
    "deny": 9,
    "grant_two": 17,
    "deny_two": 4,
    "grant_all": 7,
    "withdraw": 6,
    "change_of_mind": 3,
    "refuse_decisions": 2,
    "sensitive_grant": 1,
    "imported": 2,
    "year_long": 6,
    "expired": 2,
    "same_instant": 1,
    "late": 1,
    "late_withdrawal": 0.7,
    "out_of_order": 1,
}
_AMERICAN = _ADULT | {
    "gpc": 6,
    "gpc_then_grant": 2,
    "grant_then_gpc": 2,
    "gpc_and_personalisation": 4,
    "agent_opt_out": 1,
}
_TEEN = {
    "silent": 25,
    "grant": 25,
    "deny": 10,
    "grant_two": 8,
    "withdraw": 4,
    "parent_collection": 10,
    "parent_both": 6,
    "parent_withdraws": 3,
    "gpc": 2,
    "expired": 2,
    "same_instant": 1,
}
_CHILD = {
    "silent": 25,
    "grant": 14,
    "parent_collection": 26,
    "parent_both": 14,
    "parent_ads": 8,
    "parent_withdraws": 7,
    "deny": 3,
    "same_instant": 0.5,
}
# Oddities of form are planted on these only, so that the counts of stories stay true.
PLAIN = ("grant", "deny", "grant_two", "deny_two", "grant_all", "imported")
REQUESTS = ("opt_out", "deletion", "access", "correction", "portability")


def consent_events(rng: np.random.Generator, people: People, end: int) -> tuple[pa.Table, np.ndarray, Counter[str]]:
    """The events in the order of their receipt, which of them are plain grants or denials of adults, and how many
    of each awkward kind there are (events; for pairs, customers)."""
    size = len(people)
    names = list(STORIES)
    story = np.zeros(size, dtype=np.int16)
    american = people.place == places.UNITED_STATES
    minor = people.child | people.teen
    for weights, who in (
        (_ADULT, ~american & ~minor),
        (_AMERICAN, american & ~minor),
        (_TEEN, people.teen),
        (_CHILD, people.child),
    ):
        numbers = np.array([names.index(name) for name in weights], dtype=np.int16)
        story[who] = numbers[places.draw(rng, np.array(list(weights.values())), int(who.sum()))]
    steps = [step for name in names for step in STORIES[name]]
    length = np.array([len(STORIES[name]) for name in names])
    start = np.cumsum(length) - length
    reach = np.array(
        [
            max(
                (step.after + max(step.lag, step.expires if step.expires < 90 else 0.0) for step in STORIES[name]),
                default=0.0,
            )
            + 1
            for name in names
        ]
    )
    first_day = np.maximum(people.since, end // DAY - _HISTORY) * float(DAY)
    latest = end - reach[story] * DAY
    begin = (latest - rng.random(size) ** 1.4 * np.maximum(latest - first_day, 1)).astype(np.int64)
    customer = np.repeat(np.arange(size), length[story])
    rank = np.arange(len(customer)) - np.repeat(np.cumsum(length[story]) - length[story], length[story])
    step = start[story[customer]] + rank
    effective = begin[customer] + _seconds(steps, "after")[step]
    # One lag per customer keeps the order of receipt, except where a story plants another.
    received = effective + (5 + customer * 13 % 80) + _seconds(steps, "lag")[step]
    void = _seconds(steps, "expires")[step]
    expires = np.where(void > 0, effective + void, 0)
    # A grant that is void from the very instant of the run: equality counts as expired.
    brink = np.flatnonzero(np.isin(step, start[names.index("expired")]) & (customer % 10 == 0))
    expires[brink] = end
    counts = _counts(steps, names, story, step, people, customer, expires, end)
    order = np.argsort(received, kind="stable")
    customer, step = customer[order], step[order]
    table = pa.table(
        {
            "event_id": numbered("CE-", np.arange(len(order)), 12),
            "customer_id": people.ids.take(pa.array(customer)),
            "purpose": _column(steps, "purpose", step),
            "action": _column(steps, "action", step),
            "effective_at": instants(effective[order], suffix="Z"),
            "received_at": instants(received[order], suffix="Z"),
            "expires_at": instants(expires[order], expires[order] > 0, suffix="Z"),
            "notice_version": pick(
                ["2024-05", "2025-03", "2026-01"], np.searchsorted([420, 800], (end - effective[order]) // DAY) * -1 + 2
            ),
            "method": _column(steps, "method", step),
            "actor": _column(steps, "actor", step),
            "parental_scope": _column(steps, "scope", step),
        }
    )
    plain = np.isin(story, [names.index(name) for name in PLAIN]) & ~minor
    return table, plain[customer], counts


def _seconds(steps: list[Step], attribute: str) -> np.ndarray:
    return np.array([round(getattr(step, attribute) * DAY) for step in steps], dtype=np.int64)


def _column(steps: list[Step], attribute: str, step: np.ndarray) -> pa.Array:
    return pick([getattr(each, attribute) for each in steps], step)


def _counts(
    steps: list[Step],
    names: list[str],
    story: np.ndarray,
    step: np.ndarray,
    people: People,
    customer: np.ndarray,
    expires: np.ndarray,
    end: int,
) -> Counter[str]:
    """Awkward events by kind; those of a story are counted by customer, one awkward event or pair each."""

    def told(*stories: str) -> int:
        return int(np.isin(story, [names.index(name) for name in stories]).sum())

    actor = np.array([each.actor == "parent" and each.action == "granted" for each in steps])
    alone = np.array([each.actor == "self" and each.action == "granted" for each in steps])
    return Counter(
        {
            "same_instant_grant_and_withdrawal": told("same_instant"),
            "expired_grant": int(((expires > 0) & (expires <= end)).sum()),
            "expires_at_the_run": int((expires == end).sum()),
            "late_receipt": told("late", "late_withdrawal"),
            "out_of_order": told("out_of_order"),
            "gpc_signal": told("gpc", "gpc_then_grant", "grant_then_gpc", "gpc_and_personalisation"),
            "gpc_and_grant": told("gpc_then_grant", "grant_then_gpc"),
            "agent_opt_out": told("agent_opt_out"),
            "parent_grant": int(actor[step].sum()),
            "child_alone_grant": int((alone[step] & people.child[customer]).sum()),
        }
    )


def privacy_requests(rng: np.random.Generator, people: People, end: int) -> pa.Table:
    """About one request for seventy customers, in the order of arrival."""
    count = rng.binomial(len(people), 0.014)
    customer = rng.integers(0, len(people), count)
    arrived = np.sort(end - 600 - (rng.random(count) ** 1.5 * 400 * DAY).astype(np.int64))
    settled = (end - arrived) > 40 * DAY
    status = np.where(settled, np.where(rng.random(count) < 0.12, 3, 2), rng.integers(0, 2, count))
    return pa.table(
        {
            "request_id": numbered("PR-", np.arange(count), 8),
            "customer_id": people.ids.take(pa.array(customer)),
            "request_type": pick(list(REQUESTS), places.draw(rng, np.array([38, 27, 22, 8, 5]), count)),
            "received_at": instants(arrived, suffix="Z"),
            "status": pick(["received", "verified", "completed", "refused"], status),
        }
    )
