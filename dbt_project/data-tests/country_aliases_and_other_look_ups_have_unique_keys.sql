{#-
  A key twice in a look-up would double every customer or transaction that meets it. One
  scan for all of them.
-#}
{{ config(
    description="No look-up holds a key twice.",
    meta={"dagster": {"ref": {"name": "country_aliases"}}}
) }}

with keys as (

    select concat('countries ', iso2) as look_up_key from {{ ref('countries') }}
    union all
    select concat('country_aliases ', alias) as look_up_key
    from {{ ref('country_aliases') }}
    union all
    select concat('region_aliases ', country_code, ' ', alias) as look_up_key
    from {{ ref('region_aliases') }}
    union all
    select concat('country_risk ', iso2, ' ', list, ' ', cast(valid_from as string))
        as look_up_key
    from {{ ref('country_risk') }}
    union all
    select concat('exchange_rates ', currency) as look_up_key
    from {{ ref('exchange_rates') }}
    union all
    select
        concat('consent_decision_table ', jurisdiction, ' ', age_band, ' ', purpose, ' ', signal)
            as look_up_key
    from {{ ref('consent_decision_table') }}
    union all
    select concat('profile_purposes ', profile, ' ', purpose) as look_up_key
    from {{ ref('profile_purposes') }}

)

select
    look_up_key,
    count(*) as times
from keys
group by 1
having count(*) > 1
