{{ config(materialized='view') }}

with subjects as (

    select
        subject_token,
        subject_number
    from {{ ref('risk_subjects') }}

),

transactions as (

    select
        subject_token,
        counterparty_token,
        direction,
        booked_at
    from {{ ref('stg_payments__transactions') }}
    where
        counterparty_token is not null
        and booked_at <= {{ as_of() }}
        and booked_at > {{ days_before(as_of(), feature_windows() | last) }}

),

movements as (

    select
        subjects.subject_number,
        transactions.counterparty_token,
        transactions.direction,
        {{ smallest_window('transactions.booked_at') }} as window_days
    from transactions
    inner join subjects
        on transactions.subject_token = subjects.subject_token

),

-- A counterparty counts in each window from its latest movement's on.
counterparties as (

    select
        subject_number,
        counterparty_token,
        min(window_days) as window_days,
        max(window_days) as first_window_days,
        min(case when direction = 'credit' then window_days end)
            as incoming_window_days,
        min(case when direction = 'debit' then window_days end)
            as outgoing_window_days
    from movements
    group by subject_number, counterparty_token

),

counted as (

    select
        subject_number
        {%- for days in feature_windows() %},
        count(*) filter (where window_days <= {{ days }})
            as counterparty_count_{{ days }}d,
        count(*) filter (where incoming_window_days <= {{ days }})
            as incoming_counterparty_count_{{ days }}d,
        count(*) filter (where outgoing_window_days <= {{ days }})
            as outgoing_counterparty_count_{{ days }}d
        {%- endfor %},
        -- Money out and back again, or in and back: the shortest cycle.
        count(*) filter (
            where incoming_window_days <= 90 and outgoing_window_days <= 90
        ) as two_way_counterparty_count_90d,
        count(*) filter (where first_window_days = 30)
            as new_counterparty_count_30d
    from counterparties
    group by subject_number

)

select * from counted
