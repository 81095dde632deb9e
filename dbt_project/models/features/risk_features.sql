{%- set zero_when_absent = [
    'transaction_count', 'volume_eur', 'incoming_volume_eur',
    'high_risk_volume_eur', 'increased_risk_volume_eur',
    'payment_method_count', 'near_threshold_count', 'unpriced_count',
] %}
{%- set shares = [
    'cash_share', 'crypto_share', 'wallet_share', 'high_risk_share',
    'increased_risk_share', 'unknown_corridor_share',
] %}
{%- set counterparty_counts = [
    'counterparty_count', 'incoming_counterparty_count',
    'outgoing_counterparty_count',
] %}
{%- set incident_counts = ['confirmed_incident_count', 'open_incident_count'] %}
{%- set incident_counts_ever = [
    'confirmed_incident_count_ever', 'open_incident_count_ever',
    'critical_incident_count_ever', 'ungraded_incident_count_ever',
    'open_sanctions_alert_count',
] %}
{%- set complaint_counts = ['complaint_count', 'fraud_complaint_count'] %}

with subjects as (

    select * from {{ ref('risk_subjects') }}

),

transaction_measures as (

    select * from {{ ref('risk_transaction_measures') }}

),

counterparty_measures as (

    select * from {{ ref('risk_counterparty_measures') }}

),

corridor_measures as (

    select * from {{ ref('risk_corridor_measures') }}

),

flow_measures as (

    select * from {{ ref('risk_flow_measures') }}

),

incident_measures as (

    select * from {{ ref('risk_incident_measures') }}

),

feedback_measures as (

    select * from {{ ref('risk_feedback_measures') }}

),

-- Nothing on record counts as zero; what cannot be known stays null.
joined as (

    select
        -- ids: the zone's own pseudonym only
        subjects.risk_subject_token,

        -- strings
        subjects.customer_type,
        subjects.age_band,
        subjects.country_code,
        subjects.country_risk_level,
        subjects.region_code,
        subjects.industry_risk_level,
        subjects.onboarding_channel,
        subjects.primary_product,
        subjects.relationship_status,
        incident_measures.last_incident_severity,
        subjects.consent_event_id,
        subjects.consent_status,
        subjects.legal_basis,
        subjects.legal_reference,
        subjects.policy_version,
        subjects.gate_outcome,
        subjects.gate_reason,

        -- numerics
        subjects.ownership_layers,
        subjects.tenure_days,
        {%- for days in feature_windows() %}
        {%- for name in zero_when_absent %}
        coalesce(transaction_measures.{{ name }}_{{ days }}d, 0)
            as {{ name }}_{{ days }}d,
        {%- endfor %}
        {%- for name in shares %}
        transaction_measures.{{ name }}_{{ days }}d,
        {%- endfor %}
        {%- for name in counterparty_counts %}
        coalesce(counterparty_measures.{{ name }}_{{ days }}d, 0)
            as {{ name }}_{{ days }}d,
        {%- endfor %}
        coalesce(corridor_measures.foreign_country_count_{{ days }}d, 0)
            as foreign_country_count_{{ days }}d,
        {%- for name in incident_counts %}
        coalesce(incident_measures.{{ name }}_{{ days }}d, 0)
            as {{ name }}_{{ days }}d,
        {%- endfor %}
        feedback_measures.mean_csat_{{ days }}d,
        {%- for name in complaint_counts %}
        coalesce(feedback_measures.{{ name }}_{{ days }}d, 0)
            as {{ name }}_{{ days }}d,
        {%- endfor %}
        {%- endfor %}
        transaction_measures.pass_through_ratio_30d,
        transaction_measures.holding_days_30d,
        transaction_measures.dormancy_days,
        -- The month's volume against the year's monthly mean.
        round(
            transaction_measures.volume_eur_30d * 365 / 30
            / nullif(transaction_measures.volume_eur_365d, 0),
            4
        ) as volume_change_30d,
        coalesce(counterparty_measures.two_way_counterparty_count_90d, 0)
            as two_way_counterparty_count_90d,
        coalesce(counterparty_measures.new_counterparty_count_30d, 0)
            as new_counterparty_count_30d,
        coalesce(flow_measures.active_day_count_90d, 0)
            as active_day_count_90d,
        flow_measures.busiest_day_share_90d,
        flow_measures.pass_through_ratio_90d,
        flow_measures.forwarded_share_90d,
        flow_measures.forward_days_90d,
        {%- for name in incident_counts_ever %}
        coalesce(incident_measures.{{ name }}, 0) as {{ name }},
        {%- endfor %}
        cast(
            {{ days_between('incident_measures.last_incident_at', as_of()) }}
            as bigint
        ) as days_since_last_incident,
        feedback_measures.latest_nps,

        -- booleans
        subjects.is_pep,
        subjects.has_sanctions_match,

        -- timestamps
        transaction_measures.last_transaction_at,
        {{ as_of() }} as as_of

    from subjects
    left join transaction_measures
        on subjects.subject_number = transaction_measures.subject_number
    left join counterparty_measures
        on subjects.subject_number = counterparty_measures.subject_number
    left join corridor_measures
        on subjects.subject_number = corridor_measures.subject_number
    left join flow_measures
        on subjects.subject_number = flow_measures.subject_number
    left join incident_measures
        on subjects.subject_number = incident_measures.subject_number
    left join feedback_measures
        on subjects.subject_number = feedback_measures.subject_number

)

select * from joined
