{#-
  A view: whoever reads it, a fit between two runs too, meets only people whom the gate lets pass at that moment.
  Marketing data only (second wall). What is missing has a value of its own meaning: never bought is as long ago as it gets.
-#}
{{ config(materialized='view') }}

with features as (

    select * from {{ ref('audience_features') }}

),

gate as (

    select * from {{ ref('gate') }}

),

allowed as (

    select audience_subject_token
    from gate
    where
        purpose_role = 'audience'
        and gate_outcome = 'ALLOW'

),

inputs as (

    select
        -- ids
        features.audience_subject_token,

        -- strings
        features.consent_event_id,
        features.consent_status,
        features.legal_basis,
        features.legal_reference,
        features.policy_version,
        features.gate_outcome,
        features.gate_reason,

        -- numerics: counts and money on a scale of ratios, days up to a year
        ln(1 + cast(features.purchase_count_365d as double))
            as purchases_in_a_year,
        ln(1 + cast(features.purchase_count_90d as double))
            as purchases_of_late,
        ln(1 + greatest(cast(features.purchase_value_eur_365d as double), 0))
            as spending_in_a_year,
        ln(
            1
            + least(
                coalesce(cast(features.days_since_first_purchase as double), 0),
                1825
            )
        ) as time_as_customer,
        least(
            coalesce(cast(features.days_since_last_purchase as double), 365),
            365
        ) as days_without_purchase,
        ln(1 + cast(features.web_event_count_90d as double))
            as visits_of_late,
        ln(1 + cast(features.intent_event_count_90d as double))
            as intents_of_late,
        least(
            coalesce(cast(features.days_since_last_visit as double), 365),
            365
        ) as days_without_visit,

        -- timestamps
        features.as_of

    from features
    inner join allowed
        on features.audience_subject_token = allowed.audience_subject_token

)

select * from inputs
