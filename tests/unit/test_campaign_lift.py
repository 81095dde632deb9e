"""The interval of a campaign's lift, as the project's SQL has it, beside one built of scipy's Wilson intervals."""

import math
import re

import duckdb
import jinja2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from orchestration.settings import DBT_PROJECT_DIR
from tests.effort import examples


@pytest.fixture(scope="module")
def lift():
    """The model's own SQL from the counts on."""
    text = (DBT_PROJECT_DIR / "models" / "candidate" / "campaign_lift.sql").read_text(encoding="utf-8")
    given_names = {"config": lambda **kwargs: "", "ref": lambda name: name, "as_of": lambda: "now()"}
    sql = jinja2.Environment().from_string(text, globals=given_names).render()
    tail = sql[re.search(r"enough as \(", sql).start() :]
    with duckdb.connect() as connection:

        def asked(treated, treated_converted, control, control_converted):
            counts = f"{treated} as treated_count, {treated_converted} as treated_converted, {control} as control_count, {control_converted} as control_converted"
            found = connection.execute(f"with counted as (select 'c' as campaign_id, 'all' as segment, {counts}), {tail}")
            names = [column[0] for column in found.description]
            row = found.fetchone()
            return dict(zip(names, row, strict=True)) if row else None

        yield asked


@settings(max_examples=examples(60), deadline=None)
@given(st.data())
def test_the_interval_is_newcombes(lift, data):
    treated, control = data.draw(st.integers(30, 4000)), data.draw(st.integers(30, 4000))
    first, second = data.draw(st.integers(0, treated)), data.draw(st.integers(0, control))
    found = lift(treated, first, control, second)
    one, two = (binomtest(k, n).proportion_ci(method="wilson") for k, n in ((first, treated), (second, control)))
    rate, other = first / treated, second / control
    low = rate - other - math.hypot(rate - one.low, two.high - other)
    high = rate - other + math.hypot(one.high - rate, other - two.low)
    assert found["lift"] == pytest.approx(rate - other, abs=1e-12)
    assert (found["lift_low"], found["lift_high"]) == (pytest.approx(low, abs=1e-9), pytest.approx(high, abs=1e-9))
    assert found["is_beyond_chance"] == (found["lift_low"] > 0 or found["lift_high"] < 0)


@pytest.mark.parametrize(("treated", "control"), [(29, 500), (500, 29), (0, 500), (500, 0)])
def test_a_handful_is_not_measured(lift, treated, control):
    assert lift(treated, 0, control, 0) is None
