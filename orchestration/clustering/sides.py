"""The two sides, each with what its clusters are made of and where they may be written.

A side reads one gated relation of its own and writes to its own zone; there is no clustering of both.

Belongs here: configuration. Does not belong here: how a feature is measured (`features.*_cluster_inputs`), fitting.
"""

from dataclasses import dataclass

from orchestration.clustering.errors import ClusteringError
from orchestration.lake import identifier


@dataclass(frozen=True)
class Feature:
    """A feature with words for what is far above and far below the book's mean; `is_log` if it is ln(1 + value)."""

    name: str
    label: str
    high: str
    low: str
    is_log: bool = True


@dataclass(frozen=True)
class Side:
    """Zone, gated view, its pseudonym, the prefix of cluster identifiers, what is published of it, owner, features."""

    name: str
    zone: str
    relation: tuple[str, str]
    token: str
    prefix: str
    features: tuple[Feature, ...]
    published: tuple[str, str] = ("clusters", "cluster_profiles")
    owner: str = "team:marketing"

    def __post_init__(self) -> None:
        """A side reads its own pseudonym and writes its own zone; anything else would be a row of both."""
        if self.zone != self.name or self.token != f"{self.name}_subject_token":
            raise ClusteringError(f"the side {self.name} may write only to the zone {self.name}, under {self.name}_subject_token")

    @property
    def source(self) -> str:
        """The gated relation, quoted."""
        return f"lake.{identifier(self.relation[0])}.{identifier(self.relation[1])}"

    @property
    def target(self) -> str:
        """Where the clustering on record lies for dbt, quoted."""
        return f"lake.{identifier(self.zone)}.cluster_model"


AUDIENCE = Side(
    "audience",
    "audience",
    ("features", "audience_cluster_inputs"),
    "audience_subject_token",
    "A",
    (
        Feature("purchases_in_a_year", "purchases in a year", "buys often", "buys seldom"),
        Feature("purchases_of_late", "purchases in 90 days", "buys much of late", "buys little of late"),
        Feature("spending_in_a_year", "euros in a year", "spends much", "spends little"),
        Feature("time_as_customer", "days since the first purchase", "long a customer", "new as a customer"),
        Feature("days_without_purchase", "days since the last purchase", "has not bought for long", "bought lately", False),
        Feature("visits_of_late", "visits in 90 days", "visits often", "visits seldom"),
        Feature("intents_of_late", "carts and wishes in 90 days", "fills carts and wish lists", "puts nothing into carts"),
        Feature("days_without_visit", "days since the last visit", "has not visited for long", "visited lately", False),
    ),
)
RISK = Side(
    "risk",
    "risk",
    ("features", "risk_cluster_inputs"),
    "risk_subject_token",
    "R",
    (
        Feature("movements", "movements in 90 days", "moves money often", "moves money seldom"),
        Feature("volume", "euros in 90 days", "moves much", "moves little"),
        Feature("cash_share", "share of cash", "much in cash", "little in cash", False),
        Feature("foreign_countries", "foreign countries in 90 days", "many countries", "few countries"),
        Feature("counterparties", "counterparties in 90 days", "many counterparties", "few counterparties"),
        Feature("pass_through", "share passed on", "passes on what comes in", "keeps what comes in", False),
        Feature("dormancy", "days dormant before", "awoke of late", "was never dormant"),
        Feature("tenure", "days as customer", "long a customer", "new as a customer"),
    ),
    ("risk_clusters", "risk_cluster_profiles"),
    "team:compliance",
)
SIDES = {side.name: side for side in (AUDIENCE, RISK)}


def side_of(name: str) -> Side:
    """The side of that name. Raises `ClusteringError` for one that is not configured."""
    if name not in SIDES:
        raise ClusteringError(f"there is no side {name!r}: {', '.join(sorted(SIDES))}")
    return SIDES[name]
