{#- The compiled text holds the whole points table: batch, online look-up and replay score with these very numbers. -#}
{%- set model = score_model() -%}
{%- set terms = model['terms'] -%}
{%- set families = score_families() -%}

with features as (

    select * from {{ ref('risk_features') }}

),

inputs as (

    select
        risk_subject_token,
        consent_event_id,
        consent_status,
        legal_basis,
        legal_reference,
        policy_version,
        gate_outcome,
        gate_reason,
        as_of
        {%- for term in terms %},
        {{ score_input(term) }} as {{ term['feature'] }}
        {%- endfor %}
    from features
    {%- if model['status'] != 'current' %}
    -- Without a model that may score nobody is scored.
    where false
    {%- endif %}

),

pointed as (

    select
        *,
        {{ score_missing_count(terms) }} as missing_count,
        {{ score_unseen_count(terms) }} as unseen_count
        {%- for term in terms %},
        {{ score_points(term) }} as {{ term['feature'] }}_points
        {%- endfor %}
    from inputs

),

summed as (

    select
        *
        {%- for family in families %},
        {{ score_family_points(terms, family) }} as {{ family }}_points
        {%- endfor %}
    from pointed

),

totalled as (

    select
        *,
        {{ score_number(model['intercept']) }} as base_points,
        {{ score_number(model['intercept']) }}
        {%- for family in families %}
        + {{ family }}_points
        {%- endfor %} as score
    from summed

),

scored as (

    select
        -- ids
        risk_subject_token,

        -- strings
        {{ score_reasons(families) }} as reasons,
        {{ score_text(model['model_version']) }} as model_version,
        {{ score_text(model['model_sha256']) }} as model_sha256,
        case
            {%- for tier in ['high', 'medium'] %}
            when score >= {{ score_number(model[tier ~ '_from']) }} then '{{ tier }}'
            {%- endfor %}
            else 'low'
        end as score_tier,
        consent_event_id,
        consent_status,
        legal_basis,
        legal_reference,
        policy_version,
        gate_outcome,
        gate_reason,

        -- numerics
        score,
        1 / (1 + exp(-score)) as probability,
        base_points,
        {%- for family in families %}
        {{ family }}_points,
        {%- endfor %}
        cast(missing_count as integer) as missing_count,
        cast(unseen_count as integer) as unseen_count,

        -- timestamps
        as_of

    from totalled

)

select * from scored
