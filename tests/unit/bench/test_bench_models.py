"""The benchmark of scoring: it times the SQL of the run, whose sums equal those of the table and of the floor."""

import json

import duckdb
import pytest
from typer.testing import CliRunner

from orchestration.bench.models import _features_sql, floor_sql, made_table, scoring_sql
from orchestration.cli import app


def test_the_sql_that_is_timed_is_the_one_that_scores():
    """Against the table's own look-up; a benchmark of other SQL would measure nothing that runs."""
    table = made_table()
    with duckdb.connect() as connection:
        connection.execute(_features_sql(200))
        rows = connection.execute(f"select * from ({scoring_sql(table, 'made')}) order by risk_subject_token").fetchdf()
        floor = connection.execute(f"select * from ({floor_sql(table, 'made')}) order by risk_subject_token").fetchdf()
        made = connection.execute("select * from made order by risk_subject_token").fetchdf().to_dict("records")
    for row, least, person in zip(rows.itertuples(), floor.itertuples(), made, strict=True):
        expected = table.score({name: None if value != value else value for name, value in person.items()})
        assert row.score == pytest.approx(expected.score, abs=1e-12) and least.score == pytest.approx(expected.score, abs=1e-9)
        assert row.reasons == ",".join(expected.reasons)


@pytest.mark.nightly  # a measurement: 15 to 20 s
def test_the_command_reports_both_and_the_fit():
    done = CliRunner().invoke(app, ["bench", "model", "--people", "2000", "--rows", "600", "--format", "json"])
    figures = json.loads(done.stdout)
    assert set(figures["stages"]) == {"scores with reasons", "floor: the sum alone", "fitting on 600 rows"}
    assert figures["people"] == 2000 and figures["ratio_to_floor"] > 0 and figures["scoring_peak_memory_mb"] > 0
