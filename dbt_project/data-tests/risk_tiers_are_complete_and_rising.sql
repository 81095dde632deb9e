{#- A tier that is missing from the seed, or out of order, would quietly rate too low. -#}
{%- set tier_names = risk_tier_names() -%}
{{ config(
    tags=["policy"],
    description="The four tiers are there once each, low begins at 0, each higher one later, all have a review.",
    meta={"dagster": {"ref": {"name": "risk_tiers"}}}
) }}

with tiers as (

    select
        risk_tiers.*,
        case tier
            {%- for tier in tier_names %}
            when '{{ tier }}' then {{ loop.index }}
            {%- endfor %}
        end as tier_rank
    from {{ ref('risk_tiers') }} as risk_tiers

),

compared as (

    select
        *,
        lag(min_points) over (order by tier_rank) as points_below,
        count(*) over () as tiers
    from tiers

)

select *
from compared
where
    tier_rank is null
    or tiers <> {{ tier_names | length }}
    or coalesce(review_months, 0) < 1
    or (tier_rank = 1 and coalesce(min_points, -1) <> 0)
    or (tier_rank > 1 and min_points <= points_below)
    or (tier_rank < {{ tier_names | length }} and min_points is null)
