with source as (

    select * from {{ source('feedback', 'complaints') }}

),

renamed as (

    select
        -- ids
        complaint_id,
        subject_token,

        -- strings
        topic,
        status,
        feed,
        load_id,

        -- timestamps
        received_at

    from source

)

select * from renamed
