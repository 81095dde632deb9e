"""The intake of opt-outs: nothing is lost, nobody is named, nothing is asked of the person."""

import csv
import os
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from orchestration.rights.intake import (
    OptOut,
    OptOutError,
    intake_folder,
    intake_path,
    read_opt_outs,
    record_opt_out,
    record_opt_outs,
    take_in_files,
)
from orchestration.rights.stores import Batch, stores
from orchestration.settings import Settings

CUSTOMER = "CUST-000123-Zweig"


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path / "home")


def drop(settings: Settings, name: str, rows: list[list[str]]) -> None:
    folder = intake_folder(settings)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / name).open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows(rows)


def test_an_opt_out_is_on_record_at_once_and_names_nobody(settings):
    """It needs no store, no run and no proof of identity; what is kept are pseudonyms."""
    receipt = record_opt_out(settings, CUSTOMER)
    assert receipt.is_new
    held = read_opt_outs(settings).to_pylist()
    assert [row["request_id"] for row in held] == [receipt.request_id]
    for path in settings.root.rglob("*"):
        if path.is_file():
            assert CUSTOMER.encode() not in path.read_bytes(), path
    assert oct(intake_path(settings).stat().st_mode)[-3:] == "600"


def test_the_same_request_twice_is_one(settings):
    moment = datetime(2026, 1, 1)
    first = record_opt_out(settings, CUSTOMER, received_at=moment)
    second = record_opt_out(settings, f"  {CUSTOMER} ", received_at=moment)
    assert (first.is_new, second.is_new) == (True, False)
    assert first.request_id == second.request_id
    assert len(read_opt_outs(settings)) == 1


def test_one_request_id_never_stands_for_two_persons(settings):
    record_opt_out(settings, CUSTOMER, request_id="R1")
    with pytest.raises(OptOutError, match="another person") as refused:
        record_opt_out(settings, "somebody-else", request_id="R1")
    assert "somebody-else" not in str(refused.value)
    assert len(read_opt_outs(settings)) == 1


@pytest.mark.parametrize(("customer", "request_id"), [("", None), ("   ", None), (CUSTOMER, "a b"), (CUSTOMER, "x" * 81)])
def test_what_names_nobody_or_is_no_identifier_is_refused(settings, customer, request_id):
    with pytest.raises(OptOutError):
        record_opt_out(settings, customer, request_id=request_id)
    assert len(read_opt_outs(settings)) == 0


def test_all_or_none_of_a_batch_is_recorded(settings):
    with pytest.raises(OptOutError):
        record_opt_outs(settings, [OptOut(CUSTOMER, "t", "R1"), OptOut("other", "t", "R1")])
    assert len(read_opt_outs(settings)) == 0


def test_a_clock_that_is_ahead_does_not_put_an_opt_out_off(settings):
    """Received «tomorrow» would make every gate until tomorrow ignore it."""
    ahead = datetime.now(UTC) + timedelta(days=30)
    assert record_opt_out(settings, CUSTOMER, received_at=ahead).received_at <= datetime.now(UTC).replace(tzinfo=None)


def test_a_dropped_file_is_taken_in_and_gone(settings):
    drop(settings, "a.csv", [["customer_id", "received_at"], ["c1", "2026-01-02T03:04:05"], ["c2", ""]])
    done = take_in_files(settings)
    assert (done.files, done.recorded, done.refused) == (1, 2, [])
    assert list(intake_folder(settings).iterdir()) == []
    assert datetime(2026, 1, 2, 3, 4, 5) in read_opt_outs(settings)["received_at"].to_pylist()


def test_a_bad_row_holds_up_nobody_else_and_is_not_lost(settings):
    drop(settings, "a.csv", [["customer_id", "request_id"], ["c1", "R1"], ["", "R2"], ["c3", "not an id"], ["c4", "R4"]])
    done = take_in_files(settings)
    assert done.recorded == 2
    assert len(done.refused) == 2 and all("c3" not in line for line in done.refused)
    left = (intake_folder(settings) / "a.csv.refused").read_text()
    assert "c3" in left and "c4" not in left
    assert take_in_files(settings).files == 0


@pytest.mark.parametrize("rows", [[["who"], ["c1"]], [["customer_id", "email"], ["c1", "x"]], []])
def test_a_file_of_another_shape_is_set_aside_with_its_reason(settings, rows):
    drop(settings, "a.csv", rows)
    done = take_in_files(settings)
    assert done.recorded == 0 and len(done.refused) == 1
    assert (intake_folder(settings) / "a.csv.refused").exists()


def test_bytes_that_are_no_text_are_set_aside(settings):
    intake_folder(settings).mkdir(parents=True)
    (intake_folder(settings) / "a.csv").write_bytes(b"customer_id\n\xff\xfe\x00")
    assert take_in_files(settings).refused


def test_a_file_that_is_still_being_written_is_left_alone(settings):
    drop(settings, ".a.csv", [["customer_id"], ["c1"]])
    drop(settings, "b.csv.part", [["customer_id"], ["c2"]])
    assert take_in_files(settings).files == 0
    os.replace(intake_folder(settings) / ".a.csv", intake_folder(settings) / "a.csv")
    assert take_in_files(settings).recorded == 1


def test_an_erased_persons_opt_outs_leave_the_file(settings):
    record_opt_out(settings, CUSTOMER)
    record_opt_out(settings, "control")
    tokens = read_opt_outs(settings)["subject_token"].to_pylist()
    (store,) = (store for store in stores(settings) if store.name == "opt-outs")
    assert [outcome.erased for outcome in store.purge(Batch(full=frozenset(tokens[:1]), texts=(tokens[0].encode(),)))] == [1]
    content = intake_path(settings).read_bytes()
    assert tokens[0].encode() not in content
    assert tokens[1].encode() in content, "the control has to be found, or the search proves nothing"


@hypothesis_settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(st.text(min_size=1, max_size=12).filter(str.strip), min_size=1, max_size=5))
def test_no_customer_ever_makes_an_opt_out_fail(settings, names):
    """Whatever the source calls its customers, a recorded opt-out is found again by its receipt."""
    receipts = [record_opt_out(settings, name) for name in names]
    held = set(read_opt_outs(settings)["request_id"].to_pylist())
    assert {receipt.request_id for receipt in receipts} <= held
