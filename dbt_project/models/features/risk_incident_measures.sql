{{ config(materialized='view') }}

with subjects as (

    select
        subject_token,
        subject_number
    from {{ ref('risk_subjects') }}

),

-- What the tenant knew at that instant, and did not dismiss.
incidents as (

    select
        subject_token,
        incident_type,
        coalesce(severity, 'unknown') as severity,
        status,
        occurred_at
    from {{ ref('stg_compliance__incidents') }}
    where
        status <> 'dismissed'
        and occurred_at <= {{ as_of() }}
        and coalesce(reported_at, occurred_at) <= {{ as_of() }}

),

-- Of two at the same instant the graver comes first.
ranked as (

    select
        subjects.subject_number,
        incidents.*,
        {{ smallest_window('incidents.occurred_at') }} as window_days,
        row_number() over (
            partition by subjects.subject_number
            order by
                incidents.occurred_at desc,
                case incidents.severity
                    when 'low' then 1
                    when 'medium' then 2
                    when 'high' then 3
                    else 4
                end desc,
                incidents.severity asc
        ) as recency
    from incidents
    inner join subjects
        on incidents.subject_token = subjects.subject_token

),

counted as (

    select
        -- strings
        max(case when recency = 1 then severity end)
            as last_incident_severity,

        -- numerics
        subject_number,
        {%- for days in feature_windows() %}
        count(*) filter (
            where status = 'confirmed' and window_days <= {{ days }}
        ) as confirmed_incident_count_{{ days }}d,
        count(*) filter (
            where status = 'open' and window_days <= {{ days }}
        ) as open_incident_count_{{ days }}d,
        {%- endfor %}
        count(*) filter (where status = 'confirmed')
            as confirmed_incident_count_ever,
        count(*) filter (where status = 'open') as open_incident_count_ever,
        count(*) filter (
            where status = 'confirmed' and severity = 'critical'
        ) as critical_incident_count_ever,
        count(*) filter (
            where status = 'confirmed' and severity = 'unknown'
        ) as ungraded_incident_count_ever,
        count(*) filter (
            where status = 'open' and incident_type = 'sanctions_alert'
        ) as open_sanctions_alert_count,

        -- timestamps
        max(occurred_at) as last_incident_at

    from ranked
    group by subject_number

)

select * from counted
