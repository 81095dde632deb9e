{#-
  The instant that the run evaluates everything at, as a timestamp expression (UTC).

  Every window, expiry and age is measured from it, never from the clock, so that a run can be repeated.
-#}
{% macro as_of() -%}
    {%- set instant = var("as_of") | string -%}
    {%- if not modules.re.fullmatch("\\d{4}-\\d{2}-\\d{2} \\d{2}:\\d{2}:\\d{2}(\\.\\d{1,6})?", instant) -%}
        {{ exceptions.raise_compiler_error(
            "var as_of must look like 2026-11-01 00:00:00 (UTC), not '" ~ instant ~ "'"
        ) }}
    {%- endif -%}
    {%- if execute and flags.WHICH in ("run", "build") and instant == "1970-01-01 00:00:00" -%}
        {{ exceptions.raise_compiler_error("var as_of is missing: pass --vars '{as_of: \"2026-11-01 00:00:00\"}'") }}
    {%- endif -%}
    cast('{{ instant }}' as timestamp)
{%- endmacro %}
