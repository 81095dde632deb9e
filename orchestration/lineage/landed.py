"""Column lineage of what the landing makes: which columns a tenant delivers become which columns of a raw table.

Belongs here: the map from a contract's columns to the raw table's. Does not belong here: how values are made
(`identity`, `ingestion`).
"""

from orchestration.ingestion.contracts import AGE_DERIVED, PROVENANCE, Contract

# What the identity split makes of a customer's delivered columns.
CUSTOMER_SOURCES = {
    "risk_subject_token": ("customer_id",),
    "audience_subject_token": ("customer_id",),
    "age_band": ("birth_date", "customer_type"),
    "is_self_consent_capable": ("birth_date", "customer_type", "country"),
    "region": ("region", "postal_code"),
}


def delivered_columns(contract: Contract) -> dict[str, tuple[str, ...]]:
    """For each column of the raw table the delivered columns that its values are made of; none for provenance.

    Pseudonyms name the identifier that they are made from: the way back is the key, not the lineage.
    """
    present = {column.name for column in contract.columns}
    subject = contract.subject_column.name
    counterparty = next((column.name for column in contract.columns if column.counterparty), None)
    found: dict[str, tuple[str, ...]] = {}
    for name in contract.raw_columns():
        if name in PROVENANCE:
            found[name] = ()
        elif contract.identifiers and name in CUSTOMER_SOURCES:
            found[name] = tuple(column for column in CUSTOMER_SOURCES[name] if column in present)
        elif name in AGE_DERIVED:
            # Birth date and country of whom the event names decide it, on the day of the event.
            found[name] = (subject, contract.event_time)
        elif name == "counterparty_token" and counterparty:
            found[name] = (counterparty,)
        elif name == "subject_token":
            found[name] = (subject,)
        else:
            found[name] = (name,)
    return found
