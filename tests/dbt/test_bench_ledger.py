"""The ledger's benchmark measures real decisions: the project's own SQL decides, and the real verifiers accept the result."""

import pytest

from orchestration.bench.ledger import measure_ledger

pytestmark = [pytest.mark.slow, pytest.mark.nightly]


def test_a_small_ledger_is_entered_verified_exported_and_proven(tmp_path):
    figures = measure_ledger(400, 700, 400, tmp_path / "bench")
    assert figures["decisions_entered"] == 400 and figures["decisions_verified"] >= 700
    assert figures["exported_leaves"] == 401 and figures["leaves_verified"] == figures["decisions_verified"] + 2
    assert figures["hashed_texts"] > 700  # a leaf and mostly an input each
    assert {"enter_cpu_seconds", "verify_cpu_seconds", "hashlib_alone_seconds", "engine_copy_seconds", "outsider_seconds", "proof_ms"} <= set(figures)
