{#-
  What DuckDB and Spark SQL spell differently, behind one name each.

  Belongs here: syntax. Does not belong here: what any expression means to the platform.
-#}

{#- A list of the given expressions without the null ones, in the order given. -#}
{% macro list_without_nulls(expressions) %}
    {{- return(adapter.dispatch("list_without_nulls")(expressions)) -}}
{% endmacro %}

{% macro duckdb__list_without_nulls(expressions) -%}
    list_filter([{{ expressions | join(", ") }}], lambda item: item is not null)
{%- endmacro %}

{% macro spark__list_without_nulls(expressions) -%}
    filter(array({{ expressions | join(", ") }}), item -> item is not null)
{%- endmacro %}


{#- The elements of a list of strings as one string; empty for an empty list. -#}
{% macro list_joined(list, separator=",") %}
    {{- return(adapter.dispatch("list_joined")(list, separator)) -}}
{% endmacro %}

{% macro duckdb__list_joined(list, separator) -%}
    array_to_string({{ list }}, '{{ separator }}')
{%- endmacro %}

{% macro spark__list_joined(list, separator) -%}
    array_join({{ list }}, '{{ separator }}')
{%- endmacro %}


{#- Sum of a list of integers; null for an empty list. -#}
{% macro list_total(list) %}
    {{- return(adapter.dispatch("list_total")(list)) -}}
{% endmacro %}

{% macro duckdb__list_total(list) -%}
    list_sum({{ list }})
{%- endmacro %}

{% macro spark__list_total(list) -%}
    aggregate({{ list }}, cast(null as bigint), (total, item) -> coalesce(total, 0) + item)
{%- endmacro %}


{#- The instant so many days before another. -#}
{% macro days_before(instant, days) -%}
    ({{ instant }} - interval '{{ days }}' day)
{%- endmacro %}


{#- Whole days from one date or timestamp to another; negative if the second is earlier. -#}
{% macro days_between(earlier, later) %}
    {{- return(adapter.dispatch("days_between")(earlier, later)) -}}
{% endmacro %}

{% macro duckdb__days_between(earlier, later) -%}
    date_diff('day', cast({{ earlier }} as date), cast({{ later }} as date))
{%- endmacro %}

{% macro spark__days_between(earlier, later) -%}
    datediff(cast({{ later }} as date), cast({{ earlier }} as date))
{%- endmacro %}


{#- Aggregate: MD5 of all values as text, whatever order they arrive in. -#}
{% macro digest_of_rows(expression) %}
    {{- return(adapter.dispatch("digest_of_rows")(expression)) -}}
{% endmacro %}

{% macro duckdb__digest_of_rows(expression) -%}
    md5(string_agg({{ expression }}, chr(10) order by {{ expression }}))
{%- endmacro %}

{% macro spark__digest_of_rows(expression) -%}
    md5(array_join(sort_array(collect_list({{ expression }})), '\n'))
{%- endmacro %}


{#- Free text as the look-up seeds spell it: lower case, trimmed, without full stops. -#}
{% macro lookup_text(column) -%}
    trim(replace(lower({{ column }}), '.', ''))
{%- endmacro %}
