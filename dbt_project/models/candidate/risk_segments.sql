with ratings as (

    select * from {{ ref('risk_ratings') }}

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
        as_of
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
        {{ as_of() }} as as_of
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
