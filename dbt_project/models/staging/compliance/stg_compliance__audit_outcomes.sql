with source as (

    select * from {{ source('compliance', 'audit_outcomes') }}

),

renamed as (

    select
        -- ids
        audit_id,
        subject_token,

        -- strings
        selection,
        feed,
        load_id,

        -- numerics
        selection_probability,

        -- booleans
        has_issue,

        -- timestamps
        audited_at

    from source

)

select * from renamed
