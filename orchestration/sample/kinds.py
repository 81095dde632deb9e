"""Kinds of movement, and movements as arrays before they become rows of a file.

Belongs here: what a salary, a rent or a refund looks like. Does not belong here: who makes them (`movements`,
`behaviour`). Planted trouble uses these same kinds: no label, method or channel gives it away.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from orchestration.sample import places
from orchestration.sample.people import People
from orchestration.sample.text import instants, money, numbered, pick, typed_instants

DIRECTIONS = ("credit", "debit")
METHODS = ("cash", "card", "transfer", "cheque", "direct_debit", "wallet", "crypto", "internal")
CHANNELS = ("branch", "online", "mobile", "atm", "pos", "agent", "system")
NOBODY, SHOP, REGULAR, EXTERNAL, EMPLOYER, STAFF = range(6)


@dataclass(frozen=True)
class Kind:
    """One kind of movement: amounts are lognormal around `median` (EUR), rounded to `step` cents of the currency."""

    name: str
    direction: str
    method: str
    channel: str | None
    category: str | None
    median: float
    sigma: float
    other_side: int
    step: int = 1


KINDS = (
    Kind("salary", "credit", "transfer", "system", "salary", 2400, 0.04, EMPLOYER),
    Kind("rent", "debit", "transfer", "online", "household", 800, 0.03, EXTERNAL),
    Kind("utilities", "debit", "direct_debit", "system", "household", 90, 0.5, SHOP),
    Kind("groceries", "debit", "card", "pos", "groceries", 38, 0.7, SHOP),
    Kind("dining", "debit", "card", "pos", "leisure", 22, 0.6, SHOP),
    Kind("shopping", "debit", "card", "online", "shopping", 55, 0.9, SHOP),
    Kind("wallet", "debit", "wallet", "mobile", "shopping", 30, 0.9, SHOP),
    Kind("cash_out", "debit", "cash", "atm", "cash", 100, 0.6, NOBODY, 1000),
    Kind("sent", "debit", "transfer", "mobile", "transfer", 75, 1.2, REGULAR),
    Kind("received", "credit", "transfer", "mobile", "transfer", 80, 1.2, REGULAR),
    Kind("cash_in", "credit", "cash", "branch", "cash", 420, 1.1, NOBODY, 1000),
    Kind("fee", "debit", "internal", "system", "fees", 5, 0.4, NOBODY),
    Kind("interest", "credit", "internal", "system", "interest", 3, 1.0, NOBODY),
    Kind("crypto", "debit", "crypto", "online", "investment", 150, 1.1, EXTERNAL),
    Kind("savings", "debit", "transfer", "online", "savings", 300, 0.8, REGULAR),
    Kind("cheque", "credit", "cheque", "branch", None, 350, 0.9, EXTERNAL),
    Kind("invoice", "credit", "transfer", "online", "sales", 3200, 1.2, REGULAR),
    Kind("supplier", "debit", "transfer", "online", "purchase", 1800, 1.2, REGULAR),
    Kind("payroll", "debit", "transfer", "system", "payroll", 2400, 0.35, STAFF),
    Kind("tax", "debit", "transfer", "online", "tax", 2500, 0.8, EXTERNAL),
    Kind("takings", "credit", "cash", "branch", "sales", 2800, 0.9, NOBODY, 1000),
    Kind("card_sales", "credit", "card", "pos", "sales", 600, 0.9, SHOP),
    Kind("toys", "debit", "card", "online", "toys", 32, 0.7, SHOP),
    Kind("books", "debit", "card", "online", "books", 14, 0.5, SHOP),
    Kind("clothing", "debit", "wallet", "mobile", "clothing", 28, 0.6, SHOP),
    Kind("outdoor", "debit", "card", "online", "outdoor", 45, 0.8, SHOP),
    Kind("gift_card", "debit", "card", "online", "gift_card", 25, 0.5, SHOP),
    Kind("in_store", "debit", "card", "pos", "toys", 24, 0.7, SHOP),
    Kind("in_store_cash", "debit", "cash", "pos", "toys", 15, 0.6, NOBODY),
    Kind("refund", "credit", "card", "online", "refund", 28, 0.7, SHOP),
    Kind("in_app", "debit", "wallet", "mobile", "digital", 3, 0.7, SHOP),
)
KIND = {kind.name: index for index, kind in enumerate(KINDS)}
MEDIANS = np.array([kind.median for kind in KINDS], dtype=np.float32)
SIGMAS = np.array([kind.sigma for kind in KINDS], dtype=np.float32)
STEPS = np.array([kind.step for kind in KINDS], dtype=np.int64)
OTHER_SIDES = np.array([kind.other_side for kind in KINDS], dtype=np.int8)
_CATEGORIES = sorted({kind.category for kind in KINDS if kind.category})


@dataclass
class Movements:
    """Movements as arrays of one length: customer index, seconds since 1970, kind, cents of the currency, currency,
    counterparty (index into the pool, -1 nobody) and its place (-1 unknown)."""

    customer: np.ndarray
    time: np.ndarray
    kind: np.ndarray
    cents: np.ndarray
    currency: np.ndarray
    counterparty: np.ndarray
    place: np.ndarray

    def __len__(self) -> int:
        return len(self.customer)

    def take(self, index: np.ndarray | slice) -> "Movements":
        """Those rows."""
        return Movements(*(values[index] for values in vars(self).values()))


def concat(parts: list[Movements]) -> Movements:
    """The parts one after another; `parts` must not be empty."""
    return Movements(
        *(np.concatenate(columns) for columns in zip(*(vars(part).values() for part in parts), strict=True))
    )


def no_movements() -> Movements:
    """Zero movements, with the types of all others."""
    types = (np.int32, np.int64, np.int16, np.int64, np.int8, np.int32, np.int16)
    return Movements(*(np.zeros(0, dtype=dtype) for dtype in types))


def cents_of(amount: np.ndarray, kind: np.ndarray, currency: np.ndarray) -> np.ndarray:
    """Amounts in euro as cents of the currency, at least one step of the kind."""
    step = STEPS[kind]
    cents = (amount * places.UNITS_PER_EURO[currency] * 100).astype(np.int64)
    return np.maximum(cents // step, 1) * step


def _of_kind(values: tuple[str, ...] | list[str], attribute: str) -> np.ndarray:
    labels = [getattr(kind, attribute) for kind in KINDS]
    return np.array([-1 if label is None else values.index(label) for label in labels], dtype=np.int8)


def render(
    rng: np.random.Generator, rows: Movements, first: int, people: People, pool_ids: pa.Array, typed: bool
) -> pa.Table:
    """The transactions file's columns: as text, or with decimal amounts and timestamps if `typed`.

    `first` numbers the first row; `pool_ids` are the counterparties' identifiers.
    """
    currency = pick(list(places.CURRENCIES), rows.currency)
    channel = np.where(rng.random(len(rows), dtype=np.float32) < 0.01, -1, _of_kind(CHANNELS, "channel")[rows.kind])
    amount = money(rows.cents)
    return pa.table(
        {
            "transaction_id": numbered("TR-", np.arange(first, first + len(rows)), 12),
            "customer_id": people.ids.take(pa.array(rows.customer)),
            "booked_at": typed_instants(rows.time) if typed else instants(rows.time),
            "direction": pick(list(DIRECTIONS), _of_kind(DIRECTIONS, "direction")[rows.kind]),
            "amount": amount if typed else amount.cast(pa.string()),
            "currency": currency,
            "payment_method": pick(list(METHODS), _of_kind(METHODS, "method")[rows.kind]),
            "channel": pick(list(CHANNELS), channel),
            "counterparty_id": pick(pool_ids, rows.counterparty),
            "counterparty_country": places.spelled(rng, rows.place, 0.08),
            "category": pick(_CATEGORIES, _of_kind(_CATEGORIES, "category")[rows.kind]),
        }
    )


def pool_names(profile: str, merchants: int, externals: int) -> pa.Array:
    """Identifiers of the shops and of the accounts elsewhere, in the pool's order."""
    mark = "S" if profile == "childrens_retail" else "M"
    return pa.concat_arrays(
        [numbered(f"{mark}H-", np.arange(merchants), 8), numbered("XA-", np.arange(externals) * 7 + 1000, 8)]
    )
