{%- set model = cluster_model() -%}
{%- set is_built = clusters_are_built() -%}
{{ config(materialized='view') }}

with members as (

    select * from {{ ref('cluster_members') }}

),

gate as (

    select * from {{ ref('gate') }}

),

allowed as (

    select
        audience_subject_token as subject_token,
        cluster_id,
        {%- if model['names'] %}
        case cluster_id
            {%- for cluster_id, name in model['names'].items() %}
            when {{ score_text(cluster_id) }} then {{ score_text(name) }}
            {%- endfor %}
        end as cluster_name,
        {%- else %}
        {{ score_text(none) }} as cluster_name,
        {%- endif %}
        clustering_version,
        clustering_sha256,
        consent_event_id,
        consent_status,
        legal_basis,
        legal_reference,
        policy_version,
        gate_outcome,
        gate_reason,
        distance,
        is_outlier,
        as_of
    from members

),

-- Whoever the gate did not let through, with the cause; the blocked appear nowhere.
defaulted as (

    select
        audience_subject_token as subject_token,
        'default' as cluster_id,
        {{ score_text(none) }} as cluster_name,
        {{ score_text(none) }} as clustering_version,
        {{ score_text(none) }} as clustering_sha256,
        consent_event_id,
        consent_status,
        legal_basis,
        legal_reference,
        policy_version,
        gate_outcome,
        gate_reason,
        cast(null as double) as distance,
        cast(null as boolean) as is_outlier,
        {{ as_of() }} as as_of
    from gate
    where
        purpose_role = 'audience'
        and gate_outcome not in ('ALLOW', 'BLOCK')
        {%- if not is_built %}
        -- Before the first fit nobody is asked about.
        and false
        {%- endif %}

),

clusters as (

    select * from allowed
    union all
    select * from defaulted

)

select * from clusters
