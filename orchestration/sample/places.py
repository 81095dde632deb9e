"""Where the sample's customers and their counterparties live: countries, their spellings, currencies and states.

Belongs here: vocabulary and weights. Does not belong here: which country carries which risk for the platform (that is
reference data of the dbt project, which the generator never reads).
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from orchestration.sample.text import pick


@dataclass(frozen=True)
class Place:
    """One country: its spellings (ISO 3166-1 alpha-2 first), currency, and weight among customers and among
    foreign counterparties."""

    spellings: tuple[str, ...]
    currency: str
    customers: float
    foreign: float


PLACES = (
    Place(("US", "United States", "USA"), "USD", 24, 8),
    Place(("DE", "Germany", "Deutschland"), "EUR", 13, 9),
    Place(("CZ", "Czech Republic", "Česko"), "CZK", 11, 5),
    Place(("GB", "United Kingdom", "Great Britain"), "GBP", 13, 8),
    Place(("FR", "France", "FRA"), "EUR", 7, 6),
    Place(("AT", "Austria", "Österreich"), "EUR", 4, 4),
    Place(("NL", "Netherlands", "Nederland"), "EUR", 4, 5),
    Place(("IE", "Ireland", "IRL"), "EUR", 3, 3),
    Place(("ES", "Spain", "España"), "EUR", 4, 4),
    Place(("PL", "Poland", "Polska"), "PLN", 4, 4),
    Place(("SK", "Slovakia", "Slovensko"), "EUR", 3, 3),
    Place(("SE", "Sweden", "Sverige"), "SEK", 2, 2),
    Place(("CH", "Switzerland", "Schweiz"), "CHF", 2, 4),
    Place(("CA", "Canada", "CAN"), "CAD", 2, 2),
    Place(("AU", "Australia", "AUS"), "AUD", 1, 2),
    Place(("JP", "Japan", "JPN"), "JPY", 1, 2),
    Place(("BR", "Brazil", "Brasil"), "BRL", 1, 2),
    Place(("IN", "India", "IND"), "INR", 1, 3),
    Place(("AE", "United Arab Emirates", "ARE"), "USD", 0.3, 2),
    Place(("PA", "Panama", "PAN"), "USD", 0.1, 1),
    Place(("VG", "British Virgin Islands", "VGB"), "USD", 0.02, 0.5),
    # Corridors: places where trouble is planted, and where many ordinary people have family.
    Place(("IR", "Iran", "IRN"), "USD", 0.02, 0.5),
    Place(("MM", "Myanmar", "Burma"), "USD", 0.02, 0.4),
    Place(("KP", "North Korea", "PRK"), "USD", 0.0, 0.1),
    Place(("SY", "Syria", "SYR"), "USD", 0.03, 0.5),
    Place(("YE", "Yemen", "YEM"), "USD", 0.02, 0.4),
    Place(("LB", "Lebanon", "LBN"), "USD", 0.05, 0.6),
    Place(("HT", "Haiti", "HTI"), "USD", 0.03, 0.5),
    Place(("VE", "Venezuela", "VEN"), "USD", 0.05, 0.6),
)
CORRIDORS = np.array(
    [
        index
        for index, place in enumerate(PLACES)
        if place.spellings[0] in ("IR", "MM", "KP", "SY", "YE", "LB", "HT", "VE")
    ]
)
UNITED_STATES = 0
CUSTOMER_WEIGHTS = np.array([place.customers for place in PLACES])
FOREIGN_WEIGHTS = np.array([place.foreign for place in PLACES])

CURRENCIES = sorted({place.currency for place in PLACES})
CURRENCY_OF_PLACE = np.array([CURRENCIES.index(place.currency) for place in PLACES], dtype=np.int8)
# Rough units per euro, so that a rent in Prague looks like one; never used to convert anything.
_UNITS_PER_EURO = {
    "EUR": 1.0,
    "USD": 1.1,
    "GBP": 0.85,
    "CZK": 25.0,
    "PLN": 4.3,
    "SEK": 11.0,
    "CHF": 0.95,
    "CAD": 1.5,
    "AUD": 1.65,
    "JPY": 160.0,
    "BRL": 6.0,
    "INR": 92.0,
}
UNITS_PER_EURO = np.array([_UNITS_PER_EURO[currency] for currency in CURRENCIES], dtype=np.float32)

STATES = (
    ("CA", "California", 26),
    ("NY", "New York", 12),
    ("TX", "Texas", 14),
    ("FL", "Florida", 10),
    ("VA", "Virginia", 6),
    ("CO", "Colorado", 6),
    ("WA", "Washington", 6),
    ("IL", "Illinois", 8),
    ("CT", "Connecticut", 4),
    ("MD", "Maryland", 4),
    ("NJ", "New Jersey", 4),
)
STATE_WEIGHTS = np.array([weight for _, _, weight in STATES], dtype=float)

_VARIANTS = 3
_SPELLINGS = pa.array([spelling for place in PLACES for spelling in place.spellings])
_STATE_SPELLINGS = pa.array([spelling for code, name, _ in STATES for spelling in (code, name)])


def draw(rng: np.random.Generator, weights: np.ndarray, size: int) -> np.ndarray:
    """Indices drawn with those weights, shape (size,), int16."""
    edges = np.cumsum(weights) / np.sum(weights)
    return np.minimum(np.searchsorted(edges, rng.random(size), side="right"), len(weights) - 1).astype(np.int16)


def spelled(rng: np.random.Generator, places: np.ndarray, other_share: float) -> pa.Array:
    """Places as sources write them: the two-letter code, or another spelling for `other_share` of the rows.

    Null for a negative place.
    """
    roll = rng.random(len(places), dtype=np.float32)
    variant = (roll < other_share).astype(np.int32) + (roll < other_share / 2)
    codes = np.where(places < 0, -1, places.astype(np.int32) * _VARIANTS + variant)
    return pick(_SPELLINGS, codes)


def spelled_states(rng: np.random.Generator, states: np.ndarray) -> pa.Array:
    """States as sources write them, code or full name; null for a negative state."""
    codes = np.where(states < 0, -1, states.astype(np.int32) * 2 + (rng.random(len(states)) < 0.3))
    return pick(_STATE_SPELLINGS, codes)
