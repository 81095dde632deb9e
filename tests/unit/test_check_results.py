"""Results of checks out of Dagster's own record of a run."""

import dagster as dg
import pytest

from orchestration.check_results import check_results


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def run(instance, rows: float, passed: bool) -> str:
    @dg.asset(key=["zone", "table"], check_specs=[
        dg.AssetCheckSpec("it_holds", asset=["zone", "table"], blocking=True),
        dg.AssetCheckSpec("it_is_usual", asset=["zone", "table"]),
    ])  # fmt: skip
    def table():
        told = {"rows_checked": rows, "share_failing": 0.0123456, "sample": "a customer's value"}
        return dg.MaterializeResult(check_results=[
            dg.AssetCheckResult(check_name="it_holds", passed=True, metadata=told),
            dg.AssetCheckResult(check_name="it_is_usual", passed=passed, severity=dg.AssetCheckSeverity.WARN),
        ])  # fmt: skip

    return dg.materialize([table], instance=instance).run_id


def test_each_check_of_the_run_is_there_with_its_result(instance):
    holds, usual = check_results(instance, run(instance, 12_345.0, passed=False))
    assert (holds.key, holds.passed, holds.is_blocking) == ("zone.table: it_holds", True, True)
    assert (usual.key, usual.passed, usual.is_blocking, usual.severity) == ("zone.table: it_is_usual", False, False, "WARN")


def test_figures_are_told_and_other_values_are_not(instance):
    """A result may carry values of rows; only named numbers are shown."""
    holds, usual = check_results(instance, run(instance, 12_345.0, passed=True))
    assert holds.figures == "rows checked 12,345, share failing 0.01235"
    assert usual.figures == "" and usual.passed


def test_another_runs_results_are_not_mixed_in(instance):
    first, second = run(instance, 1.0, passed=True), run(instance, 2.0, passed=False)
    assert [check.passed for check in check_results(instance, first)] == [True, True]
    assert [check.passed for check in check_results(instance, second)] == [True, False]
    assert check_results(instance, "no such run") == []
