{#- The register on paper and the rating's SQL come from the same macro: see `risk_rules`. -#}
{%- set rules = risk_rules() -%}

with tiers as (

    select * from {{ ref('risk_tiers') }}

),

rule_set as (

    select {{ risk_rule_set_version(rules) }} as rule_set_version
    from tiers

),

register as (

    select *
    from (
        values
        {{ risk_rule_rows(rules) }}
    ) as register (
        rule_id,
        version,
        factor,
        name,
        rule_text,
        predicate,
        points,
        floor_tier,
        owner,
        rationale,
        legal_reference,
        valid_from,
        valid_to,
        approved_by
    )

),

rendered as (

    select
        -- ids
        register.rule_id,
        register.version,

        -- strings
        register.factor,
        register.name,
        register.rule_text,
        register.predicate,
        cast(register.points as integer) as points,
        register.floor_tier,
        register.owner,
        register.rationale,
        register.legal_reference,
        cast(register.valid_from as date) as valid_from,
        cast(register.valid_to as date) as valid_to,
        register.approved_by,
        rule_set.rule_set_version
    from register
    cross join rule_set

)

select * from rendered
