{{ config(
    tags=["policy"],
    description="Profiles use known words, and only a basis other than consent ignores signals.",
    meta={"dagster": {"ref": {"name": "profile_purposes"}}}
) }}

with declarations as (

    select
        profile_purposes.*,
        known_purposes.purpose is null as is_unknown_purpose
    from {{ ref('profile_purposes') }} as profile_purposes
    left join (
        select distinct purpose from {{ ref('consent_decision_table') }}
    ) as known_purposes
        on profile_purposes.purpose = known_purposes.purpose

)

select
    profile,
    purpose
from declarations
where
    is_unknown_purpose
    or coalesce(role, '') not in ('risk', 'audience', 'none')
    or coalesce(mode, '') not in ('strict', 'statutory')
    or coalesce(legal_basis, '')
    not in ('legal_obligation', 'legitimate_interest', 'consent')
    or coalesce(unknown_age_as, '') not in ('unknown', '<13')
    or reads_signals is null
    or reads_signals <> (legal_basis = 'consent')
    or reads_gpc is null
    or (reads_gpc and not reads_signals)
    or needs_explicit_grant is null
    or is_declared is null
    or (role = 'audience' and legal_basis <> 'consent')
    or (profile = 'childrens_retail' and purpose = 'aml_legal_obligation' and is_declared)
