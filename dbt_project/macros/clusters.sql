{#-
  Clusters as SQL: which of the fitted centres is nearest to a subject.

  Belongs here: reading the clustering on record and laying its centres out as expressions. Does not belong here: fitting,
  judging stability, naming (`orchestration.clustering`), and any number of a clustering: they come from the record alone.
  A side is marketing or compliance (`orchestration.clustering.sides`); a model is of one side and reads that side's record.
  The record is read when dbt compiles, so that the compiled SQL holds every number that it assigns with.
-#}

{#-
  The newest row of a side's cluster_model: status, reason, document, names. A store in which nobody ever fitted has none.

  Unit tests override this macro, which is why reading stands apart from judging.
-#}
{% macro cluster_record(side="audience") -%}
    {%- set without = {
        "status": "no_clustering", "reason": "nobody fitted a clustering yet: segline clusters fit", "document": none, "names": none,
    } -%}
    {{- return(fitted_record(
        source("clustering" if side == "audience" else "risk_clustering", "cluster_model"), ["status", "reason", "document", "names"], without,
        "several clusterings stand at once"
    )) -}}
{%- endmacro %}


{#-
  What the run assigns with: {status, reason, version, sha256, fitted_as_of, features, centres, clusters, names}.

  status: current, no_clustering, no_stable_clustering, too_few_people, stale (older than its document allows), newer_than_run
  (fitted on what this run's instant cannot know) or refused. Only `current` puts anybody into a cluster; with all others
  everybody is unclustered and the status says why.
-#}
{% macro cluster_model(side="audience") -%}
    {%- set record = cluster_record(side) -%}
    {%- set model = {
        "status": record["status"], "reason": record["reason"], "version": none, "sha256": none, "fitted_as_of": none,
        "features": [], "centres": [], "clusters": [], "names": {},
    } -%}
    {%- if record["document"] -%}
        {%- set document = fromjson(record["document"]) -%}
        {%- do model.update({
            "version": document["version"], "sha256": document["sha256"], "fitted_as_of": document["fitted_as_of"],
        }) -%}
        {%- if record["status"] == "current" -%}
            {%- set fault = fitted_at_a_wrong_time(document["fitted_as_of"], document["valid_days"], "fitted") -%}
            {%- if fault -%}
                {%- do model.update(fault) -%}
            {%- else -%}
                {%- do model.update({
                    "features": document["features"], "centres": document["centres"], "clusters": document["clusters"],
                    "names": fromjson(record["names"] or "{}"),
                }) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endif -%}
    {{- return(model) -}}
{%- endmacro %}


{#- Whether anybody ever fitted a clustering: until then clusters are no family and cost nothing. -#}
{% macro clusters_are_built(side="audience") -%}
    {{- return(execute and cluster_record(side)["status"] != "no_clustering") -}}
{%- endmacro %}


{#- Squared distance from a row to a centre, each feature in its own standard deviations, in the order of the document. -#}
{% macro cluster_distance(features, centre) -%}
    {%- for feature in features %}
    {{- " + " if not loop.first }}
    {{- "power((" ~ feature["name"] ~ " - " ~ score_number(centre["values"][loop.index0]) ~ ") / " ~ score_number(feature["scale"]) ~ ", 2)" }}
    {%- endfor %}
{%- endmacro %}


{#- Every row of the gated view `inputs` with the nearest centre of that side's clustering; `token` names its subject. -#}
{% macro cluster_assignment(inputs, token, side) -%}
{%- set model = cluster_model(side) -%}
{%- set is_built = clusters_are_built(side) -%}
{%- set centres = model['centres'] %}

with inputs as (

    select * from {{ inputs }}
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
        {{ token }},

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
{%- endmacro %}


{#- A row per cluster of that side's clustering with its size among `members`, or one row that says why there are none. -#}
{% macro cluster_descriptions(members, side) -%}
{%- set model = cluster_model(side) -%}
{%- set unclustered = [{'cluster_id': 'unclustered', 'profile': none, 'people': none}] %}

with members as (

    select * from {{ members }}

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
{%- endmacro %}
