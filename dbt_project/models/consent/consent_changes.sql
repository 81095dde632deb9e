{{ config(
    materialized='incremental',
    incremental_strategy='append',
    full_refresh=false
) }}
{%- set content = [
    "consent_status", "signal", "state_reason", "consent_event_id", "gpc_event_id", "effective_at", "expires_at", "known_at"
] %}

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

{#- The latest word on each instant, from the runs before this one. -#}
recorded as (

    {%- if is_incremental() %}
    select
        subject_token,
        purpose,
        valid_from,
        revision,
        {{ policy_row_text(content) }} as content,
        row_number() over (
            partition by subject_token, purpose, valid_from
            order by revision desc
        ) as position
    from {{ this }}
    {%- else %}
    select
        subject_token,
        cast(null as {{ dbt.type_string() }}) as purpose,
        cast(null as timestamp) as valid_from,
        cast(0 as integer) as revision,
        cast(null as {{ dbt.type_string() }}) as content,
        1 as position
    from customers
    where false
    {%- endif %}

),

last_revision as (

    select coalesce(max(revision), 0) as revision
    from recorded

),

{{ expressions_of_will() }},

{#- Every instant at which a state may change, and those that were recorded: what was believed then may be wrong now. -#}
candidates as (

    select
        subject_token,
        purpose,
        counts_from as instant
    from expressions
    union
    select
        subject_token,
        purpose,
        expires_at as instant
    from expressions
    union
    select
        subject_token,
        purpose,
        notice_void_at as instant
    from expressions
    union
    select
        person_signals.subject_token,
        signal_purposes.purpose,
        person_signals.counts_from as instant
    from person_signals
    cross join signal_purposes
    union
    select
        recorded.subject_token,
        recorded.purpose,
        recorded.valid_from as instant
    from recorded
    inner join signal_purposes
        on recorded.purpose = signal_purposes.purpose
    inner join customers
        on recorded.subject_token = customers.subject_token

),

moments as (

    select *
    from candidates
    where instant <= {{ as_of() }}

),

{{ states_at("moments") }},

evaluated as (

    select
        moments.subject_token,
        moments.purpose,
        moments.instant as valid_from,
        coalesce(states.consent_status, 'unknown') as consent_status,
        coalesce(states.signal, 'unknown') as signal,
        coalesce(states.state_reason, 'no_consent_on_record') as state_reason,
        states.consent_event_id,
        states.gpc_event_id,
        states.effective_at,
        states.expires_at,
        states.known_at
    from moments
    left join states
        on
            moments.subject_token = states.subject_token
            and moments.purpose = states.purpose
            and moments.instant = states.instant

),

compared as (

    select
        *,
        {{ policy_row_text(content) }} as content,
        lag({{ policy_row_text(content) }}) over (
            partition by subject_token, purpose
            order by valid_from
        ) as content_before
    from evaluated

),

final as (

    select
        compared.subject_token,
        compared.purpose,
        compared.consent_status,
        compared.signal,
        compared.state_reason,
        compared.consent_event_id,
        compared.gpc_event_id,
        cast(last_revision.revision + 1 as integer) as revision,
        compared.valid_from,
        compared.effective_at,
        compared.expires_at,
        compared.known_at,
        {{ as_of() }} as recorded_as_of
    from compared
    cross join last_revision
    left join recorded
        on
            compared.subject_token = recorded.subject_token
            and compared.purpose = recorded.purpose
            and compared.valid_from = recorded.valid_from
            and recorded.position = 1
    where
        case
            when recorded.revision is not null
                then compared.content <> recorded.content
            else compared.content <> coalesce(compared.content_before, '')
        end

)

select * from final
