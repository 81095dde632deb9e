with transactions as (

    select * from {{ source('payments', 'transactions') }}

),

country_aliases as (

    select * from {{ ref('country_aliases') }}

),

exchange_rates as (

    select * from {{ ref('exchange_rates') }}

),

normalised as (

    select
        -- ids
        transactions.transaction_id,
        transactions.subject_token,
        transactions.counterparty_token,

        -- strings
        transactions.direction,
        transactions.currency,
        transactions.payment_method,
        transactions.channel,
        coalesce(country_aliases.iso2, 'ZZ') as counterparty_country_code,
        transactions.category,
        transactions.feed,
        transactions.load_id,

        -- numerics
        transactions.amount,
        cast(transactions.amount as double) * exchange_rates.eur_rate
            as amount_eur,

        -- timestamps
        transactions.booked_at

    from transactions
    left join country_aliases
        on
            {{ lookup_text('transactions.counterparty_country') }}
            = country_aliases.alias
    left join exchange_rates
        on transactions.currency = exchange_rates.currency

)

select * from normalised
