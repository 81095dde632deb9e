"""The movements of each planted pattern.

Belongs here: one function per pattern, over all its customers at once. Does not belong here: who shows the pattern
(`behaviour`). Amounts and kinds are those of ordinary life; a look-alike (`mild`) differs in pace, size or place, never
in a kind of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from orchestration.sample import kinds, places
from orchestration.sample.counterparties import Pool
from orchestration.sample.kinds import KIND, Movements
from orchestration.sample.people import People
from orchestration.sample.text import DAY

# What people stay under is ten thousand of their own currency where it is of the euro's order, else ten thousand euro.
_EUROS_PER_LIMIT = 1 / np.where(places.UNITS_PER_EURO < 3, places.UNITS_PER_EURO, 1.0)


@dataclass
class Scene:
    """What every pattern needs: `mild`, `strength` and `onset` (seconds since 1970) are per customer; nothing is
    booked at `end` or later."""

    rng: np.random.Generator
    people: People
    pool: Pool
    mild: np.ndarray
    strength: np.ndarray
    onset: np.ndarray
    end: int

    def spread(self, who: np.ndarray, low: int, high: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Each of `who` repeated `low` to `high` times, more with strength: the customer, the rank within the customer
        and a roll in [0, 1), per repetition."""
        more = self.rng.random(len(who)) * (0.4 + 0.6 * self.strength[who])
        count = low + (more * (high - low + 1)).astype(np.int64)
        customer = np.repeat(who, count)
        rank = np.arange(len(customer)) - np.repeat(np.cumsum(count) - count, count)
        return customer, rank, self.rng.random(len(customer))

    def rows(
        self,
        customer: np.ndarray,
        time: np.ndarray,
        kind: np.ndarray | int,
        amount: np.ndarray,
        roll: np.ndarray,
        counterparty: np.ndarray | None = None,
    ) -> Movements:
        """Movements in the customers' own currency; `amount` in euro. No `counterparty`: a regular one by `roll`."""
        currency = places.CURRENCY_OF_PLACE[self.people.place[customer]]
        kind = np.broadcast_to(np.asarray(kind, dtype=np.int16), customer.shape)
        if counterparty is None:
            counterparty = self.pool.of(customer, kind, roll)
        place = np.where(counterparty >= 0, self.pool.place[counterparty], -1).astype(np.int16)
        found = Movements(
            customer.astype(np.int32),
            time.astype(np.int64),
            kind,
            kinds.cents_of(amount, kind, currency),
            currency,
            counterparty.astype(np.int32),
            place,
        )
        return found.take(found.time < self.end)


def _structuring(scene: Scene, who: np.ndarray) -> Movements:
    """Cash paid in again and again, mostly just under ten thousand; look-alikes have takings of that order."""
    customer, rank, roll = scene.spread(who, 3, 16)
    mild = scene.mild[customer]
    time = scene.onset[customer] + ((rank + roll) * np.where(mild, 6.5, 2.5) * DAY).astype(np.int64)
    under = 7600 + 2380 * scene.rng.beta(3.0, 1.5, len(customer))
    usual = 6500 * np.exp(0.6 * scene.rng.standard_normal(len(customer)))
    worth = _EUROS_PER_LIMIT[places.CURRENCY_OF_PLACE[scene.people.place[customer]]]
    loose = scene.rng.random(len(customer)) < np.where(mild, 0.85, 0.3)
    kind = np.where(scene.people.corporate[customer], KIND["takings"], KIND["cash_in"])
    return scene.rows(customer, time, kind, np.where(loose, usual, under * worth), roll)


def _rapid_in_and_out(scene: Scene, who: np.ndarray) -> Movements:
    """Money comes in and leaves again within days; look-alikes buy a house, or pass on invoices after weeks."""
    customer, rank, roll = scene.spread(who, 1, 6)
    mild = scene.mild[customer]
    arrival = scene.onset[customer] + ((rank + 0.5 * roll) * 17 * DAY).astype(np.int64)
    amount = 2400 * scene.people.income[customer] * np.exp(0.9 * scene.rng.standard_normal(len(customer)))
    stay = (scene.rng.exponential(1.0, len(customer)) * np.where(mild, 9.0, 1.1) + 0.05) * DAY
    passed_on = np.where(
        mild, 0.35 + 0.65 * scene.rng.random(len(customer)), 0.8 + 0.19 * scene.rng.random(len(customer))
    )
    into = np.where(scene.people.corporate[customer], KIND["invoice"], KIND["received"])
    out = np.where(
        scene.people.corporate[customer],
        KIND["supplier"],
        np.where(scene.rng.random(len(customer)) < 0.15, KIND["crypto"], KIND["sent"]),
    )
    coming = scene.rows(customer, arrival, into, amount, roll)
    leaving = scene.rows(customer, arrival + stay.astype(np.int64), out, amount * passed_on, 1 - roll)
    return kinds.concat([coming, leaving])


def _high_risk_corridor(scene: Scene, who: np.ndarray) -> Movements:
    """Transfers to places of trouble; look-alikes send smaller sums home to one relative."""
    customer, rank, roll = scene.spread(who, 3, 14)
    mild = scene.mild[customer]
    time = scene.onset[customer] + ((rank + roll) * np.where(mild, 24, 6) * DAY).astype(np.int64)
    amount = np.where(mild, 190, 520) * np.exp(0.9 * scene.rng.standard_normal(len(customer)))
    own = places.CORRIDORS[customer % len(places.CORRIDORS)]
    place = np.where(
        scene.rng.random(len(customer)) < np.where(mild, 0.9, 0.55),
        own,
        places.CORRIDORS[scene.rng.integers(0, len(places.CORRIDORS), len(customer))],
    )
    place = np.where(scene.rng.random(len(customer)) < 0.15, scene.people.place[customer], place)
    incoming = scene.rng.random(len(customer)) < 0.2
    return scene.rows(
        customer,
        time,
        np.where(incoming, KIND["received"], KIND["sent"]),
        amount,
        roll,
        scene.pool.outside(scene.rng, place),
    )


def _dormant_then_active(scene: Scene, who: np.ndarray) -> Movements:
    """Long silence (which `movements` keeps), then a burst; look-alikes come back from abroad."""
    customer, rank, roll = scene.spread(who, 5, 22)
    mild = scene.mild[customer]
    time = scene.onset[customer] + ((rank + roll) * np.where(mild, 3.5, 1.4) * DAY).astype(np.int64)
    options = np.array([KIND[name] for name in ("received", "sent", "cash_out", "shopping", "crypto", "groceries")])
    weights = np.array([[0.3, 0.3, 0.15, 0.1, 0.1, 0.05], [0.15, 0.2, 0.15, 0.2, 0.02, 0.28]])
    odd, plain = (options[places.draw(scene.rng, row, len(customer))] for row in weights)
    kind = np.where(mild, plain, odd)
    amount = kinds.MEDIANS[kind] * np.where(mild, 1.1, 2.2) * np.exp(0.9 * scene.rng.standard_normal(len(customer)))
    return scene.rows(customer, time, kind, amount, roll)


def _mule_fan_in(scene: Scene, who: np.ndarray) -> Movements:
    """Small sums from many, gone again at once; look-alikes collect for a club and spend it later."""
    customer, rank, roll = scene.spread(who, 6, 20)
    mild = scene.mild[customer]
    arrival = scene.onset[customer] + (roll * np.where(mild, 40, 9) * DAY).astype(np.int64)
    amount = np.where(mild, 45, 130) * np.exp(0.8 * scene.rng.standard_normal(len(customer)))
    place = np.where(
        scene.rng.random(len(customer)) < np.where(mild, 0.05, 0.2),
        places.draw(scene.rng, places.FOREIGN_WEIGHTS, len(customer)),
        scene.people.place[customer],
    )
    coming = scene.rows(customer, arrival, KIND["received"], amount, roll, scene.pool.outside(scene.rng, place))
    leaves = rank % 4 == 3
    goer, late = customer[leaves], scene.rng.random(int(leaves.sum())) * np.where(mild[leaves], 60, 3) * DAY
    options = np.array([KIND["sent"], KIND["cash_out"], KIND["crypto"]])
    going = scene.rows(
        goer,
        arrival[leaves] + 4 * DAY + late.astype(np.int64),
        options[places.draw(scene.rng, np.array([0.55, 0.3, 0.15]), len(goer))],
        3.2 * amount[leaves] * np.where(mild[leaves], 0.6, 1.0),
        roll[leaves],
    )
    return kinds.concat([coming, going])


def _return_abuse(scene: Scene, who: np.ndarray) -> Movements:
    """Bought, worn, sent back; look-alikes exchange sizes now and then."""
    customer, rank, roll = scene.spread(who, 4, 14)
    mild = scene.mild[customer]
    bought = scene.onset[customer] + ((rank + roll) * np.where(mild, 20, 8) * DAY).astype(np.int64)
    options = np.array([KIND["clothing"], KIND["toys"], KIND["outdoor"]])
    kind = options[places.draw(scene.rng, np.array([0.6, 0.25, 0.15]), len(customer))]
    amount = kinds.MEDIANS[kind] * np.where(mild, 1.0, 1.5) * np.exp(0.7 * scene.rng.standard_normal(len(customer)))
    back = scene.rng.random(len(customer)) < np.where(mild, 0.35, 0.5 + 0.4 * scene.strength[customer])
    buying = scene.rows(customer, bought, kind, amount, roll)
    returned = bought[back] + ((3 + 20 * scene.rng.random(int(back.sum()))) * DAY).astype(np.int64)
    returning = scene.rows(
        customer[back],
        returned,
        KIND["refund"],
        amount[back],
        roll[back],
        scene.pool.of(customer[back], kind[back], roll[back]),
    )
    return kinds.concat([buying, returning])


def _account_takeover(scene: Scene, who: np.ndarray) -> Movements:
    """One night of purchases at shops the customer never used; look-alikes prepare a birthday."""
    customer, _, roll = scene.spread(who, 3, 11)
    mild = scene.mild[customer]
    night = scene.onset[customer] // DAY * DAY + np.where(mild, 16, 2) * 3600
    time = night + (roll * np.where(mild, 20, 3) * 3600).astype(np.int64)
    options = np.array([KIND["gift_card"], KIND["toys"], KIND["clothing"], KIND["outdoor"]])
    odd, plain = (
        options[places.draw(scene.rng, np.array(row), len(customer))]
        for row in ([0.45, 0.2, 0.1, 0.25], [0.2, 0.4, 0.2, 0.2])
    )
    kind = np.where(mild, plain, odd)
    amount = kinds.MEDIANS[kind] * np.where(mild, 1.2, 1.9) * np.exp(0.7 * scene.rng.standard_normal(len(customer)))
    strange = scene.rng.random(len(customer)) < np.where(mild, 0.15, 0.6)
    place = np.where(
        strange, places.draw(scene.rng, places.FOREIGN_WEIGHTS, len(customer)), scene.people.place[customer]
    )
    shop = (scene.pool.shop_start[place] + roll * scene.pool.shop_size[place]).astype(np.int32)
    return scene.rows(customer, time, kind, amount, roll, shop)


def _card_testing(scene: Scene, who: np.ndarray) -> Movements:
    """Many tiny payments within the hour; look-alikes are children buying in a game over an evening."""
    customer, _, roll = scene.spread(who, 6, 24)
    mild = scene.mild[customer]
    time = scene.onset[customer] + (roll * np.where(mild, 30, 1.2) * 3600).astype(np.int64)
    amount = np.where(mild, 2.6, 1.7) * np.exp(0.6 * scene.rng.standard_normal(len(customer)))
    place = scene.people.place[customer]
    shop = (scene.pool.shop_start[place] + scene.rng.random(len(customer)) * scene.pool.shop_size[place]).astype(
        np.int32
    )
    usual = scene.pool.of(customer, np.full(len(customer), KIND["in_app"]), roll)
    counterparty = np.where(mild | (roll < 0.3), usual, shop)
    return scene.rows(customer, time, KIND["in_app"], amount, roll, counterparty)


BURSTS: dict[str, Callable[[Scene, np.ndarray], Movements]] = {
    "structuring": _structuring,
    "rapid_in_and_out": _rapid_in_and_out,
    "high_risk_corridor": _high_risk_corridor,
    "dormant_then_active": _dormant_then_active,
    "mule_fan_in": _mule_fan_in,
    "return_abuse": _return_abuse,
    "account_takeover": _account_takeover,
    "card_testing": _card_testing,
}
