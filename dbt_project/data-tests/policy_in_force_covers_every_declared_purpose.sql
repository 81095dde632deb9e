{#-
  The gate answers DEFAULT where the policy has no row; this test makes the run fail as
  well, so that a forgotten row is noticed on the day and not by its effect. An unknown
  profile has no purposes and fails here too.
-#}
{{ config(
    description="The profile exists, has one risk and one audience purpose, and each purpose has all its policy cells.",
    meta={"dagster": {"ref": {"name": "policy_in_force"}}}
) }}

with policy_in_force as (

    select * from {{ ref('policy_in_force') }}

),

cells as (

    select
        purpose,
        count(distinct concat(jurisdiction, '|', age_band, '|', signal))
            as different_cells,
        count(policy_cell) as filled_cells
    from policy_in_force
    group by 1

),

roles as (

    select
        count(distinct case when purpose_role = 'risk' then purpose end)
            as risk_purposes,
        count(distinct case when purpose_role = 'audience' then purpose end)
            as audience_purposes
    from policy_in_force

)

select concat('cells of ', purpose) as problem
from cells
where different_cells <> 5 * 5 * 9 or filled_cells <> 5 * 5 * 9
union all
select 'roles' as problem
from roles
where risk_purposes <> 1 or audience_purposes <> 1
