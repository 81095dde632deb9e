"""Who the customers are, what they do, and that trouble is there without giving itself away."""

import numpy as np
import pytest

from orchestration.sample.behaviour import PATTERNS


def _auc(score: np.ndarray, label: np.ndarray) -> float:
    """Area under the ROC curve by average ranks, either direction."""
    order = np.argsort(score, kind="stable")
    _, inverse, counts = np.unique(score[order], return_inverse=True, return_counts=True)
    rank = np.empty(len(score))
    rank[order] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    positives = int(label.sum())
    area = (rank[label].sum() - positives * (positives + 1) / 2) / (positives * (len(label) - positives))
    return max(area, 1 - area)


def test_a_bank_has_no_minors_and_a_childrens_shop_has_all_ages(fintech, retail) -> None:
    ages = "select date_diff('day', cast(replace(birth_date, '/', '-') as date), date '2026-11-01') / 365.25 from customers where try_cast(replace(birth_date, '/', '-') as date) is not null and birth_date <> '1985-02-31'"
    young = np.array([row[0] for row in fintech.engine.execute(ages).fetchall()])
    assert young.min() >= 18
    all_ages = np.array([row[0] for row in retail.engine.execute(ages).fetchall()])
    assert (all_ages < 13).mean() > 0.2 and ((all_ages >= 13) & (all_ages < 18)).mean() > 0.15 and (all_ages >= 18).mean() > 0.3
    assert fintech.value("select count(*) from consent_events where actor = 'parent'") == 0
    assert retail.value("select count(*) from customers where primary_product <> 'retail_account'") == 0


def test_parents_consent_to_both_scopes_and_children_answer_alone(retail) -> None:
    scopes = dict(retail.engine.execute("select parental_scope, count(*) from consent_events where actor = 'parent' group by 1").fetchall())
    assert scopes["collection_use"] > scopes["disclosure"] > 0
    assert retail.value(
        "select count(*) from consent_events e join customers c using (customer_id) where e.actor = 'self'"
        " and e.action = 'granted' and c.birth_date > '2013-11-02' and c.birth_date not like '%/%'"
    ) == pytest.approx(retail.summary.oddities["consent_events"]["child_alone_grant"], rel=0.03)


def test_customers_live_in_several_jurisdictions_and_some_are_firms(either) -> None:
    countries = {row[0] for row in either.engine.execute("select distinct country from customers").fetchall()}
    assert {"US", "DE", "Germany", "Deutschland", "CZ", "GB", "FR"} <= countries
    assert either.value("select count(*) from customers where region in ('CA', 'California')") > 20
    assert either.value("select count(distinct region) from customers where region in ('CA', 'California')") == 2
    assert either.value("select count(*) from customers where customer_type = 'corporate'") > 20


def test_activity_has_a_heavy_tail_and_regular_counterparties(fintech) -> None:
    top = fintech.value(
        "select sum(n) filter (where r <= 0.1 * m) / sum(n) from (select count(*) n, row_number() over (order by count(*) desc) r,"
        " count(*) over () m from transactions group by customer_id)"
    )
    assert top > 0.3
    pairs, rows = fintech.engine.execute(
        "select count(distinct (customer_id, counterparty_id)), count(*) from transactions where counterparty_id is not null"
    ).fetchone()
    assert pairs < 0.4 * rows
    assert fintech.value("select count(*) from transactions where counterparty_id in (select customer_id from customers)") > 0.05 * rows
    assert fintech.value("select count(*) from transactions where counterparty_id = customer_id") == 0


def test_salaries_come_monthly_and_are_steady(fintech) -> None:
    most, spread = fintech.engine.execute(
        "with s as (select customer_id, booked_at[:7] as month, try_cast(amount as double) as amount from transactions"
        " where category = 'salary' and direction = 'credit' and booked_at not like '%/%'),"
        " m as (select customer_id, month, count(*) n from s group by all),"
        " p as (select customer_id, stddev(amount) / avg(amount) as v from s where amount > 0 group by 1 having count(*) > 8)"
        " select (select avg(n) from m), (select median(v) from p)"
    ).fetchone()
    assert most < 1.1 and spread < 0.1


def test_planted_patterns_and_their_look_alikes_are_there(fintech, retail) -> None:
    for sample, profile in ((fintech, "fintech"), (retail, "childrens_retail")):
        for pattern in PATTERNS[profile]:
            assert sample.summary.behaviours[pattern] > 10
            assert sample.summary.behaviours[f"{pattern}_look_alike"] > 10


def test_planted_patterns_can_be_seen_in_the_movements(fintech) -> None:
    behaviours = fintech.summary.behaviours
    cash = fintech.value(
        "select count(*) from (select customer_id from transactions where payment_method = 'cash' and direction = 'credit'"
        " and try_cast(amount as double) between 7000 and 10000 group by 1 having count(*) >= 4)"
    )
    assert behaviours["structuring"] * 0.3 < cash < 3 * behaviours["structuring"]
    corridor = fintech.value(
        "select count(*) from (select customer_id from transactions where counterparty_country in ('IR', 'MM', 'SY', 'YE', 'LB', 'HT', 'VE', 'KP')"
        " group by 1 having count(*) >= 3)"
    )
    assert behaviours["high_risk_corridor"] * 0.5 < corridor


def test_dormant_customers_are_silent_before_they_wake(fintech) -> None:
    gaps = fintech.value(
        "select count(*) from (select customer_id, max(gap) g from (select customer_id, date_diff('day', lag(d) over (partition by customer_id order by d), d) gap"
        " from (select customer_id, try_cast(left(booked_at, 10) as date) d from transactions) where d < date '2026-11-01') group by 1) where g > 240"
    )
    assert gaps > 0.3 * fintech.summary.behaviours["dormant_then_active"]


def test_incidents_are_rare_and_no_single_figure_gives_them_away(fintech) -> None:
    """A separation above 0.95 would mean that the labels leak into the features."""
    rows = fintech.engine.execute(
        "with t as (select customer_id, try_cast(amount as double) as a, * exclude (customer_id, amount) from transactions),"
        " f as (select customer_id, count(*) n, sum(a) total, max(a) biggest, avg((payment_method = 'cash')::int) cash,"
        " count(*) filter (where payment_method = 'cash' and direction = 'credit' and a between 7000 and 10000) under,"
        " count(*) filter (where counterparty_country in ('IR', 'MM', 'SY', 'YE', 'LB', 'HT', 'VE', 'KP')) corridor,"
        " count(distinct counterparty_id) sides from t group by 1),"
        " bad as (select distinct customer_id from incidents where status <> 'dismissed')"
        " select coalesce(n, 0), coalesce(total, 0), coalesce(biggest, 0), coalesce(cash, 0), coalesce(under, 0), coalesce(corridor, 0),"
        " coalesce(sides, 0), customer_id in (select customer_id from bad) from (select distinct customer_id from customers) left join f using (customer_id)"
    ).fetchall()
    table = np.array(rows, dtype=float)
    label = table[:, -1].astype(bool)
    assert 0.005 < label.mean() < 0.08
    areas = [_auc(table[:, column], label) for column in range(table.shape[1] - 1)]
    assert max(areas) < 0.9
    assert max(areas) > 0.53


def test_incidents_become_known_later_and_never_after_the_end(either) -> None:
    assert either.value("select count(*) from incidents where reported_at < replace(replace(occurred_at, '/', '-'), ' ', 'T')") == 0
    assert either.value("select count(*) from incidents where reported_at >= '2026-11-01'") == 0


def test_random_audits_keep_their_probability(either) -> None:
    sampled, probability = either.engine.execute(
        "select count(distinct audit_id), min(cast(selection_probability as double)) from audit_outcomes where selection = 'random'"
    ).fetchone()
    people = either.summary.entities["customers"].kept
    assert sampled == pytest.approx(probability * 0.98 * people, rel=0.2)
    assert either.value("select count(distinct selection_probability) from audit_outcomes where selection = 'random'") == 1
    rates = dict(
        either.engine.execute("select selection, avg((lower(has_issue) in ('true', 'y'))::int) from audit_outcomes group by 1").fetchall()
    )
    assert 0.2 < rates["flagged"] < 0.95 and 0.005 < rates["random"] < rates["flagged"] / 2
