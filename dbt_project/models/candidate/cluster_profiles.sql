{%- set model = cluster_model() -%}
{%- set unclustered = [{'cluster_id': 'unclustered', 'profile': none, 'people': none}] -%}
{{ config(materialized='view') }}

with members as (

    select * from {{ ref('cluster_members') }}

),

profiles as (

    {%- for cluster in model['clusters'] or unclustered %}
    select
        {{ score_text(cluster['cluster_id']) }} as cluster_id,
        {{ score_text(model['names'].get(cluster['cluster_id'])) }} as cluster_name,
        {{ score_text(cluster['profile']) }} as profile,
        cast({{ 'null' if cluster['people'] is none else cluster['people'] }} as bigint) as fitted_count
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}

),

counted as (

    select
        cluster_id,
        count(*) as subject_count,
        count(*) filter (where is_outlier) as outlier_count
    from members
    group by cluster_id

),

described as (

    select
        profiles.cluster_id,
        profiles.cluster_name,
        profiles.profile,
        {{ score_text(model['status']) }} as state,
        {{ score_text(model['reason']) }} as state_reason,
        {{ score_text(model['version']) }} as clustering_version,
        {{ score_text(model['sha256']) }} as clustering_sha256,
        {{ score_text(model['fitted_as_of']) }} as fitted_as_of,
        profiles.fitted_count,
        -- A handful of people is not counted out loud.
        case when counted.subject_count >= 10 then counted.subject_count end
            as subject_count,
        case when counted.outlier_count >= 10 then counted.outlier_count end
            as outlier_count,
        {{ as_of() }} as as_of
    from profiles
    left join counted on profiles.cluster_id = counted.cluster_id

)

select * from described
