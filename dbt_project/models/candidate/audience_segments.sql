with members as (

    select * from {{ ref('audience_members') }}

),

gate as (

    select * from {{ ref('gate') }}

),

allowed as (

    select
        audience_subject_token as subject_token,
        segment_family,
        segment,
        purpose,
        consent_event_id,
        consent_status,
        legal_basis,
        legal_reference,
        policy_version,
        gate_outcome,
        gate_reason,
        as_of
    from members

),

families as (

    {%- for family in audience_families() %}
    select '{{ family }}' as segment_family
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}

),

-- Whoever the gate did not let through, with the cause. The blocked are counted
-- in `excluded_subjects` and appear nowhere.
defaulted as (

    select
        gate.audience_subject_token as subject_token,
        families.segment_family,
        'default' as segment,
        gate.purpose,
        gate.consent_event_id,
        gate.consent_status,
        gate.legal_basis,
        gate.legal_reference,
        gate.policy_version,
        gate.gate_outcome,
        gate.gate_reason,
        {{ as_of() }} as as_of
    from gate
    cross join families
    where
        gate.purpose_role = 'audience'
        and gate.gate_outcome not in ('ALLOW', 'BLOCK')

),

segments as (

    select * from allowed
    union all
    select * from defaulted

)

select * from segments
