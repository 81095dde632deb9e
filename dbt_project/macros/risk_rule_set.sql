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
  The rules of the run's profile in register order, with the numbers of `params` filled into text and predicate.

  The tenant's own rules from the var `extra_rules`, of the same form, follow those given. A faulty rule stops the
  run, whatever its profile: a rating must not go out by half a register.
-#}
{% macro checked_risk_rules(rules) -%}
    {%- set profile = var("profile") -%}
    {%- set optional = {"version": 1, "params": {}, "points": none, "floor": none, "valid_to": none} -%}
    {%- set checked = [] -%}
    {%- set validity = {} -%}
    {%- for given in rules + var("extra_rules", []) -%}
        {%- set rule = dict(optional, **given) -%}
        {%- set problem = risk_rule_problem(rule) -%}
        {%- if problem -%}
            {{ exceptions.raise_compiler_error("risk rule " ~ rule.get("id", "without id") ~ ": " ~ problem) }}
        {%- endif -%}
        {%- set from_day = rule.valid_from -%}
        {%- set to_day = rule.valid_to or "9999-12-31" -%}
        {%- for other in validity.get(rule.id, []) -%}
            {%- if other.version == rule.version -%}
                {{ exceptions.raise_compiler_error("risk rule " ~ rule.id ~ ": version " ~ rule.version ~ " is declared twice") }}
            {%- elif from_day < other.to_day and other.from_day < to_day -%}
                {{ exceptions.raise_compiler_error(
                    "risk rule " ~ rule.id ~ ": versions " ~ other.version ~ " and " ~ rule.version ~ " are in force on the same day"
                ) }}
            {%- endif -%}
        {%- endfor -%}
        {%- do validity.setdefault(rule.id, []).append(
            {"version": rule.version, "from_day": from_day, "to_day": to_day}
        ) -%}
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
            }) -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if not checked -%}
        {{ exceptions.raise_compiler_error("no risk rules are declared for the profile '" ~ profile ~ "'") }}
    {%- endif -%}
    {{- return(checked) -}}
{%- endmacro %}


{#- What is wrong with a rule, in words; empty if nothing is. -#}
{% macro risk_rule_problem(rule) -%}
    {%- set day = "\\d{4}-\\d{2}-\\d{2}" -%}
    {%- set ns = namespace(problem="") -%}
    {%- for field in ["id", "factor", "name", "text", "predicate", "owner", "rationale", "legal_reference",
                      "valid_from", "approved_by", "profiles"] -%}
        {%- if not rule.get(field) and not ns.problem -%}
            {%- set ns.problem = field ~ " is missing" -%}
        {%- endif -%}
    {%- endfor -%}
    {%- if ns.problem -%}
    {%- elif not modules.re.fullmatch("[A-Z][A-Z0-9_]{0,31}", rule.id) -%}
        {%- set ns.problem = "an id is capital letters, digits and underscores" -%}
    {%- elif rule.version is not integer or rule.version < 1 -%}
        {%- set ns.problem = "version is a whole number from 1 on" -%}
    {%- elif rule.factor not in risk_factors() -%}
        {%- set ns.problem = "factor is one of " ~ risk_factors() | join(", ") -%}
    {%- elif (rule.points is none) == (rule.floor is none) -%}
        {%- set ns.problem = "it has either points or a floor" -%}
    {%- elif rule.points is not none and (rule.points is not integer or rule.points < 1) -%}
        {%- set ns.problem = "points are a whole number from 1 on" -%}
    {%- elif rule.floor is not none and rule.floor not in risk_tier_names() -%}
        {%- set ns.problem = "floor is one of " ~ risk_tier_names() | join(", ") -%}
    {%- elif not modules.re.fullmatch(day, rule.valid_from | string)
            or not modules.re.fullmatch(day, (rule.valid_to or rule.valid_from) | string) -%}
        {%- set ns.problem = "valid_from and valid_to look like 2026-01-31" -%}
    {%- elif rule.valid_to is not none and rule.valid_to <= rule.valid_from -%}
        {%- set ns.problem = "it ends before it begins" -%}
    {%- elif rule.owner == rule.approved_by -%}
        {%- set ns.problem = "its owner cannot approve it" -%}
    {%- endif -%}
    {{- return(ns.problem) -}}
{%- endmacro %}


{#- The column that says whether a rule fired: r303_v2. -#}
{% macro risk_rule_column(rule) -%}
    {{- return(rule.id | lower ~ "_v" ~ rule.version) -}}
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
            as {{ risk_rule_column(rule) }}
        {%- if not loop.last %},{% endif -%}
    {%- endfor %}
{%- endmacro %}


{#- The points of the rules of one factor that fired. -#}
{% macro risk_factor_points(rules, factor) -%}
    {%- set terms = [] -%}
    {%- for rule in rules if rule.factor == factor and rule.points is not none -%}
        {%- do terms.append("case when " ~ risk_rule_column(rule) ~ " then " ~ rule.points ~ " else 0 end") -%}
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
            "case when " ~ risk_rule_column(rule) ~ " then " ~ (risk_tier_names().index(rule.floor) + 1) ~ " end"
        ) -%}
    {%- endfor -%}
    greatest({{ ranks | join(", ") }})
{%- endmacro %}


{#- The ids of the rules that fired, in register order; empty if none did. -#}
{% macro risk_reason_codes(rules) -%}
    {%- set codes = [] -%}
    {%- for rule in rules -%}
        {%- do codes.append("case when " ~ risk_rule_column(rule) ~ " then '" ~ rule.id ~ "' end") -%}
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


{#- One rule as a row of the register. -#}
{% macro risk_rule_row(rule) -%}
    {%- set quote = dbt.escape_single_quotes("'") -%}
    {%- set cells = [] -%}
    {%- for field in ["id", "version", "factor", "name", "text", "predicate", "points", "floor", "owner", "rationale",
                      "legal_reference", "valid_from", "valid_to", "approved_by"] -%}
        {%- set value = rule[field] -%}
        {%- if value is none -%}
            {%- do cells.append("null") -%}
        {%- elif value is number -%}
            {%- do cells.append(value | string) -%}
        {%- else -%}
            {%- do cells.append("'" ~ value | string | replace("'", quote) ~ "'") -%}
        {%- endif -%}
    {%- endfor -%}
    ({{ cells | join(", ") }})
{%- endmacro %}
