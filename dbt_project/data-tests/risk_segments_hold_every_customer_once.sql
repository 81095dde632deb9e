{#-
  Members, default segments and the blocked make up the customers, nobody twice, and every rating is complete. One scan
  of each table, because it runs before every publication.
-#}
{{ config(
    description="Rated, default and blocked customers add up to all; each is there once, each rating is complete.",
    meta={"dagster": {"ref": {"name": "risk_segments"}}}
) }}

with customers as (

    select count(*) as customers
    from {{ ref('stg_crm__customers') }}

),

segments as (

    select
        count(*) as segmented,
        count(distinct subject_token) as subjects,
        count(*) filter (
            where
                segment is null
                or (segment <> 'default' and points is null)
                or (segment <> 'default' and rule_set_version is null)
                or (segment <> 'default' and review_due_date is null)
        ) as incomplete
    from {{ ref('risk_segments') }}

),

blocked as (

    select coalesce(sum(subject_count), 0) as blocked
    from {{ ref('excluded_subjects') }}
    where zone = 'risk'

)

select *
from customers
cross join segments
cross join blocked
where
    segments.segmented + blocked.blocked <> customers.customers
    or segments.subjects <> segments.segmented
    or segments.incomplete > 0
