{#-
  How the rules of `risk_rules` are checked, named, rendered and summed.

  Belongs here: everything that treats a rule as data. Does not belong here: a rule.
-#}

{#- The tiers, lowest first. The words are fixed; where each begins is the seed `risk_tiers`. -#}
{% macro risk_tier_names() -%}
    {{- return(["low", "medium", "high", "prohibited"]) -}}
{%- endmacro %}


{#- The four classical factors of a risk rating, as FATF and Wolfsberg group them. -#}
{% macro risk_factors() -%}
    {{- return(["customer", "geography", "product", "channel"]) -}}
{%- endmacro %}


{#-
  The rules of the run's profile in register order, with the numbers of `params` filled into text and predicate, and
  the name of the column that says whether each fired (r303_v2).

  The tenant's own rules from the var `extra_rules`, of the same form, follow those given. A faulty rule stops the
  run, whatever its profile: a rating must not go out by half a register. One loop and no calls in it: a register may
  be ten thousand rules long.
-#}
{% macro checked_risk_rules(rules) -%}
    {%- set profile = var("profile") -%}
    {%- set factors = risk_factors() -%}
    {%- set tier_names = risk_tier_names() -%}
    {%- set required = [
        "id", "factor", "name", "text", "predicate", "owner", "rationale", "legal_reference", "valid_from",
        "approved_by", "profiles",
    ] -%}
    {%- set optional = {"version": 1, "params": {}, "points": none, "floor": none, "valid_to": none} -%}
    {%- set matches = modules.re.fullmatch -%}
    {%- set day = "\\d{4}-\\d{2}-\\d{2}" -%}
    {%- set checked = [] -%}
    {%- set earlier_versions = {} -%}
    {%- for given in rules + var("extra_rules", []) -%}
        {%- set rule = dict(optional, **given) -%}
        {#- A var may bring a date as a date. -#}
        {%- for field in ["valid_from", "valid_to"] if rule.get(field) -%}
            {%- do rule.update({field: rule[field] | string}) -%}
        {%- endfor -%}
        {%- set missing = required | reject("in", rule) | list -%}
        {%- set clashes = [] -%}
        {%- set problem -%}
            {%- if missing or not (rule.predicate and rule.text and rule.owner and rule.approved_by) -%}
                {{ (missing or ["predicate, text, owner or approved_by"]) | join(", ") }} is missing
            {%- elif not matches("[A-Z][A-Z0-9_]{0,31}", rule.id) -%}
                an id is capital letters, digits and underscores
            {%- elif rule.version is not integer or rule.version < 1 -%}
                version is a whole number from 1 on
            {%- elif rule.factor not in factors -%}
                factor is one of {{ factors | join(", ") }}
            {%- elif (rule.points is none) == (rule.floor is none) -%}
                it has either points or a floor
            {%- elif rule.points is not none and (rule.points is not integer or rule.points < 1) -%}
                points are a whole number from 1 on
            {%- elif rule.floor is not none and rule.floor not in tier_names -%}
                floor is one of {{ tier_names | join(", ") }}
            {%- elif not matches(day, rule.valid_from) or not matches(day, rule.valid_to or rule.valid_from) -%}
                valid_from and valid_to look like 2026-01-31
            {%- elif rule.valid_to is not none and rule.valid_to <= rule.valid_from -%}
                it ends before it begins
            {%- elif rule.owner == rule.approved_by -%}
                its owner cannot approve it
            {%- else -%}
                {%- for other in earlier_versions.get(rule.id, []) -%}
                    {%- if other.version == rule.version -%}
                        version {{ rule.version }} is declared twice
                    {%- elif rule.valid_from < (other.valid_to or "9999-12-31")
                            and other.valid_from < (rule.valid_to or "9999-12-31") -%}
                        versions {{ other.version }} and {{ rule.version }} are in force on the same day
                    {%- endif -%}
                {%- endfor -%}
            {%- endif -%}
        {%- endset -%}
        {%- if problem -%}
            {{ exceptions.raise_compiler_error("risk rule " ~ rule.get("id", "without id") ~ ": " ~ problem) }}
        {%- endif -%}
        {%- do earlier_versions.setdefault(rule.id, []).append(rule) -%}
        {%- if profile in rule.profiles -%}
            {%- do checked.append({
                "id": rule.id,
                "version": rule.version,
                "factor": rule.factor,
                "name": rule.name,
                "text": rule.text.format(**rule.params),
                "predicate": rule.predicate.format(**rule.params),
                "points": rule.points,
                "floor": rule.floor,
                "owner": rule.owner,
                "rationale": rule.rationale,
                "legal_reference": rule.legal_reference,
                "valid_from": rule.valid_from,
                "valid_to": rule.valid_to,
                "approved_by": rule.approved_by,
                "profiles": rule.profiles,
                "column": rule.id | lower ~ "_v" ~ rule.version,
            }) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if not checked -%}
        {{ exceptions.raise_compiler_error("no risk rules are declared for the profile '" ~ profile ~ "'") }}
    {%- endif -%}
    {{- return(checked) -}}
{%- endmacro %}


{#-
  One column per rule: whether it fired. A rule out of force on the day of `as_of` does not; nor does one whose
  predicate is null.
-#}
{% macro risk_rule_columns(rules) -%}
    {%- set today = "cast(" ~ as_of() ~ " as date)" -%}
    {%- for rule in rules %}
        -- {{ rule.id }} version {{ rule.version }}: {{ rule.name }}
        coalesce(
            {{ rule.predicate }}, false
        )
        and {{ today }} >= cast('{{ rule.valid_from }}' as date)
        {%- if rule.valid_to %}
        and {{ today }} < cast('{{ rule.valid_to }}' as date)
        {%- endif %}
            as {{ rule.column }}
        {%- if not loop.last %},{% endif -%}
    {%- endfor %}
{%- endmacro %}


{#- The points of the rules of one factor that fired. -#}
{% macro risk_factor_points(rules, factor) -%}
    {%- set terms = [] -%}
    {%- for rule in rules if rule.factor == factor and rule.points is not none -%}
        {%- do terms.append("case when " ~ rule.column ~ " then " ~ rule.points ~ " else 0 end") -%}
    {%- endfor -%}
    {%- if terms -%}
        cast({{ list_total(list_of(terms)) }} as integer)
    {%- else -%}
        0
    {%- endif -%}
{%- endmacro %}


{#- The rank of the highest floor among the rules that fired; 0 if none has. -#}
{% macro risk_floor_rank(rules) -%}
    {%- set ranks = ["0", "0"] -%}
    {%- for rule in rules if rule.floor is not none -%}
        {%- do ranks.append(
            "case when " ~ rule.column ~ " then " ~ (risk_tier_names().index(rule.floor) + 1) ~ " end"
        ) -%}
    {%- endfor -%}
    greatest({{ ranks | join(", ") }})
{%- endmacro %}


{#- The ids of the rules that fired, in register order; empty if none did. -#}
{% macro risk_reason_codes(rules) -%}
    {%- set codes = [] -%}
    {%- for rule in rules -%}
        {%- do codes.append("case when " ~ rule.column ~ " then '" ~ rule.id ~ "' end") -%}
    {%- endfor -%}
    concat_ws(',', {{ codes | join(", ") }})
{%- endmacro %}


{#-
  Aggregate over the seed `risk_tiers`: the rule set's version.

  A readable head (profile, number of rules) and a fingerprint of all that decides a tier: rules, parameters, tiers.
-#}
{% macro risk_rule_set_version(rules) -%}
    {%- set content = {"rules": rules, "parameters": risk_parameters()} -%}
    {%- set tiers = digest_of_rows(
        "concat_ws(':', tier, coalesce(min_points, -1), review_months)"
    ) -%}
    concat(
        '{{ var("profile") }}-{{ rules | length }}-',
        substr(md5(concat('{{ local_md5(tojson(content, sort_keys=true)) }}', {{ tiers }})), 1, 12)
    )
{%- endmacro %}


{#- The rules as rows of the register. -#}
{% macro risk_rule_rows(rules) -%}
    {%- set quote = dbt.escape_single_quotes("'") -%}
    {%- for rule in rules %}
        {%- set cells = [] -%}
        {%- for field in ["id", "version", "factor", "name", "text", "predicate", "points", "floor", "owner",
                          "rationale", "legal_reference", "valid_from", "valid_to", "approved_by"] -%}
            {%- set value = rule[field] -%}
            {%- if value is none -%}
                {%- do cells.append("null") -%}
            {%- elif value is number -%}
                {%- do cells.append(value) -%}
            {%- else -%}
                {%- do cells.append("'" ~ value | replace("'", quote) ~ "'") -%}
            {%- endif -%}
        {%- endfor %}
        ({{ cells | join(", ") }}){{ "," if not loop.last }}
    {%- endfor %}
{%- endmacro %}
