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
    {%- set source_table = source("clustering", "cluster_model") -%}
    {%- set record = {
        "status": "no_clustering", "reason": "nobody fitted a clustering yet: segline clusters fit", "document": none, "names": none,
    } -%}
    {%- if execute and load_relation(source_table) is not none -%}
        {%- set found = run_query("select status, reason, document, names from " ~ source_table) -%}
        {%- if found.rows | length == 1 -%}
            {%- set row = found.rows[0] -%}
            {%- do record.update({"status": row[0], "reason": row[1], "document": row[2], "names": row[3]}) -%}
        {%- elif found.rows | length > 1 -%}
            {%- do record.update({"status": "refused", "reason": "several clusterings stand at once"}) -%}
        {%- endif -%}
    {%- endif -%}
    {{- return(record) -}}
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
            {%- set day = modules.datetime.datetime.strptime -%}
            {%- set now = day((var("as_of") | string)[:19], "%Y-%m-%d %H:%M:%S") -%}
            {%- set fitted = day(document["fitted_as_of"][:19], "%Y-%m-%d %H:%M:%S") -%}
            {%- if fitted > now -%}
                {%- do model.update({"status": "newer_than_run", "reason": "fitted as of " ~ fitted ~ ", after this run"}) -%}
            {%- elif fitted + modules.datetime.timedelta(days=document["valid_days"]) < now -%}
                {%- do model.update({
                    "status": "stale",
                    "reason": "fitted as of " ~ fitted ~ ", good for " ~ document["valid_days"] ~ " days",
                }) -%}
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
