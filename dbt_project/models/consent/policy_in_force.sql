with declared_purposes as (

    select *
    from {{ ref('profile_purposes') }}
    where profile = '{{ var("profile") }}' and is_declared

),

decision_table as (

    select * from {{ ref('consent_decision_table') }}

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
        end as policy_cell,
        coalesce(decision_table.reference, declared_purposes.legal_reference)
            as legal_reference,
        concat(
            coalesce(newest_version.version, 'unversioned'),
            '+',
            substring(fingerprint.fingerprint, 1, 8)
        ) as policy_version,
        declared_purposes.reads_signals,
        declared_purposes.reads_gpc,
        declared_purposes.needs_explicit_grant
    from declared_purposes
    left join decision_table
        on declared_purposes.purpose = decision_table.purpose
    cross join newest_version
    cross join fingerprint

)

select * from resolved
