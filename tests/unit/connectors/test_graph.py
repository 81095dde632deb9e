"""Connectors in the graph: nothing without a vendor, a blocking check with one, never a check less by a typing error."""

import dagster as dg
import pytest

from orchestration.connectors.settings import VENDORS, configured
from orchestration.defs import connectors
from orchestration.defs.platform import Platform
from tests.unit.connectors.conftest import state


@pytest.fixture
def no_vendor(monkeypatch):
    import os

    for name in list(os.environ):
        if name.startswith(tuple(str(model.model_config["env_prefix"]) for model in VENDORS.values())):
            monkeypatch.delenv(name)
    return monkeypatch


def test_without_a_vendor_there_is_nothing_in_the_graph(no_vendor):
    found = connectors.defs()
    assert not (found.assets or found.jobs or found.schedules)
    assert connectors.drift_keys() == set()


def test_a_half_set_vendor_still_demands_the_check(no_vendor):
    """A mistyped variable must fail the run; a check that silently vanishes would be the opposite."""
    no_vendor.setenv("SEGLINE_ONETRUST_CLIENT_ID", "c")
    assert configured() == ["onetrust"]
    assert connectors.drift_keys() == {connectors.DRIFT_KEY}


def test_a_survey_tool_is_pulled_and_not_compared(no_vendor):
    no_vendor.setenv("SEGLINE_ZIGPOLL_KEY", "k")
    found = connectors.defs()
    assert not found.assets
    assert [job.name for job in found.jobs] == ["pull_consent"]
    assert connectors.drift_keys() == set()


def run(desk, monkeypatch):
    """Materialise the drift asset with the desk's home and sources as a run would have them."""
    monkeypatch.setenv("SEGLINE_HOME", str(desk.settings.root))
    monkeypatch.setenv("SEGLINE_SOURCES", str(desk.sources))
    for name in ("attempts", "backoff_seconds", "read_seconds"):
        monkeypatch.setenv(f"SEGLINE_PULL_{name.upper()}", str(getattr(desk.patience, name)))
    monkeypatch.setenv("SEGLINE_DRIFT_OLDEST_PULL_HOURS", "1000000")
    return dg.materialize([connectors.drift_asset(["onetrust"])], resources={"platform": Platform()}, raise_on_error=False)


def test_permissive_drift_fails_a_blocking_check_and_agreement_passes_it(desk, landed, monkeypatch):
    desk.vendor.records["profiles"] = [state(1), state(2, "OPT_OUT")]
    landed()
    (check,) = run(desk, monkeypatch).get_asset_check_evaluations()
    assert (check.passed, check.check_name) == (True, "no_grant_stands_that_onetrust_does_not_hold")
    desk.vendor.records["profiles"][0] = state(1, "WITHDRAWN")
    result = run(desk, monkeypatch)
    (check,) = result.get_asset_check_evaluations()
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert check.blocking


def test_a_state_that_cannot_be_read_fails_the_run(desk, landed, monkeypatch):
    """No comparison is no agreement."""
    desk.vendor.records["profiles"] = [state(1)]
    landed()
    desk.vendor.after = lambda request, answer: type(answer)({}, 500)
    assert not run(desk, monkeypatch).success
