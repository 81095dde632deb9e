{{ config(materialized='view') }}

with subjects as (

    select
        subject_token,
        subject_number,
        country_code
    from {{ ref('risk_subjects') }}

),

transactions as (

    select
        subject_token,
        counterparty_country_code,
        booked_at
    from {{ ref('stg_payments__transactions') }}
    where
        counterparty_country_code <> 'ZZ'
        and booked_at <= {{ as_of() }}
        and booked_at > {{ days_before(as_of(), feature_windows() | last) }}

),

-- Whoever lives in an unknown country has no home country to leave out.
foreign_countries as (

    select
        subjects.subject_number,
        transactions.counterparty_country_code,
        min({{ smallest_window('transactions.booked_at') }}) as window_days
    from transactions
    inner join subjects
        on transactions.subject_token = subjects.subject_token
    where transactions.counterparty_country_code <> subjects.country_code
    group by
        subjects.subject_number,
        transactions.counterparty_country_code

),

counted as (

    select
        subject_number
        {%- for days in feature_windows() %},
        count(*) filter (where window_days <= {{ days }})
            as foreign_country_count_{{ days }}d
        {%- endfor %}
    from foreign_countries
    group by subject_number

)

select * from counted
