with customers as (

    select * from {{ source('crm', 'customers') }}

),

country_aliases as (

    select * from {{ ref('country_aliases') }}

),

region_aliases as (

    select * from {{ ref('region_aliases') }}

),

normalised as (

    select
        -- ids
        customers.subject_token,
        customers.risk_subject_token,
        customers.audience_subject_token,

        -- strings
        customers.customer_type,
        coalesce(country_aliases.iso2, 'ZZ') as country_code,
        region_aliases.region_code,
        coalesce(customers.age_band, 'unknown') as age_band,
        customers.industry,
        customers.onboarding_channel,
        customers.primary_product,
        customers.status,
        customers.feed,
        customers.load_id,

        -- numerics
        customers.ownership_layers,

        -- booleans: whoever is not known to be able to consent alone is not able to
        coalesce(customers.is_self_consent_capable, false)
            as is_self_consent_capable,
        customers.is_pep,
        customers.has_sanctions_match,

        -- dates
        customers.customer_since,

        -- timestamps
        customers.updated_at

    from customers
    left join country_aliases
        on {{ lookup_text('customers.country') }} = country_aliases.alias
    left join region_aliases
        on
            country_aliases.iso2 = region_aliases.country_code
            and {{ lookup_text('customers.region') }} = region_aliases.alias

)

select * from normalised
