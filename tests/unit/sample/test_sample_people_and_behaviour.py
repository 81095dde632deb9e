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


_CORRIDOR = "counterparty_country in ('IR', 'MM', 'SY', 'YE', 'LB', 'HT', 'VE', 'KP')"


def test_a_bank_has_no_minors_and_a_childrens_shop_has_all_ages(fintech, retail) -> None:
    ages = """
        with born as (select try_cast(replace(birth_date, '/', '-') as date) as day from customers)
        select date_diff('day', day, date '2026-11-01') / 365.25 from born where day is not null
    """
    bank = np.array([row[0] for row in fintech.engine.execute(ages).fetchall()])
    assert bank.min() >= 18
    shop = np.array([row[0] for row in retail.engine.execute(ages).fetchall()])
    assert (shop < 13).mean() > 0.2
    assert ((shop >= 13) & (shop < 18)).mean() > 0.15
    assert (shop >= 18).mean() > 0.3
    assert fintech.value("select count(*) from consent_events where actor = 'parent'") == 0
    assert retail.value("select count(*) from customers where primary_product <> 'retail_account'") == 0


def test_parents_consent_to_both_scopes_and_children_answer_alone(retail) -> None:
    scopes = dict(
        retail.engine.execute(
            "select parental_scope, count(*) from consent_events where actor = 'parent' group by 1"
        ).fetchall()
    )
    assert scopes["collection_use"] > scopes["disclosure"] > 0
    # Some birth dates are missing from the file, so the file shows slightly fewer children than there are.
    alone = retail.value("""
        select count(*) from consent_events as e
        join (select distinct customer_id, replace(birth_date, '/', '-') as born from customers) using (customer_id)
        where e.actor = 'self' and e.action = 'granted' and born > '2013-11-02'
    """)
    assert alone == pytest.approx(retail.summary.oddities["consent_events"]["child_alone_grant"], rel=0.03)


def test_customers_live_in_several_jurisdictions_and_some_are_firms(either) -> None:
    countries = {row[0] for row in either.engine.execute("select distinct country from customers").fetchall()}
    assert {"US", "DE", "Germany", "Deutschland", "CZ", "GB", "FR"} <= countries
    assert either.value("select count(*) from customers where region in ('CA', 'California')") > 20
    assert either.value("select count(distinct region) from customers where region in ('CA', 'California')") == 2
    assert either.value("select count(*) from customers where customer_type = 'corporate'") > 20


def test_activity_has_a_heavy_tail_and_regular_counterparties(fintech) -> None:
    top = fintech.value("""
        with ranked as (
            select count(*) as n, row_number() over (order by count(*) desc) as place, count(*) over () as everybody
            from transactions group by customer_id
        )
        select sum(n) filter (where place <= 0.1 * everybody) / sum(n) from ranked
    """)
    assert top > 0.3
    pairs, rows, inside, own = fintech.engine.execute("""
        select count(distinct (customer_id, counterparty_id)), count(*),
            count(*) filter (where counterparty_id in (select customer_id from customers)),
            count(*) filter (where counterparty_id = customer_id)
        from transactions where counterparty_id is not null
    """).fetchone()
    assert pairs < 0.4 * rows
    assert inside > 0.05 * rows
    assert own == 0


def test_salaries_come_monthly_and_are_steady(fintech) -> None:
    monthly, spread = fintech.engine.execute("""
        with salaries as (
            select customer_id, left(booked_at, 7) as month, try_cast(amount as double) as amount from transactions
            where category = 'salary' and direction = 'credit' and booked_at not like '%/%'
        ),
        months as (select count(*) as n from salaries group by customer_id, month),
        people as (
            select stddev(amount) / avg(amount) as spread from salaries
            where amount > 0 group by customer_id having count(*) > 8
        )
        select (select avg(n) from months), (select median(spread) from people)
    """).fetchone()
    assert monthly < 1.1
    assert spread < 0.1


def test_planted_patterns_and_their_look_alikes_are_there(fintech, retail) -> None:
    for sample, profile in ((fintech, "fintech"), (retail, "childrens_retail")):
        for pattern in PATTERNS[profile]:
            assert sample.summary.behaviours[pattern] > 10
            assert sample.summary.behaviours[f"{pattern}_look_alike"] > 10


def test_planted_patterns_can_be_seen_in_the_movements(fintech) -> None:
    behaviours = fintech.summary.behaviours
    cash = fintech.value("""
        select count(*) from (
            select customer_id from transactions
            where payment_method = 'cash' and direction = 'credit' and try_cast(amount as double) between 7000 and 10000
            group by 1 having count(*) >= 4
        )
    """)
    assert behaviours["structuring"] * 0.3 < cash < 3 * behaviours["structuring"]
    corridor = fintech.value(
        f"select count(*) from (select customer_id from transactions where {_CORRIDOR} group by 1 having count(*) >= 3)"
    )
    assert behaviours["high_risk_corridor"] * 0.5 < corridor


def test_dormant_customers_are_silent_before_they_wake(fintech) -> None:
    silent = fintech.value("""
        with days as (select customer_id, try_cast(left(booked_at, 10) as date) as day from transactions),
        gaps as (
            select customer_id, day - lag(day) over (partition by customer_id order by day) as gap
            from days where day < date '2026-11-01'
        )
        select count(distinct customer_id) from gaps where gap > 240
    """)
    assert silent > 0.3 * fintech.summary.behaviours["dormant_then_active"]


def test_incidents_are_rare_and_no_single_figure_gives_them_away(fintech) -> None:
    """A separation above 0.95 would mean that the labels leak into the features; single figures stay well below."""
    rows = fintech.engine.execute(f"""
        with typed as (select * replace (try_cast(amount as double) as amount) from transactions),
        figures as (
            select customer_id, count(*) as movements, sum(amount) as total, max(amount) as biggest,
                count(*) filter (where payment_method = 'cash') / count(*) as cash_share,
                count(*) filter (where payment_method = 'cash' and direction = 'credit'
                                 and amount between 7000 and 10000) as just_under,
                count(*) filter (where {_CORRIDOR}) as corridor,
                count(distinct counterparty_id) as sides
            from typed group by 1
        ),
        bad as (select distinct customer_id from incidents where status <> 'dismissed'),
        everybody as (select distinct customer_id from customers)
        select coalesce(columns(figures.* exclude (customer_id)), 0), customer_id in (select customer_id from bad)
        from everybody left join figures using (customer_id)
    """).fetchall()
    table = np.array(rows, dtype=float)
    label = table[:, -1].astype(bool)
    assert 0.005 < label.mean() < 0.08
    areas = [_auc(table[:, column], label) for column in range(table.shape[1] - 1)]
    assert 0.55 < max(areas) < 0.9


def test_incidents_become_known_later_and_never_after_the_end(either) -> None:
    occurred = "replace(replace(occurred_at, '/', '-'), ' ', 'T')"
    assert either.value(f"select count(*) from incidents where reported_at < {occurred}") == 0
    assert either.value("select count(*) from incidents where reported_at >= '2026-11-01'") == 0


def test_random_audits_keep_their_probability(either) -> None:
    sampled, probability, probabilities = either.engine.execute("""
        select count(distinct audit_id), min(cast(selection_probability as double)),
            count(distinct selection_probability)
        from audit_outcomes where selection = 'random'
    """).fetchone()
    assert probabilities == 1
    assert sampled == pytest.approx(probability * 0.98 * either.summary.entities["customers"].kept, rel=0.2)
    rates = dict(
        either.engine.execute("""
            select selection, count(*) filter (where lower(has_issue) in ('true', 'y')) / count(*)
            from audit_outcomes group by 1
        """).fetchall()
    )
    assert 0.2 < rates["flagged"] < 0.95
    assert 0.005 < rates["random"] < rates["flagged"] / 2
