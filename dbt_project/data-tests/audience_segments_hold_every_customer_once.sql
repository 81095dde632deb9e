{#-
  In each family, members, default segments and the blocked make up the customers, nobody twice. One scan of each table,
  because it runs before every publication.
-#}
{{ config(
    description="In each family, segmented, default and blocked customers add up to all customers; each is there once.",
    meta={"dagster": {"ref": {"name": "audience_segments"}}}
) }}

with customers as (

    select count(*) as customers
    from {{ ref('stg_crm__customers') }}

),

families as (

    {%- for family in audience_families() %}
    select '{{ family }}' as segment_family
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}

),

segments as (

    select
        segment_family,
        count(*) as segmented,
        count(distinct subject_token) as subjects,
        count(*) filter (where segment is null) as incomplete
    from {{ ref('audience_segments') }}
    group by segment_family

),

blocked as (

    select coalesce(sum(subject_count), 0) as blocked
    from {{ ref('excluded_subjects') }}
    where zone = 'audience'

)

select
    families.segment_family,
    customers.customers,
    segments.segmented,
    segments.subjects,
    segments.incomplete,
    blocked.blocked
from families
cross join customers
cross join blocked
full outer join segments
    on families.segment_family = segments.segment_family
where
    families.segment_family is null
    or coalesce(segments.segmented, 0) + blocked.blocked <> customers.customers
    or segments.subjects <> segments.segmented
    or segments.incomplete > 0
