"""Which files the sample consists of, and which oddities each of them bears.

Belongs here: names of feeds and files, and the choice of oddities per entity. Does not belong here: how an oddity
changes a row (`oddities`) and the rows themselves.
"""

import numpy as np
import pyarrow as pa

from orchestration.sample import oddities as odd
from orchestration.sample.oddities import DUPLICATE, HELD, KEPT, Change, Oddity
from orchestration.sample.people import customer_ids
from orchestration.sample.text import DAY, instants

# Entity, feed, and the file's name without suffix; `*` stands for one file per quarter.
FEEDS = (
    ("customers", "crm_customers", "customers"),
    ("transactions", "payments_transactions", "transactions_*"),
    ("incidents", "compliance_incidents", "incidents"),
    ("audit_outcomes", "compliance_audit_outcomes", "audit_outcomes"),
    ("consent_events", "cmp_consent_events", "consent_events"),
    ("privacy_requests", "cmp_privacy_requests", "privacy_requests"),
    ("survey_feedback", "feedback_survey_feedback", "survey_feedback"),
    ("complaints", "feedback_complaints", "complaints"),
    ("web_events", "web_web_events", "web_events"),
    ("campaign_outcomes", "marketing_campaign_outcomes", "campaign_outcomes"),
)
_NDJSON = ("consent_events", "survey_feedback")
_LARGE = ("transactions", "web_events")
_STRANGERS = 1_000  # ordinals beyond the last customer, so many for each kind of oddity


def suffix_of(entity: str, file_format: str) -> str:
    """How the entity's files end if the large ones are written in that format."""
    if entity in _NDJSON:
        return "ndjson"
    return "parquet" if file_format == "parquet" and entity in _LARGE else "csv"


def mapped_feeds(file_format: str) -> list[tuple[str, str, str, str]]:
    """Feed, entity, file pattern and format, as the mapping names them."""
    found = []
    for entity, feed, stem in FEEDS:
        suffix = suffix_of(entity, file_format)
        found.append((feed, entity, f"{stem}.{suffix}", "json" if suffix == "ndjson" else suffix))
    return found


def _as_strangers(profile: str, customers: int, kind: int, change: Change) -> Change:
    """The rows as they are, and after them copies under identifiers of their own, changed: no other file knows these,
    so that a customer who is quarantined takes nobody's movements along."""

    def both(rows: pa.Table) -> pa.Table:
        numbers = customers + _STRANGERS * kind + np.arange(rows.num_rows)
        return pa.concat_tables([rows, change(rows.set_column(0, "customer_id", customer_ids(profile, numbers)))])

    return both


def _duplicate() -> Oddity:
    return Oddity("exact_duplicate", DUPLICATE, odd.twice)


def oddities_of(entity: str, profile: str, customers: int, end: int, typed: bool) -> list[Oddity]:
    """The oddities of the entity's file; those that need text are left out if it is `typed`."""
    later = instants(np.array([end + 40 * DAY]))[0].as_py()

    def strangers(kind: int, change: Change) -> Change:
        return _as_strangers(profile, customers, kind, change)

    stranger_id = customer_ids(profile, np.array([customers + _STRANGERS - 1]))[0].as_py()
    chosen = {
        "customers": [
            Oddity("slashed_date", KEPT, odd.slashed("birth_date")),
            Oddity("yes_no_boolean", KEPT, odd.yes_no("is_pep", "has_sanctions_match")),
            _duplicate(),
            Oddity(
                "contradictory_key", "contradictory_key", strangers(1, odd.contradict("status", "closed", "active")), 2
            ),
            Oddity("unknown_enum", "unknown_value", strangers(2, odd.set_to("customer_type", "household"))),
            Oddity("impossible_date", "wrong_type", strangers(3, odd.set_to("birth_date", "1985-02-31"))),
            Oddity("too_many_layers", "out_of_range", strangers(4, odd.set_to("ownership_layers", "99"))),
        ],
        "transactions": [
            Oddity("thousands_comma", KEPT, odd.thousands("amount"), text_only=True),
            Oddity("slashed_timestamp", KEPT, odd.slashed("booked_at"), text_only=True),
            Oddity("zoned_timestamp", KEPT, odd.zoned("booked_at"), text_only=True),
            Oddity("lower_case_currency", KEPT, odd.lower("currency")),
            Oddity("in_a_later_file", HELD, odd.unchanged),
            _duplicate(),
            Oddity("contradictory_key", "contradictory_key", odd.contradict("direction", "credit", "debit"), 2),
            Oddity("unknown_enum", "unknown_value", odd.set_to("payment_method", "pigeon")),
            Oddity("amount_missing", "missing_value", odd.set_to("amount", None)),
            Oddity("amount_in_words", "wrong_type", odd.set_to("amount", "n/a"), text_only=True),
            Oddity("negative_amount", "out_of_range", odd.negative("amount")),
            Oddity("future_timestamp", "timestamp_in_future", odd.set_to("booked_at", later)),
        ],
        "consent_events": [
            Oddity("slashed_timestamp", KEPT, odd.slashed("effective_at")),
            Oddity("upper_case_enum", KEPT, odd.upper("action")),
            _duplicate(),
            Oddity("contradictory_key", "contradictory_key", odd.contradict("action", "denied", "granted"), 2),
            Oddity("unknown_customer", "unknown_customer", odd.set_to("customer_id", stranger_id)),
            Oddity("unknown_enum", "unknown_value", odd.set_to("purpose", "newsletter")),
            Oddity("actor_missing", "missing_value", odd.set_to("actor", None)),
            Oddity("future_timestamp", "timestamp_in_future", odd.set_to("effective_at", later + "Z")),
        ],
        "incidents": [Oddity("slashed_timestamp", KEPT, odd.slashed("occurred_at")), _duplicate()],
        "audit_outcomes": [Oddity("yes_no_boolean", KEPT, odd.yes_no("has_issue")), _duplicate()],
        "privacy_requests": [_duplicate()],
        "survey_feedback": [_duplicate(), Oddity("score_off_the_scale", "out_of_range", odd.set_to("score", "11"))],
        "campaign_outcomes": [Oddity("yes_no_boolean", KEPT, odd.yes_no("has_converted")), _duplicate()],
        "complaints": [Oddity("unknown_enum", "unknown_value", odd.set_to("topic", "parking")), _duplicate()],
        "web_events": [
            Oddity("yes_no_boolean", KEPT, odd.yes_no("is_child_directed"), text_only=True),
            _duplicate(),
            Oddity("unknown_enum", "unknown_value", odd.set_to("event_type", "teleport")),
            Oddity("future_timestamp", "timestamp_in_future", odd.set_to("event_at", later)),
        ],
    }
    return [oddity for oddity in chosen[entity] if not (typed and oddity.text_only)]
