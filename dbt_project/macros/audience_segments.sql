{#-
  The marketing segments as data: what each means in words, and the SQL that decides it over `audience_features`.

  Belongs here: families, segments and their fixed thresholds. Does not belong here: anything of the risk zone, and who
  may be segmented at all (the gate). Within a family the first segment whose predicate holds is the subject's.
-#}
{% macro audience_segments() -%}
    {%- set segments = [
        {
            "family": "engagement",
            "segment": "dissatisfied",
            "text": "Last said that they would hardly recommend us (0 to 6 of 10).",
            "predicate": "latest_nps <= 6",
        },
        {
            "family": "engagement",
            "segment": "champion",
            "text": "Bought within 30 days, twelve times or more and for 1,000 euros or more in a year.",
            "predicate": "purchase_count_30d >= 1 and purchase_count_365d >= 12 and purchase_value_eur_365d >= 1000",
        },
        {
            "family": "engagement",
            "segment": "loyal",
            "text": "Bought within 90 days, six times or more in a year.",
            "predicate": "purchase_count_90d >= 1 and purchase_count_365d >= 6",
        },
        {
            "family": "engagement",
            "segment": "newcomer",
            "text": "Bought for the first time within 90 days.",
            "predicate": "days_since_first_purchase < 90",
        },
        {
            "family": "engagement",
            "segment": "active",
            "text": "Bought within 90 days.",
            "predicate": "purchase_count_90d >= 1",
        },
        {
            "family": "engagement",
            "segment": "slipping",
            "text": "Bought within a year, but not within 90 days.",
            "predicate": "purchase_count_365d >= 1",
        },
        {
            "family": "engagement",
            "segment": "lapsed",
            "text": "Bought once, but not within a year.",
            "predicate": "days_since_last_purchase is not null",
        },
        {
            "family": "engagement",
            "segment": "browsing",
            "text": "Never bought, but visited within 90 days.",
            "predicate": "web_event_count_90d >= 1",
        },
        {
            "family": "engagement",
            "segment": "quiet",
            "text": "Neither bought nor visited of late.",
            "predicate": "true",
        },
        {
            "family": "behavioural",
            "segment": "wishing",
            "text": "Put something into a cart or onto a wish list within 30 days.",
            "predicate": "intent_event_count_30d >= 1",
        },
        {
            "family": "behavioural",
            "segment": "browsing_often",
            "text": "Acted five times or more on site or app within 30 days.",
            "predicate": "web_event_count_30d >= 5",
        },
        {
            "family": "behavioural",
            "segment": "browsing",
            "text": "Acted on site or app within 90 days.",
            "predicate": "web_event_count_90d >= 1",
        },
        {
            "family": "behavioural",
            "segment": "unseen",
            "text": "Not seen on site or app within 90 days.",
            "predicate": "true",
        },
    ] -%}
    {{- return(segments) -}}
{%- endmacro %}


{#-
  Recency, frequency and monetary value of a year's purchases, three steps each, from the highest down: column and conditions.

  Frequency and money are added up to one of three values, so that there are nine segments: of twenty-seven some held one
  person. Thresholds are fixed: a quantile would move people by what others do.
-#}
{% macro rfm_steps() -%}
    {{- return({
        "recency": ["days_since_last_purchase", [["<= 30", "recent"], ["<= 90", "waning"]], "lapsing"],
        "frequency": ["purchase_count_365d", [[">= 12", 3], [">= 4", 2]], 1],
        "money": ["purchase_value_eur_365d", [[">= 1000", 3], [">= 250", 2]], 1],
    }) -}}
{%- endmacro %}


{#- One of the three as an expression: a word for recency, a number for the others. -#}
{% macro rfm_step(name) -%}
    {%- set column, conditions, otherwise = rfm_steps()[name] -%}
    {%- set quote = "'" if otherwise is string else "" -%}
    case
        {%- for condition, step in conditions %} when {{ column }} {{ condition }} then {{ quote }}{{ step }}{{ quote }}{% endfor %} else {{ quote }}{{ otherwise }}{{ quote }} end
{%- endmacro %}


{#-
  The segment families that a profile builds, each with what it takes to build it: kind, purpose, legal basis.

  A family whose purpose the profile does not declare on that basis is refused, see `require_audience_purposes`. Where the
  purpose is not the profile's audience purpose, a subject needs both: the audience purpose to be in any family, and the
  family's own to have a named segment in it. The contextual kind is no family: it knows no person (contextual_segments).
-#}
{% macro audience_family_declarations() -%}
    {%- set declarations = {
        "fintech": [{"family": "engagement", "kind": "relationship", "purpose": "personalisation", "legal_basis": "consent"}],
        "childrens_retail": [
            {"family": "engagement", "kind": "relationship", "purpose": "personalisation", "legal_basis": "consent"},
            {"family": "demographic", "kind": "demographic", "purpose": "personalisation", "legal_basis": "consent"},
            {"family": "rfm", "kind": "relationship", "purpose": "personalisation", "legal_basis": "consent"},
            {"family": "behavioural", "kind": "behavioural", "purpose": "ads_sale_share", "legal_basis": "consent"},
            {"family": "hybrid", "kind": "hybrid", "purpose": "personalisation", "legal_basis": "consent"},
        ],
    } -%}
    {%- if var("profile") not in declarations -%}
        {{ exceptions.raise_compiler_error(
            "no segment families are declared for the profile '" ~ var("profile") ~ "'"
        ) }}
    {%- endif -%}
    {{- return(declarations[var("profile")]) -}}
{%- endmacro %}


{#-
  The names of these families. Every profile has `cluster` from the first clustering on record; before that, and while dbt
  parses, there is none.
-#}
{% macro audience_families() -%}
    {%- set families = audience_family_declarations() | map(attribute="family") | list -%}
    {{- return(families + (["cluster"] if clusters_are_built() else [])) -}}
{%- endmacro %}


{#- The profile's audience purpose, which all families but a behavioural one rest on. -#}
{% macro audience_purpose() -%}
    {%- set found = audience_family_declarations() | rejectattr("kind", "equalto", "behavioural") | list -%}
    {{- return(found[0]["purpose"]) -}}
{%- endmacro %}


{#- The purpose that behavioural segments rest on; none if the profile builds none. -#}
{% macro behavioural_purpose() -%}
    {%- set found = audience_family_declarations() | selectattr("kind", "equalto", "behavioural") | list -%}
    {{- return(found[0]["purpose"] if found else none) -}}
{%- endmacro %}


{#-
  What the profile's purposes say of themselves: purpose to {is_declared, role, legal_basis}; none where no build made them.

  Unit tests override this macro, which is why reading stands apart from judging.
-#}
{% macro declared_purposes() -%}
    {%- set relation = ref("profile_purposes") -%}
    {%- if not execute or flags.WHICH not in ("run", "build") -%}
        {{- return(none) -}}
    {%- endif -%}
    {%- set found = run_query(
        "select purpose, is_declared, role, legal_basis from " ~ relation ~ " where profile = '" ~ var("profile") ~ "'"
    ) -%}
    {%- set purposes = {} -%}
    {%- for row in found.rows -%}
        {%- do purposes.update({row[0]: {"is_declared": row[1], "role": row[2], "legal_basis": row[3]}}) -%}
    {%- endfor -%}
    {{- return(purposes) -}}
{%- endmacro %}


{#- Stop the build unless every family's purpose is declared by the profile on the basis that the family names. -#}
{% macro require_audience_purposes() -%}
    {%- set purposes = declared_purposes() -%}
    {%- if purposes is not none -%}
        {%- for declaration in audience_family_declarations() -%}
            {%- set purpose = purposes.get(declaration["purpose"], {"is_declared": false}) -%}
            {%- set fault = none -%}
            {%- if not purpose["is_declared"] -%}
                {%- set fault = "does not declare" -%}
            {%- elif purpose["legal_basis"] != declaration["legal_basis"] -%}
                {%- set fault = "rests on " ~ purpose["legal_basis"] -%}
            {%- elif declaration["kind"] != "behavioural" and purpose["role"] != "audience" -%}
                {%- set fault = "gives the role " ~ purpose["role"] -%}
            {%- endif -%}
            {%- if fault -%}
                {{ exceptions.raise_compiler_error(
                    "the segment family '" ~ declaration["family"] ~ "' needs the purpose '" ~ declaration["purpose"]
                    ~ "' on the basis '" ~ declaration["legal_basis"] ~ "', which the profile '" ~ var("profile") ~ "' "
                    ~ fault ~ ". Declare it in seeds/policy/profile_purposes.csv, or take the family out of "
                    ~ "audience_family_declarations."
                ) }}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
{%- endmacro %}


{#- Payment methods that mark a purchase, quoted: a bank sees shops through cards and wallets, a shop sees them all. -#}
{% macro audience_purchase_methods() -%}
    {%- set methods = {
        "fintech": ["card", "wallet"],
        "childrens_retail": ["card", "wallet", "cash", "transfer", "cheque", "direct_debit"],
    } -%}
    {%- if var("profile") not in methods -%}
        {{ exceptions.raise_compiler_error(
            "no payment methods of purchases are declared for the profile '" ~ var("profile") ~ "'"
        ) }}
    {%- endif -%}
    '{{ methods[var("profile")] | join("', '") }}'
{%- endmacro %}
