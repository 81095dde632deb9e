{#-
  Without a rate the amount in euros is empty and every threshold would pass the movement
  over in silence.
-#}
{{ config(
    description="Every currency that moved has a reference rate; a missing one is added to the seed exchange_rates.",
    meta={"dagster": {"ref": {"name": "stg_payments__transactions"}}}
) }}

select currency
from {{ ref('stg_payments__transactions') }}
where amount_eur is null
group by 1
