"""Who could consent alone on the day of an event: by the law and the age of that day, whatever has happened since."""

from datetime import date, datetime

import duckdb
import pytest

from orchestration.identity.capability import PERSONS, SPANS, capability_column, forget_persons, remember_persons

CASES = [
    # Danish, born 1 July 2010: 13 on 1 July 2023, when 13 was enough; 15 is asked for from 2024 on.
    ("dk", date(2010, 7, 1), "Denmark", "individual", datetime(2023, 6, 30, 23, 59), False),
    ("dk", date(2010, 7, 1), "Denmark", "individual", datetime(2023, 7, 1), True),
    ("dk", date(2010, 7, 1), "Denmark", "individual", datetime(2024, 1, 1), False),
    ("dk", date(2010, 7, 1), "Denmark", "individual", datetime(2025, 7, 1), True),
    ("de", date(2010, 7, 1), "DE", "individual", datetime(2026, 6, 30), False),
    ("de", date(2010, 7, 1), "DE", "individual", datetime(2026, 7, 1), True),
    ("nowhere", date(2010, 7, 1), None, "individual", datetime(2026, 6, 30), False),
    ("nowhere", date(2010, 7, 1), None, "individual", datetime(2026, 7, 1), True),
    ("ageless", None, "DE", "individual", datetime(2026, 7, 1), False),
    ("unborn", date(2026, 7, 2), "DE", "individual", datetime(2026, 7, 1), False),
    ("firm", None, "DE", "corporate", datetime(2026, 7, 1), True),
    ("de", date(2010, 7, 1), "DE", "individual", None, False),
    ("stranger", None, None, None, datetime(2026, 7, 1), False),
]


@pytest.fixture
def engine():
    with duckdb.connect() as connection:
        connection.execute("create table typed (customer_id varchar, birth_date date, country varchar, customer_type varchar)")
        connection.execute("create table subjects (value varchar, token varchar)")
        for name, birth, country, kind in {case[0]: case[:4] for case in CASES if case[0] != "stranger"}.values():
            connection.execute("insert into typed values (?, ?, ?, ?)", [name, birth, country, kind])
            connection.execute("insert into subjects values (?, ?)", [name, f"token-{name}"])
        yield connection


def test_capability_is_judged_on_the_day_of_the_event(engine) -> None:
    remember_persons(engine, "typed", "subjects", "customer_id")
    engine.execute("create table events (number integer, subject_token varchar, effective_at timestamp)")
    for number, case in enumerate(CASES):
        engine.execute("insert into events values (?, ?, ?)", [number, f"token-{case[0]}", case[4]])
    column, joins = capability_column("kept", "effective_at")
    found = engine.execute(f"select number, {column} from events as kept{joins} order by number").fetchall()
    assert found == [(number, case[5]) for number, case in enumerate(CASES)]


def test_birth_dates_do_not_outlive_the_landing(engine) -> None:
    remember_persons(engine, "typed", "subjects", "customer_id")
    forget_persons(engine)
    forget_persons(engine)
    for name in (PERSONS, SPANS):
        with pytest.raises(duckdb.CatalogException):
            engine.execute(f"select * from {name}")
