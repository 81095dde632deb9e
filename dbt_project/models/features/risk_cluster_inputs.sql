{#-
  A view: whoever reads it, a fit between two runs too, meets only people whom the gate lets pass for the risk purpose at that
  moment. Compliance data only (second wall). What is missing has a value of its own meaning: no volume has no share in cash.
-#}
{{ config(materialized='view') }}

with features as (

    select * from {{ ref('risk_features') }}

),

gate as (

    select * from {{ ref('gate') }}

),

allowed as (

    select risk_subject_token
    from gate
    where
        purpose_role = 'risk'
        and gate_outcome = 'ALLOW'

),

inputs as (

    select
        -- ids
        features.risk_subject_token,

        -- strings
        features.consent_event_id,
        features.consent_status,
        features.legal_basis,
        features.legal_reference,
        features.policy_version,
        features.gate_outcome,
        features.gate_reason,

        -- numerics: counts and money on a scale of ratios, shares as they are
        ln(1 + cast(features.transaction_count_90d as double))
            as movements,
        ln(1 + greatest(cast(features.volume_eur_90d as double), 0))
            as volume,
        coalesce(cast(features.cash_share_90d as double), 0) as cash_share,
        ln(1 + cast(features.foreign_country_count_90d as double))
            as foreign_countries,
        ln(
            1
            + cast(features.incoming_counterparty_count_90d as double)
            + cast(features.outgoing_counterparty_count_90d as double)
        ) as counterparties,
        coalesce(cast(features.pass_through_ratio_90d as double), 0)
            as pass_through,
        ln(
            1 + least(coalesce(cast(features.dormancy_days as double), 365), 365)
        ) as dormancy,
        ln(
            1
            + least(
                greatest(coalesce(cast(features.tenure_days as double), 0), 0),
                3650
            )
        ) as tenure,

        -- timestamps
        features.as_of

    from features
    inner join allowed
        on features.risk_subject_token = allowed.risk_subject_token

)

select * from inputs
