"""Trouble planted as behaviour, and ordinary people who look like it.

Belongs here: who behaves how, since when, and the extra movements that follow. Does not belong here: incidents and
audits (`aftermath`), which hear of behaviour late, in part and with errors, and any rule of the platform. Amounts are
drawn like those of ordinary movements and every pattern has innocent look-alikes, so that no single figure tells them
apart.
"""

from dataclasses import dataclass

import numpy as np

from orchestration.sample import kinds
from orchestration.sample.bursts import BURSTS, Scene
from orchestration.sample.counterparties import Pool
from orchestration.sample.kinds import Movements
from orchestration.sample.people import People
from orchestration.sample.text import DAY

PATTERNS = {
    "fintech": ("structuring", "rapid_in_and_out", "high_risk_corridor", "dormant_then_active", "mule_fan_in"),
    "childrens_retail": ("return_abuse", "account_takeover", "card_testing"),
}
# Share of customers per pattern: those who mean it, and those who only look like it.
_SHARES = {
    "structuring": (0.012, 0.015),
    "rapid_in_and_out": (0.012, 0.015),
    "high_risk_corridor": (0.012, 0.018),
    "dormant_then_active": (0.008, 0.009),
    "mule_fan_in": (0.009, 0.009),
    "return_abuse": (0.018, 0.035),
    "account_takeover": (0.012, 0.009),
    "card_testing": (0.012, 0.018),
}
MOST = 8  # at most one movement in so many is planted
SILENCE = 270 * DAY


@dataclass
class Behaviour:
    """Per customer: pattern (0 none, else position in `PATTERNS` + 1), whether only a look-alike, strength in (0, 1],
    and onset in seconds since 1970."""

    patterns: tuple[str, ...]
    pattern: np.ndarray
    mild: np.ndarray
    strength: np.ndarray
    onset: np.ndarray

    @property
    def risky(self) -> np.ndarray:
        """Those who mean it."""
        return (self.pattern > 0) & ~self.mild

    @property
    def look_alike(self) -> np.ndarray:
        """Those who only look like it."""
        return (self.pattern > 0) & self.mild

    def counts(self) -> dict[str, int]:
        """Customers per pattern, and per pattern's look-alikes."""
        found = {}
        for number, name in enumerate(self.patterns, start=1):
            found[name] = int((self.risky & (self.pattern == number)).sum())
            found[f"{name}_look_alike"] = int((self.look_alike & (self.pattern == number)).sum())
        return found


def plant(
    rng: np.random.Generator, profile: str, people: People, pool: Pool, transactions: int, end: int
) -> tuple[Behaviour, Movements]:
    """Choose who behaves how and make the movements that follow, at most one in `MOST` of `transactions`.

    Customers whose pattern found no room in that quota count as ordinary again. Movements are grouped by customer.
    """
    behaviour = _assign(rng, profile, people, end)
    who = rng.permutation(np.flatnonzero(behaviour.pattern))
    scene = Scene(rng, people, pool, behaviour.mild, behaviour.strength, behaviour.onset, end)
    bursts = [
        BURSTS[name](scene, who[behaviour.pattern[who] == number])
        for number, name in enumerate(behaviour.patterns, start=1)
    ]
    rows = kinds.concat(bursts)
    rank = np.zeros(len(people), dtype=np.int64)
    rank[who] = np.arange(len(who))
    rows = rows.take(np.argsort(rank[rows.customer], kind="stable"))
    quota = transactions // MOST
    if len(rows) > quota:
        last = int(rank[rows.customer[quota]])
        dropped = who[last:]
        behaviour.pattern[dropped], behaviour.mild[dropped] = 0, False
        rows = rows.take(slice(0, int(np.searchsorted(rank[rows.customer], last))))
    return behaviour, rows


def _assign(rng: np.random.Generator, profile: str, people: People, end: int) -> Behaviour:
    size, patterns = len(people), PATTERNS[profile]
    shares = np.array([share for name in patterns for share in _SHARES[name]])
    roll = np.searchsorted(np.cumsum(shares), rng.random(size), side="right")
    # Planted only on customers that were there all along, so that the pattern has a history before it.
    settled = (people.since < end // DAY - 560) & (people.until > end // DAY)
    if profile == "childrens_retail":
        settled = people.until > end // DAY
    planted = settled & (roll < len(shares))
    pattern = np.where(planted, roll // 2 + 1, 0).astype(np.int8)
    mild = planted & (roll % 2 == 1)
    strength = rng.beta(2.0, 1.6, size).astype(np.float32) * np.where(mild, 0.6, 1.0).astype(np.float32)
    oldest = np.minimum(480, end // DAY - people.since - 5)
    age = 8 + np.maximum(oldest - 8, 1) * rng.random(size) ** 2.2
    return Behaviour(patterns, pattern, mild, strength, end - (age * DAY).astype(np.int64))
