{#-
  Every customer meets every declared purpose exactly once. The gate joins customers to keys
  that are unique, so a row can only be lost or doubled if this count differs; with a
  customer twice in staging the counts could still agree.
-#}
{{ config(
    description="The gate has exactly one row per customer and declared purpose.",
    meta={"dagster": {"ref": {"name": "gate"}}}
) }}

with customers as (

    select
        count(*) as customers,
        count(distinct subject_token) as subjects
    from {{ ref('stg_crm__customers') }}

),

purposes as (

    select count(distinct purpose) as purposes
    from {{ ref('policy_in_force') }}

),

gate as (

    select count(subject_token) as answers from {{ ref('gate') }}

)

select *
from customers
cross join purposes
cross join gate
where
    customers.customers <> customers.subjects
    or gate.answers <> customers.customers * purposes.purposes
