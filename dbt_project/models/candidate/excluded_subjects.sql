with gate as (

    select * from {{ ref('gate') }}

),

blocked as (

    select
        purpose_role as zone,
        purpose,
        gate_reason,
        count(*) as subject_count,
        {{ as_of() }} as as_of
    from gate
    where
        purpose_role in ('risk', 'audience')
        and gate_outcome = 'BLOCK'
    group by purpose_role, purpose, gate_reason

)

select * from blocked
