{#- The manifest carries the very segments that this SQL decides: see `audience_segments`. -#}
{%- set segments = audience_segments() -%}
{%- set families = audience_families() -%}
{#- Named whether it is read or not, so that dbt builds it first; the ledger keeps what the SQL reads. -#}
{%- set clusters = ref('cluster_members') -%}
{{ config(meta={'segments': segments, 'families': families, 'optional_families': ['cluster']}) }}
{%- set evidence = [
    'consent_event_id', 'consent_status', 'legal_basis', 'legal_reference',
    'policy_version', 'gate_outcome', 'gate_reason', 'as_of',
] %}

with features as (

    select * from {{ ref('audience_features') }}

),

-- The first segment whose predicate holds is the subject's.
engagement as (

    select
        audience_subject_token,
        'engagement' as segment_family,
        case
            {%- for segment in segments if segment.family == 'engagement' %}
            when {{ segment.predicate }} then '{{ segment.segment }}'
            {%- endfor %}
        end as segment,
        {{ evidence | join(',\n        ') }}
    from features

),

-- Age band by jurisdiction and nothing finer, so that no cell is a person;
-- the few of unknown age are one segment.
demographic as (

    select
        audience_subject_token,
        'demographic' as segment_family,
        case
            when age_band = 'unknown' then 'unknown-age'
            else concat(
                lower(jurisdiction),
                '_',
                case age_band
                    when '<13' then 'under-13'
                    when '18+' then 'adult'
                    else age_band
                end
            )
        end as segment,
        {{ evidence | join(',\n        ') }}
    from features

),

{%- if 'cluster' in families %}

cluster as (

    select
        audience_subject_token,
        'cluster' as segment_family,
        cluster_id as segment,
        {{ evidence | join(',\n        ') }}
    from {{ clusters }}

),
{%- endif %}

members as (

    {%- for family in families %}
    select * from {{ family }}
    {%- if not loop.last %}
    union all
    {%- endif %}
    {%- endfor %}

)

select * from members
