{{ config(materialized='view') }}

with subjects as (

    select
        subject_token,
        subject_number
    from {{ ref('risk_subjects') }}

),

answers as (

    select
        response_id,
        subject_token,
        question_type,
        score,
        responded_at,
        {{ smallest_window('responded_at') }} as window_days
    from {{ ref('stg_feedback__survey_feedback') }}
    where
        score is not null
        and responded_at <= {{ as_of() }}

),

complaints as (

    select
        subject_token,
        topic,
        {{ smallest_window('received_at') }} as window_days
    from {{ ref('stg_feedback__complaints') }}
    where received_at <= {{ as_of() }}

),

ranked_answers as (

    select
        subjects.subject_number,
        answers.*,
        row_number() over (
            partition by subjects.subject_number, answers.question_type
            order by answers.responded_at desc, answers.response_id desc
        ) as recency
    from answers
    inner join subjects
        on answers.subject_token = subjects.subject_token

),

satisfaction as (

    select
        subject_number,
        {%- for days in feature_windows() %}
        round(
            avg(score) filter (
                where question_type = 'csat' and window_days <= {{ days }}
            ),
            4
        ) as mean_csat_{{ days }}d,
        {%- endfor %}
        max(case when question_type = 'nps' and recency = 1 then score end)
            as latest_nps
    from ranked_answers
    group by subject_number

),

counted_complaints as (

    select
        subjects.subject_number
        {%- for days in feature_windows() %},
        count(*) filter (where complaints.window_days <= {{ days }})
            as complaint_count_{{ days }}d,
        count(*) filter (
            where
                complaints.topic = 'fraud'
                and complaints.window_days <= {{ days }}
        ) as fraud_complaint_count_{{ days }}d
        {%- endfor %}
    from complaints
    inner join subjects
        on complaints.subject_token = subjects.subject_token
    group by subjects.subject_number

),

joined as (

    select
        coalesce(
            satisfaction.subject_number, counted_complaints.subject_number
        ) as subject_number,
        satisfaction.latest_nps
        {%- for days in feature_windows() %},
        satisfaction.mean_csat_{{ days }}d,
        coalesce(counted_complaints.complaint_count_{{ days }}d, 0)
            as complaint_count_{{ days }}d,
        coalesce(counted_complaints.fraud_complaint_count_{{ days }}d, 0)
            as fraud_complaint_count_{{ days }}d
        {%- endfor %}
    from satisfaction
    full outer join counted_complaints
        on satisfaction.subject_number = counted_complaints.subject_number

)

select * from joined
