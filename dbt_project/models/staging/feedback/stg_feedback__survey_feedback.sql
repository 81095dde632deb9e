with source as (

    select * from {{ source('feedback', 'survey_feedback') }}

),

renamed as (

    select
        -- ids
        response_id,
        subject_token,
        survey_id,

        -- strings
        question_type,
        feed,
        load_id,

        -- numerics
        score,

        -- timestamps
        responded_at

    from source

)

select * from renamed
