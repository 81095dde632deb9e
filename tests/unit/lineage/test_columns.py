"""Column lineage as an auditor reads it: through expressions, stars, joins and unions to the relations."""

import pytest

from orchestration.lineage.columns import LineageError, column_sources

SCHEMAS = {("consent", "gate"): {"token": "varchar", "basis": "varchar"}, ("raw", "t"): {"token": "varchar", "amount": "double"}}


def test_values_are_followed_through_stars_joins_and_aggregates():
    sql = """
        with gate as (select * from lake.consent.gate), t as (select * from "lake"."raw"."t"),
        joined as (select gate.token, gate.basis, t.amount from gate inner join t on gate.token = t.token),
        summed as (select token, basis, sum(amount) * 2 as volume, 1 as one from joined group by 1, 2)
        select * from summed
    """
    assert column_sources(sql, SCHEMAS) == {
        "token": {("consent", "gate", "token")},
        "basis": {("consent", "gate", "basis")},
        "volume": {("raw", "t", "amount")},
        "one": set(),
    }


def test_both_sides_of_a_union_count():
    sql = "select token from lake.consent.gate union all select token from lake.raw.t"
    assert column_sources(sql, SCHEMAS)["token"] == {("consent", "gate", "token"), ("raw", "t", "token")}


def test_what_is_not_understood_has_no_lineage():
    with pytest.raises(LineageError):
        column_sources("selec token frm", SCHEMAS)
