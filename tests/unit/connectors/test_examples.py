"""The examples that ship are right, and what they pull lands: from a vendor's answer to a raw row, with nothing lost."""

import shutil

import pytest

from orchestration.connectors.registry import pull_into_data
from orchestration.connectors.vocabulary import load_vocabulary
from orchestration.identity.keys import load_keys
from orchestration.ingestion.landing import land
from orchestration.ingestion.mapping import load_mapping
from orchestration.lake import open_lake
from orchestration.settings import PROJECT_ROOT
from tests.unit.connectors.conftest import NOW, consent, profile, receipt, response

EXAMPLES = PROJECT_ROOT / "examples"


@pytest.mark.parametrize("name", ["onetrust", "trustarc", "zigpoll", "signals"])
def test_an_examples_mapping_and_vocabulary_are_readable(name):
    assert load_mapping(EXAMPLES / name).feeds_of("consent_events")[0].files.startswith(f"pulled/{name}/")
    assert load_vocabulary(EXAMPLES / name / f"{name}.yml", name)


def landed(desk, example: str, *select: str) -> list[list[tuple]]:
    """Land the desk's folder by an example's mapping; the rows of each query."""
    shutil.copy(EXAMPLES / example / "mapping.yml", desk.sources / "mapping.yml")
    with open_lake(desk.settings) as connection:
        delivery = land(
            connection, desk.settings, load_keys(desk.settings), load_mapping(desk.sources), desk.sources, NOW, "run",
            lambda *_: None,
        )  # fmt: skip
        assert all(count.reconciles for count in delivery.counts)
        return [connection.execute(text).fetchall() for text in select]


def customers(desk, delimiter: str = ",") -> None:
    rows = ["customer_id,customer_type,email", "C1,individual,c1@planted.example", "C2,individual,c2@planted.example"]
    (desk.sources / "customers.csv").write_text("\n".join(rows).replace(",", delimiter) + "\n")


EVENTS = "select action, purpose from lake.raw.consent_events order by all"
QUARANTINE = "select feed, reason, count(*) from lake.ops.quarantine group by all order by all"


def test_onetrust_from_the_answer_to_the_raw_table(desk, monkeypatch):
    """By the same road as every other file: contract, quarantine, reconciliation, pseudonyms."""
    customers(desk)
    settings = desk.settings.model_copy(update={"sources": desk.sources})
    desk.vendor.records["receipts"] = [receipt(1, "c1@planted.example"), receipt(2, "nobody@planted.example")]
    desk.vendor.records["profiles"] = [profile("c2@planted.example", "OPT_OUT")]
    report = pull_into_data(settings, "onetrust", NOW)
    assert [count.rows for count in report.counts] == [2, 1]
    events, quarantine, pulls = landed(desk, "onetrust", EVENTS, QUARANTINE, "select sum(rows) from lake.ops.connector_pulls")
    assert events == [("denied", "personalisation"), ("granted", "personalisation")]
    assert quarantine == [("onetrust_consent", "missing_value", 1)]
    assert pulls == [(3,)]


def test_a_second_pull_and_landing_change_nothing(desk):
    customers(desk)
    settings = desk.settings.model_copy(update={"sources": desk.sources})
    desk.vendor.records["receipts"] = [receipt(number, "c1@planted.example") for number in range(3)]
    whole = "select * exclude (load_id) from lake.raw.consent_events order by event_id"
    pull_into_data(settings, "onetrust", NOW)
    (first,) = landed(desk, "onetrust", whole)
    pull_into_data(settings, "onetrust", NOW)
    (second,) = landed(desk, "onetrust", whole)
    assert len(first) == 3
    assert second == first


def test_trustarc_from_the_answer_to_the_raw_table(desk):
    customers(desk)
    desk.vendor.records["consents"] = [consent(1), consent(2, "C2", "OPTED_OUT")]
    desk.pull("trustarc")
    (events,) = landed(desk, "trustarc", EVENTS)
    assert events == [("denied", "personalisation"), ("granted", "personalisation")]


def test_zigpoll_from_the_answer_to_the_raw_tables(desk):
    customers(desk)
    desk.vendor.records["responses"] = [response(1), response(2, "C2", answer="No"), response(3, slide="s-nps", answer="7")]
    desk.pull("zigpoll")
    scores = "select survey_id, question_type, score from lake.raw.survey_feedback"
    events, answers = landed(desk, "zigpoll", EVENTS, scores)
    assert events == [("denied", "personalisation"), ("granted", "personalisation")]
    assert answers == [("poll-1", "nps", 7.0)]


def test_a_table_that_a_cmp_exports_lands_by_a_mapping_alone(desk):
    """The plain feed: no connector, no code; an unknown word grants nothing."""
    customers(desk, ";")
    (desk.sources / "consent_export_2026.csv").write_text(
        "RECORD;CUSTOMER;CATEGORY;CHOICE;GIVEN_AT;NOTICE\n"
        "1;C1;Newsletter;accept;31.10.2026 10:00:00;v3\n"
        "2;C1;Statistics;revoke;31.10.2026 10:00:00;v3\n"
        "3;C2;Newsletter;perhaps;31.10.2026 10:00:00;v3\n"
        "4;C2;Profiling;accept;31.10.2026 10:00:00;v3\n"
        "5;C2;Newsletter;accept;sometime;v3\n"
    )
    events, quarantine = landed(desk, "cmp_export", EVENTS, QUARANTINE)
    assert events == [("granted", "personalisation"), ("withdrawn", "analytics")]
    assert quarantine == [("cmp_export", "unknown_value", 2), ("cmp_export", "wrong_type", 1)]


def test_no_pulled_identifier_reaches_the_home_in_plain_text(desk):
    customers(desk)
    settings = desk.settings.model_copy(update={"sources": desk.sources})
    desk.vendor.records["receipts"] = [receipt(1, "c1@planted.example"), receipt(2, "c2@planted.example", origin="FAX")]
    pull_into_data(settings, "onetrust", NOW)
    landed(desk, "onetrust")
    pulled = b"".join(path.read_bytes() for path in desk.folder("onetrust").iterdir())
    assert b"planted.example" in pulled  # the positive control: it lies in the tenant's own folder
    home = b"".join(path.read_bytes() for path in desk.settings.root.rglob("*") if path.is_file())
    assert b"planted.example" not in home
