{#-
  What must hold of the policy whoever edits it. Changes only with the seed, so production
  runs leave it to the tests of the project (tag policy).
-#}
{{ config(
    tags=["policy"],
    description="The policy's own invariants: no grant, no allowance; minors and browser signals protected; strict never looser.",
    meta={"dagster": {"ref": {"name": "consent_decision_table"}}}
) }}

with cells as (

    select
        *,
        purpose in ('aml_legal_obligation', 'fraud_security') as ignores_signals
    from {{ ref('consent_decision_table') }}

),

{#- The same question under other signals, side by side. -#}
by_question as (

    select
        jurisdiction,
        age_band,
        purpose,
        ignores_signals,
        count(distinct signal) as signals,
        count(distinct strict) as strict_outcomes,
        count(distinct statutory) as statutory_outcomes,
        max(case when signal = 'denied' then strict end) as denied_strict,
        max(case when signal = 'withdrawn' then strict end) as withdrawn_strict,
        max(case when signal = 'denied' then statutory end) as denied_statutory,
        max(case when signal = 'withdrawn' then statutory end)
            as withdrawn_statutory,
        max(case when signal = 'gpc_on' then statutory end) as gpc_statutory,
        max(case when signal = 'unknown' then statutory end)
            as unknown_statutory,
        max(case when signal = 'expired' then statutory end)
            as expired_statutory,
        max(case when signal = 'granted' then statutory end)
            as granted_statutory,
        max(case when signal = 'granted+gpc_on' then statutory end)
            as granted_gpc_statutory
    from cells
    group by 1, 2, 3, 4

),

problems as (

    select 'the table is a full cross product' as broken_invariant
    from (select count(*) as rows_found from cells) as counted
    where rows_found <> 5 * 5 * 7 * 9

    union all

    select 'outcomes are known words' as broken_invariant
    from cells
    where
        coalesce(strict, '') not in ('ALLOW', 'DEFAULT', 'HUMAN', 'BLOCK')
        or coalesce(statutory, '')
        not in ('ALLOW', 'DEFAULT', 'HUMAN', 'BLOCK', 'COND', 'STATE')

    union all

    select 'strict is never looser than statutory' as broken_invariant
    from cells
    where strict = 'ALLOW' and statutory not in ('ALLOW', 'COND', 'STATE')

    union all

    select 'strict allows nothing without a grant' as broken_invariant
    from cells
    where
        strict = 'ALLOW'
        and not ignores_signals
        and signal not in ('granted', 'granted+gpc_on', 'parental', 'parental+disclosure')

    union all

    select 'strict allows no advertising to minors or unknown ages' as broken_invariant
    from cells
    where strict = 'ALLOW' and purpose = 'ads_sale_share' and age_band <> '18+'

    union all

    select 'no minor meets a solely automated decision, whoever consents' as broken_invariant
    from cells
    where
        (strict = 'ALLOW' or statutory = 'ALLOW')
        and purpose = 'significant_decision_admt'
        and age_band in ('<13', '13-15', '16-17')
        and jurisdiction in ('EU', 'UK', 'OTHER')

    union all

    select 'an unknown age is never served advertising, decisions or sensitive uses' as broken_invariant
    from cells
    where
        strict = 'ALLOW'
        and age_band = 'unknown'
        and purpose in ('ads_sale_share', 'significant_decision_admt', 'sensitive')

    union all

    select 'an unknown jurisdiction is never looser than the European Union' as broken_invariant
    from cells
    inner join cells as union_cells
        on
            cells.age_band = union_cells.age_band
            and cells.purpose = union_cells.purpose
            and cells.signal = union_cells.signal
            and union_cells.jurisdiction = 'EU'
    where
        cells.jurisdiction = 'OTHER'
        and (
            (cells.strict = 'ALLOW' and union_cells.strict <> 'ALLOW')
            or (cells.statutory = 'ALLOW' and union_cells.statutory <> 'ALLOW')
        )

    union all

    select 'every outcome cites its law' as broken_invariant
    from cells
    where coalesce(reference, '') = '' or coalesce(confidence, '') not in ('H', 'M', 'L')

    union all

    select 'a browser signal always stops advertising' as broken_invariant
    from cells
    where
        purpose = 'ads_sale_share'
        and signal in ('gpc_on', 'granted+gpc_on')
        and (strict = 'ALLOW' or statutory = 'ALLOW')

    union all

    select 'no child under 13 grants for itself' as broken_invariant
    from cells
    where
        age_band = '<13'
        and not ignores_signals
        and signal in ('granted', 'granted+gpc_on')
        and (strict = 'ALLOW' or statutory = 'ALLOW')

    union all

    select 'each question has all nine signals' as broken_invariant
    from by_question
    where signals <> 9

    union all

    select 'law and legitimate interest do not vary with the signal' as broken_invariant
    from by_question
    where ignores_signals and (strict_outcomes <> 1 or statutory_outcomes <> 1)

    union all

    select 'denied and withdrawn agree' as broken_invariant
    from by_question
    where
        denied_strict <> withdrawn_strict
        or denied_statutory <> withdrawn_statutory

    union all

    select 'a more restrictive signal never allows more' as broken_invariant
    from by_question
    where
        (denied_statutory = 'ALLOW' and gpc_statutory <> 'ALLOW')
        or (gpc_statutory = 'ALLOW' and unknown_statutory <> 'ALLOW')
        or (granted_gpc_statutory = 'ALLOW' and granted_statutory <> 'ALLOW')
        or unknown_statutory <> expired_statutory

)

select
    broken_invariant,
    count(*) as times
from problems
group by 1
