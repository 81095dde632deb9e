{{ config(materialized='view') }}

with ranked_changes as (

    select
        *,
        row_number() over (
            partition by subject_token, purpose, valid_from
            order by revision desc
        ) as position
    from {{ ref('consent_changes') }}

),

latest as (

    select * from ranked_changes where position = 1

),

intervals as (

    select
        subject_token,
        purpose,
        consent_status,
        signal,
        state_reason,
        consent_event_id,
        gpc_event_id,
        valid_from,
        lead(valid_from) over (
            partition by subject_token, purpose
            order by valid_from
        ) as valid_to,
        effective_at,
        expires_at,
        known_at,
        recorded_as_of
    from latest

)

select * from intervals
