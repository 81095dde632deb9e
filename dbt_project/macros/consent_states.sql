{#-
  The one evaluator of what a person expressed: the CTEs behind `consent_states` (one instant, the run's) and
  `consent_history` (every instant at which something changed).

  Belongs here: order, validity and precedence of expressions, at an instant. Does not belong here: what the policy makes
  of a state (gate), and which tables there are (the models).
-#}

{#- How much later than its receipt a grant may claim to be: clocks differ by minutes, not by more. -#}
{% macro clock_skew() -%}
    interval '5' minute
{%- endmacro %}


{#-
  A chain of CTEs that ends with `states`: one row per subject and purpose that a signal reaches.

  `moments` names a CTE (subject_token, purpose, instant) to evaluate each of; without it everything is evaluated at
  `as_of()` and there is no column `instant`. The caller supplies the CTEs `signal_purposes` (purpose, reads_gpc,
  needs_explicit_grant, needs_authorisation), `expressions` and `person_signals` of the two macros below.
-#}
{% macro states_at(moments=none) -%}
{%- set instant = "moments.instant" if moments else as_of() -%}
{%- set carried = "moments.instant," if moments else "" -%}
{%- set key = "instant," if moments else "" -%}

{#- What counts at the instant; `is_valid` says whether it can decide. -#}
standing_expressions as (

    select
        {{ carried }}
        expressions.*,
        expressions.standing = 'refusal'
        or (
            expressions.standing
            in ('parental_grant', 'own_grant', 'parental_disclosure')
            and {{ instant }} < expressions.notice_void_at
        ) as is_valid
    from expressions
    {%- if moments %}
    inner join {{ moments }} as moments
        on
            expressions.subject_token = moments.subject_token
            and expressions.purpose = moments.purpose
    {%- endif %}
    where expressions.counts_from <= {{ instant }}

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
            partition by {{ key }} subject_token, purpose
            order by
                case
                    when is_valid and standing <> 'parental_disclosure' then 0
                    else 1
                end,
                ordered_at desc,
                case standing
                    when 'refusal' then 0
                    when 'parental_grant' then 1
                    else 2
                end,
                action desc,
                expires_at,
                consent_event_id
        ) as position
    from standing_expressions
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
        {{ key }}
        subject_token,
        purpose
    from standing_expressions
    where standing = 'parental_disclosure' and is_valid

),

ranked_disclosures as (

    select
        standing_expressions.*,
        row_number() over (
            partition by
                {{ "standing_expressions.instant," if moments }}
                standing_expressions.subject_token,
                standing_expressions.purpose
            order by
                standing_expressions.ordered_at desc,
                case standing_expressions.standing
                    when 'parental_disclosure' then 1
                    else 0
                end,
                standing_expressions.expires_at,
                standing_expressions.consent_event_id
        ) as position
    from standing_expressions
    inner join disclosure_pairs
        on
            standing_expressions.subject_token = disclosure_pairs.subject_token
            and standing_expressions.purpose = disclosure_pairs.purpose
            {%- if moments %}
            and standing_expressions.instant = disclosure_pairs.instant
            {%- endif %}
    where
        standing_expressions.standing in ('refusal', 'disclosure_refusal')
        or (
            standing_expressions.standing = 'parental_disclosure'
            and standing_expressions.is_valid
        )

),

disclosures_in_force as (

    select
        {{ key }}
        subject_token,
        purpose,
        ordered_at as disclosed_from
    from ranked_disclosures
    where
        position = 1
        and standing = 'parental_disclosure'
        and {{ "instant" if moments else as_of() }} < expires_at

),

{#-
  Signals of the person as a whole, those that count at the instant: requests reach every consent purpose, the latest
  of a kind counts.
-#}
known_person_signals as (

    select
        {{ carried }}
        {{ "moments.purpose," if moments }}
        person_signals.subject_token,
        person_signals.kind,
        person_signals.evidence_id,
        person_signals.signalled_at,
        row_number() over (
            partition by
                {{ "moments.instant, moments.purpose," if moments }}
                person_signals.subject_token,
                person_signals.kind
            order by
                person_signals.signalled_at desc,
                person_signals.evidence_id
        ) as position
    from person_signals
    {%- if moments %}
    inner join {{ moments }} as moments
        on person_signals.subject_token = moments.subject_token
    {%- endif %}
    where person_signals.counts_from <= {{ instant }}

),

signals_by_person as (

    select
        {{ "instant, purpose," if moments }}
        subject_token,
        max(case when kind = 'gpc' then evidence_id end) as gpc_event_id,
        max(case when kind = 'gpc' then signalled_at end) as gpc_at,
        max(case when kind = 'opt_out' then evidence_id end)
            as opt_out_request_id,
        max(case when kind = 'opt_out' then signalled_at end) as opted_out_at,
        max(case when kind = 'deletion' then evidence_id end)
            as deletion_request_id,
        max(case when kind = 'deletion' then signalled_at end)
            as deletion_requested_at
    from known_person_signals
    where position = 1
    group by {{ "1, 2, 3" if moments else "1" }}

),

signals_by_purpose as (

    select
        signals_by_person.*
        {%- if not moments %},
        signal_purposes.purpose
        {%- endif %}
    from signals_by_person
    {%- if not moments %}
    cross join signal_purposes
    {%- endif %}

),

combined as (

    select
        {%- if moments %}
        coalesce(deciding_expressions.instant, signals_by_purpose.instant)
            as instant,
        {%- endif %}
        coalesce(
            deciding_expressions.subject_token, signals_by_purpose.subject_token
        ) as subject_token,
        coalesce(deciding_expressions.purpose, signals_by_purpose.purpose)
            as purpose,
        deciding_expressions.consent_event_id,
        deciding_expressions.action,
        deciding_expressions.standing,
        deciding_expressions.is_valid,
        deciding_expressions.effective_at,
        deciding_expressions.ordered_at,
        deciding_expressions.received_at,
        deciding_expressions.expires_at,
        deciding_expressions.is_after_conflict_notice,
        signals_by_purpose.gpc_event_id,
        signals_by_purpose.gpc_at,
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
            {%- if moments %}
            and deciding_expressions.instant = signals_by_purpose.instant
            {%- endif %}

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
                    or not is_valid
                    or standing = 'parental_disclosure'
                    or ordered_at <= opted_out_at
                )
                then 'privacy_request_opt_out'
            when standing is null then 'no_consent_on_record'
            when standing = 'refusal' and action = 'denied' then 'consent_denied'
            when standing = 'refusal' then 'consent_withdrawn'
            when standing = 'parental_disclosure' then 'parental_scope_insufficient'
            when standing not in ('parental_grant', 'own_grant') then standing
            when not is_valid then 'notice_superseded'
            when {{ "instant" if moments else as_of() }} >= expires_at
                then 'consent_expired'
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
        {#- 11 CCR 7025(c)(3): who consents after notice of the conflict may be taken at that word. -#}
        decided.gpc_event_id is not null
        and not coalesce(
            decided.state_reason = 'consent_granted'
            and decided.is_after_conflict_notice
            and decided.ordered_at > decided.gpc_at,
            false
        ) as is_opted_out_by_browser,
        signal_purposes.reads_gpc
    from decided
    inner join signal_purposes
        on decided.purpose = signal_purposes.purpose
    left join disclosures_in_force
        on
            decided.subject_token = disclosures_in_force.subject_token
            and decided.purpose = disclosures_in_force.purpose
            {%- if moments %}
            and decided.instant = disclosures_in_force.instant
            {%- endif %}

),

{#-
  The state in the decision table's nine words. A browser's opt-out outweighs a parent where
  it reaches the purpose.
-#}
states as (

    select
        {{ key }}
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
            when state_reason = 'consent_granted' and is_opted_out_by_browser
                then 'granted+gpc_on'
            when state_reason = 'consent_granted' then 'granted'
            when
                is_opted_out_by_browser
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
        {%- if moments %}
        case state_reason
            when 'privacy_request_deletion' then deletion_requested_at
            when 'privacy_request_opt_out' then opted_out_at
            else coalesce(received_at, effective_at, gpc_at)
        end as known_at,
        {%- endif %}
        case
            when consent_status in ('granted', 'expired')
                then nullif(expires_at, {{ never() }})
        end as expires_at
    from labelled

)
{%- endmacro %}


{#-
  CTEs `dated_events`, `notices` and `expressions`: every expression of will with its standing and its three instants.

  `ordered_at` is its place in the order of expressions, `counts_from` the instant from which it counts, `notice_void_at`
  the one from which its notice no longer carries it. Where a source states the day alone, the unknown hour is read
  against the grant: a grant is ordered at the day's beginning and counts from its end, a refusal the other way round. A
  refusal counts from the earlier of its two clocks, a grant from the later. Refusals count whoever makes them; a grant
  counts only if every condition holds, else its standing says why not. What is not stated is read as the refusal, or as
  the missing condition: comparisons with null must not let a grant through.

  Needs the CTEs `signal_purposes` and `customers` (subject_token, is_self_consent_capable).
-#}
{% macro expressions_of_will() -%}
dated_events as (

    select
        *,
        coalesce(action = 'granted', false) as is_grant,
        coalesce(action = 'gpc_on', false) as is_browser_signal,
        coalesce(
            effective_precision,
            case when effective_at = date_trunc('day', effective_at) then 'day' end,
            'instant'
        ) <> 'instant' as is_day_only,
        date_trunc('day', effective_at) as effective_day
    from {{ ref('stg_cmp__consent_events') }}

),

placed_events as (

    select
        *,
        case
            when not is_day_only then effective_at
            when is_grant then effective_day
            else effective_day + interval '1' day
        end as ordered_at,
        case
            when is_grant and effective_at is null then null
            when is_grant and is_day_only
                then greatest(
                    effective_day + interval '1' day,
                    coalesce(received_at, effective_at)
                )
            when is_grant
                then greatest(effective_at, coalesce(received_at, effective_at))
            when is_day_only
                then least(effective_day, coalesce(received_at, effective_day))
            else least(effective_at, coalesce(received_at, effective_at))
        end as counts_from
    from dated_events

),

notices as (

    select *
    from {{ ref('notices') }}
    where profile = '{{ var("profile") }}'

),

purposes_with_notices as (

    select distinct purpose from notices

),

expressions as (

    select
        placed_events.subject_token,
        placed_events.purpose,
        placed_events.consent_event_id,
        placed_events.action,
        placed_events.effective_at,
        placed_events.received_at,
        placed_events.ordered_at,
        placed_events.counts_from,
        coalesce(placed_events.is_after_conflict_notice, false)
            as is_after_conflict_notice,
        coalesce(placed_events.expires_at, {{ never() }}) as expires_at,
        coalesce(
            case when coalesce(notices.is_material, true) then notices.superseded_at end,
            {{ never() }}
        ) as notice_void_at,
        case
            when
                not placed_events.is_grant
                and placed_events.actor = 'parent'
                and placed_events.parental_scope = 'disclosure'
                then 'disclosure_refusal'
            when not placed_events.is_grant then 'refusal'
            when placed_events.method = 'gpc_header'
                then 'grant_contradicts_signal'
            when
                placed_events.effective_at
                > placed_events.received_at + {{ clock_skew() }}
                then 'grant_from_the_future'
            when
                signal_purposes.needs_explicit_grant
                and coalesce(placed_events.method, 'none')
                not in ('form', 'paper', 'verified_parental')
                then 'grant_not_explicit'
            when
                signal_purposes.needs_authorisation
                and (
                    coalesce(placed_events.method, 'none')
                    not in ('form', 'paper')
                    or placed_events.expires_at is null
                )
                then 'authorisation_missing'
            when
                placed_events.actor = 'parent'
                and coalesce(placed_events.method, 'none')
                not in ('paper', 'verified_parental')
                then 'parental_consent_unverified'
            when coalesce(placed_events.actor, 'none') not in ('self', 'parent')
                then 'grant_by_agent'
            when
                placed_events.actor = 'self'
                and not coalesce(
                    customers.is_self_consent_capable
                    and placed_events.is_capable_at_collection,
                    false
                )
                then 'self_grant_without_capacity'
            when
                purposes_with_notices.purpose is not null
                and notices.version is null
                then 'notice_unknown'
            when
                placed_events.actor = 'parent'
                and placed_events.parental_scope = 'disclosure'
                then 'parental_disclosure'
            when placed_events.actor = 'parent' then 'parental_grant'
            when placed_events.actor = 'self' then 'own_grant'
            else 'grant_by_agent'
        end as standing
    from placed_events
    inner join signal_purposes
        on placed_events.purpose = signal_purposes.purpose
    inner join customers
        on placed_events.subject_token = customers.subject_token
    left join purposes_with_notices
        on placed_events.purpose = purposes_with_notices.purpose
    left join notices
        on
            placed_events.purpose = notices.purpose
            and placed_events.notice_version = notices.version
            and placed_events.effective_at >= notices.valid_from
            and (
                notices.notice_hash is null
                or placed_events.notice_hash = notices.notice_hash
            )
    where not placed_events.is_browser_signal

),

{#-
  What a person signals as a whole: a browser's opt-out, whatever purpose it was recorded under, and requests. An
  opt-out needs no verification; only a request that was refused is none.
-#}
ranked_browser_signals as (

    select
        subject_token,
        consent_event_id,
        ordered_at,
        counts_from,
        row_number() over (
            partition by subject_token
            order by counts_from, ordered_at, consent_event_id
        ) as position
    from placed_events
    where is_browser_signal

),

{#-
  What a person signals as a whole: the first opt-out of a browser, whatever purpose it was recorded under (it stands
  from then on; a browser repeats it with each page), and requests. An opt-out needs no verification; only a request
  that was refused is none.
-#}
person_signals as (

    select
        subject_token,
        'gpc' as kind,
        consent_event_id as evidence_id,
        ordered_at as signalled_at,
        counts_from
    from ranked_browser_signals
    where position = 1
    union all
    select
        subject_token,
        request_type as kind,
        request_id as evidence_id,
        received_at as signalled_at,
        received_at as counts_from
    from {{ ref('stg_cmp__privacy_requests') }}
    where
        request_type in ('opt_out', 'deletion')
        and coalesce(status, 'received') <> 'refused'

)
{%- endmacro %}
