"""Dagster's event log with kept connections says what Dagster's own says, and keeps few databases open."""

import dagster as dg
import pytest
import yaml

from orchestration.event_log import MOST_KEPT, KeptConnections, event_log_config
from orchestration.running import prepare_dagster_home
from orchestration.settings import Settings


@dg.multi_asset(specs=[dg.AssetSpec("one"), dg.AssetSpec("two")], check_specs=[dg.AssetCheckSpec("good", asset="one")])
def both():
    yield dg.MaterializeResult("one", metadata={"rows": 7})
    yield dg.MaterializeResult("two")
    yield dg.AssetCheckResult(passed=True, asset_key="one", check_name="good")


JOB = dg.define_asset_job("both_job")


def told(instance: dg.DagsterInstance) -> tuple:
    result = dg.Definitions(assets=[both], jobs=[JOB]).resolve_job_def("both_job").execute_in_process(instance=instance)
    entries = instance.all_logs(result.run_id)
    materialization = instance.get_latest_materialization_event(dg.AssetKey("one"))
    return (
        [str(entry.dagster_event_type) for entry in entries if entry.is_dagster_event],
        materialization.asset_materialization.metadata["rows"].value,
        [step.step_key for step in instance.get_run_step_stats(result.run_id)],
    )


@pytest.fixture
def kept(tmp_path, monkeypatch):
    settings = Settings(home=tmp_path / "home")
    for name in ("DAGSTER_HOME", "DAGSTER_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")
    prepare_dagster_home(settings)
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        yield instance


def test_it_tells_what_dagsters_own_tells(kept, tmp_path):
    assert isinstance(kept.event_log_storage, KeptConnections)
    (tmp_path / "own").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "own")) as own:
        assert told(kept) == told(own)


def test_few_databases_stay_open_however_many_runs_are_looked_at(kept):
    """A webserver runs for weeks and is asked about every run; each database is two file handles."""
    for _ in range(MOST_KEPT + 2):
        told(kept)
    assert len(kept.event_log_storage._engines) == MOST_KEPT
    kept.event_log_storage.dispose()
    assert not kept.event_log_storage._engines


def test_the_files_are_those_that_erasure_knows(kept, tmp_path):
    told(kept)
    written = yaml.safe_load((tmp_path / "home" / "dagster" / "dagster.yaml").read_text())["event_log_storage"]
    folder = tmp_path / "home" / "dagster" / "history" / "runs"
    assert written == event_log_config(str(folder))
    assert (folder / "index.db").exists()
