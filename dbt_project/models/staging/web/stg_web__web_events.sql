with source as (

    select * from {{ source('web', 'web_events') }}

),

renamed as (

    select
        -- ids
        event_id as web_event_id,
        subject_token,

        -- strings
        event_type,
        page_category,
        feed,
        load_id,

        -- booleans
        is_child_directed,

        -- timestamps
        event_at

    from source

)

select * from renamed
