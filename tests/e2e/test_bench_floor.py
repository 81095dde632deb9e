"""The floor is a fair comparison only if it comes to the same result; and the benchmark must not rot unseen."""

import json

import pytest

from orchestration.bench.measure import measure, run_floor
from orchestration.bench.stages import differences, floor_segments, published_segments
from orchestration.settings import Settings

pytestmark = [pytest.mark.slow, pytest.mark.nightly]


@pytest.mark.parametrize("name", ["fintech", "retail"])
def test_the_floor_comes_to_the_published_segments(name, request, tmp_path):
    """From CSV files with every planted oddity in them; the benchmark below reads Parquet."""
    published = request.getfixturevalue(name)
    settings = Settings(home=published.cli.home, profile=published.cli.profile)
    run_floor(tmp_path / "floor", published.sources, settings)
    found = published_segments(settings)
    assert sum(found.values()) > 1000
    assert differences(found, floor_segments(tmp_path / "floor" / "floor.duckdb")) == {}


def test_the_benchmark_reports_every_stage_and_the_same_result(tmp_path, monkeypatch):
    for name in ("SEGLINE_HOME", "SEGLINE_PROFILE", "SEGLINE_SOURCES"):
        monkeypatch.delenv(name, raising=False)
    figures = json.loads(json.dumps(measure(300, 3_000, "parquet", tmp_path / "work")))
    assert figures["same_result"] is True
    assert {"start", "landing", "transformation", "publication"} <= set(figures["stages"])
    assert sum(figures["stages"].values()) == pytest.approx(figures["seconds"], abs=0.1)
    assert set(figures["floor_stages"]) == {"open", "seeds", "raw", "models", "close"}
    for name in (
        "peak_memory_mb",
        "floor_peak_memory_mb",
        "sample_peak_memory_mb",
        "rows_per_second",
        "definitions_seconds",
    ):
        assert figures[name] > 0, name
    assert figures["rows_read"] > 3_000
    assert any(node.startswith("model.") for node in figures["slowest_nodes"])
