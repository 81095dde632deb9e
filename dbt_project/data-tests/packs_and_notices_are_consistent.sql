{#- A pack that answers for a cell nobody asks, or a notice in force twice, would be noticed by its effect alone. -#}
{{ config(
    tags=["policy"],
    description="Packs answer for known consent purposes, profiles name known packs, notices have one row per version.",
    meta={"dagster": {"ref": {"name": "packs"}}}
) }}

with known_cells as (

    select distinct
        jurisdiction,
        age_band,
        purpose
    from {{ ref('consent_decision_table') }}

),

unknown_cells as (

    select concat('pack ', packs.pack, ' on ', coalesce(packs.purpose, 'nothing')) as problem
    from {{ ref('packs') }} as packs
    left join known_cells
        on
            packs.jurisdiction = known_cells.jurisdiction
            and packs.age_band = known_cells.age_band
            and packs.purpose = known_cells.purpose
    where
        known_cells.purpose is null
        or packs.purpose in ('aml_legal_obligation', 'fraud_security')
        or coalesce(packs.requirement, '') not in ('cell', 'written_authorisation')
        or coalesce(packs.legal_reference, '') = ''

),

repeated_cells as (

    select concat('repeated cell of ', pack) as problem
    from {{ ref('packs') }}
    group by pack, jurisdiction, age_band, purpose
    having count(*) > 1

),

profile_packs as (

    select concat('pack of ', profile_packs.profile) as problem
    from {{ ref('profile_packs') }} as profile_packs
    left join (select distinct pack from {{ ref('packs') }}) as known_packs
        on profile_packs.pack = known_packs.pack
    where known_packs.pack is null or profile_packs.is_in_force is null

),

repeated_profile_packs as (

    select concat('repeated pack of ', profile) as problem
    from {{ ref('profile_packs') }}
    group by profile, pack
    having count(*) > 1

),

profiles_without_packs as (

    select concat('no pack of ', profile_purposes.profile) as problem
    from {{ ref('profile_purposes') }} as profile_purposes
    left join {{ ref('profile_packs') }} as profile_packs
        on
            profile_purposes.profile = profile_packs.profile
            and profile_packs.is_in_force
    group by profile_purposes.profile
    having count(profile_packs.pack) = 0

),

notices as (

    select concat('notice of ', coalesce(purpose, 'nothing')) as problem
    from {{ ref('notices') }}
    where
        profile is null
        or purpose is null
        or version is null
        or valid_from is null
        or (superseded_at is not null and is_material is null)
        or superseded_at <= valid_from

),

repeated_notices as (

    select concat('repeated notice of ', purpose) as problem
    from {{ ref('notices') }}
    group by profile, purpose, version
    having count(*) > 1

)

select * from unknown_cells
union all
select * from repeated_cells
union all
select * from profile_packs
union all
select * from repeated_profile_packs
union all
select * from profiles_without_packs
union all
select * from notices
union all
select * from repeated_notices
