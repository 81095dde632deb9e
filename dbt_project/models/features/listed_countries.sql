{{ config(materialized='view') }}

with country_risk as (

    select * from {{ ref('country_risk') }}

),

in_force as (

    select *
    from country_risk
    where
        valid_from <= cast({{ as_of() }} as date)
        and (valid_to is null or valid_to > cast({{ as_of() }} as date))

),

-- Any level but the two known ones counts as the lesser of them, not as none.
highest_levels as (

    select
        iso2 as country_code,
        case
            when max(case when risk_level = 'high' then 1 else 0 end) = 1
                then 'high'
            else 'increased'
        end as risk_level
    from in_force
    group by iso2

)

select * from highest_levels
