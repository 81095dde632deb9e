{#-
  Clusters as SQL: which of the fitted centres is nearest to a subject.

  Belongs here: reading the clustering on record and laying its centres out as expressions. Does not belong here: fitting,
  judging stability, naming (`orchestration.clustering`), and any number of a clustering: they come from the record alone.
  The record is read when dbt compiles, so that the compiled SQL holds every number that it assigns with.
-#}

{#-
  The newest row of a side's cluster_model: status, reason, document, names. A store in which nobody ever fitted has none.

  Unit tests override this macro, which is why reading stands apart from judging.
-#}
{% macro cluster_record() -%}
    {%- set without = {
        "status": "no_clustering", "reason": "nobody fitted a clustering yet: segline clusters fit", "document": none, "names": none,
    } -%}
    {{- return(fitted_record(
        source("clustering", "cluster_model"), ["status", "reason", "document", "names"], without,
        "several clusterings stand at once"
    )) -}}
{%- endmacro %}


{#-
  What the run assigns with: {status, reason, version, sha256, fitted_as_of, features, centres, clusters, names}.

  status: current, no_clustering, no_stable_clustering, too_few_people, stale (older than its document allows), newer_than_run
  (fitted on what this run's instant cannot know) or refused. Only `current` puts anybody into a cluster; with all others
  everybody is unclustered and the status says why.
-#}
{% macro cluster_model() -%}
    {%- set record = cluster_record() -%}
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
{% macro clusters_are_built() -%}
    {{- return(execute and cluster_record()["status"] != "no_clustering") -}}
{%- endmacro %}


{#- Squared distance from a row to a centre, each feature in its own standard deviations, in the order of the document. -#}
{% macro cluster_distance(features, centre) -%}
    {%- for feature in features %}
    {{- " + " if not loop.first }}
    {{- "power((" ~ feature["name"] ~ " - " ~ score_number(centre["values"][loop.index0]) ~ ") / " ~ score_number(feature["scale"]) ~ ", 2)" }}
    {%- endfor %}
{%- endmacro %}
