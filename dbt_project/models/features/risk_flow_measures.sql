{#- How fast money leaves again, by calendar day: a day's sums are few, so that looking ahead costs little. -#}
{{ config(materialized='view') }}

with subjects as (

    select
        subject_token,
        subject_number
    from {{ ref('risk_subjects') }}

),

-- The bank's own bookings are nobody's attempt to pass money on.
transactions as (

    select
        subject_token,
        direction,
        booked_at,
        round(amount_eur, 2) as amount_eur
    from {{ ref('stg_payments__transactions') }}
    where
        amount_eur is not null
        and payment_method <> 'internal'
        and booked_at <= {{ as_of() }}
        and booked_at > {{ days_before(as_of(), 90) }}

),

movements as (

    select
        subjects.subject_number,
        cast(
            {{ days_between(days_before(as_of(), 90), 'transactions.booked_at') }}
            as integer
        ) as day_number,
        case
            when transactions.direction = 'credit' then transactions.amount_eur
            else 0
        end as incoming_eur,
        case
            when transactions.direction = 'debit' then transactions.amount_eur
            else 0
        end as outgoing_eur
    from transactions
    inner join subjects
        on transactions.subject_token = subjects.subject_token

),

daily as (

    select
        subject_number,
        day_number,
        round(sum(incoming_eur), 2) as incoming_eur,
        round(sum(outgoing_eur), 2) as outgoing_eur
    from movements
    group by subject_number, day_number

),

looked_ahead as (

    select
        *,
        round(
            sum(outgoing_eur) over (
                partition by subject_number
                order by day_number
                range between current row and 2 following
            ),
            2
        ) as outgoing_soon_eur,
        min(case when outgoing_eur > 0 then day_number end) over (
            partition by subject_number
            order by day_number
            rows between current row and unbounded following
        ) as next_outgoing_day
    from daily

),

-- A share of nothing is unknown, not zero.
measured as (

    select
        -- numerics
        subject_number,
        count(*) as active_day_count_90d,
        round(
            max(incoming_eur + outgoing_eur)
            / nullif(sum(incoming_eur + outgoing_eur), 0),
            6
        ) as busiest_day_share_90d,
        round(
            least(sum(incoming_eur), sum(outgoing_eur))
            / nullif(sum(incoming_eur), 0),
            6
        ) as pass_through_ratio_90d,
        round(
            sum(least(incoming_eur, outgoing_soon_eur))
            / nullif(sum(incoming_eur), 0),
            6
        ) as forwarded_share_90d,
        round(
            sum(incoming_eur * (next_outgoing_day - day_number))
            / nullif(
                sum(
                    case
                        when next_outgoing_day is not null then incoming_eur
                    end
                ),
                0
            ),
            2
        ) as forward_days_90d
    from looked_ahead
    group by subject_number

)

select * from measured
