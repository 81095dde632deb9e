{{ config(materialized='view') }}

with scores as (

    select * from {{ ref('model_scores') }}

),

renamed as (

    select
        risk_subject_token as subject_token,
        reasons,
        model_version,
        model_sha256,
        score_tier,
        consent_event_id,
        consent_status,
        legal_basis,
        legal_reference,
        policy_version,
        gate_outcome,
        gate_reason,
        score,
        probability,
        base_points,
        activity_points,
        cash_points,
        virtual_assets_points,
        geography_points,
        network_points,
        flow_points,
        profile_points,
        service_points,
        missing_count,
        unseen_count,
        as_of
    from scores

)

select * from renamed
