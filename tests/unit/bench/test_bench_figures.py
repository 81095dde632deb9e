"""What the benchmark reports: figures follow from what was measured, and a difference in the result shows."""

import json

import pytest

from orchestration.bench.measure import BenchError, _claim, against_floor, by_stage, measure, slowest
from orchestration.bench.sampling import Measured
from orchestration.bench.stages import differences, stage_seconds


def test_start_is_whatever_was_no_stage():
    steps = [("transformation", 20.0, 50.0), ("landing", 10.0, 20.0)]
    stages = stage_seconds(steps, wall=47.5)
    assert list(stages) == ["start", "landing", "transformation"]
    assert stages == {"start": 7.5, "landing": 10.0, "transformation": 30.0}


def test_the_ratio_and_the_fixed_cost_are_those_of_the_promise():
    """At most one and a half floors plus the fixed cost."""
    figures = against_floor(Measured(130.0, 200.0, 3000.4), Measured(60.0, 100.0, 2000.0))
    assert figures["ratio_to_floor"] == 2.17
    assert figures["fixed_seconds"] == 40.0


def test_the_floor_s_statements_add_up_by_stage():
    timings = [
        {"stage": "raw", "name": "raw.customers", "seconds": 1.0},
        {"stage": "raw", "name": "raw.transactions", "seconds": 4.0},
        {"stage": "models", "name": "gate", "seconds": 2.0},
    ]
    assert by_stage(timings) == {"raw": 5.0, "models": 2.0}
    assert list(slowest(timings)) == ["raw.transactions", "gate", "raw.customers"]


def test_equal_counts_are_no_difference():
    assert differences({"risk/low": 3, "risk/high": 1}, {"risk/high": 1, "risk/low": 3}) == {}


def test_a_segment_that_only_one_side_has_is_a_difference():
    assert differences({"risk/low": 3}, {"risk/low": 2, "risk/high": 1}) == {"risk/high": [0, 1], "risk/low": [3, 2]}


def test_a_folder_of_somebody_else_is_refused_and_left_alone(tmp_path):
    """The benchmark deletes the homes that it made; it must not make a folder its own that already serves another."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "keys").write_text("precious")
    with pytest.raises(BenchError, match="no benchmark's"):
        measure(10, 10, "parquet", tmp_path)
    assert (tmp_path / "home" / "keys").read_text() == "precious"


def test_a_folder_of_an_earlier_benchmark_is_taken(tmp_path):
    _claim(tmp_path / "new")
    (tmp_path / "new" / "home").mkdir()
    _claim(tmp_path / "new")
    assert json.loads((tmp_path / "new" / "bench.json").read_text() or "{}") == {}


def test_an_unknown_file_format_is_refused(tmp_path):
    with pytest.raises(BenchError, match="csv or parquet"):
        measure(10, 10, "xlsx", tmp_path / "work")
    assert not (tmp_path / "work").exists()
