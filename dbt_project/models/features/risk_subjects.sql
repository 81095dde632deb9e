with gate as (

    select * from {{ ref('gate') }}

),

customers as (

    select * from {{ ref('stg_crm__customers') }}

),

listed_countries as (

    select * from {{ ref('listed_countries') }}

),

industry_risk as (

    select * from {{ ref('industry_risk') }}

),

-- The one place where risk data pass the gate.
allowed as (

    select *
    from gate
    where
        purpose_role = 'risk'
        and gate_outcome = 'ALLOW'

),

-- Look each line of business up once, however many customers share it; of the
-- allowed only, so that nobody else has a say in which ones there are.
industries as (

    select distinct customers.industry
    from customers
    inner join allowed
        on customers.subject_token = allowed.subject_token
    where trim(customers.industry) <> ''

),

industry_levels as (

    select
        industries.industry,
        case
            when
                count(*) filter (where industry_risk.risk_level = 'high') > 0
                then 'high'
            when count(industry_risk.keyword) > 0 then 'increased'
            else 'standard'
        end as risk_level
    from industries
    left join industry_risk
        on contains(lower(industries.industry), industry_risk.keyword)
    group by industries.industry

),

described as (

    select
        -- ids
        allowed.subject_token,
        allowed.risk_subject_token,

        -- strings
        customers.customer_type,
        customers.age_band,
        customers.country_code,
        case
            when customers.country_code = 'ZZ' then 'unknown'
            else coalesce(listed_countries.risk_level, 'standard')
        end as country_risk_level,
        customers.region_code,
        coalesce(industry_levels.risk_level, 'unknown') as industry_risk_level,
        customers.onboarding_channel,
        customers.primary_product,
        customers.status as relationship_status,
        allowed.consent_event_id,
        allowed.consent_status,
        allowed.legal_basis,
        allowed.legal_reference,
        allowed.policy_version,
        allowed.gate_outcome,
        allowed.gate_reason,

        -- numerics: a short key, because twenty million movements are grouped
        -- by it; it is given anew in every run and never leaves the zone
        cast(
            row_number() over (order by allowed.risk_subject_token) as bigint
        ) as subject_number,
        customers.ownership_layers,
        cast(
            {{ days_between('customers.customer_since', as_of()) }} as bigint
        ) as tenure_days,

        -- booleans
        customers.is_pep,
        customers.has_sanctions_match

    from allowed
    inner join customers
        on allowed.subject_token = customers.subject_token
    left join listed_countries
        on customers.country_code = listed_countries.country_code
    left join industry_levels
        on customers.industry = industry_levels.industry

)

select * from described
