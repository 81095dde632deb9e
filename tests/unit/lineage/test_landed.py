"""Lineage begins at what the tenant delivers: every raw column names the delivered columns that it is made of."""

import pytest

from orchestration.ingestion.contracts import PROVENANCE, load_contracts
from orchestration.lineage.landed import delivered_columns


@pytest.mark.parametrize("entity", sorted(load_contracts()))
def test_every_raw_column_is_made_of_delivered_columns_that_exist(entity):
    contract = load_contracts()[entity]
    found = delivered_columns(contract)
    assert list(found) == list(contract.raw_columns())
    delivered = {column.name for column in contract.columns}
    for name, columns in found.items():
        assert set(columns) <= delivered
        assert bool(columns) == (name not in PROVENANCE), name


def test_pseudonyms_and_the_age_band_name_the_identifiers_behind_them():
    """An auditor must see that the band comes from the date of birth, which only the vault holds."""
    found = delivered_columns(load_contracts()["customers"])
    assert found["subject_token"] == found["audience_subject_token"] == ("customer_id",)
    assert found["age_band"] == ("birth_date", "customer_type")
    assert delivered_columns(load_contracts()["transactions"])["counterparty_token"] == ("counterparty_id",)
