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
    ] -%}
    {{- return(segments) -}}
{%- endmacro %}


{#-
  The segment families that a profile builds. `demographic` is age band by jurisdiction. Every profile has `cluster` from the
  first clustering on record; before that, and while dbt parses, there is none.
-#}
{% macro audience_families() -%}
    {%- set families = {
        "fintech": ["engagement"],
        "childrens_retail": ["engagement", "demographic"],
    } -%}
    {%- if var("profile") not in families -%}
        {{ exceptions.raise_compiler_error(
            "no segment families are declared for the profile '" ~ var("profile") ~ "'"
        ) }}
    {%- endif -%}
    {{- return(families[var("profile")] + (["cluster"] if clusters_are_built() else [])) -}}
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
