with signal_purposes as (

    select distinct
        purpose,
        reads_gpc,
        needs_explicit_grant
    from {{ ref('policy_in_force') }}
    where reads_signals

),

customers as (

    select
        subject_token,
        is_self_consent_capable
    from {{ ref('stg_crm__customers') }}

),

{#- What had been expressed by the instant of the run. A grant must also have arrived by then. -#}
known_events as (

    select *
    from {{ ref('stg_cmp__consent_events') }}
    where
        effective_at <= {{ as_of() }}
        and (
            coalesce(action, 'none') <> 'granted'
            or coalesce(received_at, effective_at) <= {{ as_of() }}
        )

),

known_requests as (

    select *
    from {{ ref('stg_cmp__privacy_requests') }}
    where
        received_at <= {{ as_of() }}
        and request_type in ('opt_out', 'deletion')
        and coalesce(status, 'received') <> 'refused'

),

{#-
  Refusals count whoever makes them; a grant counts only if every condition holds, else its
  standing says why not. What is not stated is read as the refusal, or as the missing
  condition: comparisons with null must not let a grant through.
-#}
expressions as (

    select
        known_events.subject_token,
        known_events.purpose,
        known_events.consent_event_id,
        known_events.action,
        known_events.effective_at,
        coalesce(known_events.expires_at, {{ never() }}) as expires_at,
        case
            when
                coalesce(known_events.action, 'none') <> 'granted'
                and known_events.actor = 'parent'
                and known_events.parental_scope = 'disclosure'
                then 'disclosure_refusal'
            when coalesce(known_events.action, 'none') <> 'granted'
                then 'refusal'
            when known_events.method = 'gpc_header'
                then 'grant_contradicts_signal'
            when
                signal_purposes.needs_explicit_grant
                and coalesce(known_events.method, 'none')
                not in ('form', 'paper', 'verified_parental')
                then 'grant_not_explicit'
            when
                known_events.actor = 'parent'
                and coalesce(known_events.method, 'none')
                not in ('paper', 'verified_parental')
                then 'parental_consent_unverified'
            when
                known_events.actor = 'parent'
                and known_events.parental_scope = 'disclosure'
                then 'parental_scope_insufficient'
            when known_events.actor = 'parent' then 'parental_grant'
            when coalesce(known_events.actor, 'none') <> 'self'
                then 'grant_by_agent'
            when customers.is_self_consent_capable then 'own_grant'
            else 'self_grant_without_capacity'
        end as standing
    from known_events
    inner join signal_purposes
        on known_events.purpose = signal_purposes.purpose
    inner join customers
        on known_events.subject_token = customers.subject_token
    where coalesce(known_events.action, 'none') <> 'gpc_on'

),

{#-
  The expression that decides: the latest that counts, by the time it was made and not by
  the time it arrived; at one instant the most restrictive. A grant that does not count is
  kept only where nothing does, to name the cause.
-#}
ranked_expressions as (

    select
        *,
        row_number() over (
            partition by subject_token, purpose
            order by
                case
                    when standing in ('refusal', 'parental_grant', 'own_grant')
                        then 0
                    else 1
                end,
                effective_at desc,
                case standing
                    when 'refusal' then 0
                    when 'parental_grant' then 1
                    else 2
                end,
                action desc,
                expires_at,
                consent_event_id
        ) as position
    from expressions
    where standing <> 'disclosure_refusal'

),

deciding_expressions as (

    select * from ranked_expressions where position = 1

),

{#-
  COPPA separates consent to disclosure from consent to collection and use: it stands or
  falls by itself.
-#}
disclosure_pairs as (

    select distinct
        subject_token,
        purpose
    from expressions
    where standing = 'parental_scope_insufficient'

),

ranked_disclosures as (

    select
        expressions.*,
        row_number() over (
            partition by expressions.subject_token, expressions.purpose
            order by
                expressions.effective_at desc,
                case expressions.standing
                    when 'parental_scope_insufficient' then 1
                    else 0
                end,
                expressions.expires_at,
                expressions.consent_event_id
        ) as position
    from expressions
    inner join disclosure_pairs
        on
            expressions.subject_token = disclosure_pairs.subject_token
            and expressions.purpose = disclosure_pairs.purpose
    where
        expressions.standing
        in ('refusal', 'disclosure_refusal', 'parental_scope_insufficient')

),

disclosures_in_force as (

    select
        subject_token,
        purpose,
        effective_at as disclosed_from
    from ranked_disclosures
    where
        position = 1
        and standing = 'parental_scope_insufficient'
        and {{ as_of() }} < expires_at

),

{#-
  Signals of the person as a whole: a browser's opt-out stays on record, requests reach
  every consent purpose.
-#}
person_signals as (

    select
        subject_token,
        'gpc' as kind,
        consent_event_id as evidence_id,
        effective_at as signalled_at
    from known_events
    where action = 'gpc_on'
    union all
    select
        subject_token,
        request_type as kind,
        request_id as evidence_id,
        received_at as signalled_at
    from known_requests

),

ranked_person_signals as (

    select
        *,
        row_number() over (
            partition by subject_token, kind
            order by signalled_at desc, evidence_id
        ) as position
    from person_signals

),

signals_by_person as (

    select
        subject_token,
        max(case when kind = 'gpc' then evidence_id end) as gpc_event_id,
        max(case when kind = 'opt_out' then evidence_id end)
            as opt_out_request_id,
        max(case when kind = 'opt_out' then signalled_at end) as opted_out_at,
        max(case when kind = 'deletion' then evidence_id end)
            as deletion_request_id,
        max(case when kind = 'deletion' then signalled_at end)
            as deletion_requested_at
    from ranked_person_signals
    where position = 1
    group by 1

),

signals_by_purpose as (

    select
        signals_by_person.*,
        signal_purposes.purpose
    from signals_by_person
    cross join signal_purposes

),

combined as (

    select
        coalesce(
            deciding_expressions.subject_token, signals_by_purpose.subject_token
        ) as subject_token,
        coalesce(deciding_expressions.purpose, signals_by_purpose.purpose)
            as purpose,
        deciding_expressions.consent_event_id,
        deciding_expressions.action,
        deciding_expressions.standing,
        deciding_expressions.effective_at,
        deciding_expressions.expires_at,
        signals_by_purpose.gpc_event_id,
        signals_by_purpose.opt_out_request_id,
        signals_by_purpose.opted_out_at,
        signals_by_purpose.deletion_request_id,
        signals_by_purpose.deletion_requested_at
    from deciding_expressions
    full outer join signals_by_purpose
        on
            deciding_expressions.subject_token
            = signals_by_purpose.subject_token
            and deciding_expressions.purpose = signals_by_purpose.purpose

),

{#- A deletion request is not undone by a grant; an opt-out gives way to a grant made after it. -#}
decided as (

    select
        *,
        case
            when deletion_request_id is not null
                then 'privacy_request_deletion'
            when
                opt_out_request_id is not null
                and (
                    consent_event_id is null
                    or standing not in ('refusal', 'parental_grant', 'own_grant')
                    or effective_at <= opted_out_at
                )
                then 'privacy_request_opt_out'
            when standing is null then 'no_consent_on_record'
            when standing = 'refusal' and action = 'denied' then 'consent_denied'
            when standing = 'refusal' then 'consent_withdrawn'
            when standing not in ('parental_grant', 'own_grant') then standing
            when {{ as_of() }} >= expires_at then 'consent_expired'
            when standing = 'parental_grant' then 'parental_consent'
            when standing = 'own_grant' then 'consent_granted'
        end as state_reason
    from combined

),

labelled as (

    select
        decided.*,
        case
            when decided.state_reason in ('consent_granted', 'parental_consent')
                then 'granted'
            when decided.state_reason = 'consent_denied' then 'denied'
            when decided.state_reason = 'consent_expired' then 'expired'
            when
                decided.state_reason in (
                    'consent_withdrawn',
                    'privacy_request_opt_out',
                    'privacy_request_deletion'
                )
                then 'withdrawn'
            else 'unknown'
        end as consent_status,
        coalesce(
            decided.state_reason = 'parental_consent'
            and disclosures_in_force.disclosed_from is not null
            and disclosures_in_force.disclosed_from
            > coalesce(
                decided.opted_out_at,
                disclosures_in_force.disclosed_from - interval '1' day
            ),
            false
        ) as is_disclosure_granted,
        signal_purposes.reads_gpc
    from decided
    inner join signal_purposes
        on decided.purpose = signal_purposes.purpose
    left join disclosures_in_force
        on
            decided.subject_token = disclosures_in_force.subject_token
            and decided.purpose = disclosures_in_force.purpose

),

{#-
  The state in the decision table's nine words. A browser's opt-out outweighs a parent where
  it reaches the purpose.
-#}
final as (

    select
        subject_token,
        case state_reason
            when 'privacy_request_deletion' then deletion_request_id
            when 'privacy_request_opt_out' then opt_out_request_id
            else consent_event_id
        end as consent_event_id,
        gpc_event_id,
        purpose,
        consent_status,
        case
            when consent_status in ('denied', 'withdrawn') then consent_status
            when state_reason = 'consent_granted' and gpc_event_id is not null
                then 'granted+gpc_on'
            when state_reason = 'consent_granted' then 'granted'
            when
                gpc_event_id is not null
                and (reads_gpc or state_reason <> 'parental_consent')
                then 'gpc_on'
            when is_disclosure_granted then 'parental+disclosure'
            when state_reason = 'parental_consent' then 'parental'
            else consent_status
        end as signal,
        state_reason,
        case state_reason
            when 'privacy_request_deletion' then deletion_requested_at
            when 'privacy_request_opt_out' then opted_out_at
            else effective_at
        end as effective_at,
        case
            when consent_status in ('granted', 'expired')
                then nullif(expires_at, {{ never() }})
        end as expires_at
    from labelled

)

select * from final
