"""What comes of behaviour, and what customers say: incidents, audits, complaints, survey answers.

Belongs here: outcomes with noise and delay. Does not belong here: the behaviour itself (`behaviour`) and any rule of
the platform: incidents follow from what people did, flags from an analyst's blurred view of it; both err either way.
"""

import numpy as np
import pyarrow as pa

from orchestration.sample import places
from orchestration.sample.behaviour import Behaviour
from orchestration.sample.people import People
from orchestration.sample.text import DAY, flags, instants, joined, numbered, pick

INCIDENTS = (
    "suspicious_activity",
    "fraud",
    "account_takeover",
    "chargeback",
    "kyc_failure",
    "sanctions_alert",
    "policy_breach",
    "credit_default",
)
# What investigators call it, by pattern; the first row of each profile is for everybody else.
_TYPE_WEIGHTS = {
    "fintech": [
        [12, 12, 8, 14, 20, 6, 10, 18],
        [70, 6, 1, 1, 8, 2, 10, 2],
        [60, 22, 4, 4, 4, 1, 4, 1],
        [40, 4, 1, 1, 8, 38, 7, 1],
        [35, 20, 30, 3, 6, 1, 3, 2],
        [45, 40, 5, 2, 4, 1, 2, 1],
    ],
    "childrens_retail": [
        [2, 18, 14, 40, 0, 0, 22, 4],
        [4, 20, 2, 44, 0, 0, 30, 0],
        [2, 22, 52, 22, 0, 0, 2, 0],
        [4, 50, 12, 32, 0, 0, 2, 0],
    ],
}
_HORIZON = 480
_FLAGGED = 0.02
_MAIN_TOPICS = ("privacy", "service", "fees", "fraud", "discrimination", "other")


def incidents(rng: np.random.Generator, profile: str, people: People, behaviour: Behaviour, end: int) -> pa.Table:
    """Incidents known by the end, in order of occurrence: many who misbehave have none, some who do not have one."""
    size = len(people)
    chance = np.where(
        behaviour.risky,
        0.15 + 0.45 * behaviour.strength,
        np.where(behaviour.look_alike, 0.06, np.where(people.corporate, 0.018, 0.013)),
    )
    struck = np.flatnonzero(rng.random(size) < chance)
    customer = np.repeat(struck, 1 + rng.poisson(np.where(behaviour.risky[struck], 0.35, 0.06)))
    count = len(customer)
    oldest = np.minimum(_HORIZON, end // DAY - people.since[customer])
    since = np.where(behaviour.pattern[customer] > 0, behaviour.onset[customer], end - oldest * DAY)
    span = np.where(behaviour.pattern[customer] > 0, 75 * DAY, np.maximum(oldest, 1) * DAY)
    occurred = since + (rng.random(count) * span).astype(np.int64)
    reported = occurred + 3600 + (rng.exponential(18, count) * DAY).astype(np.int64)
    known = reported < end
    customer, occurred, reported = customer[known], occurred[known], reported[known]
    order = np.argsort(occurred, kind="stable")
    customer, occurred, reported = customer[order], occurred[order], reported[order]
    count = len(customer)
    kind = np.zeros(count, dtype=np.int16)
    for pattern, weights in enumerate(_TYPE_WEIGHTS[profile]):
        rows = behaviour.pattern[customer] == pattern
        kind[rows] = places.draw(rng, np.array(weights), int(rows.sum()))
    risky = behaviour.risky[customer]
    severity = places.draw(rng, np.array([35, 40, 20, 5]), count)
    severity = np.where(risky & (rng.random(count) < 0.4), np.minimum(severity + 1, 3), severity)
    confirmed = rng.random(count) < np.where(risky, 0.72, np.where(behaviour.look_alike[customer], 0.22, 0.4))
    still_open = rng.random(count) < np.where(end - reported < 45 * DAY, 0.7, 0.06)
    return pa.table(
        {
            "incident_id": numbered("IN-", np.arange(count), 8),
            "customer_id": people.ids.take(pa.array(customer)),
            "occurred_at": instants(occurred),
            "reported_at": instants(reported, rng.random(count) > 0.02),
            "incident_type": pick(list(INCIDENTS), kind),
            "severity": pick(["low", "medium", "high", "critical"], np.where(rng.random(count) < 0.03, -1, severity)),
            "status": pick(["open", "confirmed", "dismissed"], np.where(still_open, 0, np.where(confirmed, 1, 2))),
        }
    )


def audit_outcomes(rng: np.random.Generator, people: People, behaviour: Behaviour, end: int) -> pa.Table:
    """Audits of the cases that analysts flagged, and of a random sample of all others, each drawn with the same kept
    probability. Analysts see behaviour through noise; auditors miss some issues and find some that nobody planted."""
    size = len(people)
    seen = np.where(behaviour.risky, 0.35 + behaviour.strength, 0.0)
    seen += np.where(behaviour.look_alike, 0.25 + 0.8 * behaviour.strength, 0.0)
    seen += 0.33 * rng.standard_normal(size) + np.where(people.corporate, 0.12, 0.0)
    flagged = np.zeros(size, dtype=bool)
    flagged[np.argsort(-seen, kind="stable")[: round(_FLAGGED * size)]] = True
    probability = round(float(np.clip(400 / size, 0.01, 0.25)), 6)
    sampled = ~flagged & (rng.random(size) < probability)
    customer = np.flatnonzero(flagged | sampled)
    count = len(customer)
    day = (3600 + rng.random(count) * 360 * DAY).astype(np.int64)
    follow_up = behaviour.onset[customer] + ((5 + 90 * rng.random(count)) * DAY).astype(np.int64)
    noticed = (behaviour.pattern[customer] > 0) & (follow_up < end)
    closed = np.where(noticed, follow_up, end - day)
    began = behaviour.onset[customer] < closed
    chance = np.where(
        behaviour.risky[customer] & began,
        0.5 + 0.35 * behaviour.strength[customer],
        np.where(behaviour.look_alike[customer], 0.07, 0.012),
    )
    order = np.argsort(closed, kind="stable")
    issue = (rng.random(count) < chance)[order]
    customer, closed = customer[order], closed[order]
    return pa.table(
        {
            "audit_id": numbered("AU-", np.arange(count), 8),
            "customer_id": people.ids.take(pa.array(customer)),
            "audited_at": instants(closed),
            "selection": pick(["random", "flagged"], flagged[customer]),
            "selection_probability": pick([str(probability), "1"], flagged[customer]),
            "has_issue": flags(issue),
        }
    )


def complaints(rng: np.random.Generator, people: People, end: int) -> pa.Table:
    """About one complaint for twenty-five customers, in the order of arrival."""
    count = rng.binomial(len(people), 0.04)
    arrived = np.sort(end - 600 - (rng.random(count) * 400 * DAY).astype(np.int64))
    customer = rng.integers(0, len(people), count)
    status = np.where(end - arrived < 21 * DAY, 0, rng.integers(1, 3, count))
    return pa.table(
        {
            "complaint_id": numbered("CO-", np.arange(count), 8),
            "customer_id": people.ids.take(pa.array(customer)),
            "received_at": instants(arrived),
            "topic": pick(list(_MAIN_TOPICS), places.draw(rng, np.array([10, 40, 22, 10, 3, 15]), count)),
            "status": pick(["open", "upheld", "rejected"], np.where(rng.random(count) < 0.02, -1, status)),
        }
    )


def survey_feedback(rng: np.random.Generator, people: People, end: int) -> pa.Table:
    """About three answers for ten customers. `comment` is free text in which people name themselves: no contract takes
    it, so nothing of it may reach the platform."""
    count = round(0.3 * len(people))
    customer = rng.integers(0, len(people), count)
    time = np.sort(end - 60 - (rng.random(count) * 380 * DAY).astype(np.int64))
    question = places.draw(rng, np.array([50, 35, 15]), count)
    lowest, highest = np.array([0, 1, 1])[question], np.array([10, 5, 7])[question]
    mood = np.clip(0.66 + 0.16 * np.sin(customer * 1.7) + 0.2 * rng.standard_normal(count), 0, 1)
    score = np.round(lowest + mood * (highest - lowest)).astype(np.int64)
    where = pa.array(customer)
    signed = joined(
        "Please ring me at ", people.table["phone"].take(where), ", ", people.table["full_name"].take(where)
    )
    mailed = joined("Why no answer to ", people.table["email"].take(where), "?")
    plain = pick(
        ["Quick and friendly.", "The app is slow.", "Queue too long; nobody listened.", None],
        np.minimum(rng.integers(0, 7, count), 3),
    )
    texts = pa.chunked_array([plain, *signed.chunks, *mailed.chunks])
    source = places.draw(rng, np.array([80, 12, 8]), count).astype(np.int64)
    return pa.table(
        {
            "response_id": numbered("SV-", np.arange(count), 8),
            "customer_id": people.ids.take(where),
            "survey_id": pick(["relationship-2026", "after-service", "app"], rng.integers(0, 3, count)),
            "question_type": pick(["nps", "csat", "ces"], question),
            "score": pa.array(score, mask=rng.random(count) < 0.03),
            "responded_at": instants(time, suffix="Z"),
            "comment": texts.take(pa.array(source * count + np.arange(count))),
        }
    )


def campaign_outcomes(rng: np.random.Generator, people: People, end: int) -> pa.Table:
    """Two campaigns, each for two in five customers, three in ten of them held back at random: the first brings five in a
    hundred more to buy, the second nothing."""
    parts = []
    for campaign, (days, effect) in enumerate(((60, 0.05), (30, 0.0))):
        customer = np.flatnonzero(rng.random(len(people)) < 0.4)
        treated = rng.random(len(customer)) < 0.7
        converted = rng.random(len(customer)) < np.where(treated, 0.08 + effect, 0.08)
        assigned = end - days * DAY + (rng.random(len(customer)) * 7 * DAY).astype(np.int64)
        parts.append((np.full(len(customer), campaign), customer, treated, converted, assigned))
    campaign, customer, treated, converted, assigned = (np.concatenate(part) for part in zip(*parts, strict=True))
    return pa.table(
        {
            "outcome_id": numbered("CA-", np.arange(len(customer)), 8),
            "customer_id": people.ids.take(pa.array(customer)),
            "campaign_id": pick(["autumn-2026", "newsletter-2026"], campaign),
            "variant": pick(["control", "treated"], treated.astype(np.int64)),
            "assigned_at": instants(assigned),
            "has_converted": flags(converted),
        }
    )
