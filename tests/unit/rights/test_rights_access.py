"""A copy holds everything that the person may have, and not a hint of what nobody may know about himself."""

import json
import re

import pytest

from orchestration.identity.vault import read_person
from orchestration.lake import open_lake
from orchestration.rights import access, receiving
from orchestration.rights.correction import correct
from orchestration.rights.errors import RightsError
from orchestration.rights.requests import open_log
from tests.unit.rights.conftest import Home


def ask(home: Home, customer: str, kind: str = "access", by: str | None = "officer"):
    return receiving.receive(home.settings, home.keys, customer, kind, "test", by)


def test_everything_held_is_in_the_copy(retail, tmp_path):
    row = retail.customers()[0]
    customer = row["customer_id"]
    held = retail.tables_with(customer)
    request = ask(retail, customer)
    (path,) = access.export(retail.settings, retail.keys, customer, "json", tmp_path / "out")
    copy = json.loads(path.read_text())
    assert copy["identity"]["email"] == row["email"] and copy["identity"]["customer_id"] == customer
    tables = {name.rsplit(".", 1)[0] for name in held}
    assert set(copy["data"]) == {*tables, "features.risk_transaction_measures"}
    assert len(copy["data"]["raw.transactions"]) == held["raw.transactions.subject_token"]
    assert path.stat().st_mode & 0o077 == 0 and customer not in path.name
    assert not any(token in path.read_text() for token in retail.subject(customer).tokens.values())
    with open_log(retail.settings) as log:
        assert log.get(request.request_id).state == "proven"
    # It holds rows of the ledger, and whoever reads those is logged.
    (line,) = retail.settings.ledger_readings.read_text().splitlines()
    assert json.loads(line)["action"] == f"copy:{request.request_id}" and json.loads(line)["leaf_count"] > 0


def test_a_copy_needs_a_verified_request_and_a_place_outside_the_home(retail, tmp_path):
    customer = retail.customers()[0]["customer_id"]
    with pytest.raises(RightsError, match="no verified request"):
        access.export(retail.settings, retail.keys, customer, "json", tmp_path / "out")
    ask(retail, customer, by=None)
    with pytest.raises(RightsError, match="no verified request"):
        access.export(retail.settings, retail.keys, customer, "json", tmp_path / "out")
    ask(retail, customer)
    with pytest.raises(RightsError, match="under the home"):
        access.export(retail.settings, retail.keys, customer, "json", retail.settings.root / "out")


def test_portability_holds_what_the_person_provided_and_nothing_inferred(retail, tmp_path):
    customer = retail.customers()[0]["customer_id"]
    copy = access.gather(retail.settings, retail.keys, customer, "portability")
    assert {name.split(".")[0] for name in copy["data"]} == {"raw"}
    assert "raw.transactions" in copy["data"] and "age_band" not in copy["data"]["raw.customers"][0]
    assert "raw.incidents" not in copy["data"]


def test_no_copy_tips_anybody_off(bank):
    """Two worlds: in one the customer is suspected in every way that there is. The copies are the same, byte for byte."""
    customer = bank.customers()[0]["customer_id"]
    tokens = bank.subject(customer).tokens
    quiet = json.dumps(access.gather(bank.settings, bank.keys, customer), default=str)
    with open_lake(bank.settings) as connection:
        connection.execute("update lake.raw.customers set is_pep = true, has_sanctions_match = true where subject_token = ?", [tokens["raw"]])
        for relation in ("risk.risk_ratings", "published.risk_segments"):
            column = "tier" if relation.startswith("risk.") else "segment"
            key = "risk_subject_token" if relation.startswith("risk.") else "subject_token"
            connection.execute(f"update lake.{relation} set {column} = 'prohibited' where {key} = ?", [tokens["risk"]])
        columns = bank.rows("describe lake.raw.incidents")
        values = ", ".join(f"'{tokens['raw']}'" if name == "subject_token" else f"cast(null as {kind})" for name, kind, *_ in columns)
        connection.execute(f"insert into lake.raw.incidents select {values}")
        connection.execute("create table lake.risk.cases as select ? as risk_subject_token, 'suspicion' as kind", [tokens["risk"]])
    loud = json.dumps(access.gather(bank.settings, bank.keys, customer), default=str)
    assert loud == quiet
    words = re.compile(r"pep|sanction|incident|suspic|rating|tier|aml|money|audit|risk", re.IGNORECASE)
    data = json.loads(loud)
    assert not [name for name in data["data"] if words.search(name)]
    assert not [name for rows in data["data"].values() for row in rows for name in row if words.search(name)]
    assert not words.search(data["statement"])


def test_the_statement_is_the_same_for_everybody(bank, retail):
    copies = [access.gather(home.settings, home.keys, home.customers()[place]["customer_id"]) for home in (bank, retail) for place in (0, 1)]
    assert len({copy["statement"] for copy in copies}) == 1


def test_a_page_shows_values_as_text_and_loads_nothing(retail, tmp_path):
    text = access.page(
        {"request_id": "RR-1", "made_at": "now", "identity": {"full_name": "<script>alert(1)</script>"}, "data": {"raw.t": [{"a_b": None}]}, "statement": "s & t"}
    )
    assert "<script>" not in text and "&lt;script&gt;" in text and "s &amp; t" in text
    assert not re.search(r"https?://|src=|href=", text)
    customer = retail.customers()[0]["customer_id"]
    ask(retail, customer)
    (path,) = access.export(retail.settings, retail.keys, customer, "html", tmp_path / "out")
    assert retail.customers()[0]["email"] in path.read_text()


def test_a_correction_overrides_the_vault_until_the_source_delivers_a_change(retail):
    row = retail.customers()[0]
    customer, token = row["customer_id"], retail.subject(row["customer_id"]).tokens["raw"]
    request = ask(retail, customer, "correction")
    told = correct(retail.settings, retail.keys, request, customer, {"email": "right@example.org", "industry": "baker"})
    assert told == ["email", "industry"]
    assert read_person(retail.settings, retail.keys, token)["email"] == "right@example.org"
    assert read_person(retail.settings, retail.keys, token)["phone"] == row["phone"]
    retail.land()  # the source still delivers the wrong one
    assert read_person(retail.settings, retail.keys, token)["email"] == "right@example.org"
    with open_log(retail.settings) as log:
        text = json.dumps([event[2] for event in log.get(request.request_id).events])
    assert "right@example.org" not in text and "email" in text
    with pytest.raises(RightsError, match="cannot be corrected"):
        correct(retail.settings, retail.keys, ask(retail, customer, "correction"), customer, {"customer_id": "CU-2"})
