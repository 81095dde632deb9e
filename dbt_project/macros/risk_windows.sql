{#-
  The windows that features look back over, in days before `as_of`.

  A window of 30 days holds what happened later than thirty days before `as_of`, and no later than `as_of`.
-#}
{% macro feature_windows() -%}
    {{- return([30, 90, 365]) -}}
{%- endmacro %}


{#- The smallest window that an instant falls in: 30, 90 or 365; 9999 for older ones. -#}
{% macro smallest_window(instant) -%}
    case
        {%- for days in feature_windows() %}
        when {{ instant }} > {{ days_before(as_of(), days) }} then {{ days }}
        {%- endfor %}
        else 9999
    end
{%- endmacro %}


{#-
  Numbers that features are measured with. They enter the rule set's version, because another number rates otherwise.

  structuring_threshold_eur: the reporting line that payments are kept below. structuring_band_share: how near counts.
-#}
{% macro risk_parameters() -%}
    {{- return({
        "structuring_threshold_eur": var("structuring_threshold_eur", 10000),
        "structuring_band_share": var("structuring_band_share", 0.8),
    }) -}}
{%- endmacro %}
