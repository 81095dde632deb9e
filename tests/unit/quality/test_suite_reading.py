"""Reading takes the columns that a suite names and nothing else, and refuses a suite that does not fit the lake."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from orchestration.lake import ensure_zones, open_lake
from orchestration.quality.reading import read_frame
from orchestration.quality.suites import Suite, SuiteError, UnknownColumnError, UnknownRelationError
from orchestration.quality.validation import check_boundary
from orchestration.settings import Settings


def suite(rows: str = "all", column: str = "tier", **meta: Any) -> Suite:
    """A suite of one expectation on `risk.ratings`."""
    return Suite.model_validate(
        {
            "name": "gate",
            "notes": "A suite for the sake of these tests.",
            "meta": meta,
            "expectations": [
                {
                    "type": "expect_column_values_to_be_in_set",
                    "kwargs": {"column": column, "value_set": ["low", "high"]},
                    "severity": "critical",
                    "notes": "Every tier is known, for the sake of this test.",
                    "meta": {"check": "tier_is_known", "relation": "risk.ratings", "rows": rows},
                }
            ],
        }
    )


@pytest.fixture
def ratings(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    """Three ratings, two of them alike."""
    connection.execute("create schema risk")
    connection.execute(
        "create table risk.ratings as select * from (values ('s1', 'low', 1), ('s2', 'low', 1), ('s3', 'high', 9)) "
        "rated(subject_token, tier, points)"
    )
    return connection


def test_only_named_columns_are_read(ratings: duckdb.DuckDBPyConnection) -> None:
    frame = read_frame(ratings, suite(), "risk.ratings", "all")
    assert (list(frame.columns), len(frame)) == (["tier"], 3)


def test_distinct_combinations_are_read_once(ratings: duckdb.DuckDBPyConnection) -> None:
    assert sorted(read_frame(ratings, suite("distinct"), "risk.ratings", "distinct")["tier"]) == ["high", "low"]


def test_derived_column_and_condition_are_computed_on_reading(ratings: duckdb.DuckDBPyConnection) -> None:
    derived = suite(
        column="is_raised",
        derived={"risk.ratings": {"is_raised": "points > 5"}},
        where={"risk.ratings": "points = (select max(points) from risk.ratings)"},
    )
    assert read_frame(ratings, derived, "risk.ratings", "all")["is_raised"].tolist() == [True]


def test_unknown_relation_is_an_error(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(UnknownRelationError, match=r"gate\.json: there is no relation risk\.ratings"):
        read_frame(connection, suite(), "risk.ratings", "all")


def test_unknown_column_is_an_error(ratings: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(UnknownColumnError, match=r"risk\.ratings has no column grade"):
        read_frame(ratings, suite(column="grade"), "risk.ratings", "all")


def test_derived_column_never_hides_a_real_one(ratings: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(SuiteError, match="of its own called tier"):
        read_frame(ratings, suite(derived={"risk.ratings": {"tier": "'low'"}}), "risk.ratings", "all")


def test_invalid_sql_of_a_suite_is_an_error(ratings: duckdb.DuckDBPyConnection) -> None:
    for meta in ({"derived": {"risk.ratings": {"a": "no_such_column"}}}, {"where": {"risk.ratings": "points >"}}):
        column = "a" if "derived" in meta else "tier"
        with pytest.raises(SuiteError, match="no valid SQL"):
            read_frame(ratings, suite(column=column, **meta), "risk.ratings", "all")


def test_boundary_is_checked_on_a_read_only_lake(tmp_path: Path) -> None:
    """The real store: zones as schemas of the attached lake, encrypted files, a reader beside a writer."""
    settings = Settings(home=tmp_path / "home")
    with open_lake(settings) as lake:
        ensure_zones(lake)
        lake.execute("create table risk.ratings as select 'low' as tier union all select 'grave'")
    (tmp_path / "gate.json").write_text(suite("distinct").model_dump_json(), encoding="utf-8")
    with open_lake(settings, read_only=True) as lake:
        (outcome,) = check_boundary(lake, "gate", tmp_path)
    assert (outcome.check, outcome.passed, outcome.metrics["combinations_failing"]) == ("tier_is_known", False, 1.0)
