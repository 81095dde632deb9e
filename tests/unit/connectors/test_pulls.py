"""A pull accounts for every item, adds nothing twice, and loses nothing when it dies."""

import os
import stat
from datetime import datetime, timedelta

import pytest

from orchestration.connectors import pulling
from orchestration.connectors.errors import ConnectorError, PullNotReconciled
from orchestration.connectors.folder import read_state
from orchestration.connectors.hints import hint
from orchestration.connectors.pulling import PullCount
from orchestration.connectors.recording import record_pull
from orchestration.lake import open_lake
from tests.unit.connectors.conftest import NOW, ONETRUST, profile, receipt, response


def ids(desk, name: str = "onetrust") -> list[str]:
    return [row[0] for row in desk.rows(name, "event_id")]


def test_the_same_pull_twice_adds_no_row(desk):
    """Windows overlap on purpose; what is known is recognised by its content."""
    desk.vendor.records["receipts"] = [receipt(number) for number in range(5)]
    desk.pull("onetrust")
    before = desk.rows("onetrust")
    report = desk.pull("onetrust", NOW + timedelta(hours=1))
    assert desk.rows("onetrust") == before
    receipts = report.counts[0]
    assert (receipts.received, receipts.rows, receipts.duplicates) == (5, 0, 5)


def test_a_receipt_that_the_vendor_stored_twice_is_one_row(desk):
    """OneTrust has no idempotency key: a retried write leaves two receipts of one act."""
    desk.vendor.records["receipts"] = [receipt(1), {**receipt(1), "id": "r-retried"}]
    report = desk.pull("onetrust")
    assert len(ids(desk)) == 1
    assert report.counts[0].duplicates == 1


def test_a_later_pull_asks_from_the_cursor_minus_the_overlap(desk):
    desk.pull("onetrust")
    desk.vendor.requests.clear()
    desk.pull("onetrust", NOW + timedelta(hours=48))
    asked = min(request.query["fromDate"] for request in desk.vendor.requests if "receipts" in request.path)
    assert datetime.fromisoformat(asked) == NOW - timedelta(seconds=60) - timedelta(hours=24)


def test_a_receipt_that_the_vendor_saved_late_is_found_through_the_overlap(desk):
    """The vendor filters by the time of creation and saves later; without overlap a withdrawal would never arrive."""
    desk.pull("onetrust")
    desk.vendor.records["receipts"] = [receipt(1, purpose_transactionType="WITHDRAWN")]
    desk.pull("onetrust", NOW + timedelta(hours=1))
    assert [row[0] for row in desk.rows("onetrust", "action")] == ["withdrawn"]


def test_identifiers_of_rows_are_the_same_in_another_folder_and_other_keys_change_them(desk, tmp_path, monkeypatch):
    """A lost folder is pulled again without doubling anything; and nobody without the key can recompute them."""
    desk.vendor.records["receipts"] = [receipt(1)]
    desk.pull("onetrust")
    before = ids(desk)
    for path in desk.folder("onetrust").glob("*"):
        path.unlink()
    desk.pull("onetrust")
    assert ids(desk) == before
    desk.settings.key_file.unlink()
    for path in desk.folder("onetrust").glob("*"):
        path.unlink()
    desk.pull("onetrust")
    assert ids(desk) != before


def test_a_pull_that_dies_before_its_state_is_written_loses_nothing_and_doubles_nothing(desk, monkeypatch):
    """The cursor is moved last: between the rows' file and the state anything may happen."""
    desk.vendor.records["receipts"] = [receipt(number) for number in range(5)]

    def die(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pulling, "write_state", die)
        with pytest.raises(KeyboardInterrupt):
            desk.pull("onetrust")
    assert read_state(desk.folder("onetrust"), "onetrust") is None
    desk.pull("onetrust")
    assert len(ids(desk)) == len(set(ids(desk))) == 5


def test_slices_that_were_complete_before_a_failure_stay(desk):
    """A first pull over months must not begin at zero because its last day failed."""
    desk.vendor.records["receipts"] = [receipt(1), {**receipt(2), "consentCreationDate": "2026-11-01T01:00:00Z"}]
    desk.vendor.after = lambda request, answer: (
        type(answer)({}, 404) if request.query.get("fromDate", "").startswith("2026-11-01") else answer
    )
    with pytest.raises(ConnectorError, match="refused"):
        desk.pull("onetrust")
    assert len(ids(desk)) == 1
    state = read_state(desk.folder("onetrust"), "onetrust")
    assert (state.cursors["receipts"], state.completed_at) == (datetime(2026, 11, 1), None)
    desk.vendor.after = lambda request, answer: answer
    desk.pull("onetrust")
    assert len(ids(desk)) == 2


def test_two_pulls_at_once_do_not_mix(desk):
    from orchestration.connectors.folder import locked

    with locked(desk.folder("onetrust")), pytest.raises(ConnectorError, match="pull_running"):
        desk.pull("onetrust")


def test_a_folder_in_the_home_is_refused(desk):
    """Pulled rows name people in plain text; the home never does."""
    with pytest.raises(ConnectorError, match="inside_home"):
        desk.pull("onetrust", folder=desk.settings.root / "pulled")
    assert desk.vendor.requests == []


def test_what_is_pulled_is_private_to_its_owner(desk):
    desk.vendor.records["receipts"] = [receipt(1), receipt(2, purpose_transactionType="NEW")]
    desk.pull("onetrust")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in desk.folder("onetrust").iterdir()}
    assert set(modes.values()) == {0o600}
    assert stat.S_IMODE(os.stat(desk.folder("onetrust")).st_mode) == 0o700


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"version": 2}'])
def test_a_damaged_state_is_an_error_and_not_a_new_beginning(desk, text):
    desk.pull("onetrust")
    (desk.folder("onetrust") / "state.json").write_text(text)
    with pytest.raises(ConnectorError, match="bad_state"):
        desk.pull("onetrust")


def test_a_part_that_is_gone_is_an_error(desk):
    """Its rows lie behind the cursor: nobody would ever ask for them again."""
    desk.vendor.records["receipts"] = [receipt(1)]
    desk.pull("onetrust")
    next(desk.folder("onetrust").glob("consent_events-*.parquet")).unlink()
    with pytest.raises(ConnectorError, match="bad_state"):
        desk.pull("onetrust")


def test_a_purpose_that_is_declared_later_brings_its_dead_letters_back(desk):
    """They lie behind the cursor; a wider vocabulary reads them."""
    desk.vendor.records["receipts"] = [receipt(1, purpose_id="p-late", purpose_name="Late")]
    desk.pull("onetrust")
    assert ids(desk) == []
    (desk.sources / "onetrust.yml").write_text(ONETRUST.replace("{p-news", "{p-late: sensitive, p-news"))
    desk.pull("onetrust", NOW + timedelta(days=5))
    assert [row[0] for row in desk.rows("onetrust", "purpose")] == ["sensitive"]


def test_a_purpose_that_means_something_else_now_is_an_error(desk):
    """Rows that lie here would go on saying what nobody means any more."""
    desk.vendor.records["receipts"] = [receipt(1)]
    desk.pull("onetrust")
    (desk.sources / "onetrust.yml").write_text(ONETRUST.replace("p-news: personalisation", "p-news: analytics"))
    with pytest.raises(ConnectorError, match="vocabulary_changed"):
        desk.pull("onetrust")


@pytest.mark.parametrize(("rows", "duplicates", "dead"), [(1, 1, 0), (2, 1, 1), (0, 0, 0), (3, 0, 1)])
def test_an_item_that_is_unaccounted_for_fails_the_pull(rows, duplicates, dead):
    count = PullCount("onetrust", "receipts", NOW, NOW, received=3, rows=rows, duplicates=duplicates, dead_letters=dead)
    with pytest.raises(PullNotReconciled):
        count.require_reconciled()


def test_received_items_are_rows_duplicates_and_dead_letters(desk):
    two = receipt(1)
    two["purposes"] = [*two["purposes"], {"id": "p-ads", "transactionType": "OPT_OUT"}, {"id": "p-new", "transactionType": "CONFIRMED"}]
    desk.vendor.records["receipts"] = [two, two, receipt(2, purpose_transactionType="ODD")]
    count = desk.pull("onetrust").counts[0]
    assert (count.records, count.received, count.rows, count.duplicates, count.dead_letters) == (3, 7, 2, 2, 3)
    count.require_reconciled()


def test_rows_that_vanish_between_the_answer_and_the_file_fail_the_pull(desk, monkeypatch):
    """The rows are counted in the file as it lies on the disk, so a writer that drops one is caught."""
    desk.vendor.records["receipts"] = [receipt(number) for number in range(3)]
    store = pulling._store
    monkeypatch.setattr(pulling, "_store", lambda connection, name, rows, keys, now: store(connection, name, rows[1:], keys, now))
    with pytest.raises(PullNotReconciled):
        desk.pull("onetrust")
    assert read_state(desk.folder("onetrust"), "onetrust") is None


def test_dead_letters_carry_no_identifier_and_no_value(desk):
    desk.vendor.records["receipts"] = [
        receipt(1, "ada@planted.example", purpose_transactionType="person@planted.example"),
        receipt(2, "ada@planted.example", origin="FAX_MACHINE"),
    ]
    desk.pull("onetrust")
    letters = desk.dead("onetrust")
    assert [(letter["reason"], letter["shape"]) for letter in letters] == [
        ("unknown_status", "text of 22"),
        ("unknown_method", "FAX_MACHINE"),
    ]
    assert "planted" not in str(letters) and "r-1" not in str(letters)
    assert len({letter["record"] for letter in letters}) == 2


def test_a_pull_is_on_record_in_the_lake_and_a_letter_that_recurs_only_once(desk):
    desk.vendor.records["receipts"] = [receipt(1), receipt(2, purpose_transactionType="ODD")]
    for hours in (0, 1):
        now = NOW + timedelta(hours=hours)
        report = desk.pull("onetrust", now)
        with open_lake(desk.settings) as connection:
            record_pull(connection, report, desk.folder("onetrust"), now)
    with open_lake(desk.settings, read_only=True) as connection:
        pulls = connection.execute(
            "select resource, received, rows, duplicates, dead_letters from lake.ops.connector_pulls order by all"
        ).fetchall()
        letters = connection.execute("select reason, field, shape from lake.ops.dead_letters").fetchall()
    assert pulls == [("profiles", 0, 0, 0, 0), ("profiles", 0, 0, 0, 0), ("receipts", 2, 0, 1, 1), ("receipts", 2, 1, 0, 1)]
    assert letters == [("unknown_status", "transactionType", "ODD")]


def test_a_forged_webhook_yields_no_row(desk):
    """Callbacks are unsigned: whoever can reach the address could grant for everybody."""
    forged = b'{"event": "CONSENT", "identifier": "C1", "purposes": [{"Id": "p-news", "TransactionType": "CONFIRMED"}], "granted": true}'
    asked = hint("onetrust", forged)
    desk.pull(asked.connector)
    assert desk.rows("onetrust") == []
    assert vars(asked) == {"connector": "onetrust"}


@pytest.mark.parametrize("payload", [b"", b"granted", b"[]", b"\xff\xfe", b"[" * 100_000, b'"x"' + b" " * 1_000_001])
def test_noise_is_no_hint(payload):
    with pytest.raises(ConnectorError, match="bad_hint"):
        hint("onetrust", payload)
    with pytest.raises(ConnectorError, match="bad_hint"):
        hint("elsewhere", b"{}")


def test_missing_settings_are_named_and_their_values_are_not(desk, monkeypatch):
    monkeypatch.delenv("SEGLINE_ONETRUST_CLIENT_SECRET")
    monkeypatch.setenv("SEGLINE_ONETRUST_START", "planted-not-a-time")
    with pytest.raises(ConnectorError) as caught:
        desk.pull("onetrust")
    assert "SEGLINE_ONETRUST_CLIENT_SECRET, SEGLINE_ONETRUST_START" in str(caught.value)
    assert "planted" not in str(caught.value)


def test_profiles_and_receipts_of_one_act_are_two_rows_that_say_the_same(desk):
    desk.vendor.records["receipts"] = [receipt(1)]
    desk.vendor.records["profiles"] = [profile()]
    desk.pull("onetrust")
    assert desk.rows("onetrust", "subject, purpose, action") == [("C1", "personalisation", "granted")] * 2


def test_answers_and_consent_of_a_survey_go_to_their_own_entities(desk):
    desk.vendor.records["responses"] = [response(1), response(2, slide="s-nps", answer="9"), response(3, slide="s-other")]
    report = desk.pull("zigpoll")
    assert desk.rows("zigpoll", "subject, purpose, action") == [("C1", "personalisation", "granted")]
    assert desk.rows("zigpoll", "subject, survey_id, question_type, score", "survey_feedback") == [("C1", "poll-1", "nps", 9.0)]
    assert (report.reasons, report.unexpected) == ({("responses", "unknown_question"): 1}, 0)


def test_many_parts_become_one_and_no_row_is_lost(desk, monkeypatch):
    """An hourly pull makes thousands a year, and landing opens each of them."""
    monkeypatch.setattr(pulling, "MOST_PARTS", 1)
    for number in range(3):
        desk.vendor.records["receipts"].append(receipt(number))
        desk.pull("onetrust", NOW + timedelta(minutes=number))
    before = desk.rows("onetrust")
    desk.pull("onetrust", NOW + timedelta(minutes=9))
    assert len(list(desk.folder("onetrust").glob("consent_events-*.parquet"))) == 1
    assert desk.rows("onetrust") == before
    assert len(before) == 3


def test_a_merge_that_dies_half_way_loses_and_doubles_nothing(desk, monkeypatch):
    for number in range(3):
        desk.vendor.records["receipts"].append(receipt(number))
        desk.pull("onetrust", NOW + timedelta(minutes=number))
    before = desk.rows("onetrust")
    monkeypatch.setattr(pulling, "MOST_PARTS", 1)

    def die(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(pulling, "write_state", die)
        with pytest.raises(KeyboardInterrupt):
            desk.pull("onetrust", NOW + timedelta(minutes=9))
    desk.pull("onetrust", NOW + timedelta(minutes=10))
    assert desk.rows("onetrust") == before
