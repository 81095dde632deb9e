"""What is planted is what is reported: counted again in the files, kind by kind."""

import re

import pytest

from orchestration.ingestion.contracts import load_contracts
from orchestration.sample.people import FORMULA_NAME, IDENTIFIER_PATTERNS, QUOTED_NAME

# Each query counts rows; entity, key and time stand for the contract's.
_FOUND = {
    "slashed_date": "select count(*) from $entity where birth_date like '%/%'",
    "slashed_timestamp": "select count(*) from $entity where $time like '%/%'",
    "zoned_timestamp": "select count(*) from $entity where $time like '%+02:00'",
    "thousands_comma": "select count(*) from $entity where amount like '%,%'",
    "lower_case_currency": "select count(*) from $entity where currency <> upper(currency)",
    "upper_case_enum": "select count(*) from $entity where action = upper(action)",
    "exact_duplicate": "select count(*) - (select count(*) from (select distinct * from $entity)) from $entity",
    "contradictory_key": """
        select count(*) from (select $key from (select distinct * from $entity) group by 1 having count(*) > 1)
    """,
    "unknown_customer": "select count(*) from $entity where customer_id not in (select customer_id from customers)",
    "actor_missing": "select count(*) from $entity where actor is null",
    "amount_missing": "select count(*) from $entity where amount is null",
    "amount_in_words": "select count(*) from $entity where amount = 'n/a'",
    "negative_amount": "select count(*) from $entity where amount like '-%'",
    "score_off_the_scale": "select count(*) from $entity where cast(score as double) > 10",
    "impossible_date": "select count(*) from $entity where birth_date = '1985-02-31'",
    "too_many_layers": "select count(*) from $entity where cast(ownership_layers as integer) > 50",
    "future_timestamp": "select count(*) from $entity where left(replace($time, '/', '-'), 10) > '2026-11-01'",
    "in_a_later_file": """
        with booked as (select left(replace(booked_at, '/', '-'), 10) as day, file from $entity)
        select count(*) from booked
        where day < '2026-11-01'
          and file not like concat('%_', left(day, 4), 'q', (cast(substr(day, 6, 2) as integer) + 2) // 3, '.%')
    """,
    "country_spelled_out": "select count(*) from $entity where length(country) > 2",
    "country_missing": "select count(*) from $entity where country is null",
    "birth_date_missing": "select count(*) from $entity where birth_date is null",
    "name_with_quote_and_semicolon": "select count(*) from $entity where full_name like '%\"%;%'",
    "name_like_a_formula": "select count(*) from $entity where full_name like '=%'",
    "late_receipt": """
        select count(*) from $entity
        where cast(replace(received_at, 'Z', '') as timestamp)
            - try_cast(replace(effective_at, 'Z', '') as timestamp) > interval 30 day
    """,
    "out_of_order": """
        with clean as (select * from $entity where effective_at not like '%/%' and effective_at < '2026-11-01')
        select count(*) from clean as a
        where exists (select 1 from clean as b where b.customer_id = a.customer_id
                      and b.effective_at > a.effective_at and b.received_at < a.received_at)
    """,
    "same_instant_grant_and_withdrawal": """
        select count(*) from $entity as a join $entity as b using (customer_id, purpose, effective_at)
        where a.action = 'granted' and b.action = 'withdrawn'
    """,
    "expired_grant": "select count(*) from $entity where expires_at <= '2026-11-01T00:00:00Z'",
    "expires_at_the_run": "select count(*) from $entity where expires_at = '2026-11-01T00:00:00Z'",
    "gpc_signal": "select count(*) from $entity where action = 'gpc_on'",
    "gpc_and_grant": """
        select count(distinct customer_id) from $entity as a join $entity as b using (customer_id, purpose)
        where a.action = 'gpc_on' and b.action = 'granted'
    """,
    "agent_opt_out": "select count(*) from $entity where actor = 'agent'",
    "parent_grant": "select count(*) from $entity where actor = 'parent' and action = 'granted'",
}


def _found(sample, entity: str, kind: str) -> int:
    contract = load_contracts()[entity]
    if kind == "unknown_enum":
        enums = [column for column in contract.columns if column.type == "enum"]
        wrong = " or ".join(f"lower({column.name}) not in {(*column.values, '')}" for column in enums)
        return sample.value(f"select count(*) from {entity} where {wrong}")
    if kind == "yes_no_boolean":
        columns = [column.name for column in contract.columns if column.type == "boolean"]
        return sample.value(
            f"select count(*) from {entity} where " + " or ".join(f"{name} in ('Y', 'N')" for name in columns)
        )
    query = _FOUND[kind].replace("$entity", entity).replace("$key", contract.key)
    return sample.value(query.replace("$time", contract.event_time or ""))


@pytest.mark.parametrize("entity", list(load_contracts()))
def test_planted_oddities_are_what_the_files_hold(either, entity: str) -> None:
    reported = either.summary.oddities[entity]
    counted_elsewhere = ("child_alone_grant",)
    exact = {kind: count for kind, count in reported.items() if kind not in counted_elsewhere}
    assert {kind: _found(either, entity, kind) for kind in exact} == exact


def test_every_kind_that_a_bank_may_meet_is_planted(fintech) -> None:
    for entity, kinds in {
        "customers": ["slashed_date", "contradictory_key", "impossible_date", "country_spelled_out"],
        "transactions": [
            "thousands_comma",
            "in_a_later_file",
            "exact_duplicate",
            "negative_amount",
            "future_timestamp",
        ],
        "consent_events": [
            "unknown_customer",
            "same_instant_grant_and_withdrawal",
            "late_receipt",
            "out_of_order",
            "expired_grant",
            "expires_at_the_run",
            "gpc_signal",
            "gpc_and_grant",
        ],
        "incidents": ["exact_duplicate"],
    }.items():
        for kind in kinds:
            assert fintech.summary.oddities[entity][kind] > 0, kind


def test_duplicates_and_quarantined_rows_follow_from_the_oddities(either) -> None:
    for entity, account in either.summary.entities.items():
        planted = account.oddities
        assert account.rows == either.value(f"select count(*) from {entity}")
        assert account.duplicates == planted["exact_duplicate"]
        assert account.quarantined["contradictory_key"] == 2 * planted["contradictory_key"]
        assert account.quarantined["unknown_value"] == planted["unknown_enum"]
        assert account.quarantined["timestamp_in_future"] == planted["future_timestamp"]
        assert account.kept > 0.9 * account.rows


def test_what_is_kept_has_one_row_a_key_and_a_known_customer(either) -> None:
    """Apart from planted violations every reference resolves; no quarantined customer is referred to at all."""
    for entity, contract in load_contracts().items():
        account = either.summary.entities[entity]
        keys = either.value(f"select count(distinct {contract.key}) from {entity}")
        assert keys == account.rows - account.duplicates - account.oddities["contradictory_key"]
        if entity != "customers":
            unknown = either.value(
                f"select count(*) from {entity} where customer_id not in (select customer_id from customers"
                " where customer_type <> 'household' and coalesce(birth_date, '') <> '1985-02-31'"
                " and coalesce(ownership_layers, '0') <> '99' group by 1 having count(distinct status) = 1)"
            )
            assert unknown == account.oddities["unknown_customer"]


def test_awkward_names_are_there_and_every_identifier_is_recognisable(fintech) -> None:
    names = {row[0] for row in fintech.engine.execute("select full_name from customers").fetchall()}
    assert {QUOTED_NAME, FORMULA_NAME} <= names
    marks = re.compile("|".join(f"(?:{pattern})" for pattern in (p.replace("(?i)", "") for p in IDENTIFIER_PATTERNS)))
    for column in ("customer_id", "full_name", "email", "phone", "tax_id", "street_address"):
        values = [
            row[0]
            for row in fintech.engine.execute(f"select {column} from customers where {column} is not null").fetchall()
        ]
        assert values and all(marks.search(value) for value in values), column


def test_comments_name_their_authors(fintech) -> None:
    told = fintech.engine.execute(
        f"select count(*) from read_json('{fintech.folder}/survey_feedback.ndjson') where comment like '%+999-555-%'"
    ).fetchone()[0]
    assert told > 0
