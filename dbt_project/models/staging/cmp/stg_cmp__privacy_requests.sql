with source as (

    select * from {{ source('cmp', 'privacy_requests') }}

),

renamed as (

    select
        -- ids
        request_id,
        subject_token,

        -- strings
        request_type,
        status,
        feed,
        load_id,

        -- timestamps
        received_at

    from source

)

select * from renamed
