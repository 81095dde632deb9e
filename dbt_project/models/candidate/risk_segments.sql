with ratings as (

    select * from {{ ref('risk_combined_tiers') }}

),

gate as (

    select * from {{ ref('gate') }}

),

rated as (

    select
        risk_subject_token as subject_token,
        tier as segment,
        tier,
        points,
        reason_codes,
        rule_set_version,
        review_due_date,
        consent_event_id,
        consent_status,
        legal_basis,
        legal_reference,
        policy_version,
        gate_outcome,
        gate_reason,
        as_of,
        rules_tier,
        score_tier,
        score_reasons,
        model_status,
        model_version
    from ratings

),

-- Whoever the gate did not let through, with the cause. The blocked are counted
-- in `excluded_subjects` and appear nowhere.
defaulted as (

    select
        risk_subject_token as subject_token,
        'default' as segment,
        cast(null as {{ dbt.type_string() }}) as tier,
        cast(null as integer) as points,
        cast(null as {{ dbt.type_string() }}) as reason_codes,
        cast(null as {{ dbt.type_string() }}) as rule_set_version,
        cast(null as date) as review_due_date,
        consent_event_id,
        consent_status,
        legal_basis,
        legal_reference,
        policy_version,
        gate_outcome,
        gate_reason,
        {{ as_of() }} as as_of,
        cast(null as {{ dbt.type_string() }}) as rules_tier,
        cast(null as {{ dbt.type_string() }}) as score_tier,
        cast(null as {{ dbt.type_string() }}) as score_reasons,
        cast(null as {{ dbt.type_string() }}) as model_status,
        cast(null as {{ dbt.type_string() }}) as model_version
    from gate
    where
        purpose_role = 'risk'
        and gate_outcome not in ('ALLOW', 'BLOCK')

),

segments as (

    select * from rated
    union all
    select * from defaulted

)

select * from segments
