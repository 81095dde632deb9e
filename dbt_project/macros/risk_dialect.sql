{#-
  What DuckDB and Spark SQL spell differently and only ratings and features need.

  Belongs here: syntax. Does not belong here: what any expression means to the platform.
-#}

{#- Seconds since 1970-01-01 UTC of a timestamp. -#}
{% macro epoch_seconds(instant) %}
    {{- return(adapter.dispatch("epoch_seconds")(instant)) -}}
{% endmacro %}

{% macro duckdb__epoch_seconds(instant) -%}
    epoch({{ instant }})
{%- endmacro %}

{% macro spark__epoch_seconds(instant) -%}
    unix_timestamp({{ instant }})
{%- endmacro %}


{#- The date so many whole months after another; the last day of the month if that month is shorter. -#}
{% macro months_after(date, months) %}
    {{- return(adapter.dispatch("months_after")(date, months)) -}}
{% endmacro %}

{% macro duckdb__months_after(date, months) -%}
    cast({{ date }} + to_months(cast({{ months }} as integer)) as date)
{%- endmacro %}

{% macro spark__months_after(date, months) -%}
    add_months({{ date }}, cast({{ months }} as integer))
{%- endmacro %}


{#- A list of expressions; unlike a chain of operators it may be ten thousand long. -#}
{% macro list_of(expressions) %}
    {{- return(adapter.dispatch("list_of")(expressions)) -}}
{% endmacro %}

{% macro duckdb__list_of(expressions) -%}
    [{{ expressions | join(", ") }}]
{%- endmacro %}

{% macro spark__list_of(expressions) -%}
    array({{ expressions | join(", ") }})
{%- endmacro %}

