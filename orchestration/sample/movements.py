"""Everyday movements: salaries and rents on their days, shopping, invoices, heavy-tailed over customers.

Belongs here: how the asked-for number of movements spreads over customers and months. Does not belong here: planted
patterns (`behaviour`), rendering and files. Months are made one after another, so memory follows the largest month.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from orchestration.sample import kinds, places
from orchestration.sample.behaviour import SILENCE, Behaviour
from orchestration.sample.counterparties import Pool
from orchestration.sample.kinds import KIND, Movements
from orchestration.sample.people import People
from orchestration.sample.text import DAY

MONTHS = 18
CHUNK = 1_500_000
_TABLE = 1000


@dataclass(frozen=True)
class Part:
    """Some movements of one month, ordered by customer; `start` and `stop` of the month in seconds since 1970;
    `opens` the month, or continues it."""

    quarter: str
    start: int
    stop: int
    opens: bool
    rows: Movements


def months_before(end: int) -> list[tuple[int, int, str]]:
    """The last `MONTHS` calendar months before `end`: start and end in seconds, and the quarter, oldest first."""
    last = datetime.fromtimestamp(end - 1, tz=UTC)
    number = last.year * 12 + last.month - 1
    found, stop = [], end
    for month in range(number, number - MONTHS, -1):
        start = int(datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC).timestamp())
        found.append((start, stop, f"{month // 12}q{month % 12 // 3 + 1}"))
        stop = start
    return found[::-1]


def _mix(weights: Mapping[str, float]) -> np.ndarray:
    """A table of kinds to draw from, shape (`_TABLE`,)."""
    counts = np.round(np.array(list(weights.values())) / sum(weights.values()) * _TABLE).astype(int)
    table = np.repeat([KIND[name] for name in weights], counts)
    return np.resize(table, _TABLE).astype(np.int16)


_PERSON = {
    "groceries": 26,
    "dining": 13,
    "shopping": 11,
    "wallet": 8,
    "cash_out": 9,
    "sent": 10,
    "received": 8,
    "fee": 5,
    "interest": 2,
    "cash_in": 2,
    "crypto": 1,
    "savings": 3,
    "cheque": 0.6,
    "utilities": 3,
}
_FIRM = {
    "invoice": 24,
    "supplier": 22,
    "payroll": 15,
    "card_sales": 12,
    "takings": 5,
    "tax": 4,
    "fee": 6,
    "shopping": 6,
    "utilities": 4,
    "sent": 2,
    "cash_out": 2,
}
_SHOPPER = {
    "toys": 22,
    "books": 15,
    "clothing": 17,
    "outdoor": 8,
    "gift_card": 6,
    "in_store": 12,
    "in_store_cash": 5,
    "refund": 7,
    "in_app": 10,
}
# Hours as people pay: little at night, most from midday to evening; shape (_TABLE,).
_HOURS = np.resize(
    np.repeat(
        np.arange(24), [3, 2, 1, 1, 2, 5, 15, 30, 45, 55, 60, 65, 70, 65, 60, 60, 65, 75, 80, 75, 65, 50, 30, 12]
    ),
    _TABLE,
).astype(np.int64)


def everyday(
    seeds: np.random.SeedSequence, profile: str, people: People, pool: Pool, behaviour: Behaviour, count: int, end: int
) -> Iterator[Part]:
    """Exactly `count` movements, in parts of at most `CHUNK` rows, month by month.

    Every month comes at least once, also without rows. Each month draws from its own stream.
    """
    months = months_before(end)
    totals = np.zeros(MONTHS)
    for index, (start, stop, _) in enumerate(months):
        totals[index] = _weights(people, behaviour, start, stop).sum() * (stop - start) * _season(profile, start)
    if totals.sum() == 0:
        totals[-1] = 1.0
    edges = np.round(np.cumsum(totals) / totals.sum() * count).astype(np.int64)
    shares = np.diff(edges, prepend=0)
    for (start, stop, quarter), rows, seed in zip(months, shares, seeds.spawn(MONTHS), strict=True):
        rng = np.random.default_rng(seed)
        weights = _weights(people, behaviour, start, stop)
        edges = np.cumsum(weights if weights.any() else np.ones(len(people)))
        customer = np.searchsorted(edges, np.sort(rng.random(rows)) * edges[-1], side="right")
        customer = np.minimum(customer, len(people) - 1)
        first_of = np.concatenate([[True], customer[1:] != customer[:-1]]) if rows else np.zeros(0, dtype=bool)
        rank = np.arange(rows) - np.maximum.accumulate(np.where(first_of, np.arange(rows), 0))
        for at in range(0, max(rows, 1), CHUNK):
            part = slice(at, min(at + CHUNK, rows))
            found = _month(rng, profile, people, pool, customer[part], rank[part], start, stop)
            yield Part(quarter, start, stop, at == 0, found)


def _season(profile: str, start: int) -> float:
    """A children's shop lives from November and December."""
    month = datetime.fromtimestamp(start, tz=UTC).month
    return {11: 1.7, 12: 2.1}.get(month, 1.0) if profile == "childrens_retail" else {12: 1.15}.get(month, 1.0)


def _weights(people: People, behaviour: Behaviour, start: int, stop: int) -> np.ndarray:
    """Expected share of each customer in that month's movements: none before, after, or in planted silence."""
    there = (people.since * DAY < start) & (people.until * DAY >= stop)
    if "dormant_then_active" in behaviour.patterns:
        number = behaviour.patterns.index("dormant_then_active") + 1
        there &= ~((behaviour.pattern == number) & (stop > behaviour.onset - SILENCE) & (start < behaviour.onset))
    return np.where(there, people.activity, 0.0)


def _month(
    rng: np.random.Generator,
    profile: str,
    people: People,
    pool: Pool,
    customer: np.ndarray,
    rank: np.ndarray,
    start: int,
    stop: int,
) -> Movements:
    """One month's movements of customers in ascending order; `rank` counts within customer and month."""
    size = len(customer)
    corporate = people.corporate[customer]
    draw = rng.integers(0, _TABLE, size)
    if profile == "childrens_retail":
        kind = _mix(_SHOPPER)[draw]
        scheduled = np.zeros(size, dtype=bool)
    else:
        kind = np.where(corporate, _mix(_FIRM)[draw], _mix(_PERSON)[draw])
        # Those with a full household here get their salary first each month, then pay rent, then the bills.
        earns = ~corporate & (people.activity[customer] > 2.0) & (people.age[customer] < 66) & (rank < 3)
        kind = np.where(earns, np.array([KIND["salary"], KIND["rent"], KIND["utilities"]])[np.minimum(rank, 2)], kind)
        scheduled = earns
    kind = kind.astype(np.int16)
    length = stop - start
    second = _HOURS[rng.integers(0, _TABLE, size)] * 3600 + rng.integers(0, 3600, size)
    day = np.where(scheduled, (customer * 7 % 9 + rank * 4) % 28, rng.integers(0, 31, size))
    time = start + (day * DAY + second) % length
    noise = rng.standard_normal(size, dtype=np.float32)
    scale = people.income[customer] * np.where(people.age[customer] < 13, np.float32(0.5), np.float32(1.0))
    amount = kinds.MEDIANS[kind] * scale * np.exp(kinds.SIGMAS[kind] * noise)
    currency = places.CURRENCY_OF_PLACE[people.place[customer]]
    abroad = ~scheduled & (rng.random(size, dtype=np.float32) < 0.04)
    currency = np.where(abroad, np.int8(places.CURRENCIES.index("EUR")), currency).astype(np.int8)
    counterparty = pool.of(customer, kind, rng.random(size, dtype=np.float32))
    known = (counterparty >= 0) & (rng.random(size, dtype=np.float32) > 0.02)
    place = np.where(known, pool.place[counterparty], -1).astype(np.int16)
    return Movements(
        customer.astype(np.int32), time, kind, kinds.cents_of(amount, kind, currency), currency, counterparty, place
    )
