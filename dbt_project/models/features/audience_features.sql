{#- Consent-gated marketing data only: nothing of the risk zone, no incident, no country list (second wall). -#}

with gate as (

    select * from {{ ref('gate') }}

),

transactions as (

    select
        subject_token,
        booked_at,
        round(amount_eur, 2) as amount_eur
    from {{ ref('stg_payments__transactions') }}
    where
        direction = 'debit'
        and payment_method in ({{ audience_purchase_methods() }})
        and booked_at <= {{ as_of() }}

),

web_events as (

    select * from {{ ref('stg_web__web_events') }}

),

survey_feedback as (

    select * from {{ ref('stg_feedback__survey_feedback') }}

),

-- The one place where marketing data pass the gate.
allowed as (

    select *
    from gate
    where
        purpose_role = 'audience'
        and gate_outcome = 'ALLOW'

),

-- Windows lie within each other: add up each slice once, then the slices.
purchase_slices as (

    select
        transactions.subject_token,
        {{ smallest_window('transactions.booked_at') }} as window_days,
        count(*) as purchase_count,
        sum(transactions.amount_eur) as purchase_value_eur,
        min(transactions.booked_at) as first_purchase_at,
        max(transactions.booked_at) as last_purchase_at
    from transactions
    inner join allowed
        on transactions.subject_token = allowed.subject_token
    group by
        transactions.subject_token,
        {{ smallest_window('transactions.booked_at') }}

),

purchases as (

    select
        subject_token,
        {%- for days in feature_windows() %}
        sum(purchase_count) filter (where window_days <= {{ days }})
            as purchase_count_{{ days }}d,
        sum(purchase_value_eur) filter (where window_days <= {{ days }})
            as purchase_value_eur_{{ days }}d,
        {%- endfor %}
        min(first_purchase_at) as first_purchase_at,
        max(last_purchase_at) as last_purchase_at
    from purchase_slices
    group by subject_token

),

-- Pages for children never feed a segment; nor do pages that may be for
-- children, unless the visitor is known to be an adult.
visits as (

    select
        web_events.subject_token,
        web_events.event_type,
        web_events.event_at,
        {{ smallest_window('web_events.event_at') }} as window_days
    from web_events
    inner join allowed
        on web_events.subject_token = allowed.subject_token
    where
        web_events.event_at <= {{ as_of() }}
        and case
            when web_events.is_child_directed is null
                then allowed.age_band = '18+'
            else not web_events.is_child_directed
        end

),

engagement as (

    select
        subject_token,
        {%- for days in feature_windows() %}
        count(*) filter (where window_days <= {{ days }})
            as web_event_count_{{ days }}d,
        count(*) filter (
            where
                event_type in ('add_to_cart', 'wishlist')
                and window_days <= {{ days }}
        ) as intent_event_count_{{ days }}d,
        {%- endfor %}
        max(event_at) as last_visit_at
    from visits
    group by subject_token

),

answers as (

    select
        survey_feedback.subject_token,
        survey_feedback.question_type,
        survey_feedback.score,
        {{ smallest_window('survey_feedback.responded_at') }} as window_days,
        row_number() over (
            partition by
                survey_feedback.subject_token,
                survey_feedback.question_type
            order by
                survey_feedback.responded_at desc,
                survey_feedback.response_id desc
        ) as recency
    from survey_feedback
    inner join allowed
        on survey_feedback.subject_token = allowed.subject_token
    where
        survey_feedback.score is not null
        and survey_feedback.responded_at <= {{ as_of() }}

),

satisfaction as (

    select
        subject_token,
        max(case when question_type = 'nps' and recency = 1 then score end)
            as latest_nps,
        round(
            avg(score) filter (
                where question_type = 'csat' and window_days <= 365
            ),
            4
        ) as mean_csat_365d
    from answers
    group by subject_token

),

joined as (

    select
        -- ids: the zone's own pseudonym only
        allowed.audience_subject_token,

        -- strings
        allowed.age_band,
        allowed.jurisdiction,
        allowed.consent_event_id,
        allowed.consent_status,
        allowed.legal_basis,
        allowed.legal_reference,
        allowed.policy_version,
        allowed.gate_outcome,
        allowed.gate_reason,

        -- numerics
        {%- for days in feature_windows() %}
        cast(coalesce(purchases.purchase_count_{{ days }}d, 0) as bigint)
            as purchase_count_{{ days }}d,
        round(coalesce(purchases.purchase_value_eur_{{ days }}d, 0), 2)
            as purchase_value_eur_{{ days }}d,
        coalesce(engagement.web_event_count_{{ days }}d, 0)
            as web_event_count_{{ days }}d,
        coalesce(engagement.intent_event_count_{{ days }}d, 0)
            as intent_event_count_{{ days }}d,
        {%- endfor %}
        cast(
            {{ days_between('purchases.first_purchase_at', as_of()) }}
            as bigint
        ) as days_since_first_purchase,
        cast(
            {{ days_between('purchases.last_purchase_at', as_of()) }}
            as bigint
        ) as days_since_last_purchase,
        cast(
            {{ days_between('engagement.last_visit_at', as_of()) }} as bigint
        ) as days_since_last_visit,
        satisfaction.latest_nps,
        satisfaction.mean_csat_365d,

        -- timestamps
        {{ as_of() }} as as_of

    from allowed
    left join purchases on allowed.subject_token = purchases.subject_token
    left join engagement on allowed.subject_token = engagement.subject_token
    left join satisfaction
        on allowed.subject_token = satisfaction.subject_token

)

select * from joined
