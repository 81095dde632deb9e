{#- Rules set the floor; the score may raise a tier, at most to high, and never lowers one. -#}
{%- set model = score_model() -%}
{%- set tier_names = risk_tier_names() -%}
{{ config(materialized='view') }}

with ratings as (

    select * from {{ ref('risk_ratings') }}

),

scores as (

    select * from {{ ref('model_scores') }}

),

tiers as (

    select * from {{ ref('risk_tiers') }}

),

ranked as (

    select
        ratings.*,
        scores.score_tier,
        scores.score,
        scores.reasons as score_reasons,
        {%- for column in ['ratings.tier', 'scores.score_tier'] %}
        case {{ column }}
            {%- for tier in tier_names %}
            when '{{ tier }}' then {{ loop.index }}
            {%- endfor %}
        end as {{ 'rules' if loop.first else 'score' }}_rank{{ ',' if not loop.last }}
        {%- endfor %}
    from ratings
    left join scores
        on ratings.risk_subject_token = scores.risk_subject_token

),

combined as (

    select
        *,
        -- Prohibited is the rules' word alone.
        case
            when score_rank > rules_rank then least(score_rank, 3)
            else rules_rank
        end as tier_rank
    from ranked

),

reviewed as (

    select
        -- ids
        combined.risk_subject_token,

        -- strings
        tiers.tier,
        combined.tier as rules_tier,
        combined.score_tier,
        combined.reason_codes,
        combined.score_reasons,
        combined.rule_set_version,
        {{ score_text(model['status']) }} as model_status,
        {{ score_text(model['model_version']) }} as model_version,
        combined.consent_event_id,
        combined.consent_status,
        combined.legal_basis,
        combined.legal_reference,
        combined.policy_version,
        combined.gate_outcome,
        combined.gate_reason,

        -- numerics
        combined.points,
        combined.score,

        -- booleans
        combined.tier_rank > combined.rules_rank as is_raised_by_score,

        -- dates
        least(
            combined.review_due_date,
            {{ months_after('cast(combined.as_of as date)', 'tiers.review_months') }}
        ) as review_due_date,

        -- timestamps
        combined.as_of

    from combined
    inner join tiers
        on tiers.tier = case combined.tier_rank
            {%- for tier in tier_names %}
            when {{ loop.index }} then '{{ tier }}'
            {%- endfor %}
        end

)

select * from reviewed
