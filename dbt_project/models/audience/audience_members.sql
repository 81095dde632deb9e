{#- The manifest carries the very segments that this SQL decides: see `audience_segments`. -#}
{%- set segments = audience_segments() -%}
{%- set families = audience_families() -%}
{%- set own_purpose = behavioural_purpose() -%}
{%- do require_audience_purposes() -%}
{#- Named whether they are read or not, so that dbt builds them first; the ledger keeps what the SQL reads. -#}
{%- set clusters = ref('cluster_members') -%}
{%- set gate = ref('gate') -%}
{{ config(meta={
    'segments': segments, 'families': families, 'optional_families': ['cluster'],
    'declarations': audience_family_declarations(),
}) }}
{%- set evidence = [
    'consent_event_id', 'consent_status', 'legal_basis', 'legal_reference',
    'policy_version', 'gate_outcome', 'gate_reason',
] %}
{%- set purposes = dict(cluster=audience_purpose()) -%}
{%- for declaration in audience_family_declarations() -%}
    {%- do purposes.update({declaration['family']: declaration['purpose']}) -%}
{%- endfor %}

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
        '{{ purposes['engagement'] }}' as purpose,
        {{ evidence | join(',\n        ') }},
        as_of
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
        '{{ purposes['demographic'] }}' as purpose,
        {{ evidence | join(',\n        ') }},
        as_of
    from features

),
{%- if 'rfm' in families %}

-- Recency by value, where frequency and money make the value.
rfm_values as (

    select
        *,
        {{ rfm_step('recency') }} as recency,
        {{ rfm_step('frequency') }} + {{ rfm_step('money') }} as points
    from features

),

rfm as (

    select
        audience_subject_token,
        'rfm' as segment_family,
        case
            when purchase_count_365d < 1 then 'no-purchase'
            else concat(
                recency,
                case
                    when points >= 5 then '_high-value'
                    when points >= 3 then '_middle-value'
                    else '_low-value'
                end
            )
        end as segment,
        '{{ purposes['rfm'] }}' as purpose,
        {{ evidence | join(',\n        ') }},
        as_of
    from rfm_values

),
{%- endif %}
{%- if own_purpose %}

own as (

    select
        audience_subject_token,
        purpose,
        {{ evidence | join(',\n        ') }}
    from {{ gate }}
    where purpose = '{{ own_purpose }}'

),

-- What people do on the site counts only under its own purpose; without it the
-- segment is the default, with that purpose's cause.
behavioural as (

    select
        features.audience_subject_token,
        'behavioural' as segment_family,
        case
            when own.gate_outcome <> 'ALLOW' then 'default'
            {%- for segment in segments if segment.family == 'behavioural' %}
            when {{ segment.predicate }} then '{{ segment.segment }}'
            {%- endfor %}
        end as segment,
        own.purpose,
        {%- for name in evidence %}
        own.{{ name }},
        {%- endfor %}
        features.as_of
    from features
    inner join own
        on features.audience_subject_token = own.audience_subject_token

),
{%- endif %}
{%- if 'hybrid' in families %}

-- Behaviour where its own purpose allows, else age band and place. Whoever is
-- in neither meets the page's context alone (contextual_segments).
hybrid as (

    select
        audience_subject_token,
        'hybrid' as segment_family,
        concat('behavioural_', segment) as segment,
        purpose,
        {{ evidence | join(',\n        ') }},
        as_of
    from behavioural
    where segment <> 'default'
    union all
    select
        demographic.audience_subject_token,
        'hybrid' as segment_family,
        concat('demographic_', demographic.segment) as segment,
        demographic.purpose,
        {%- for name in evidence %}
        demographic.{{ name }},
        {%- endfor %}
        demographic.as_of
    from demographic
    inner join behavioural
        on demographic.audience_subject_token = behavioural.audience_subject_token
    where behavioural.segment = 'default'

),
{%- endif %}
{%- if 'cluster' in families %}

cluster as (

    select
        audience_subject_token,
        'cluster' as segment_family,
        cluster_id as segment,
        '{{ purposes['cluster'] }}' as purpose,
        {{ evidence | join(',\n        ') }},
        as_of
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
