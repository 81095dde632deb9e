with source as (

    select * from {{ source('cmp', 'consent_events') }}

),

renamed as (

    select
        -- ids
        event_id as consent_event_id,
        subject_token,

        -- strings
        purpose,
        action,
        actor,
        method,
        parental_scope,
        notice_version,
        notice_hash,
        effective_precision,
        feed,
        load_id,

        -- booleans
        is_after_conflict_notice,
        is_capable_at_collection,

        -- timestamps
        effective_at,
        received_at,
        expires_at

    from source

)

select * from renamed
