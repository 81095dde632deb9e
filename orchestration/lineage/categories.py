"""Categories of data: the keys of the fideslang taxonomy that the platform uses.

Keys and their meaning are those of fideslang 3.1.4 by Ethyca (CC-BY-4.0, https://github.com/ethyca/fideslang). The library
itself is not a dependency: it asks for an older pydantic than the platform's, and its models take an unknown key silently.
What the taxonomy lacks would stand under the prefix `segline.` in `OWN`; nothing does yet.

Belongs here: which keys exist. Does not belong here: which column has which (contracts, dbt's YAML).
"""

FIDESLANG = frozenset(
    {
        "system.operations",
        "user.account",
        "user.behavior.browsing_history",
        "user.behavior.purchase_history",
        "user.childrens",
        "user.contact.address",
        "user.contact.address.postal_code",
        "user.contact.email",
        "user.contact.phone_number",
        "user.content",
        "user.content.private",
        "user.criminal_history",
        "user.demographic.age_range",
        "user.demographic.date_of_birth",
        "user.device.cookie_id",
        "user.financial",
        "user.government_id",
        "user.location",
        "user.location.imprecise",
        "user.name",
        "user.payment",
        "user.privacy_preferences",
        "user.unique_id",
        "user.unique_id.pseudonymous",
        "user.workplace",
    }
)
OWN: frozenset[str] = frozenset()


def is_category(key: str | None) -> bool:
    """Whether a column may carry that key."""
    return key in FIDESLANG or key in OWN


def is_personal(key: str) -> bool:
    """Whether data of that category is about a person."""
    return not key.startswith("system.")
