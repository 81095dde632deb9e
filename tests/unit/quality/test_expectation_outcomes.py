"""What becomes of an expectation's result: verdicts, counts as plain floats, errors as critical failures."""

import pandas as pd
import pytest

from orchestration.quality.suites import (
    AGGREGATE_TYPES,
    ROW_TYPES,
    TYPES_DEAF_TO_CONDITIONS,
    Expectation,
    SuiteError,
    UnknownColumnError,
)
from orchestration.quality.validation import MINIMUM_ROWS_FOR_A_STATISTIC, validate

ARGUMENTS: dict[str, dict] = {
    "expect_column_values_to_be_between": {"column": "n", "min_value": 0, "max_value": 1},
    "expect_column_values_to_be_in_set": {"column": "a", "value_set": ["x"]},
    "expect_column_values_to_not_be_in_set": {"column": "a", "value_set": ["y"]},
    "expect_column_values_to_be_null": {"column": "m"},
    "expect_column_values_to_not_be_null": {"column": "z"},
    "expect_column_values_to_match_regex": {"column": "a", "regex": "^x"},
    "expect_column_pair_values_a_to_be_greater_than_b": {"column_A": "n", "column_B": "k"},
    "expect_column_pair_values_to_be_in_set": {
        "column_A": "a",
        "column_B": "n",
        "value_pairs_set": [["x", 1.0]],
        "ignore_row_if": "neither",
    },
    "expect_column_mean_to_be_between": {"column": "n", "min_value": 0.5, "max_value": 1.5},
}


def expect(
    kind: str, severity: str = "critical", check: str = "it_holds", kwargs: dict | None = None, **meta
) -> Expectation:
    """An expectation of that type on the columns of `frame`."""
    return Expectation(
        type=kind,
        kwargs=ARGUMENTS[kind] if kwargs is None else kwargs,
        severity=severity,
        notes="It holds, for the sake of this test.",
        meta={"check": check, "relation": "risk.ratings"} | meta,
    )


def frame(rows: int) -> pd.DataFrame:
    """A frame on which every one of the arguments above holds."""
    return pd.DataFrame(
        {"a": ["x"] * rows, "n": [1.0] * rows, "k": [0.0] * rows, "m": [None] * rows, "z": ["z"] * rows}
    )


def test_the_whole_vocabulary_is_tried_here() -> None:
    assert set(ARGUMENTS) == ROW_TYPES | AGGREGATE_TYPES


@pytest.mark.parametrize("kind", ARGUMENTS)
def test_type_passes_where_it_holds_and_on_no_rows(kind: str) -> None:
    for rows in (20, 0):
        (outcome,) = validate([expect(kind)], frame(rows))
        assert (outcome.passed, outcome.error) == (True, None)
        assert {type(value) for value in outcome.metrics.values()} == {float}


# No database column of numbers reads as text, so that a mean of text is not asked for.
COLUMN_TYPES = {kind: ["float64", "Int64"] for kind in AGGREGATE_TYPES} | {
    kind: ["float64", "Int64", "boolean", "str", "object"] for kind in ROW_TYPES
}


@pytest.mark.parametrize(("kind", "sql_type"), [(kind, name) for kind in ARGUMENTS for name in COLUMN_TYPES[kind]])
def test_type_does_not_choke_on_a_column_without_values(kind: str, sql_type: str) -> None:
    nothing = pd.DataFrame({name: pd.Series([None, None], dtype=sql_type) for name in "ankmz"})
    (outcome,) = validate([expect(kind)], nothing)
    assert outcome.passed == (kind in {"expect_column_values_to_be_null", "expect_column_mean_to_be_between"})


@pytest.mark.parametrize("kind", sorted(ROW_TYPES - TYPES_DEAF_TO_CONDITIONS))
def test_row_condition_leaves_other_rows_out(kind: str) -> None:
    bad = pd.DataFrame({"a": ["y"], "n": [5.0], "k": [9.0], "m": ["m"], "z": [None]})
    mixed = pd.concat([frame(3).assign(g="good"), bad.assign(g="bad")], ignore_index=True)
    for group, rows, verdict in (("good", 3.0, True), ("bad", 1.0, False), ("none", 0.0, True)):
        condition = {"type": "comparison", "column": {"name": "g"}, "operator": "==", "parameter": group}
        (outcome,) = validate([expect(kind, kwargs=ARGUMENTS[kind] | {"row_condition": condition})], mixed)
        assert (outcome.passed, outcome.error, outcome.metrics["rows_checked"]) == (verdict, None, rows)


def test_missing_value_fails_a_set_unless_the_suite_ignores_it() -> None:
    values = pd.DataFrame({"a": ["x", None]})
    strict, lenient = (
        expect("expect_column_values_to_be_in_set"),
        expect("expect_column_values_to_be_in_set", nulls="ignore"),
    )
    assert [validate([expectation], values)[0].passed for expectation in (strict, lenient)] == [False, True]


def test_counts_and_share_are_told() -> None:
    values = pd.DataFrame({"a": ["x", "x", "y", None]})
    (outcome,) = validate([expect("expect_column_values_to_be_in_set", severity="warning")], values)
    assert outcome.metrics == {
        "rows_checked": 4.0,
        "rows_failing": 1.0,
        "rows_without_value": 1.0,
        "share_failing": 0.25,
    }
    assert (outcome.passed, outcome.severity, outcome.relation) == (False, "warning", "risk.ratings")


def test_distinct_combinations_are_not_called_rows() -> None:
    (outcome,) = validate(
        [expect("expect_column_values_to_be_in_set", rows="distinct")], pd.DataFrame({"a": ["x", "y"]})
    )
    assert outcome.metrics == {"combinations_checked": 2.0, "combinations_failing": 1.0}


def test_mean_of_a_handful_is_kept_back() -> None:
    """The mean over one subject is that subject's value."""
    kind = "expect_column_mean_to_be_between"
    few, enough = (
        validate([expect(kind)], frame(n))[0].metrics
        for n in (MINIMUM_ROWS_FOR_A_STATISTIC - 1, MINIMUM_ROWS_FOR_A_STATISTIC)
    )
    assert (few, enough) == ({"rows_checked": 9.0}, {"rows_checked": 10.0, "observed": 1.0})


def test_expectation_that_raises_is_a_critical_failure_that_names_the_class_only() -> None:
    """A warning that could not be looked at is no warning; and the exception's message may quote the value."""
    values = pd.DataFrame({"n": ["Planted-Novak"] * 20, "a": ["x"] * 20})
    broken = expect("expect_column_mean_to_be_between", severity="warning", check="broken")
    sound = expect("expect_column_values_to_be_in_set", check="sound")
    failed, passed = validate([broken, sound], values)
    assert (failed.passed, failed.severity, failed.error) == (False, "critical", "TypeError")
    assert failed.metrics == {}
    assert "TypeError" in failed.description
    assert "Planted" not in repr(failed)
    assert passed.passed


def test_failure_of_the_whole_validation_fails_every_check(monkeypatch: pytest.MonkeyPatch) -> None:
    import great_expectations

    def refuse(**_: object) -> None:
        raise RuntimeError("Planted-Novak")

    monkeypatch.setattr(great_expectations, "get_context", refuse)
    (outcome,) = validate([expect("expect_column_values_to_be_in_set")], frame(1))
    assert (outcome.passed, outcome.severity, outcome.error) == (False, "critical", "RuntimeError")
    assert "Planted" not in repr(outcome)


def test_outcomes_keep_the_order_of_the_expectations() -> None:
    expectations = [expect(kind, check=f"check_{n}") for n, kind in enumerate(ARGUMENTS)]
    assert [outcome.check for outcome in validate(expectations, frame(20))] == [e.meta.check for e in expectations]


def test_nothing_to_check_is_an_error() -> None:
    with pytest.raises(SuiteError, match="no expectation"):
        validate([], frame(1))


def test_unknown_column_is_an_error() -> None:
    unknown = expect("expect_column_values_to_be_null", kwargs={"column": "grade"})
    with pytest.raises(UnknownColumnError, match=r"risk\.ratings has no column grade"):
        validate([unknown], frame(1))


def test_argument_that_great_expectations_refuses_is_an_error() -> None:
    refused = expect(
        "expect_column_values_to_be_between", kwargs={"column": "n", "min_value": 2, "max_value": 1, "mostly": 7}
    )
    with pytest.raises(SuiteError, match="refuses"):
        validate([refused], frame(1))


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """Progress bars of a library would break those of the command line."""
    validate([expect(kind, check=f"check_{n}") for n, kind in enumerate(ARGUMENTS)], frame(20))
    assert capfd.readouterr() == ("", "")
