"""The other sides of the sample's movements: shops, accounts elsewhere, and other customers of the same bank.

Belongs here: who exists and who each customer's regulars are. Does not belong here: amounts and times. A customer's
regulars follow from a hash of customer and slot, so they stay the same all year and need no table.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from orchestration.sample import kinds, places
from orchestration.sample.people import People

_SHOP_SLOTS, _REGULAR_SLOTS = 4, 2


def mixed(values: np.ndarray, salt: int) -> np.ndarray:
    """A well spread uint64 for each integer (the finaliser of splitmix64)."""
    bits = values.astype(np.uint64) + np.uint64(salt)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _part(bits: np.ndarray, shift: int) -> np.ndarray:
    """A number in [0, 1) from 16 of the bits."""
    return ((bits >> np.uint64(shift)) & np.uint64(0xFFFF)).astype(np.float32) / 65_536


@dataclass
class Pool:
    """Counterparty indices: first all customers, then shops in blocks by place, then accounts elsewhere in blocks.

    `place` is the place of every index; `shop_start`/`shop_size` and `outside_start`/`outside_size` are the blocks.
    """

    ids: pa.Array
    place: np.ndarray
    shop_start: np.ndarray
    shop_size: np.ndarray
    outside_start: np.ndarray
    outside_size: np.ndarray
    firms: np.ndarray
    salt: int
    _people: People
    _foreign: np.ndarray

    def of(self, customer: np.ndarray, kind: np.ndarray, slot_roll: np.ndarray) -> np.ndarray:
        """The other side of each movement, -1 where there is none; `slot_roll` in [0, 1) picks among the regulars."""
        side = kinds.OTHER_SIDES[kind]
        squared = slot_roll * slot_roll
        slot = np.where(side == kinds.SHOP, squared * _SHOP_SLOTS, squared * _REGULAR_SLOTS).astype(np.int64)
        slot = np.where(
            (side == kinds.EMPLOYER) | (side == kinds.EXTERNAL), kind.astype(np.int64) + 16, slot + side * 4
        )
        bits = mixed(customer.astype(np.int64) * 64 + slot, self.salt)
        home = self._people.place[customer]
        found = np.where(
            side == kinds.SHOP,
            self._in_blocks(bits, home, self.shop_start, self.shop_size, 0.93),
            self._in_blocks(bits, home, self.outside_start, self.outside_size, 0.88),
        )
        among_customers = (side == kinds.STAFF) | ((side == kinds.REGULAR) & (_part(bits, 0) < 0.4))
        other = (bits >> np.uint64(20)) % np.uint64(len(self._people))
        other = np.where(other == customer, (other + np.uint64(1)) % np.uint64(len(self._people)), other)
        found = np.where(among_customers, other, found)
        if len(self.firms):
            firm = self.firms[(bits >> np.uint64(20)) % np.uint64(len(self.firms))]
            found = np.where((side == kinds.EMPLOYER) & (_part(bits, 0) < 0.5), firm, found)
        return np.where(side == kinds.NOBODY, -1, found).astype(np.int32)

    def outside(self, rng: np.random.Generator, place: np.ndarray) -> np.ndarray:
        """An account elsewhere in each of those places, drawn anew."""
        return (self.outside_start[place] + rng.random(len(place)) * self.outside_size[place]).astype(np.int32)

    def _in_blocks(
        self, bits: np.ndarray, home: np.ndarray, start: np.ndarray, size: np.ndarray, domestic: float
    ) -> np.ndarray:
        abroad = self._foreign[(bits >> np.uint64(32)) % np.uint64(len(self._foreign))]
        place = np.where(_part(bits, 16) < domestic, home, abroad)
        return start[place] + ((bits >> np.uint64(40)).astype(np.int64) % size[place])


def make_pool(profile: str, people: People, salt: int) -> Pool:
    """Shops (one for about 200 customers) and accounts elsewhere (one for two customers), spread over the places."""
    share = places.CUSTOMER_WEIGHTS / places.CUSTOMER_WEIGHTS.sum() + 0.002
    shop_size = np.ceil(share * len(people) / 200).astype(np.int64) + 3
    outside_size = np.ceil(share * len(people) / 2).astype(np.int64) + 8
    shop_start = len(people) + np.cumsum(shop_size) - shop_size
    outside_start = len(people) + shop_size.sum() + np.cumsum(outside_size) - outside_size
    number = np.arange(len(places.PLACES), dtype=np.int16)
    place = np.concatenate([people.place, np.repeat(number, shop_size), np.repeat(number, outside_size)])
    foreign = np.repeat(number, np.round(places.FOREIGN_WEIGHTS * 10).astype(int))
    ids = pa.concat_arrays([people.ids, kinds.pool_names(profile, int(shop_size.sum()), int(outside_size.sum()))])
    return Pool(
        ids,
        place.astype(np.int16),
        shop_start,
        shop_size,
        outside_start,
        outside_size,
        np.flatnonzero(people.corporate),
        salt,
        people,
        foreign,
    )
