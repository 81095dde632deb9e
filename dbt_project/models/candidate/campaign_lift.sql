{#-
  Newcombe's hybrid score interval (method 10, «Interval estimation for the difference between independent proportions»,
  Statistics in Medicine 17, 1998): from the Wilson intervals of the two shares, good for small counts and rare outcomes.
-#}
{%- set z = '1.959963984540054' -%}
{%- set least = 30 -%}
{{ config(materialized='view') }}

with gate as (

    select * from {{ ref('gate') }}

),

campaign_outcomes as (

    select * from {{ ref('stg_marketing__campaign_outcomes') }}

),

members as (

    select * from {{ ref('audience_members') }}

),

allowed as (

    select
        subject_token,
        audience_subject_token
    from gate
    where
        purpose_role = 'audience'
        and gate_outcome = 'ALLOW'

),

-- Somebody who is in a campaign twice counts as first assigned.
assigned as (

    select
        campaign_outcomes.campaign_id,
        campaign_outcomes.variant,
        campaign_outcomes.has_converted,
        allowed.audience_subject_token,
        row_number() over (
            partition by
                campaign_outcomes.campaign_id,
                campaign_outcomes.subject_token
            order by
                campaign_outcomes.assigned_at,
                campaign_outcomes.outcome_id
        ) as place
    from campaign_outcomes
    inner join allowed
        on campaign_outcomes.subject_token = allowed.subject_token
    where campaign_outcomes.assigned_at <= {{ as_of() }}

),

first_assigned as (

    select
        campaign_id,
        variant,
        has_converted,
        audience_subject_token
    from assigned
    where place = 1

),

-- By age band and place only: what a campaign changes, such as purchases, must
-- not say whom it is measured on.
placed as (

    select
        campaign_id,
        'all' as segment,
        variant,
        has_converted
    from first_assigned
    union all
    select
        first_assigned.campaign_id,
        members.segment,
        first_assigned.variant,
        first_assigned.has_converted
    from first_assigned
    inner join members
        on first_assigned.audience_subject_token = members.audience_subject_token
    where members.segment_family = 'demographic'

),

counted as (

    select
        campaign_id,
        segment,
        count(*) filter (where variant = 'treated') as treated_count,
        count(*) filter (where variant = 'treated' and has_converted)
            as treated_converted,
        count(*) filter (where variant = 'control') as control_count,
        count(*) filter (where variant = 'control' and has_converted)
            as control_converted
    from placed
    group by
        campaign_id,
        segment

),

-- A handful of people is neither measured nor counted out loud.
enough as (

    select
        *,
        cast(treated_converted as double) / treated_count as treated_rate,
        cast(control_converted as double) / control_count as control_rate
    from counted
    where
        treated_count >= {{ least }}
        and control_count >= {{ least }}

),

bounded as (

    select
        *
        {%- for side in ['treated', 'control'] %},
        (
            {{ side }}_rate + {{ z }} * {{ z }} / (2 * {{ side }}_count)
        ) / (1 + {{ z }} * {{ z }} / {{ side }}_count) as {{ side }}_middle,
        {{ z }} * sqrt(
            {{ side }}_rate * (1 - {{ side }}_rate) / {{ side }}_count
            + {{ z }} * {{ z }} / (4 * cast({{ side }}_count as double) * {{ side }}_count)
        ) / (1 + {{ z }} * {{ z }} / {{ side }}_count) as {{ side }}_half
        {%- endfor %}
    from enough

),

lifted as (

    select
        campaign_id,
        segment,
        treated_count,
        control_count,
        treated_rate,
        control_rate,
        treated_rate - control_rate as lift,
        treated_rate - control_rate - sqrt(
            power(treated_rate - treated_middle + treated_half, 2)
            + power(control_middle + control_half - control_rate, 2)
        ) as lift_low,
        treated_rate - control_rate + sqrt(
            power(treated_middle + treated_half - treated_rate, 2)
            + power(control_rate - control_middle + control_half, 2)
        ) as lift_high
    from bounded

),

judged as (

    select
        campaign_id,
        segment,
        treated_count,
        control_count,
        treated_rate,
        control_rate,
        lift,
        lift_low,
        lift_high,
        lift_low > 0 or lift_high < 0 as is_beyond_chance,
        {{ as_of() }} as as_of
    from lifted

)

select * from judged
