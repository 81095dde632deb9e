{#-
  What the consent models share: the policy's identity and the reading of its cells.

  Belongs here: expressions over the policy seeds. Does not belong here: what a person
  expressed (consent_states).
-#}

{#- A policy row as one line of text, for the fingerprint. -#}
{% macro policy_row_text(columns) -%}
    concat(
        {%- for column in columns %}
        coalesce(cast({{ column }} as string), ''){% if not loop.last %}, '|',{% endif %}
        {%- endfor %}
    )
{%- endmacro %}


{#-
  A query of one row, `fingerprint`: MD5 over every row of the decision table and of the
  profiles' purposes.

  Two policies that could decide differently have different fingerprints, whatever their
  version is called.
-#}
{% macro policy_fingerprint() -%}
    select {{ digest_of_rows('policy_row') }} as fingerprint
    from (
        select
            {{ policy_row_text([
                "jurisdiction", "age_band", "purpose", "signal", "strict", "statutory", "reference"
            ]) }} as policy_row
        from {{ ref('consent_decision_table') }}
        union all
        select
            {{ policy_row_text([
                "profile", "purpose", "is_declared", "role", "mode", "legal_basis", "reads_signals", "reads_gpc",
                "needs_explicit_grant", "unknown_age_as", "legal_reference"
            ]) }} as policy_row
        from {{ ref('profile_purposes') }}
    ) as policy_rows
{%- endmacro %}


{#-
  What a cell of the decision table permits. COND and STATE, and whatever is not known,
  permit nothing.
-#}
{% macro outcome_of_cell(cell) -%}
    case when {{ cell }} in ('ALLOW', 'HUMAN', 'BLOCK') then {{ cell }} else 'DEFAULT' end
{%- endmacro %}


{#-
  The instant that stands for «no expiry stated»: comparisons need no special case, and no
  aggregate drops it.
-#}
{% macro never() -%}
    cast('9999-12-31 00:00:00' as timestamp)
{%- endmacro %}
