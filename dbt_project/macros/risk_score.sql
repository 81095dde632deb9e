{#-
  The risk score as SQL: a points table (feature, bin, points) laid out as one CASE per feature.

  Belongs here: reading the deployed points table and turning it into expressions. Does not belong here: fitting, choosing
  or approving a model (`orchestration.scoring`), and any number of a model: they come from the deployed document alone.
  The table is read when dbt compiles, so that the compiled SQL holds every number that it scores with.
-#}

{#- Families that reasons are shown by. A points table that names another one is refused before it gets here. -#}
{% macro score_families() -%}
    {{- return([
        "activity", "cash", "virtual_assets", "geography", "network", "flow", "profile", "service",
    ]) -}}
{%- endmacro %}


{#- Reasons shown with a score: the families that raise it most. -#}
{% macro score_reason_count() -%}
    {{- return(4) -}}
{%- endmacro %}


{#-
  The newest row of risk.score_model: status, reason, document. A store in which nothing was ever deployed has none.

  Unit tests override this macro, which is why reading stands apart from judging.
-#}
{% macro score_deployment() -%}
    {%- set without = {"status": "no_model", "reason": "no model was promoted yet", "document": none} -%}
    {{- return(fitted_record(
        source("scoring", "score_model"), ["status", "reason", "document"], without, "several models are deployed at once"
    )) -}}
{%- endmacro %}


{#-
  What the run scores with: {status, reason, model_version, model_sha256, intercept, medium_from, high_from, terms}.

  status: current, no_model, stale (older than its document allows), newer_than_run (trained on what this run's instant
  cannot know) or refused. Only `current` scores anybody; with all others the rules stand alone and the status says why.
-#}
{% macro score_model() -%}
    {%- set deployment = score_deployment() -%}
    {%- set model = {
        "status": deployment["status"], "reason": deployment["reason"], "model_version": none, "model_sha256": none,
        "intercept": 0.0, "medium_from": none, "high_from": none, "terms": [],
    } -%}
    {%- if deployment["document"] -%}
        {%- set document = fromjson(deployment["document"]) -%}
        {%- do model.update({"model_version": document["version"], "model_sha256": document["sha256"]}) -%}
        {%- if deployment["status"] == "current" -%}
            {%- set fault = fitted_at_a_wrong_time(document["trained_as_of"], document["valid_days"], "trained") -%}
            {%- if fault -%}
                {%- do model.update(fault) -%}
            {%- else -%}
                {%- do model.update({
                    "intercept": document["intercept"], "medium_from": document["medium_from"],
                    "high_from": document["high_from"], "terms": document["terms"],
                }) -%}
            {%- endif -%}
        {%- endif -%}
    {%- endif -%}
    {{- return(model) -}}
{%- endmacro %}


{#- A number as a double, digit for digit: a plain decimal literal would be rounded on the way. An unset one is null. -#}
{% macro score_number(value) -%}
    cast({{ "null" if value is none else "'" ~ value ~ "'" }} as double)
{%- endmacro %}


{#- A text literal; an unset one is null. -#}
{% macro score_text(value) -%}
    {%- if value is none -%}
        cast(null as {{ dbt.type_string() }})
    {%- else -%}
        '{{ value | string | replace("'", "''") }}'
    {%- endif -%}
{%- endmacro %}


{#-
  Points of the ranges from place `first` to place `last`, halved at each step: a value meets five cuts instead of thirty.
-#}
{% macro score_range_points(term, first, last) -%}
    {%- if first == last -%}
        {{- score_number(term["points"][first]) -}}
    {%- else -%}
        {%- set middle = (first + last) // 2 -%}
        case when {{ term["feature"] }} < {{ score_number(term["cuts"][middle]) }} then {{ score_range_points(term, first, middle) }}
        {{- " else " ~ score_range_points(term, middle + 1, last) }} end
    {%- endif -%}
{%- endmacro %}


{#-
  Points of one term for a column of that name. Bins are closed on the left: lower <= value < upper.

  NaN is missing, like null: a plain comparison would put it into the highest bin.
-#}
{% macro score_points(term) -%}
    {%- set column = term["feature"] -%}
    case
        {%- if term["kind"] == "number" %}
        when {{ column }} is null or isnan({{ column }}) then {{ score_number(term["missing"]) }}
        else {{ score_range_points(term, 0, term["cuts"] | length) }}
        {%- else %}
        when {{ column }} is null then {{ score_number(term["missing"]) }}
        {%- for category in term["categories"] %}
        when {{ column }} = {{ score_text(category) }} then {{ score_number(term["points"][loop.index0]) }}
        {%- endfor %}
        else {{ score_number(term["unseen"]) }}
        {%- endif %}
    end
{%- endmacro %}


{#- A feature as the score reads it: a number as a double, a category as text. -#}
{% macro score_input(term) -%}
    {%- if term["kind"] == "number" -%}
        cast({{ term["feature"] }} as double)
    {%- else -%}
        cast({{ term["feature"] }} as {{ dbt.type_string() }})
    {%- endif -%}
{%- endmacro %}


{#- Sum of the points columns of one family, in the order of the table; nought for a family without a term. -#}
{% macro score_family_points(terms, family) -%}
    {%- set columns = [] -%}
    {%- for term in terms if term["family"] == family -%}
        {%- do columns.append(term["feature"] ~ "_points") -%}
    {%- endfor -%}
    {{ columns | join(" + ") if columns else score_number(0.0) }}
{%- endmacro %}


{#- How many features were missing, and how many held a category that training had not seen. -#}
{% macro score_missing_count(terms) -%}
    {%- set found = [] -%}
    {%- for term in terms -%}
        {%- do found.append(
            "case when " ~ term["feature"] ~ " is null"
            ~ (" or isnan(" ~ term["feature"] ~ ")" if term["kind"] == "number" else "") ~ " then 1 else 0 end"
        ) -%}
    {%- endfor -%}
    {{ found | join(" + ") if found else "0" }}
{%- endmacro %}

{% macro score_unseen_count(terms) -%}
    {%- set found = [] -%}
    {%- for term in terms if term["kind"] == "category" -%}
        {%- set known = [] -%}
        {%- for category in term["categories"] -%}
            {%- do known.append(score_text(category)) -%}
        {%- endfor -%}
        {%- do found.append(
            "case when " ~ term["feature"] ~ " not in (" ~ known | join(", ") ~ ") then 1 else 0 end"
            if known else "case when " ~ term["feature"] ~ " is not null then 1 else 0 end"
        ) -%}
    {%- endfor -%}
    {{ found | join(" + ") if found else "0" }}
{%- endmacro %}


{#- The families that raise a score most, most first, joined by commas; of two alike the later in the alphabet first. -#}
{% macro score_reasons(families) %}
    {{- return(adapter.dispatch("score_reasons")(families)) -}}
{% endmacro %}

{% macro duckdb__score_reasons(families) -%}
    array_to_string(
        list_transform(
            list_slice(
                list_reverse_sort(
                    list_filter(
                        [
                            {%- for family in families %}
                            {points: {{ family }}_points, family: '{{ family }}'}{{ "," if not loop.last }}
                            {%- endfor %}
                        ],
                        lambda item: item.points > 0
                    )
                ),
                1,
                {{ score_reason_count() }}
            ),
            lambda item: item.family
        ),
        ','
    )
{%- endmacro %}

{% macro spark__score_reasons(families) -%}
    array_join(
        transform(
            slice(
                sort_array(
                    filter(
                        array(
                            {%- for family in families %}
                            named_struct('points', {{ family }}_points, 'family', '{{ family }}'){{ "," if not loop.last }}
                            {%- endfor %}
                        ),
                        item -> item.points > 0
                    ),
                    false
                ),
                1,
                {{ score_reason_count() }}
            ),
            item -> item.family
        ),
        ','
    )
{%- endmacro %}
