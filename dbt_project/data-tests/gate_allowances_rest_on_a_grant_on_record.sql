{#-
  The gate's central promise, proven by another way than the one that builds it: behind each
  allowance by consent stands a grant of that very person for that very purpose, not
  expired, and no refusal, opt-out or deletion request since.
-#}
{{ config(
    description="Each allowance by consent rests on a standing grant of the same person for the same purpose.",
    meta={"dagster": {"ref": {"name": "gate"}}}
) }}

with allowances as (

    select
        subject_token,
        purpose,
        consent_event_id
    from {{ ref('gate') }}
    where gate_outcome = 'ALLOW' and consent_status = 'granted'

),

grants as (

    select
        consent_event_id,
        subject_token,
        purpose,
        effective_at
    from {{ ref('stg_cmp__consent_events') }}
    where
        action = 'granted'
        and (actor = 'parent' or (actor = 'self' and is_capable_at_collection))
        and effective_at <= {{ as_of() }}
        and (expires_at is null or {{ as_of() }} < expires_at)

),

refusals as (

    select
        subject_token,
        purpose,
        max(effective_at) as refused_at
    from {{ ref('stg_cmp__consent_events') }}
    where
        action in ('denied', 'withdrawn')
        and effective_at <= {{ as_of() }}
        and not (actor = 'parent' and coalesce(parental_scope, '') = 'disclosure')
    group by 1, 2

),

requests as (

    select
        subject_token,
        max(
            case
                when request_type = 'deletion' then {{ never() }}
                else received_at
            end
        ) as requested_at
    from {{ ref('stg_cmp__privacy_requests') }}
    where
        request_type in ('opt_out', 'deletion')
        and coalesce(status, 'received') <> 'refused'
        and received_at <= {{ as_of() }}
    group by 1

)

select allowances.purpose
from allowances
left join grants
    on
        allowances.consent_event_id = grants.consent_event_id
        and allowances.subject_token = grants.subject_token
        and allowances.purpose = grants.purpose
left join refusals
    on
        allowances.subject_token = refusals.subject_token
        and allowances.purpose = refusals.purpose
left join requests
    on allowances.subject_token = requests.subject_token
where
    grants.consent_event_id is null
    or refusals.refused_at >= grants.effective_at
    or requests.requested_at >= grants.effective_at
