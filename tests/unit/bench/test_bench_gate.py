"""The gate's own benchmark answers every question, allows some of them, and reports both clocks."""

import pytest

from orchestration.bench.gate import measure_gate


@pytest.mark.slow
@pytest.mark.nightly  # dbt parses and compiles for it; the gate itself is in tests/dbt, the clocks in test_bench_figures.py
def test_the_gate_bench_answers_every_question():
    """A benchmark over rows that never were evaluated would report a splendid time."""
    figures = measure_gate(people=2_000)
    assert figures["rows"] == 14_000
    assert 4_000 < figures["allowed"] < 14_000, "law and legitimate interest for all, consent for some"
    assert figures["seconds"] > 0 and figures["cpu_seconds"] > 0 and figures["floor_cpu_seconds"] > 0
