"""What real deliveries do wrong: each fault has a name or a quarantine reason, and nothing is lost on the way."""

from datetime import datetime
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.ingestion.delivery import check_delivery
from orchestration.ingestion.errors import REASONS, SourceError
from orchestration.ingestion.mapping import load_mapping
from orchestration.ingestion.reading import SCRATCH
from tests.effort import examples

AS_OF = datetime(2026, 1, 1)
CUSTOMERS = "customer_id,customer_type\nC1,individual\nC2,corporate\n"
HEADER = "transaction_id,customer_id,booked_at,direction,amount,currency,payment_method\n"
GOOD = "T1,C1,2025-06-01 10:00:00,credit,12.50,EUR,card\n"
MAPPING = """
version: 1
name: test
feeds:
  - {name: crm, entity: customers, files: customers.csv}
  - {name: pay, entity: transactions, files: "tx*.csv"%s}
  - {name: cmp, entity: consent_events, files: "consent*.json", format: json}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "customers.csv").write_text(CUSTOMERS)
    (tmp_path / "mapping.yml").write_text(MAPPING % "")
    return tmp_path


def examine(folder: Path):
    """Check a folder; counts by feed, reasons as {(feed, reason): rows}, errors by name."""
    with duckdb.connect() as connection:
        connection.execute(f"attach ':memory:' as {SCRATCH}")
        connection.execute("set timezone = 'UTC'")
        delivery, errors = check_delivery(connection, load_mapping(folder), folder, AS_OF, lambda stage, part: None)
    assert all(count.reconciles for count in delivery.counts)
    return {count.feed: count for count in delivery.counts}, delivery.reasons, {error.name: error for error in errors}


def transactions(folder: Path, *rows: str, header: str = HEADER) -> None:
    (folder / "tx.csv").write_text(header + "".join(rows))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("T2,C1,2025-06-01,credit,,EUR,card\n", "missing_value"),
        ("T2,C1,yesterday,credit,1,EUR,card\n", "wrong_type"),
        ("T2,C1,01/02/2025,credit,1,EUR,card\n", "wrong_type"),
        ("T2,C1,20250601,credit,1,EUR,card\n", "wrong_type"),
        ("T2,C1,2025-06-01,credit,1;5,EUR,card\n", "wrong_type"),
        ("T2,C1,2025-06-01,credit,nan,EUR,card\n", "wrong_type"),
        ("T2,C1,2025-06-01,credit,inf,EUR,card\n", "wrong_type"),
        ("T2,C1,2025-06-01,credit,1e400,EUR,card\n", "wrong_type"),
        ("T2,C1,2025-06-01,borrowed,1,EUR,card\n", "unknown_value"),
        ("T2,C1,2025-06-01,credit,1,ZZZ,card\n", "unknown_currency"),
        ("T2,C1,2025-06-01,credit,-1,EUR,card\n", "out_of_range"),
        ("T2,C1,1901-06-01,credit,1,EUR,card\n", "out_of_range"),
        ("T2,C1,2026-01-01 00:00:01,credit,1,EUR,card\n", "timestamp_in_future"),
        ("T2,C9,2025-06-01,credit,1,EUR,card\n", "unknown_customer"),
        ("T2,C1,2025-06-01\n", "malformed_row"),
        ("T2,C1,2025-06-01,credit,1,EUR,card,surplus\n", "malformed_row"),
        ('T2,C1,"2025-06-01,credit,1,EUR,card\n', "malformed_row"),
    ],
)
def test_a_bad_row_is_quarantined_with_its_reason_and_the_good_one_stays(folder, row, reason):
    """A single bad row must neither stop the delivery nor vanish."""
    transactions(folder, GOOD, row)
    counts, reasons, errors = examine(folder)
    assert reasons == {("pay", reason): 1}
    assert (counts["pay"].rows_kept, errors) == (1, {})
    assert reason in REASONS


@pytest.mark.parametrize(
    ("value", "stored"),
    [("1,234.50", "1234.50"), (" 12 ", "12.00"), ("0", "0.00"), ("+5.1", "5.10"), ("1234567.891", "1234567.89")],
)
def test_amounts_come_in_the_formats_that_feeds_use(folder, value, stored):
    transactions(folder, f'T1,C1,2025-06-01,credit,"{value}",eur,Card\n')
    counts, reasons, _ = examine(folder)
    assert reasons == {}
    assert counts["pay"].rows_kept == 1
    with duckdb.connect() as connection:
        from orchestration.ingestion.contracts import load_contracts
        from orchestration.ingestion.mapping import ReadOptions
        from orchestration.ingestion.parsing import parse

        column = load_contracts()["transactions"].column("amount")
        sql = parse(column, "trim(v)", "v", "VARCHAR", ReadOptions())
        assert str(connection.execute(f"select {sql} from (select ? as v)", [value]).fetchone()[0]) == stored


def test_a_time_zone_is_honoured(folder):
    """Two hours decide on which side of midnight a transaction lies, and of a consent's end."""
    transactions(folder, "T1,C1,2026-01-01T01:30:00+02:00,credit,1,EUR,card\n", "T2,C1,2025-12-31T23:30:00-02:00,credit,1,EUR,card\n")
    _, reasons, _ = examine(folder)
    assert reasons == {("pay", "timestamp_in_future"): 1}


def test_a_file_cut_off_in_a_row_is_named(folder):
    transactions(folder, GOOD, "T2,C1,2025-06-01 10:00:00,cre")
    assert examine(folder)[1] == {("pay", "file_cut_off"): 1}


def test_a_file_cut_off_inside_the_last_value_is_not_believed(folder):
    """«car» may be a card cut short, «12» a 12.50: without a line break the row's end is unknown."""
    transactions(folder, GOOD, "T2,C1,2025-06-01 10:00:00,credit,1,EUR,card")
    assert examine(folder)[1] == {("pay", "file_cut_off"): 1}


def test_a_feed_may_declare_that_it_never_ends_with_a_line_break(folder):
    (folder / "mapping.yml").write_text(MAPPING % ", final_newline: optional")
    transactions(folder, GOOD, "T2,C1,2025-06-01 10:00:00,credit,1,EUR,card")
    counts, reasons, _ = examine(folder)
    assert (reasons, counts["pay"].rows_kept) == ({}, 2)


def test_a_missing_column_names_file_and_column(folder):
    transactions(folder, "T1,C1,2025-06-01,credit,1,EUR\n", header=HEADER.replace(",payment_method", ""))
    error = examine(folder)[2]["missing_column"]
    assert error.column == "payment_method" and "tx" in error.file and error.mend


def test_an_empty_file_is_an_error_and_a_header_alone_is_none(folder):
    (folder / "tx.csv").write_bytes(b"")
    assert "empty_file" in examine(folder)[2]
    transactions(folder)
    counts, reasons, errors = examine(folder)
    assert (counts["pay"].rows_read, reasons, errors) == (0, {}, {})


def test_no_file_for_an_optional_entity_means_no_rows(folder):
    counts, _, errors = examine(folder)
    assert "pay" not in counts and errors == {}


def test_bytes_that_are_not_utf8_are_quarantined(folder):
    (folder / "tx.csv").write_bytes(HEADER.encode() + GOOD.encode() + b"T2,C1,2025-06-01,credit,1,EUR,c\xe4rd\n")
    assert examine(folder)[1] == {("pay", "not_utf8"): 1}


def test_a_declared_encoding_is_read(folder):
    (folder / "mapping.yml").write_text(MAPPING % ", encoding: latin-1")
    (folder / "tx.csv").write_bytes(
        HEADER.replace("payment_method", "payment_method,category").encode() + b"T2,C1,2025-06-01,credit,1,EUR,card,B\xe4cker\n"
    )
    counts, reasons, _ = examine(folder)
    assert (reasons, counts["pay"].rows_kept) == ({}, 1)


def test_equal_rows_are_duplicates_and_contradictory_ones_are_both_refused(folder):
    """Of two different versions of one movement nobody can say which is true."""
    other = GOOD.replace("T1", "T2")
    transactions(folder, GOOD, GOOD, other, other.replace("12.50", "99"), GOOD.replace("T1", "T3"))
    counts, reasons, _ = examine(folder)
    assert (counts["pay"].rows_kept, counts["pay"].duplicates, counts["pay"].quarantined) == (2, 1, 2)
    assert reasons == {("pay", "contradictory_key"): 2}


def test_row_numbers_are_those_of_the_file(folder):
    """A person opens the file at that row; rejected rows above it and the header count."""
    transactions(folder, GOOD, "T2,C1\n", "T3,C1,2025-06-01,borrowed,1,EUR,card\n", GOOD.replace("T1", "T4"), "T5,C9,2025-06-01,credit,1,EUR,card\n")
    with duckdb.connect() as connection:
        from orchestration.ingestion.contracts import load_contracts
        from orchestration.ingestion.examining import Examiner

        connection.execute(f"attach ':memory:' as {SCRATCH}")
        connection.execute("create temp table subjects as select 'C1' as customer_id, 't' as subject_token")
        examiner = Examiner(connection, load_mapping(folder), folder, AS_OF)
        result = examiner.examine(load_contracts()["transactions"], "subjects")
        rows = connection.execute(f"select row_number, reason, value_shape from {result.quarantine} order by 1").fetchall()
    assert rows == [(3, "malformed_row", None), (4, "unknown_value", "aaaaaaaa"), (6, "unknown_customer", None)]


@pytest.mark.parametrize(
    ("value", "shape"),
    [("jane.roe7@example.org", "aaaa.aaa9@aaaaaaa.aaa"), ("Žofie ЖЮЛ 李小龙", "aaaaa aaa aaa"), ("٣٤", "99")],
)
def test_quarantine_shows_shapes_never_values(folder, value, shape):
    """A shifted column can put an e-mail address where an amount belongs, or a name in any script."""
    transactions(folder, f"T2,C1,2025-06-01,credit,{value},EUR,card\n")
    with duckdb.connect() as connection:
        from orchestration.ingestion.contracts import load_contracts
        from orchestration.ingestion.examining import Examiner

        connection.execute(f"attach ':memory:' as {SCRATCH}")
        connection.execute("create temp table subjects as select 'C1' as customer_id, 't' as subject_token")
        result = Examiner(connection, load_mapping(folder), folder, AS_OF).examine(load_contracts()["transactions"], "subjects")
        assert connection.execute(f"select value_shape from {result.quarantine}").fetchall() == [(shape,)]


def test_broken_json_lines_are_quarantined(folder):
    event = '{"event_id":"E%d","customer_id":"C1","purpose":"analytics","action":"granted","effective_at":"2025-01-01T00:00:00Z","actor":"self"}\n'
    (folder / "consent.json").write_text(event % 1 + '{"event_id": "E2", "cust\n' + "[1, 2]\n" + event % 3)
    counts, reasons, _ = examine(folder)
    assert (counts["cmp"].rows_kept, reasons) == (2, {("cmp", "malformed_row"): 2})


def test_a_file_of_another_kind_is_an_error(folder):
    (folder / "mapping.yml").write_text(MAPPING % ", format: parquet")
    transactions(folder, GOOD)
    assert "unreadable_file" in examine(folder)[2]


def test_the_oddest_names_pass(folder):
    (folder / "customers.csv").write_text('customer_id,customer_type,full_name\nC1,individual,"O\'Neil; ""Bob"" \nJr."\nC2,corporate,=SUM(A1)\n')
    counts, reasons, _ = examine(folder)
    assert (counts["crm"].rows_kept, reasons) == (2, {})


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.binary(max_size=60).map(lambda raw: raw.replace(b"\x00", b"")), max_size=12))
def test_no_row_is_ever_lost_whatever_the_bytes(tmp_path_factory, lines):
    """Read = kept + duplicates + quarantined for any bytes after a good header; `examine` asserts it for each feed."""
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "customers.csv").write_text(CUSTOMERS)
    (folder / "mapping.yml").write_text(MAPPING % "")
    (folder / "tx.csv").write_bytes(HEADER.encode() + GOOD.encode() + b"\n".join(lines) + b"\n")
    counts, _, errors = examine(folder)
    assert errors.keys() <= {"unreadable_file"}
    if not errors:
        assert counts["pay"].rows_read >= 1


def test_two_feeds_may_not_share_a_name(folder):
    (folder / "mapping.yml").write_text((MAPPING % "").replace("name: cmp", "name: pay"))
    with pytest.raises(SourceError, match="two feeds are called pay"):
        load_mapping(folder)
