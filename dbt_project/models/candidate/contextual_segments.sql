{#- Of a page and an hour, of nobody: not a single relation about people is read. -#}
{%- set dayparts = [['morning', 6, 11], ['afternoon', 12, 17], ['evening', 18, 21], ['night', 22, 5]] -%}
{{ config(materialized='view') }}

with pages as (

    select * from {{ ref('contextual_segments_by_page') }}

),

dayparts as (

    {%- for name, first_hour, last_hour in dayparts %}
    select
        '{{ name }}' as daypart,
        {{ first_hour }} as first_hour,
        {{ last_hour }} as last_hour
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}

),

segments as (

    select
        pages.page_category,
        dayparts.daypart,
        concat(pages.segment, '_', dayparts.daypart) as segment,
        pages.text,
        pages.is_child_directed,
        cast(dayparts.first_hour as integer) as first_hour,
        cast(dayparts.last_hour as integer) as last_hour,
        {{ as_of() }} as as_of
    from pages
    cross join dayparts
    where pages.profile = '{{ var("profile") }}'

)

select * from segments
