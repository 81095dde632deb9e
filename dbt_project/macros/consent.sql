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
  A query of one row, `fingerprint`: MD5 over every row of the decision table, of the
  profiles' purposes and packs, of the packs and of the notices.

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
        union all
        select
            concat('pack|', {{ policy_row_text([
                "pack", "jurisdiction", "age_band", "purpose", "requirement", "legal_reference"
            ]) }}) as policy_row
        from {{ ref('packs') }}
        union all
        select
            concat('profile_pack|', {{ policy_row_text(["profile", "pack", "is_in_force"]) }}) as policy_row
        from {{ ref('profile_packs') }}
        union all
        select
            concat('notice|', {{ policy_row_text([
                "profile", "purpose", "version", "valid_from", "superseded_at", "is_material", "notice_hash"
            ]) }}) as policy_row
        from {{ ref('notices') }}
    ) as policy_rows
{%- endmacro %}


{#-
  What a cell of the decision table permits. COND, STATE and UNCOVERED, and whatever is not
  known, permit nothing.
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
