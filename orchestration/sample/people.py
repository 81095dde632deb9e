"""The sample's customers: who they are, where, how old, how active, and the identifiers that only the vault may keep.

Belongs here: the customers file and what the other modules need to know of each customer. Does not belong here: what
they do (`behaviour`, `movements`, `visits`) or say (`signals`, `aftermath`). Nobody here exists: e-mail domains are the
reserved example ones, telephone numbers carry the unassigned country code 999, family names are made up.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from orchestration.sample import places
from orchestration.sample.text import DAY, dates, flags, instants, joined, numbered, pick

ID_PREFIX = {"fintech": "CU-", "childrens_retail": "KR-"}
_ID_STEP, _ID_SPACE = 48_271, 10**8  # coprime: the identifiers are a permutation, so they carry no order

# What a search for leaked identifiers looks for: every planted identifier matches one of these (postal codes and birth
# dates look like anybody's and are left out).
IDENTIFIER_PATTERNS = (
    r"(CU|KR)-\d{8}",
    r"@(mail|post)\.example\.(com|org)",
    r"\+999-555-\d{4}",
    r"TAX-\d{8}",
    r"(?i)Quillfeather|Brambleworth|Thistlewick|Marrowby|Pennyfarrow|Wolkenreuth|Castellamoor|Vantorrique"
    r"|Hollowmere|Zelenkovrch|Achterberghe|Lindqvarn|Okonjavela|Rosmarinow|Ishimorita|Duskwarden",
)
QUOTED_NAME = 'Robert "Bobby"; Quillfeather, Jr.'
FORMULA_NAME = "=SUM(1;2) Brambleworth"

_GIVEN = (
    "Alma",
    "Bruno",
    "Clara",
    "Dario",
    "Elena",
    "Felix",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Klara",
    "Leon",
    "Mira",
    "Noah",
    "Olivia",
    "Pavel",
    "Quinn",
    "Rosa",
    "Samir",
    "Tereza",
    "Ulrich",
    "Vera",
    "Wanda",
    "Yusuf",
    "Zoe",
    "Amara",
    "Kenji",
    "Priya",
    "Mateo",
    "Sinead",
    "Zoë",
    "Jiří",
    "Łucja",
    "Søren",
)
_GIVEN_MAIL = (*_GIVEN[:-4], "zoe", "jiri", "lucja", "soren")
_FAMILY = (
    "Quillfeather",
    "Brambleworth",
    "Thistlewick",
    "Marrowby",
    "Pennyfarrow",
    "Wolkenreuth",
    "Castellamoor",
    "Vantorrique",
    "Hollowmere",
    "Zelenkovrch",
    "Achterberghe",
    "Lindqvarn",
    "Okonjavela",
    "Rosmarinow",
    "Ishimorita",
    "Duskwarden",
)
_FIRM = ("Trading", "Logistics", "Bakery", "Software", "Consulting", "Holding", "Imports", "Garden", "Motors", "Foods")
_LEGAL_FORM = ("Ltd", "GmbH", "s.r.o.", "LLC", "S.A.", "B.V.")
_WAY = ("Lane", "Street", "Row", "Square", "Hill")
_OCCUPATION = (
    "nurse",
    "teacher",
    "software",
    "construction",
    "retail",
    "transport",
    "student",
    "retired",
    "public service",
    "hospitality",
    "self-employed",
    "art dealer",
)
_LINE = (
    "wholesale",
    "restaurants",
    "car dealers",
    "it services",
    "real estate",
    "money services",
    "gambling",
    "precious metals",
    "manufacturing",
    "charity",
    "agriculture",
    "crypto exchange",
)
_LINE_SCHOOL = ("school", "nursery", "library")
CHANNELS = ("branch", "online", "agent", "partner")
PRODUCTS = ("current_account", "savings", "card", "loan", "private_banking", "prepaid", "crypto", "retail_account")


@dataclass
class People:
    """Customers as arrays of one length. `age` is in years at the end, -1 for firms; `since` and `until` are days
    since 1970; `activity` is proportional to the expected number of movements; `income` scales their amounts.

    `table` is the customers file as text.
    """

    ids: pa.Array
    place: np.ndarray
    state: np.ndarray
    corporate: np.ndarray
    age: np.ndarray
    since: np.ndarray
    until: np.ndarray
    activity: np.ndarray
    income: np.ndarray
    table: pa.Table

    def __len__(self) -> int:
        return len(self.place)

    @property
    def child(self) -> np.ndarray:
        """Under 13."""
        return (self.age >= 0) & (self.age < 13)

    @property
    def teen(self) -> np.ndarray:
        """13 to 17."""
        return (self.age >= 13) & (self.age < 18)


def customer_ids(profile: str, numbers: np.ndarray) -> pa.Array:
    """The tenant's identifiers of the customers with those ordinal numbers (0 based)."""
    return numbered(ID_PREFIX[profile], (numbers.astype(np.int64) * _ID_STEP + 12_345) % _ID_SPACE, 8)


def make_people(rng: np.random.Generator, profile: str, customers: int, end: int) -> People:
    """Draw the customers. `end` is in seconds since 1970, UTC; ages and relationships are as of then."""
    end_day = end // DAY
    retail = profile == "childrens_retail"
    corporate = rng.random(customers) < (0.02 if retail else 0.12)
    age_days = _age_days(rng, customers, retail)
    age = np.where(corporate, -1, age_days * 4 // 1461).astype(np.int16)
    place = places.draw(rng, places.CUSTOMER_WEIGHTS, customers)
    state = np.where(place == places.UNITED_STATES, places.draw(rng, places.STATE_WEIGHTS, customers), -1)
    longest = np.where(corporate, 6000, np.clip(age_days - (0 if retail else 18 * 366), 60, 1200 if retail else 6000))
    since = end_day - 20 - (rng.random(customers) ** 0.8 * (longest - 20)).astype(np.int64)
    closed = rng.random(customers) < 0.03
    until = np.where(closed, np.minimum(end_day, since + 10 + rng.integers(0, 700, customers)), end_day + 10_000)
    activity = np.exp(1.1 * rng.standard_normal(customers)) * np.where(corporate, 2.5, 1.0)
    income = np.exp(0.45 * rng.standard_normal(customers)).astype(np.float32)
    ids = customer_ids(profile, np.arange(customers))
    columns: dict[str, pa.Array] = {"customer_id": ids, "customer_type": pick(["individual", "corporate"], corporate)}
    columns |= _identifiers(rng, customers, corporate)
    born_known = ~corporate & (rng.random(customers) > 0.01)
    columns["birth_date"] = dates(end_day - age_days, born_known)
    columns["region"] = places.spelled_states(rng, np.where(rng.random(customers) < 0.03, -1, state))
    written = np.where(rng.random(customers) < 0.006, -1, place)
    columns["country"] = places.spelled(rng, written, 0.15)
    columns |= _account(rng, customers, corporate, retail)
    columns["customer_since"] = dates(since, rng.random(customers) > 0.005)
    columns["status"] = pick(["active", "dormant", "closed"], np.where(closed, 2, rng.random(customers) < 0.04))
    columns["updated_at"] = instants(end - 3600 - rng.integers(0, 90 * DAY, customers))
    return People(ids, place, state, corporate, age, since, until, activity, income, pa.table(columns))


def _age_days(rng: np.random.Generator, size: int, retail: bool) -> np.ndarray:
    """Days lived: adults only for a bank; parents, teenagers and children for the shop."""
    adult = 18.05 + 62 * rng.beta(1.6, 2.4, size)
    if not retail:
        return (adult * 365.25).astype(np.int64)
    group = rng.random(size)
    child, teen = 5 + 7.9 * rng.random(size), 13.05 + 4.9 * rng.random(size)
    return (np.where(group < 0.28, child, np.where(group < 0.53, teen, adult * 0.8 + 4)) * 365.25).astype(np.int64)


def _identifiers(rng: np.random.Generator, size: int, corporate: np.ndarray) -> dict[str, pa.Array]:
    """Name, e-mail, telephone, tax number, address: plausible, and unmistakable wherever they turn up."""
    given, family = rng.integers(0, len(_GIVEN), size), rng.integers(0, len(_FAMILY), size)
    second = np.where(rng.random(size) < 0.3, rng.integers(0, len(_FAMILY), size), -1)
    family_name = pick(list(_FAMILY), family)
    tail = pick(["", *(f"-{name}" for name in _FAMILY)], second + 1)
    person = joined(pick(list(_GIVEN), given), " ", family_name, tail)
    firm = joined(
        family_name,
        pick([f" {word} " for word in _FIRM], rng.integers(0, len(_FIRM), size)),
        pick(list(_LEGAL_FORM), rng.integers(0, len(_LEGAL_FORM), size)),
    )
    order = np.where(corporate, np.arange(size) + size, np.arange(size))
    name = pa.concat_arrays([person, firm]).take(pa.array(order))
    odd = [QUOTED_NAME, FORMULA_NAME][:size]
    name = pa.concat_arrays([pa.array(odd), name.slice(len(odd))])
    number = rng.permutation(size)
    mail = joined(
        pick([word.lower() for word in _GIVEN_MAIL], given),
        ".",
        pick([word.lower() for word in _FAMILY], family),
        numbered(".", number, 8),
        pick(["@mail.example.com", "@post.example.org"], rng.integers(0, 2, size)),
    )
    address = joined(
        pick([f"{house} " for house in range(1, 400)], rng.integers(0, 399, size)),
        pick(list(_FAMILY), rng.integers(0, len(_FAMILY), size)),
        " ",
        pick(list(_WAY), rng.integers(0, len(_WAY), size)),
    )
    keep = [np.where(rng.random(size) < share, -1, np.arange(size)) for share in (0.02, 0.05, 0.08, 0.02)]
    return {
        "full_name": name,
        "email": pick(mail, keep[0]),
        "phone": pick(numbered("+999-555-", number + 1000, 8), keep[1]),
        "tax_id": pick(numbered("TAX-", number, 8), keep[2]),
        "street_address": pick(address, keep[3]),
        "postal_code": pick(numbered("", rng.integers(1000, 9999, size), 4, "0"), keep[3]),
    }


def _account(rng: np.random.Generator, size: int, corporate: np.ndarray, retail: bool) -> dict[str, pa.Array]:
    """Line of business, screening and the kind of relationship."""
    lines = [*_OCCUPATION, *(_LINE_SCHOOL if retail else _LINE)]
    occupation = rng.integers(0, len(_OCCUPATION), size)
    line = len(_OCCUPATION) + rng.integers(0, len(lines) - len(_OCCUPATION), size)
    industry = np.where(corporate, line, occupation)
    if retail:
        product = np.full(size, PRODUCTS.index("retail_account"))
    else:
        product = places.draw(rng, np.array([55, 14, 12, 8, 3, 4, 4]), size)
    screened = rng.random(size) > 0.02
    layers = np.minimum(rng.geometric(0.5, size) - 1, 9)
    return {
        "industry": pick(lines, np.where(rng.random(size) < 0.07, -1, industry)),
        "is_pep": flags(~corporate & (rng.random(size) < 0.004), screened),
        "has_sanctions_match": flags(rng.random(size) < 0.0005, screened),
        "ownership_layers": pick([str(count) for count in range(10)], np.where(corporate, layers, -1)),
        "onboarding_channel": pick(list(CHANNELS), places.draw(rng, np.array([30, 50, 8, 12]), size)),
        "primary_product": pick(list(PRODUCTS), product),
    }
