with source as (

    select * from {{ source('compliance', 'incidents') }}

),

renamed as (

    select
        -- ids
        incident_id,
        subject_token,

        -- strings
        incident_type,
        severity,
        status,
        feed,
        load_id,

        -- timestamps
        occurred_at,
        reported_at

    from source

)

select * from renamed
