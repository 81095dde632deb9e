with source as (

    select * from {{ source('marketing', 'campaign_outcomes') }}

),

renamed as (

    select
        -- ids
        outcome_id,
        subject_token,
        campaign_id,

        -- strings
        variant,
        feed,
        load_id,

        -- booleans
        has_converted,

        -- timestamps
        assigned_at

    from source

)

select * from renamed
