"""The retention policy: how long what is kept, for which purpose and tier, counted from which clock.

It is the seed `policy/retention.csv`, read from the very file. Its periods serve the retention job, the refusal of a deletion
that the law forbids (`duties`) and the record of processing: one day, named everywhere.

Belongs here: reading the rules, finding those of a relation. Does not belong here: judging and removing rows (`retention`).
"""

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from orchestration.settings import DBT_PROJECT_DIR

POLICY_FILE = DBT_PROJECT_DIR / "seeds" / "policy" / "retention.csv"
DEPARTURE = "departure"  # of a person from the book: the ledger's clock (`ledger_retention`)
CLOCKS = ("event", "relationship_end", "person", "publication", DEPARTURE)


class RetentionError(RuntimeError):
    """The policy cannot be applied as written."""


@dataclass(frozen=True)
class RetentionRule:
    """One row of the policy; `keep` counts from the clock's start."""

    rule_id: str
    relation: str
    purpose: str
    tier: str
    keep: timedelta
    clock: str
    clock_column: str
    action: str
    legal_reference: str


def load_rules(profile: str) -> list[RetentionRule]:
    """The profile's rules. Raises `RetentionError` for a rule that does not say when its clock starts or for how long."""
    rules = []
    with POLICY_FILE.open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream, strict=True):
            if row["profile"] not in ("*", profile):
                continue
            if row["clock"] not in CLOCKS or row["action"] not in ("delete", "aggregate") or not row["keep_days"].isdigit():
                raise RetentionError(f"rule {row['rule_id']} of the retention policy is not understood")
            rules.append(
                RetentionRule(
                    row["rule_id"],
                    row["relation"],
                    row["purpose"],
                    row["tier"],
                    timedelta(days=int(row["keep_days"])),
                    row["clock"],
                    row["clock_column"],
                    row["action"],
                    row["legal_reference"],
                )
            )
    if not rules:
        raise RetentionError(f"the retention policy has no rule for the profile {profile}")
    return rules


def rules_for(rules: Iterable[RetentionRule], relation: str) -> list[RetentionRule]:
    """The rules of a relation (zone.table): its own, else its zone's."""
    zone = relation.split(".")[0]
    own = [rule for rule in rules if rule.relation == relation]
    return own or [rule for rule in rules if rule.relation == f"{zone}.*"]


def kept_after_end(rules: Iterable[RetentionRule], purpose: str) -> dict[str, timedelta]:
    """How long a purpose keeps a customer after the relationship's end, by tier; `*` is for tiers without a rule of their own.

    Raises `RetentionError` where the policy has no such rule: a duty without a period would be over at once.
    """
    periods = {
        rule.tier: rule.keep
        for rule in rules_for(rules, "raw.customers")
        if rule.purpose == purpose and rule.clock == "relationship_end"
    }
    if "*" not in periods:
        raise RetentionError(f"{POLICY_FILE.name} does not say how long {purpose} keeps raw.customers: add a rule")
    return periods
