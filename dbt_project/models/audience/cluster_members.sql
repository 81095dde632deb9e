{#- The compiled text holds every centre: batch, online look-up and replay assign with these very numbers. -#}
{%- set model = cluster_model() -%}
{%- set is_built = clusters_are_built() -%}
{%- set centres = model['centres'] %}

with inputs as (

    select * from {{ ref('audience_cluster_inputs') }}
    {%- if not is_built %}
    -- Before the first fit there is nothing to assign to.
    where false
    {%- endif %}

),

measured as (

    select
        *
        {%- for centre in centres %},
        {{ cluster_distance(model['features'], centre) }} as distance_{{ loop.index }}
        {%- endfor %}
    from inputs

),

nearest as (

    select
        *,
        {%- if centres %}
        least(
            {%- for centre in centres %}
            distance_{{ loop.index }}{{ ',' if not loop.last }}
            {%- endfor %}
        ) as smallest
        {%- else %}
        cast(null as double) as smallest
        {%- endif %}
    from measured

),

-- Of two that are equally near the first of the document; a row without a distance is in none.
assigned as (

    select
        -- ids
        audience_subject_token,

        -- strings
        {%- if centres %}
        case
            {%- for centre in centres %}
            when smallest = distance_{{ loop.index }} then {{ score_text(centre['cluster_id']) }}
            {%- endfor %}
            else 'unclustered'
        end as cluster_id,
        {%- else %}
        'unclustered' as cluster_id,
        {%- endif %}
        {{ score_text(model['version']) }} as clustering_version,
        {{ score_text(model['sha256']) }} as clustering_sha256,
        consent_event_id,
        consent_status,
        legal_basis,
        legal_reference,
        policy_version,
        gate_outcome,
        gate_reason,

        -- numerics
        sqrt(smallest) as distance,

        -- booleans
        {%- if centres %}
        case
            {%- for centre in centres %}
            when smallest = distance_{{ loop.index }} then sqrt(smallest) > {{ score_number(centre['radius']) }}
            {%- endfor %}
        end as is_outlier,
        {%- else %}
        cast(null as boolean) as is_outlier,
        {%- endif %}

        -- timestamps
        as_of

    from nearest

)

select * from assigned
