"""What the risk score may look at: columns of features.risk_features, their family, and the direction the domain expects.

Belongs here: the choice, with its reasons. Does not belong here: how a feature is measured (dbt), fitting.
Left out on purpose: incidents, audits and the state of the relationship, whose later outcome shows through (the record
knows today what an investigation found, and what was known on that day is not kept); age, region and country of
residence, which are or stand for protected attributes; sanctions and PEP flags, which the rules judge by law.
"""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["number", "category"]
# Columns that a label may show through, or that must not be scored by. A model that asks for one is refused.
FORBIDDEN = (
    "incident",
    "audit",
    "sanctions",
    "is_pep",
    "relationship_status",
    "age_band",
    "region_code",
    "country_code",
    "gate_",
    "consent_",
    "legal_",
    "policy_version",
    "risk_subject_token",
    "last_transaction_at",
)


@dataclass(frozen=True)
class Feature:
    """One column. `monotone`: 1 if risk may only rise with it, -1 if only fall, 0 if the data decide."""

    name: str
    family: str
    monotone: int = 0
    kind: Kind = "number"


FEATURES = (
    Feature("transaction_count_90d", "activity"),
    Feature("volume_eur_90d", "activity", 1),
    Feature("volume_change_30d", "activity", 1),
    Feature("dormancy_days", "activity", 1),
    Feature("active_day_count_90d", "activity"),
    Feature("busiest_day_share_90d", "activity"),
    Feature("cash_share_90d", "cash", 1),
    Feature("near_threshold_count_90d", "cash", 1),
    Feature("crypto_share_90d", "virtual_assets", 1),
    Feature("wallet_share_90d", "virtual_assets"),
    Feature("country_risk_level", "geography", kind="category"),
    Feature("high_risk_share_90d", "geography", 1),
    Feature("high_risk_volume_eur_90d", "geography", 1),
    Feature("increased_risk_share_90d", "geography", 1),
    Feature("unknown_corridor_share_90d", "geography", 1),
    Feature("foreign_country_count_90d", "geography", 1),
    Feature("incoming_counterparty_count_90d", "network", 1),
    Feature("outgoing_counterparty_count_90d", "network", 1),
    Feature("new_counterparty_count_30d", "network", 1),
    Feature("two_way_counterparty_count_90d", "network", 1),
    Feature("pass_through_ratio_90d", "flow", 1),
    Feature("forwarded_share_90d", "flow", 1),
    Feature("forward_days_90d", "flow", -1),
    Feature("holding_days_30d", "flow", -1),
    Feature("customer_type", "profile", kind="category"),
    Feature("industry_risk_level", "profile", kind="category"),
    Feature("onboarding_channel", "profile", kind="category"),
    Feature("ownership_layers", "profile", 1),
    Feature("tenure_days", "profile", -1),
    Feature("fraud_complaint_count_365d", "service", 1),
)
FAMILIES = ("activity", "cash", "virtual_assets", "geography", "network", "flow", "profile", "service")


def forbidden(name: str) -> bool:
    """Whether a score must not look at that column."""
    return any(part in name for part in FORBIDDEN)
