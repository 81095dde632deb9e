"""The split: raw rows without identifiers, one token per customer, and no value in any message."""

import os
import signal
from collections.abc import Callable
from contextlib import closing
from datetime import date
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as trials
from hypothesis import strategies as st

from orchestration.identity import sealing, split, workers
from orchestration.identity.errors import DuplicateSubjectError, IdentityError, WrongMasterKeyError
from orchestration.identity.keys import VARIABLE, MasterKeys, load_keys
from orchestration.identity.pseudonyms import token
from orchestration.identity.split import CUSTOMERS, SUBJECTS, drop_tables, split_customers, tokenise
from orchestration.identity.vault import read_person
from orchestration.identity.workers import Workers
from orchestration.settings import Settings
from tests.unit.identity.conftest import AS_OF, Desk, person

Person = Callable[..., dict[str, object]]
PLANTED = ("PLANTED", "lanted", "777123456", "11742", "1987")


def test_raw_rows_have_exactly_the_contracts_columns(lake_desk: Desk, make_person: Person) -> None:
    desk = lake_desk
    result = desk.deliver(
        make_person("C-1", industry="retail", is_pep=True, ownership_layers=2, region=" Bavaria ")
    )
    described = {row[0]: row[1].lower() for row in desk.rows(f"describe {result.relation}")}
    expected = desk.contract.raw_columns()
    assert list(described) == list(expected)
    assert described == {name: sql_type.replace(" ", "") for name, sql_type in expected.items()}
    desk.connection.execute(f"insert into lake.raw.customers select * from {result.relation}")
    columns = [
        column[0] for column in desk.connection.execute("select * from lake.raw.customers").description
    ]
    row = dict(zip(columns, desk.rows("select * from lake.raw.customers")[0], strict=True))
    assert row["subject_token"] == token(desk.keys, "raw", "C-1")
    assert row["risk_subject_token"] == token(desk.keys, "risk", "C-1")
    assert row["audience_subject_token"] == token(desk.keys, "audience", "C-1")
    told = (
        "age_band",
        "is_self_consent_capable",
        "region",
        "country",
        "industry",
        "is_pep",
        "ownership_layers",
        "feed",
        "load_id",
    )
    assert [row[name] for name in told] == [
        "18+",
        True,
        "Bavaria",
        "Germany",
        "retail",
        True,
        2,
        "crm_customers",
        "load",
    ]


def test_ages_and_regions_follow_from_what_stays_in_the_vault(desk: Desk, make_person: Person) -> None:
    result = desk.deliver(
        make_person("adult"),
        make_person("german-15", birth_date=date(2011, 11, 1)),
        make_person("czech-15", birth_date=date(2011, 11, 1), country="Czech Republic"),
        make_person("american-13", birth_date=date(2013, 11, 1), country="USA"),
        make_person("american-12", birth_date=date(2013, 11, 2), country="USA"),
        make_person("nowhere-16", birth_date=date(2010, 11, 1), country=None),
        make_person("no-date", birth_date=None, postal_code=None),
        make_person("firm", customer_type="corporate", birth_date=None, postal_code="1"),
    )
    rows = desk.rows(
        f"select value, age_band, is_self_consent_capable, region from {result.relation} "
        f"inner join {result.subjects} on token = subject_token order by value"
    )
    assert rows == [
        ("adult", "18+", True, "postal:11"),
        ("american-12", "<13", False, "postal:11"),
        ("american-13", "13-15", True, "postal:11"),
        ("czech-15", "13-15", True, "postal:11"),
        ("firm", "18+", True, None),
        ("german-15", "13-15", False, "postal:11"),
        ("no-date", "unknown", False, None),
        ("nowhere-16", "16-17", True, "postal:11"),
    ]


def test_no_identifier_is_left_but_in_the_table_that_says_so(desk: Desk, make_person: Person) -> None:
    result = desk.deliver(make_person("C-PLANTED"))
    assert (result.relation, result.subjects) == (CUSTOMERS, SUBJECTS)
    assert not any(word in repr(desk.rows(f"select * from {result.relation}")) for word in PLANTED)
    assert desk.rows(f"select value from {result.subjects}") == [("C-PLANTED",)]
    left = (
        "select table_name from duckdb_tables() where temporary "
        "union select view_name from duckdb_views() where temporary and not internal"
    )
    assert {row[0] for row in desk.rows(left)} == {"delivery", CUSTOMERS, SUBJECTS}
    drop_tables(desk.connection, CUSTOMERS, SUBJECTS, "never_there")
    assert {row[0] for row in desk.rows(left)} == {"delivery"}


def test_nobody_is_delivered(desk: Desk) -> None:
    result = desk.deliver()
    assert (result.persons, result.vault.added) == (0, 0)
    assert list(desk.connection.execute(f"select * from {result.relation}").fetchall()) == []


@pytest.mark.parametrize(
    "twice",
    [
        ("José", "Jose\N{COMBINING ACUTE ACCENT}"),
        ("C-1", " C-1"),
        ("C-1", "C-1"),
        ("C-1", None),
        ("C-1", " "),
    ],
)
def test_customers_that_cannot_be_told_apart_stop_the_split(
    desk: Desk, make_person: Person, twice: tuple[str | None, str | None]
) -> None:
    with pytest.raises(DuplicateSubjectError) as caught:
        desk.deliver(*(make_person(customer_id) for customer_id in twice))
    assert "C-1" not in str(caught.value) and "Jos" not in str(caught.value)
    assert not desk.settings.vault_catalog.exists()
    assert desk.rows("select table_name from duckdb_tables() where temporary") == [("delivery",)]


def test_an_engine_that_spills_in_plain_text_is_refused(
    settings: Settings, keys: MasterKeys, desk: Desk
) -> None:
    plain = duckdb.connect()
    plain.execute("create table delivery as select 'C-1' as customer_id")
    with pytest.raises(IdentityError, match="plain text"):
        split_customers(plain, desk.contract, "delivery", keys, settings, AS_OF, "load")
    with pytest.raises(IdentityError, match="plain text"):
        tokenise(plain, "delivery", "customer_id", "raw", keys)


def test_a_foreign_errors_text_is_withheld(
    desk: Desk, make_person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(keys: MasterKeys, batch: pa.RecordBatch) -> pa.RecordBatch:
        raise ValueError(f"cannot seal {batch.to_pylist()} with {keys.kek!r}")

    monkeypatch.setattr(workers, "seal", broken)
    with pytest.raises(IdentityError, match="ValueError") as caught:
        desk.deliver(make_person("C-PLANTED"))
    told = f"{caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert not any(word in told for word in PLANTED) and repr(desk.keys.kek) not in told
    assert desk.rows("select table_name from duckdb_tables() where temporary") == [("delivery",)]


def test_an_engines_error_text_is_withheld(desk: Desk) -> None:
    """DuckDB quotes the value that it cannot cast."""
    desk.connection.execute(
        "create temp table delivery as select 'C-PLANTED' as customer_id, 'PLANTED' as birth_date"
    )
    with pytest.raises(IdentityError) as caught:
        desk.deliver(person("C-1", birth_date=date(2000, 1, 1)), as_of="PLANTED-no-date")
    assert "PLANTED" not in f"{caught.value!r} {caught.value.__context__!r}"


def test_a_mistake_in_a_statement_is_told(desk: Desk) -> None:
    with pytest.raises(IdentityError, match="no_such_table"):
        split_customers(
            desk.connection, desk.contract, "no_such_table", desk.keys, desk.settings, AS_OF, "load"
        )


def test_nothing_is_logged_or_printed(
    desk: Desk, make_person: Person, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(0)
    desk.deliver(make_person("C-PLANTED"))
    tokenise(desk.connection, "delivery", "email", "raw", desk.keys)
    assert caplog.text == ""
    assert capfd.readouterr() == ("", "")


def test_tokens_can_be_joined_to(desk: Desk) -> None:
    desk.connection.execute(
        """create temp table moves as select * from (values
        ('C-1', 1), ('C-1', 2), ('x"; drop table moves; --', 3), (null, 4), ('  ', 5), ('Jose' || chr(769), 6)
        ) as moves(counterparty_id, amount)"""
    )
    name = tokenise(desk.connection, "moves", "counterparty_id", "raw", desk.keys)
    rows = desk.rows(
        f"select amount, token from moves left join {name} on value = counterparty_id order by amount"
    )
    expected = ["C-1", "C-1", 'x"; drop table moves; --', None, None, "José"]
    assert [row[1] for row in rows] == [value and token(desk.keys, "raw", value) for value in expected]
    assert desk.rows(f"select count(*), count(token) from {name}") == [(3, 3)]
    named = tokenise(desk.connection, "moves", "amount", "risk", desk.keys, table="amounts")
    assert named == "amounts"
    assert desk.rows("select token from amounts where value = '3'") == [(token(desk.keys, "risk", "3"),)]


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Helper processes from the first row on, also on a machine with one core."""
    monkeypatch.setattr(split, "PERSONS_WORTH_A_PROCESS", 0)
    monkeypatch.setattr(split, "TOKENS_WORTH_A_PROCESS", 0)
    monkeypatch.setattr(workers.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)


def test_helper_processes_give_the_same_result(
    desk: Desk, make_person: Person, processes: None, monkeypatch
) -> None:
    monkeypatch.setattr(split, "BATCH_ROWS", 2048)
    desk.deliver(*(make_person(f"C-{number}", email=f"e{number}") for number in range(9000)))
    with_processes = desk.rows(f"select * from {CUSTOMERS} order by all")
    name = tokenise(desk.connection, "delivery", "email", "raw", desk.keys)
    assert desk.rows(f"select token from {name} where value = 'e77'") == [(token(desk.keys, "raw", "e77"),)]
    assert desk.rows(f"select count(*), count(distinct token) from {name}") == [(9000, 9000)]
    monkeypatch.setattr(split, "PERSONS_WORTH_A_PROCESS", 10**9)
    again = desk.deliver(*(make_person(f"C-{number}", email=f"e{number}") for number in range(9000)))
    assert again.vault.unchanged == 9000
    assert desk.rows(f"select * from {CUSTOMERS} order by all") == with_processes
    assert (
        read_person(desk.settings, desk.keys, token(desk.keys, "raw", "C-8999"), desk.connection)["email"]
        == "e8999"
    )


def test_the_keys_reach_a_helper_process_by_pipe_only(
    keys: MasterKeys, processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "planted-master-keys")
    with Workers(keys, 1, 0) as pool:
        pool.submit("raw", pa.record_batch({"value": ["a"]})).result()
        for child in pool._children:
            folder = Path(f"/proc/{child.process.pid}")
            if not folder.exists():
                pytest.skip("this system shows no processes under /proc")
            seen = (folder / "environ").read_bytes() + (folder / "cmdline").read_bytes()
            assert b"orchestration.identity.workers" in seen
            assert b"planted" not in seen and keys.kek not in seen


def test_helper_processes_end_with_their_work(keys: MasterKeys, processes: None) -> None:
    with Workers(keys, 1, 0) as pool:
        children = list(pool._children)
        assert len(children) == 2 and all(child.process.poll() is None for child in children)
    assert [child.process.poll() for child in children] == [0, 0]


def test_a_killed_helper_process_is_said(keys: MasterKeys, processes: None) -> None:
    with Workers(keys, 1, 0) as pool:
        for child in pool._children:
            os.kill(child.process.pid, signal.SIGKILL)
            child.process.wait()
        with pytest.raises(IdentityError, match="ended early") as caught:
            pool.submit("raw", pa.record_batch({"value": ["PLANTED"]})).result()
    assert "PLANTED" not in str(caught.value) and caught.value.__context__ is None


def test_errors_come_back_from_a_helper_process_without_values(keys: MasterKeys, processes: None) -> None:
    row = {
        "subject_token": ["t"],
        "fingerprint": [b"f"],
        "nonce": [bytes(12)],
        "wrapped_key": [bytes(48)],
        "email": ["PLANTED"],
    }
    with Workers(keys, 1, 0) as pool:
        with pytest.raises(WrongMasterKeyError, match=sealing.WRONG_KEK):
            pool.submit("seal", pa.record_batch(row)).result()
        with pytest.raises(IdentityError, match="KeyError") as caught:
            pool.submit("PLANTED-task", pa.record_batch(row)).result()
        assert "PLANTED" not in str(caught.value)
        assert pool.submit("raw", pa.record_batch({"value": ["a"]})).result().num_rows == 1  # they go on


DELIVERIES = st.lists(
    st.dictionaries(
        st.sampled_from(["a", "b", "c", "d"]),
        st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=5),
        max_size=4,
    ),
    min_size=1,
    max_size=3,
)


@trials(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deliveries=DELIVERIES)
def test_the_vault_holds_what_each_customer_last_delivered(
    shared_engine: duckdb.DuckDBPyConnection,
    tmp_path_factory: pytest.TempPathFactory,
    deliveries: list[dict[str, str | None]],
) -> None:
    """Whatever comes, goes, changes and comes back."""
    home = Settings(home=tmp_path_factory.mktemp("history") / "home")
    expected: dict[str, str | None] = {}
    with closing(shared_engine.cursor()) as connection:
        desk = Desk(home, load_keys(home), connection)
        for delivery in deliveries:
            counts = desk.deliver(*(person(key, email=email) for key, email in delivery.items())).vault
            assert counts.added == len(delivery.keys() - expected.keys())
            assert counts.changed == sum(expected.get(key, email) != email for key, email in delivery.items())
            assert counts.added + counts.changed + counts.unchanged == len(delivery)
            expected |= delivery
        for key, email in expected.items():
            held = read_person(home, desk.keys, token(desk.keys, "raw", key), connection)
            assert (held["customer_id"], held.get("email")) == (key, email)
