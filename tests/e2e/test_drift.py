"""A whole run against a consent platform: what agrees with the platform's full state is published, what it does not hold is not."""

import shutil
from dataclasses import dataclass, field

import pytest

from orchestration.settings import PROJECT_ROOT
from tests.e2e.conftest import Cli
from tests.unit.connectors.conftest import CLIENT, SECRET, Vendor, mail, profile

pytestmark = [pytest.mark.slow, pytest.mark.nightly]  # two whole runs; the check alone is in tests/unit/connectors/test_graph.py
PEOPLE = 40
PERSONALISATION = "ba8cab6d-a581-464b-8a6a-2a8de65f6d54"   # as examples/onetrust declares it


@dataclass
class Bank(Cli):
    """The command with the vendor's variables, as a scheduler would set them."""

    vendor: dict[str, str] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        return super().environment() | self.vendor


def state(number: int, status: str = "ACTIVE", **changes: object) -> dict:
    return profile(mail(number), status, id=PERSONALISATION, lastReceiptId=f"r-{number}", **changes)


@pytest.fixture
def vendor():
    server = Vendor()
    yield server
    server.close()


@pytest.fixture
def bank(tmp_path, vendor):
    data = tmp_path / "data"
    shutil.copytree(PROJECT_ROOT / "examples" / "onetrust", data)
    rows = "".join(f"C{number},individual,{mail(number)},DE,1980-05-0{1 + number % 9}\n" for number in range(PEOPLE))
    (data / "customers.csv").write_text("customer_id,customer_type,email,country,birth_date\n" + rows)
    names = {"URL": vendor.url, "CLIENT_ID": CLIENT, "CLIENT_SECRET": SECRET, "START": "2026-10-30T00:00:00Z", "RESOURCES": '["profiles"]'}
    return Bank(tmp_path / "home", vendor={f"SEGLINE_ONETRUST_{name}": value for name, value in names.items()}), data


def test_agreement_publishes_and_a_withdrawal_that_was_not_pulled_blocks(bank, vendor):
    """The second half is the point: without the comparison the run would publish people who said no to the platform."""
    cli, data = bank
    vendor.records["profiles"] = [state(number, "ACTIVE" if number % 2 else "OPT_OUT") for number in range(PEOPLE)]
    cli("sources", "pull", "--connector", "onetrust", "--sources", str(data))
    cli("run", "--sources", str(data))
    (drift,) = cli.rows("select compared, permissive, restrictive from ops.consent_drift where purpose = '*'")
    assert (int(drift["permissive"]), int(drift["restrictive"])) == (0, 0) and int(drift["compared"]) >= PEOPLE
    standing = cli.rows("select run_id from published.publication")
    assert standing

    # Withdrawn long ago and never pulled: the state says so, and our grant still stands.
    vendor.records["profiles"][1] = state(1, "WITHDRAWN", lastUpdatedDate="2026-10-30T08:00:00.000Z")
    refused = cli("run", "--sources", str(data), expect=4)
    assert "no_grant_stands_that_onetrust_does_not_hold" in refused.stdout + refused.stderr
    assert cli.rows("select run_id from published.publication") == standing
