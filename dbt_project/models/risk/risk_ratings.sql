{#- The manifest carries the very rules that this SQL runs: see `risk_rules`. -#}
{%- set rules = risk_rules() -%}
{%- set tier_names = risk_tier_names() -%}
{{ config(meta={'rules': rules}) }}

with features as (

    select * from {{ ref('risk_features') }}

),

tiers as (

    select * from {{ ref('risk_tiers') }}

),

-- One row: where each tier begins, and when it is reviewed.
scale as (

    select
        {%- for tier in tier_names %}
        max(case when tier = '{{ tier }}' then min_points end)
            as {{ tier }}_min_points,
        max(case when tier = '{{ tier }}' then review_months end)
            as {{ tier }}_review_months,
        {%- endfor %}
        {{ risk_rule_set_version(rules) }} as rule_set_version
    from tiers

),

fired as (

    select
        risk_subject_token,
        consent_event_id,
        consent_status,
        legal_basis,
        legal_reference,
        policy_version,
        gate_outcome,
        gate_reason,
        as_of,
        {{ risk_rule_columns(rules) }}
    from features

),

summed as (

    select
        risk_subject_token,
        consent_event_id,
        consent_status,
        legal_basis,
        legal_reference,
        policy_version,
        gate_outcome,
        gate_reason,
        as_of,
        {{ risk_reason_codes(rules) }} as reason_codes,
        {%- for factor in risk_factors() %}
        {{ risk_factor_points(rules, factor) }} as {{ factor }}_points,
        {%- endfor %}
        {{ risk_floor_rank(rules) }} as floor_rank
    from fired

),

totalled as (

    select
        *,
        {{ risk_factors() | join('_points + ') }}_points as points
    from summed

),

-- A tier without min_points is reached by a floor only.
ranked as (

    select
        totalled.*,
        scale.*,
        case
            {%- for tier in tier_names | reverse %}
            when totalled.points >= scale.{{ tier }}_min_points
                then {{ loop.revindex }}
            {%- endfor %}
        end as points_rank
    from totalled
    cross join scale

),

tiered as (

    select
        *,
        greatest(points_rank, floor_rank) as tier_rank
    from ranked

),

rated as (

    select
        -- ids
        risk_subject_token,

        -- strings
        {%- for column in ['tier', 'points_tier', 'floor_tier'] %}
        case {{ column | replace('_tier', '_rank') if column != 'tier' else 'tier_rank' }}
            {%- for tier in tier_names %}
            when {{ loop.index }} then '{{ tier }}'
            {%- endfor %}
        end as {{ column }},
        {%- endfor %}
        reason_codes,
        rule_set_version,
        consent_event_id,
        consent_status,
        legal_basis,
        legal_reference,
        policy_version,
        gate_outcome,
        gate_reason,

        -- numerics
        points,
        {%- for factor in risk_factors() %}
        {{ factor }}_points,
        {%- endfor %}

        -- dates
        {%- set months %}
            case tier_rank
                {%- for tier in tier_names %}
                when {{ loop.index }} then {{ tier }}_review_months
                {%- endfor %}
            end
        {%- endset %}
        {{ months_after('cast(as_of as date)', months) }} as review_due_date,

        -- timestamps
        as_of

    from tiered

)

select * from rated
