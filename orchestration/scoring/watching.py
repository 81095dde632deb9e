"""What is asked of the scores of every run, by counting in the store alone: no library of machine learning is loaded.

Belongs here: drift and groups of the scored book, as findings and as figures for plots. Does not belong here: what needs matured
outcomes (`evaluation`), thresholds (`thresholds`).
"""

from typing import Any

import duckdb

from orchestration.scoring.drift import feature_drift, score_drift
from orchestration.scoring.errors import BadModel
from orchestration.scoring.fairness import book_figures
from orchestration.scoring.points import PointsTable
from orchestration.scoring.thresholds import OF_EVERY_RUN, Finding, alike, undrifted


def watched(connection: duckdb.DuckDBPyConnection, table: PointsTable) -> tuple[dict[str, Finding], dict[str, Any]]:
    """Findings by name (`OF_EVERY_RUN`), and the figures that plots are drawn from. A table that does not know its training
    rows fails, and says so."""
    report: dict[str, Any] = {"fairness": book_figures(connection, table)}
    found = {"groups_are_flagged_alike": alike(report["fairness"])}
    try:
        scores, features = score_drift(connection, table), feature_drift(connection, table)
    except BadModel as error:
        failed = {name: Finding(name, False, str(error)) for name in OF_EVERY_RUN if name not in found}
        return found | failed, report
    report["drift"] = [scores, *features]
    found["scores_have_not_drifted"] = undrifted("scores_have_not_drifted", [scores])
    found["features_have_not_drifted"] = undrifted("features_have_not_drifted", features)
    return found, report
