"""What the sample's customers do on the tenant's site or app.

Belongs here: web events. Does not belong here: consent to use them (`signals`).
"""

import numpy as np
import pyarrow as pa

from orchestration.sample import places
from orchestration.sample.people import People
from orchestration.sample.text import DAY, flags, instants, numbered, pick, typed_instants

MOST = 2_000_000
_DAYS = 180
EVENTS = ("page_view", "search", "add_to_cart", "purchase", "wishlist", "login")
_PAGES = {
    "fintech": ("accounts", "cards", "loans", "savings", "investing", "help"),
    "childrens_retail": ("toys", "books", "clothing", "games", "gifts", "help"),
}
_EVENT_WEIGHTS = {"fintech": [46, 8, 1, 1, 1, 43], "childrens_retail": [50, 14, 13, 8, 9, 6]}
_CHILDRENS_PAGES = (0, 1, 3)


def web_events(rng: np.random.Generator, profile: str, people: People, end: int, typed: bool) -> pa.Table:
    """Two events per customer, at most `MOST`, in the order of time; the active come more often."""
    count = min(2 * len(people), MOST)
    edges = np.cumsum(people.activity)
    customer = np.minimum(np.searchsorted(edges, rng.random(count) * edges[-1]), len(people) - 1)
    time = np.sort(end - 1 - (rng.random(count) ** 1.3 * _DAYS * DAY).astype(np.int64))
    page = rng.integers(0, len(_PAGES[profile]), count)
    marked = rng.random(count) > 0.05
    directed = np.isin(page, _CHILDRENS_PAGES) if profile == "childrens_retail" else np.zeros(count, dtype=bool)
    return pa.table(
        {
            "event_id": numbered("WE-", np.arange(count), 12),
            "customer_id": people.ids.take(pa.array(customer)),
            "event_at": typed_instants(time) if typed else instants(time, suffix="Z"),
            "event_type": pick(list(EVENTS), places.draw(rng, np.array(_EVENT_WEIGHTS[profile]), count)),
            "page_category": pick(list(_PAGES[profile]), np.where(rng.random(count) < 0.04, -1, page)),
            "is_child_directed": pa.array(directed, mask=~marked) if typed else flags(directed, marked),
        }
    )
