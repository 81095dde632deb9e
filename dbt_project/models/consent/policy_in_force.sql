with declared_purposes as (

    select *
    from {{ ref('profile_purposes') }}
    where profile = '{{ var("profile") }}' and is_declared

),

decision_table as (

    select * from {{ ref('consent_decision_table') }}

),

packs_in_force as (

    select pack
    from {{ ref('profile_packs') }}
    where profile = '{{ var("profile") }}' and is_in_force

),

covered_cells as (

    select distinct
        packs.jurisdiction,
        packs.age_band,
        packs.purpose
    from {{ ref('packs') }} as packs
    inner join packs_in_force
        on packs.pack = packs_in_force.pack

),

{#- One pack that asks for it is enough, wherever the person lives: a grant has no address of its own. -#}
authorised_purposes as (

    select distinct packs.purpose
    from {{ ref('packs') }} as packs
    inner join packs_in_force
        on packs.pack = packs_in_force.pack
    where packs.requirement <> 'cell'

),

ranked_versions as (

    select
        version,
        row_number() over (order by valid_from desc, version desc) as position
    from {{ ref('policy_versions') }}

),

newest_version as (

    select max(version) as version
    from ranked_versions
    where position = 1

),

fingerprint as (

    {{ policy_fingerprint() }}

),

{#-
  The left join keeps a declared purpose that the table forgot: its rows hold no cell and
  permit nothing.
-#}
resolved as (

    select
        declared_purposes.purpose,
        declared_purposes.role as purpose_role,
        declared_purposes.mode as policy_mode,
        declared_purposes.legal_basis,
        declared_purposes.unknown_age_as,
        decision_table.jurisdiction,
        decision_table.age_band,
        decision_table.signal,
        case declared_purposes.mode
            when 'strict' then decision_table.strict
            when 'statutory' then decision_table.statutory
        end as drafted_cell,
        covered_cells.purpose is null
        and coalesce(declared_purposes.legal_basis, 'consent')
        not in ('legal_obligation', 'legitimate_interest') as is_uncovered,
        coalesce(decision_table.reference, declared_purposes.legal_reference)
            as legal_reference,
        concat(
            coalesce(newest_version.version, 'unversioned'),
            '+',
            substring(fingerprint.fingerprint, 1, 8)
        ) as policy_version,
        declared_purposes.reads_signals,
        declared_purposes.reads_gpc,
        declared_purposes.needs_explicit_grant,
        authorised_purposes.purpose is not null as needs_authorisation
    from declared_purposes
    left join decision_table
        on declared_purposes.purpose = decision_table.purpose
    left join covered_cells
        on
            decision_table.purpose = covered_cells.purpose
            and decision_table.jurisdiction = covered_cells.jurisdiction
            and decision_table.age_band = covered_cells.age_band
    left join authorised_purposes
        on declared_purposes.purpose = authorised_purposes.purpose
    cross join newest_version
    cross join fingerprint

),

{#- An allowance outside the tenant's packs is none; a prohibition holds everywhere. -#}
final as (

    select
        purpose,
        purpose_role,
        policy_mode,
        legal_basis,
        unknown_age_as,
        jurisdiction,
        age_band,
        signal,
        case
            when drafted_cell in ('ALLOW', 'COND', 'STATE') and is_uncovered
                then 'UNCOVERED'
            else drafted_cell
        end as policy_cell,
        legal_reference,
        policy_version,
        reads_signals,
        reads_gpc,
        needs_explicit_grant,
        needs_authorisation
    from resolved

)

select * from final
