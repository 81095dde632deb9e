with signal_purposes as (

    select distinct
        purpose,
        reads_gpc,
        needs_explicit_grant,
        needs_authorisation
    from {{ ref('policy_in_force') }}
    where reads_signals

),

customers as (

    select
        subject_token,
        is_self_consent_capable
    from {{ ref('stg_crm__customers') }}

),

{{ expressions_of_will() }},

{{ states_at() }},

final as (

    select * from states

)

select * from final
