{%- set model = cluster_model('risk') -%}
{{ config(materialized='view') }}

with members as (

    select * from {{ ref('risk_cluster_members') }}

),

named as (

    select
        risk_subject_token as subject_token,
        cluster_id,
        {%- if model['names'] %}
        case cluster_id
            {%- for cluster_id, name in model['names'].items() %}
            when {{ score_text(cluster_id) }} then {{ score_text(name) }}
            {%- endfor %}
        end as cluster_name,
        {%- else %}
        -- no name is approved, whatever the cluster
        nullif(cluster_id, cluster_id) as cluster_name,
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

)

select * from named
