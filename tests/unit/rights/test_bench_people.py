"""The benchmark of opt-outs and deletions works on a copy and counts only what was proven. No time is asserted."""

import hashlib
from pathlib import Path

import pytest

from orchestration.bench.measure import BenchError
from orchestration.bench.people import measure_people


def contents(root: Path) -> dict[str, str]:
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


@pytest.mark.nightly  # a measurement: 15 to 20 s
def test_deletions_are_measured_on_a_copy_and_the_home_keeps_everybody(retail):
    before = contents(retail.settings.root)
    figures = measure_people(retail.settings.root, [], [1, 3])
    assert [row["deletions"] for row in figures["deletions"]] == [1, 3]
    assert all(row["cpu_seconds"] > 0 and row["mb_searched"] > 0 for row in figures["deletions"])
    assert figures["cpu_ratio_of_last_batch_to_first"] > 0 and figures["opt_outs"] == []
    assert contents(retail.settings.root) == before


def test_more_deletions_than_customers_are_refused(retail):
    with pytest.raises(BenchError, match="customers are needed"):
        measure_people(retail.settings.root, [], [100_000])


def test_opt_outs_of_a_home_that_was_never_published_are_no_measurement(retail):
    """They are recorded and cannot be applied: a figure for that would be worth nothing."""
    with pytest.raises(BenchError):
        measure_people(retail.settings.root, [1], [], repetitions=1)


def test_a_folder_that_is_no_home_is_refused(tmp_path):
    with pytest.raises(BenchError, match="no home"):
        measure_people(tmp_path, [1], [1])


def test_a_made_book_has_nobody_to_delete(retail):
    with pytest.raises(BenchError, match="no vault"):
        measure_people(retail.settings.root, [1], [1], book=10)
