with policy_in_force as (

    select * from {{ ref('policy_in_force') }}

),

declared_purposes as (

    select distinct
        purpose,
        purpose_role,
        policy_mode,
        policy_version,
        legal_basis,
        unknown_age_as,
        reads_signals,
        reads_gpc
    from policy_in_force

),

countries as (

    select * from {{ ref('countries') }}

),

consent_states as (

    select * from {{ ref('consent_states') }}

),

{#-
  Where the state of residence is not known the other states' rows apply: they never allow
  more than California's.
-#}
customers as (

    select
        customers.subject_token,
        customers.risk_subject_token,
        customers.audience_subject_token,
        case
            when countries.jurisdiction_group in ('EU', 'UK')
                then countries.jurisdiction_group
            when
                countries.jurisdiction_group = 'US'
                and customers.region_code = 'CA'
                then 'US-CA'
            when countries.jurisdiction_group = 'US' then 'US-OTHER'
            else 'OTHER'
        end as jurisdiction,
        coalesce(customers.age_band, 'unknown') as age_band
    from {{ ref('stg_crm__customers') }} as customers
    left join countries
        on customers.country_code = countries.iso2

),

{#- Every customer meets every declared purpose; nothing after this line adds or drops a row. -#}
questions as (

    select
        customers.*,
        declared_purposes.*,
        case
            when customers.age_band = 'unknown'
                then declared_purposes.unknown_age_as
            else customers.age_band
        end as policy_age_band
    from customers
    cross join declared_purposes

),

{#-
  A purpose that reads no signal is asked with one fixed signal, so that nothing a person
  expresses can reach it.
-#}
questions_with_signals as (

    select
        questions.*,
        case
            when questions.reads_signals
                then coalesce(consent_states.signal, 'unknown')
            else 'unknown'
        end as signal,
        case
            when questions.reads_signals
                then coalesce(consent_states.consent_status, 'unknown')
            else 'not_applicable'
        end as consent_status,
        case
            when questions.reads_signals
                then coalesce(consent_states.state_reason, 'no_consent_on_record')
            else questions.legal_basis
        end as state_reason,
        case
            when questions.reads_signals then consent_states.consent_event_id
        end as consent_event_id,
        case
            when questions.reads_signals then consent_states.gpc_event_id
        end as gpc_event_id
    from questions
    left join consent_states
        on
            questions.subject_token = consent_states.subject_token
            and questions.purpose = consent_states.purpose

),

answers as (

    select
        questions_with_signals.*,
        policy_in_force.policy_cell,
        policy_in_force.legal_reference,
        {{ outcome_of_cell('policy_in_force.policy_cell') }} as gate_outcome
    from questions_with_signals
    left join policy_in_force
        on
            questions_with_signals.purpose = policy_in_force.purpose
            and questions_with_signals.jurisdiction
            = policy_in_force.jurisdiction
            and questions_with_signals.policy_age_band
            = policy_in_force.age_band
            and questions_with_signals.signal = policy_in_force.signal

),

explained as (

    select
        *,
        case
            when policy_cell is null then 'policy_missing'
            when not reads_signals and gate_outcome = 'ALLOW' then legal_basis
            when gate_outcome = 'ALLOW' and consent_status = 'granted'
                then state_reason
            when gate_outcome = 'ALLOW' then 'opt_out_regime'
            when consent_status in ('denied', 'withdrawn') then state_reason
            when reads_gpc and signal in ('gpc_on', 'granted+gpc_on')
                then 'gpc_signal'
            when gate_outcome = 'BLOCK' and age_band = 'unknown' then 'age_unknown'
            when gate_outcome = 'BLOCK' then 'parental_consent_missing'
            when policy_cell = 'UNCOVERED' then 'law_not_covered'
            when consent_status in ('expired', 'unknown') then state_reason
            when policy_age_band in ('<13', '13-15', '16-17')
                then 'minor_protected'
            when policy_age_band = 'unknown' then 'age_unknown'
            when policy_cell in ('COND', 'STATE') then 'policy_condition_open'
            else 'policy_denies'
        end as gate_reason
    from answers

),

final as (

    select
        subject_token,
        risk_subject_token,
        audience_subject_token,
        purpose,
        purpose_role,
        jurisdiction,
        age_band,
        signal,
        consent_status,
        case
            when gate_reason = 'gpc_signal' then gpc_event_id
            else consent_event_id
        end as consent_event_id,
        gate_outcome,
        gate_reason,
        legal_basis,
        legal_reference,
        policy_version,
        policy_mode
    from explained

)

select * from final
