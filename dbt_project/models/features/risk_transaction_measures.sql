{#- A table, while its siblings are views: with them in one statement the widest sums would not fit in memory. -#}
{%- set sums = [
    'volume_eur', 'incoming_volume_eur', 'cash_volume_eur',
    'crypto_volume_eur', 'wallet_volume_eur', 'high_risk_volume_eur',
    'increased_risk_volume_eur', 'remote_volume_eur',
    'unknown_corridor_volume_eur',
] %}
{%- set counts = [
    'transaction_count', 'near_threshold_count', 'unpriced_count',
] %}
{%- set threshold = risk_parameters()['structuring_threshold_eur'] %}
{%- set band_from = threshold * risk_parameters()['structuring_band_share'] %}

with subjects as (

    select
        subject_token,
        subject_number
    from {{ ref('risk_subjects') }}

),

listed_countries as (

    select * from {{ ref('listed_countries') }}

),

-- Rounded to cents, so that a sum is the same in whatever order it is taken.
transactions as (

    select
        subject_token,
        booked_at,
        direction,
        payment_method,
        counterparty_country_code,
        round(amount_eur, 2) as amount_eur
    from {{ ref('stg_payments__transactions') }}
    where booked_at <= {{ as_of() }}

),

-- One column per measured amount: what follows only adds columns up.
movements as (

    select
        subjects.subject_number,
        transactions.booked_at,
        transactions.amount_eur,
        {{ smallest_window('transactions.booked_at') }} as window_days,
        case
            when transactions.direction = 'credit'
                then transactions.amount_eur
        end as incoming_eur,
        case
            when transactions.direction = 'debit'
                then transactions.amount_eur
        end as outgoing_eur,
        case
            when transactions.payment_method = 'cash'
                then transactions.amount_eur
        end as cash_eur,
        case
            when transactions.payment_method = 'crypto'
                then transactions.amount_eur
        end as crypto_eur,
        case
            when transactions.payment_method = 'wallet'
                then transactions.amount_eur
        end as wallet_eur,
        case
            when listed_countries.risk_level = 'high'
                then transactions.amount_eur
        end as high_risk_eur,
        case
            when listed_countries.risk_level = 'increased'
                then transactions.amount_eur
        end as increased_risk_eur,
        case
            when
                transactions.payment_method
                in ('transfer', 'wallet', 'crypto')
                then transactions.amount_eur
        end as remote_eur,
        case
            when
                transactions.payment_method
                in ('transfer', 'wallet', 'crypto')
                and transactions.counterparty_country_code = 'ZZ'
                then transactions.amount_eur
        end as unknown_corridor_eur,
        -- The bank's own bookings are nobody's attempt to stay below a line.
        case
            when
                transactions.amount_eur >= {{ band_from }}
                and transactions.amount_eur < {{ threshold }}
                and transactions.payment_method <> 'internal'
                then 1
        end as near_threshold,
        case when transactions.amount_eur is null then 1 end as unpriced,
        -- A bit per method, so that methods are counted without a set.
        case transactions.payment_method
            when 'cash' then 1
            when 'card' then 2
            when 'transfer' then 4
            when 'cheque' then 8
            when 'direct_debit' then 16
            when 'wallet' then 32
            when 'crypto' then 64
            else 0
        end as method_bit,
        {{ epoch_seconds('transactions.booked_at') }} as booked_second
    from transactions
    inner join subjects
        on transactions.subject_token = subjects.subject_token
    left join listed_countries
        on
            transactions.counterparty_country_code
            = listed_countries.country_code

),

-- Windows lie within each other: add up each slice once, then the slices.
sliced as (

    select
        subject_number,
        window_days,
        count(*) as transaction_count,
        sum(amount_eur) as volume_eur,
        sum(incoming_eur) as incoming_volume_eur,
        sum(outgoing_eur) as outgoing_volume_eur,
        sum(cash_eur) as cash_volume_eur,
        sum(crypto_eur) as crypto_volume_eur,
        sum(wallet_eur) as wallet_volume_eur,
        sum(high_risk_eur) as high_risk_volume_eur,
        sum(increased_risk_eur) as increased_risk_volume_eur,
        sum(remote_eur) as remote_volume_eur,
        sum(unknown_corridor_eur) as unknown_corridor_volume_eur,
        count(near_threshold) as near_threshold_count,
        count(unpriced) as unpriced_count,
        bit_or(method_bit) as methods,
        sum(incoming_eur * booked_second) as incoming_eur_seconds,
        sum(outgoing_eur * booked_second) as outgoing_eur_seconds,
        min(booked_at) as first_booked_at,
        max(booked_at) as last_booked_at
    from movements
    group by subject_number, window_days

),

windowed as (

    select
        subject_number,
        {%- for days in feature_windows() %}
        {%- for name in sums %}
        round(
            coalesce(sum({{ name }}) filter (where window_days <= {{ days }}), 0),
            2
        ) as {{ name }}_{{ days }}d,
        {%- endfor %}
        {%- for name in counts %}
        coalesce(sum({{ name }}) filter (where window_days <= {{ days }}), 0)
            as {{ name }}_{{ days }}d,
        {%- endfor %}
        bit_or(methods) filter (where window_days <= {{ days }})
            as methods_{{ days }}d,
        {%- endfor %}
        max(outgoing_volume_eur) filter (where window_days = 30)
            as outgoing_volume_eur_30d,
        max(incoming_eur_seconds) filter (where window_days = 30)
            as incoming_eur_seconds_30d,
        max(outgoing_eur_seconds) filter (where window_days = 30)
            as outgoing_eur_seconds_30d,
        max(last_booked_at) filter (where window_days > 30)
            as last_before_30d_at,
        min(first_booked_at) filter (where window_days = 30)
            as first_within_30d_at,
        max(last_booked_at) as last_transaction_at
    from sliced
    group by subject_number

),

-- A share of nothing is unknown, not zero.
measured as (

    select
        -- numerics
        subject_number,
        {%- for days in feature_windows() %}
        cast(transaction_count_{{ days }}d as bigint)
            as transaction_count_{{ days }}d,
        volume_eur_{{ days }}d,
        incoming_volume_eur_{{ days }}d,
        {%- for kind in ['cash', 'crypto', 'wallet'] %}
        {{ kind }}_volume_eur_{{ days }}d
        / nullif(volume_eur_{{ days }}d, 0) as {{ kind }}_share_{{ days }}d,
        {%- endfor %}
        high_risk_volume_eur_{{ days }}d,
        high_risk_volume_eur_{{ days }}d
        / nullif(volume_eur_{{ days }}d, 0) as high_risk_share_{{ days }}d,
        increased_risk_volume_eur_{{ days }}d,
        increased_risk_volume_eur_{{ days }}d
        / nullif(volume_eur_{{ days }}d, 0)
            as increased_risk_share_{{ days }}d,
        unknown_corridor_volume_eur_{{ days }}d
        / nullif(remote_volume_eur_{{ days }}d, 0)
            as unknown_corridor_share_{{ days }}d,
        cast(coalesce(bit_count(methods_{{ days }}d), 0) as bigint)
            as payment_method_count_{{ days }}d,
        cast(near_threshold_count_{{ days }}d as bigint)
            as near_threshold_count_{{ days }}d,
        cast(unpriced_count_{{ days }}d as bigint)
            as unpriced_count_{{ days }}d,
        {%- endfor %}
        least(outgoing_volume_eur_30d, incoming_volume_eur_30d)
        / nullif(incoming_volume_eur_30d, 0) as pass_through_ratio_30d,
        -- Mean instant of a euro going out less that of a euro coming in.
        round(
            (
                outgoing_eur_seconds_30d / nullif(outgoing_volume_eur_30d, 0)
                - incoming_eur_seconds_30d
                / nullif(incoming_volume_eur_30d, 0)
            ) / 86400,
            2
        ) as holding_days_30d,
        cast(
            {{ days_between('last_before_30d_at', 'first_within_30d_at') }}
            as bigint
        ) as dormancy_days,

        -- timestamps
        last_transaction_at

    from windowed

)

select * from measured
