"""The two ways through the examination: rows stored once (CSV, JSON) and rows parsed by every pass (Parquet)."""

from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.ingestion.contracts import load_contracts
from orchestration.ingestion.examining import Examiner
from orchestration.ingestion.mapping import load_mapping
from orchestration.ingestion.reading import SCRATCH
from tests.effort import examples

AS_OF = datetime(2026, 1, 1)
MAPPING = """
version: 1
name: test
feeds:
  - {name: crm, entity: customers, files: customers.csv}
  - {name: pay, entity: transactions, files: "tx*.%s", format: %s}
"""
ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "transaction_id": st.sampled_from(["T1", "T2", "T3", "T4", ""]),
            "customer_id": st.sampled_from(["C1", "C2", "C9"]),
            "booked_at": st.sampled_from(["2025-06-01", "2025-06-02 10:00:00", "2026-06-01", "yesterday"]),
            "direction": st.sampled_from(["credit", "borrowed"]),
            "amount": st.sampled_from(["1.00", "2.00", "-1"]),
            "currency": st.just("EUR"),
            "payment_method": st.just("card"),
            "counterparty_id": st.sampled_from(["X", "Y", ""]),
        }
    ),
    min_size=1,
    max_size=9,
)


def judged(folder: Path, kind: str) -> tuple[list[tuple], list[tuple], set[str]]:
    """Kept rows, quarantined rows (file rows counted from the first data row) and counterparties."""
    (folder / "mapping.yml").write_text(MAPPING % (kind, kind))
    with duckdb.connect() as connection:
        connection.execute(f"attach ':memory:' as {SCRATCH}")
        connection.execute("create temp table subjects as select * from (values ('C1', 's1'), ('C2', 's2')) as t(customer_id, subject_token)")
        examiner = Examiner(connection, load_mapping(folder), folder, AS_OF)
        found = examiner.examine(load_contracts()["transactions"], "subjects")
        kept = connection.execute(
            f"select transaction_id, subject_token, booked_at, amount, counterparty_id from {found.kept} order by all"
        ).fetchall()
        header = 1 if kind == "csv" else 0
        refused = connection.execute(
            f"select row_number - {header}, column_name, reason, value_shape from {found.quarantine} order by all"
        ).fetchall()
        others = {row[0] for row in connection.execute(f"select counterparty_id from {found.counterparties}").fetchall()}
        examiner.close(found)
        left = connection.execute("select table_name from information_schema.tables where table_name != 'subjects'").fetchall()
    assert left == [], "an examination leaves nothing behind"
    return kept, refused, others


@settings(max_examples=examples(40), deadline=None)
@given(ROWS)
def test_parquet_and_csv_of_the_same_rows_are_judged_alike(tmp_path_factory, rows):
    """What a bank delivers must not depend on the file format that it chose: same rows kept, same refused, same reasons."""
    folder = tmp_path_factory.mktemp("both")
    (folder / "customers.csv").write_text("customer_id,customer_type\nC1,individual\nC2,corporate\n")
    table = pa.Table.from_pylist(rows)
    pa.csv.write_csv(table, folder / "tx.csv")
    pa.parquet.write_table(table, folder / "tx.parquet")
    kept, refused, counterparties = judged(folder, "parquet")
    assert (kept, refused) == judged(folder, "csv")[:2]
    assert {row[-1] for row in kept} <= counterparties | {None}


def test_a_good_row_stays_though_a_bad_one_bears_its_key(tmp_path):
    """Only good rows contradict each other; a broken repeat is refused by itself."""
    good = dict(zip(["transaction_id", "customer_id", "booked_at", "direction"], ["T1", "C1", "2025-06-01", "credit"], strict=True))
    good |= {"amount": "1.00", "currency": "EUR", "payment_method": "card", "counterparty_id": "X"}
    pa.parquet.write_table(pa.Table.from_pylist([good, good | {"amount": "much"}]), tmp_path / "tx.parquet")
    kept, refused, _ = judged(tmp_path, "parquet")
    assert (len(kept), refused) == (1, [(2, "amount", "wrong_type", "aaaa")])
