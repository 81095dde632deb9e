"""The canary: it sings when a person who opted out gets through, and when it could not have noticed."""

from datetime import datetime

import pytest

from orchestration.identity.keys import load_keys
from orchestration.ingestion.contracts import load_contracts
from orchestration.lake import ensure_zones, open_lake
from orchestration.rights.canary import canary_tokens, judge_canaries, place_canaries, remove_canaries
from orchestration.rights.regating import Model
from orchestration.settings import Settings

AS_OF = datetime(2026, 1, 1)


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("canary") / "home")


@pytest.fixture(scope="module")
def connection(settings):
    with open_lake(settings) as connection:
        ensure_zones(connection)
        yield connection


def fill(connection, rows: list[tuple[str, str, str, str]], zone: str = "candidate") -> None:
    connection.execute(
        f"create or replace table lake.{zone}.audience_segments "
        "(subject_token varchar, segment varchar, consent_status varchar, gate_outcome varchar)"
    )
    connection.executemany(f"insert into lake.{zone}.audience_segments values (?, ?, ?, ?)", rows)


def judged(connection, settings) -> bool:
    (outcome,) = judge_canaries(connection, load_keys(settings), ["audience_segments"])
    return outcome.passed


def twins(settings) -> tuple[str, str]:
    found = canary_tokens(load_keys(settings))
    return found["opted_out"][2], found["control"][2]


def test_a_working_gate_passes(connection, settings):
    opted_out, control = twins(settings)
    fill(connection, [(opted_out, "default", "withdrawn", "DEFAULT"), (control, "champion", "granted", "ALLOW")])
    assert judged(connection, settings)


@pytest.mark.parametrize(("segment", "outcome"), [("champion", "ALLOW"), ("champion", "DEFAULT"), ("default", "ALLOW")])
def test_an_opted_out_person_in_a_named_segment_fails(connection, settings, segment, outcome):
    opted_out, control = twins(settings)
    fill(connection, [(opted_out, segment, "granted", outcome), (control, "champion", "granted", "ALLOW")])
    assert not judged(connection, settings)


def test_a_control_that_is_not_named_fails_for_then_nothing_was_shown(connection, settings):
    """A gate that puts everybody into the default would let the first check pass for ever."""
    opted_out, control = twins(settings)
    fill(connection, [(opted_out, "default", "withdrawn", "DEFAULT"), (control, "default", "unknown", "DEFAULT")])
    assert not judged(connection, settings)


def test_twins_that_never_arrived_fail(connection, settings):
    fill(connection, [("somebody", "champion", "granted", "ALLOW")])
    assert not judged(connection, settings)


def test_a_rating_that_reads_no_signal_is_not_judged(connection, settings):
    """An AML tier stays, opt-out or not: by its basis, whatever the relation is called."""
    opted_out, control = twins(settings)
    fill(connection, [(opted_out, "low", "not_applicable", "ALLOW"), (control, "low", "not_applicable", "ALLOW")])
    assert judged(connection, settings)


def test_the_twins_differ_in_the_opt_out_alone_and_nothing_marks_them(connection, settings):
    """Whatever told them from customers would let a model treat them well and everybody else badly."""
    keys = load_keys(settings)
    for contract in load_contracts().values():
        connection.execute(f"drop table if exists lake.raw.{contract.entity}")
        connection.execute(contract.raw_ddl())
    connection.execute("insert into lake.raw.customers (subject_token, feed, load_id) values ('real', 'crm_customers', 'run1')")
    place_canaries(connection, keys, AS_OF, "run1")
    opted_out, control = (canary_tokens(keys)[twin][0] for twin in ("opted_out", "control"))

    def rows(entity: str, token: str) -> list[tuple]:
        hidden = "subject_token, risk_subject_token, audience_subject_token" if entity == "customers" else "subject_token"
        key = "" if entity == "customers" else f", {load_contracts()[entity].key}"
        return connection.execute(
            f"select * exclude ({hidden}{key}) from lake.raw.{entity} where subject_token = ? order by all", [token]
        ).fetchall()

    for entity in ("customers", "consent_events", "transactions"):
        assert rows(entity, opted_out) == rows(entity, control) != []
    assert rows("privacy_requests", control) == []
    ((request_type, received_at),) = connection.execute(
        "select request_type, received_at from lake.raw.privacy_requests where subject_token = ?", [opted_out]
    ).fetchall()
    last_grant = connection.execute("select max(effective_at) from lake.raw.consent_events").fetchone()[0]
    assert request_type == "opt_out" and last_grant < received_at < AS_OF
    feeds = connection.execute("select distinct feed from lake.raw.customers").fetchall()
    assert feeds == [("crm_customers",)]


def test_nothing_is_placed_beside_an_empty_delivery(connection, settings):
    for contract in load_contracts().values():
        connection.execute(f"drop table if exists lake.raw.{contract.entity}")
        connection.execute(contract.raw_ddl())
    place_canaries(connection, load_keys(settings), AS_OF, "run1")
    assert connection.execute("select count(*) from lake.raw.customers").fetchone() == (0,)


def test_publication_loses_the_twins_and_only_them(connection, settings):
    opted_out, control = twins(settings)
    fill(connection, [(opted_out, "default", "w", "D"), (control, "x", "g", "A"), ("real", "x", "g", "A")], "published")
    model = Model("candidate", "audience_segments", "model", "", "table", "", (), "subject_token")
    remove_canaries(connection, load_keys(settings), [model])
    assert connection.execute("select subject_token from lake.published.audience_segments").fetchall() == [("real",)]


def test_another_installations_twins_are_other_people(tmp_path, settings):
    other = canary_tokens(load_keys(Settings(home=tmp_path / "other")))
    mine = canary_tokens(load_keys(settings))
    assert not {token for twin in mine.values() for token in twin} & {token for twin in other.values() for token in twin}
