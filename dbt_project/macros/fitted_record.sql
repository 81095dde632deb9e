{#-
  What scores and clusters share: a record of what was fitted, one row that the run reads and never makes.

  Belongs here: reading that row when dbt compiles, and whether the run's instant may use what stands in it. Does not belong
  here: what a document holds (`risk_score`, `clusters`).
-#}

{#-
  The one row of a record as {column: value}; `without` where nobody made the record yet, `several` over it where it has more
  than one row.
-#}
{% macro fitted_record(source_table, columns, without, several) -%}
    {%- set record = dict(without) -%}
    {%- if execute and load_relation(source_table) is not none -%}
        {%- set found = run_query("select " ~ columns | join(", ") ~ " from " ~ source_table) -%}
        {%- if found.rows | length == 1 -%}
            {%- for column in columns -%}
                {%- do record.update({column: found.rows[0][loop.index0]}) -%}
            {%- endfor -%}
        {%- elif found.rows | length > 1 -%}
            {%- do record.update({"status": "refused", "reason": several}) -%}
        {%- endif -%}
    {%- endif -%}
    {{- return(record) -}}
{%- endmacro %}


{#-
  Why a document fitted (`verb`) as of `as_of` cannot serve the run's instant, as {status, reason}; none where it can.

  status: newer_than_run (fitted on what that instant cannot know) or stale (older than its `valid_days`).
-#}
{% macro fitted_at_a_wrong_time(as_of, valid_days, verb) -%}
    {%- set day = modules.datetime.datetime.strptime -%}
    {%- set now = day((var("as_of") | string)[:19], "%Y-%m-%d %H:%M:%S") -%}
    {%- set fitted = day(as_of[:19], "%Y-%m-%d %H:%M:%S") -%}
    {%- if fitted > now -%}
        {{- return({"status": "newer_than_run", "reason": verb ~ " as of " ~ fitted ~ ", after this run"}) -}}
    {%- elif fitted + modules.datetime.timedelta(days=valid_days) < now -%}
        {{- return({"status": "stale", "reason": verb ~ " as of " ~ fitted ~ ", good for " ~ valid_days ~ " days"}) -}}
    {%- endif -%}
    {{- return(none) -}}
{%- endmacro %}
