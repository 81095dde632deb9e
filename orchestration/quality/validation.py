"""Validation: expectations and a frame in, verdicts out, and no row's value with them.

Belongs here: the one place that calls Great Expectations, the translation of its results, the check of a boundary.
Does not belong here: suite files (`suites`), queries (`reading`).
Great Expectations: https://docs.greatexpectations.io/docs/core/run_validations/
"""

import logging
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from orchestration.quality.reading import read_frame
from orchestration.quality.suites import Expectation, Severity, SuiteError, UnknownColumnError, load_suite
from orchestration.settings import EXPECTATIONS_DIR

if TYPE_CHECKING:
    import pandas as pd

# Great Expectations keeps its project in a global: two validations at once in one process lose each other's data.
_ONE_AT_A_TIME = threading.Lock()
# BASIC with a partial count of nought is the smallest format that still counts: it carries no value of any row.
RESULT_FORMAT = {"result_format": "BASIC", "partial_unexpected_count": 0}
# The mean of a handful of rows gives their values away.
MINIMUM_ROWS_FOR_A_STATISTIC = 10


@dataclass(frozen=True, slots=True)
class CheckOutcome:
    """One check's verdict.

    `metrics`: `rows_checked`, `rows_failing`, `rows_without_value` (counts; `combinations_…` where the suite asked
    for distinct combinations), `share_failing` (0 to 1), `observed` (the statistic of an aggregate).
    `error`: the exception's class name if the expectation could not be evaluated; it has then failed as critical.
    """

    check: str
    relation: str
    severity: Severity
    passed: bool
    description: str
    metrics: dict[str, float] = field(default_factory=dict)
    error: str | None = None


def check_boundary(
    connection: duckdb.DuckDBPyConnection, boundary: str, folder: Path = EXPECTATIONS_DIR
) -> list[CheckOutcome]:
    """Check every relation of a boundary; the outcomes come in the suite's order.

    `connection` has the lake in use (`lake.open_lake`; read-only is enough). Data that break a rule never raise; a
    suite that is missing, empty or does not fit the lake does, as `SuiteError` or one of its kinds.
    """
    suite = load_suite(boundary, folder)
    outcomes: dict[str, CheckOutcome] = {}
    for relation in suite.relations:
        for rows in ("distinct", "all"):
            expectations = suite.of(relation, rows)
            if expectations:
                # One frame at a time: each is dropped before the next is read.
                found = validate(expectations, read_frame(connection, suite, relation, rows))
                outcomes |= {outcome.check: outcome for outcome in found}
    return [outcomes[expectation.meta.check] for expectation in suite.expectations]


def validate(expectations: Sequence[Expectation], frame: "pd.DataFrame") -> list[CheckOutcome]:
    """Evaluate expectations on a frame; the outcomes come in the order of the expectations.

    A table without rows satisfies every rule about its rows. Raises `SuiteError` if there is nothing to check or if
    Great Expectations refuses an expectation's arguments, `UnknownColumnError` if the frame lacks a column.
    """
    if not expectations:
        raise SuiteError("there is no expectation to validate with")
    for expectation in expectations:
        unknown = [column for column in expectation.columns if column not in frame.columns]
        if unknown:
            raise UnknownColumnError(f"{expectation.meta.relation} has no column {', '.join(unknown)}")
    with _ONE_AT_A_TIME:
        results = _evaluate(expectations, frame)
    return [_outcome(expectation, results.get(expectation.meta.check), frame) for expectation in expectations]


def _great_expectations() -> Any:
    """Great Expectations, silenced.

    Imported here and not above: it takes five to ten seconds, which listing the checks or asking for help must not.
    """
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations

    # Its log messages may quote values. Cut off at its root, because some of its modules set a level of their own.
    logger = logging.getLogger("great_expectations")
    logger.handlers, logger.propagate = [logging.NullHandler()], False
    return great_expectations


def gx_suite(expectations: Sequence[Expectation]) -> Any:
    """The expectations as a `great_expectations.ExpectationSuite`; `SuiteError` if it refuses one of them."""
    gx = _great_expectations()
    try:
        configurations = [expectation.model_dump() for expectation in expectations]
        return gx.ExpectationSuite(name="boundary", expectations=configurations)
    except Exception as error:  # its own errors share no base class with pydantic's
        raise SuiteError(f"Great Expectations refuses the suite: {error}") from None


def _evaluate(expectations: Sequence[Expectation], frame: "pd.DataFrame") -> dict[str, Any]:
    """Great Expectations' result, or the exception that prevented it, by check name."""
    suite = gx_suite(expectations)
    gx = _great_expectations()
    from great_expectations.data_context.types.base import ProgressBarsConfig

    try:
        context = gx.get_context(mode="ephemeral")
        context.variables.progress_bars = ProgressBarsConfig(globally=False, metric_calculations=False)
        asset = context.data_sources.add_pandas("frames").add_dataframe_asset("frame")
        batch = asset.add_batch_definition_whole_dataframe("whole").get_batch({"dataframe": frame})
        results = batch.validate(suite, result_format=RESULT_FORMAT).results
    except Exception as error:  # the message may quote a value: the class alone goes on, and fails every check
        return {expectation.meta.check: error for expectation in expectations}
    return {result.expectation_config.meta["check"]: result for result in results}


def _outcome(expectation: Expectation, result: Any, frame: "pd.DataFrame") -> CheckOutcome:
    """Translate one result; whatever is not a clear verdict is a critical failure."""
    error = _error_name(result)
    if error is not None:
        return CheckOutcome(
            check=expectation.meta.check,
            relation=expectation.meta.relation,
            severity="critical",
            passed=False,
            description=f"{expectation.notes} (could not be evaluated: {error})",
            error=error,
        )
    # No row, or no value in any of them: there was nothing to take a statistic of.
    nothing_measured = expectation.is_aggregate and result.result.get("observed_value") is None
    nulls_fail = expectation.meta.nulls == "fail" and bool(result.result.get("missing_count"))
    return CheckOutcome(
        check=expectation.meta.check,
        relation=expectation.meta.relation,
        severity=expectation.severity,
        passed=(bool(result.success) or nothing_measured) and not nulls_fail,
        description=expectation.notes,
        metrics=_metrics(expectation, result.result, frame),
    )


def _metrics(expectation: Expectation, result: dict[str, Any], frame: "pd.DataFrame") -> dict[str, float]:
    """Counts and shares as plain floats. Only named keys are taken: results also know how to carry values."""
    if expectation.is_aggregate:
        values = int(frame[expectation.kwargs["column"]].count())
        observed = result.get("observed_value")
        enough = observed is not None and values >= MINIMUM_ROWS_FOR_A_STATISTIC
        return {"rows_checked": float(values)} | ({"observed": float(observed)} if enough else {})
    unit = "combinations" if expectation.meta.rows == "distinct" else "rows"
    checked = float(result["element_count"])
    failing = float(result["unexpected_count"])
    metrics = {f"{unit}_checked": checked, f"{unit}_failing": failing}
    if result.get("missing_count"):
        metrics[f"{unit}_without_value"] = float(result["missing_count"])
    if checked and unit == "rows":
        metrics["share_failing"] = failing / checked
    return metrics


def _error_name(result: Any) -> str | None:
    """The class name of what prevented a verdict; None if there is a verdict."""
    if result is None:
        return "NoResult"
    if isinstance(result, Exception):
        return type(result).__name__
    info = result.exception_info or {}
    # One record for the expectation, or one for each metric that it needed.
    records = [info] if "raised_exception" in info else list(info.values())
    for record in records:
        if record.get("raised_exception"):
            return _class_name(record.get("exception_traceback") or "")
    if not isinstance(result.result, dict) or not result.result:
        return "NoResult"
    return None


def _class_name(trace: str) -> str:
    """The exception's class from a formatted traceback: its first line that is neither heading nor indented."""
    for line in trace.splitlines():
        if line and not line[0].isspace() and not line.startswith("Traceback"):
            found = re.match(r"[A-Za-z_][\w.]*", line)
            return found.group().rsplit(".", 1)[-1] if found else "Exception"
    return "Exception"
