"""The sample's folder: the same bytes again, all or nothing, and every size from nothing upwards."""

import hashlib
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
import yaml

from orchestration.ingestion.contracts import load_contracts
from orchestration.sample import movements
from orchestration.sample.generate import generate_sample


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("profile", ["fintech", "childrens_retail"])
@pytest.mark.parametrize("file_format", ["csv", "parquet"])
def test_same_arguments_give_the_same_bytes(tmp_path: Path, profile: str, file_format: str) -> None:
    for name in ("one", "two"):
        generate_sample(tmp_path / name, profile, 900, 5_000, seed=3, file_format=file_format)
    assert _digests(tmp_path / "one") == _digests(tmp_path / "two")


def test_another_seed_changes_every_file_of_rows(tmp_path: Path) -> None:
    generate_sample(tmp_path / "one", "fintech", 900, 5_000, seed=3)
    generate_sample(tmp_path / "two", "fintech", 900, 5_000, seed=4)
    one, two = _digests(tmp_path / "one"), _digests(tmp_path / "two")
    assert [name for name in one if one[name] == two.get(name)] == ["mapping.yml"]


@pytest.mark.parametrize("profile", ["fintech", "childrens_retail"])
@pytest.mark.parametrize("file_format", ["csv", "parquet"])
@pytest.mark.parametrize(("customers", "transactions"), [(1, 0), (1, 3), (2, 500), (50, 0), (60, 700)])
def test_tiny_sizes_work(tmp_path: Path, profile: str, file_format: str, customers: int, transactions: int) -> None:
    summary = generate_sample(tmp_path / "s", profile, customers, transactions, file_format=file_format)
    assert summary.entities["customers"].kept == customers
    for entity in load_contracts():
        assert summary.entities[entity].kept >= 0
    assert all(path.stat().st_size for path in (tmp_path / "s").iterdir())
    rows = duckdb.sql(f"select count(*) from '{tmp_path}/s/transactions_*.{file_format}'").fetchone()[0]
    assert rows == summary.entities["transactions"].rows >= transactions
    assert rows - transactions <= 0.1 * transactions


def test_rows_per_file_are_as_reported(either) -> None:
    suffix = "csv" if "web_events.csv" in either.summary.files else "parquet"
    assert sorted(either.summary.files) == sorted(
        path.name for path in either.folder.iterdir() if path.suffix != ".yml"
    )
    for name, rows in either.summary.files.items():
        path = either.folder / name
        if path.suffix == ".parquet":
            found = pq.read_metadata(path).num_rows
        else:
            found = path.read_bytes().count(b"\n") - (path.suffix == ".csv")
        assert found == rows, name
    months = [name for name in either.summary.files if name.startswith("transactions_")]
    assert len(months) == 7 and all(name.endswith(suffix) for name in months)


def test_asked_for_transactions_are_there_apart_from_the_second_copies(fintech) -> None:
    extra = fintech.summary.oddities["transactions"]
    rows = fintech.summary.entities["transactions"].rows
    assert rows == 90_000 + extra["exact_duplicate"] + extra["contradictory_key"]


def test_parts_of_a_month_split_without_losing_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(movements, "CHUNK", 300)
    summary = generate_sample(tmp_path / "s", "fintech", 500, 10_000, file_format="parquet")
    keys = duckdb.sql(f"select count(distinct transaction_id) from '{tmp_path}/s/transactions_*.parquet'").fetchone()[0]
    assert keys == 10_000
    assert summary.entities["transactions"].rows == keys + 2 * summary.oddities["transactions"]["exact_duplicate"]


def test_columns_are_those_of_the_contracts_and_a_comment_that_nobody_takes(fintech, retail) -> None:
    for sample in (fintech, retail):
        comments = sample.engine.execute(
            f"select count(comment) from read_json('{sample.folder}/survey_feedback.ndjson')"
        ).fetchone()[0]
        assert comments > 0
    header = (fintech.folder / "customers.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert header == [column.name for column in load_contracts()["customers"].columns]


def test_large_files_are_typed_in_parquet(retail) -> None:
    schema = pq.read_schema(next(retail.folder.glob("transactions_*.parquet")))
    assert str(schema.field("amount").type) == "decimal128(18, 2)"
    assert str(schema.field("booked_at").type) == "timestamp[us]"
    assert str(pq.read_schema(retail.folder / "web_events.parquet").field("is_child_directed").type) == "bool"


def test_mapping_names_every_entity_and_the_end(tmp_path: Path) -> None:
    end = datetime(2025, 3, 10, 12, 30, tzinfo=timezone(timedelta(hours=2)))
    generate_sample(tmp_path / "s", "fintech", 40, 100, end=end)
    mapping = yaml.safe_load((tmp_path / "s" / "mapping.yml").read_text(encoding="utf-8"))
    assert mapping["as_of"] == "2025-03-10T10:30:00"
    assert {feed["entity"] for feed in mapping["feeds"]} == set(load_contracts())
    assert all(list((tmp_path / "s").glob(feed["files"])) for feed in mapping["feeds"])  # none is without rows here
    last = duckdb.sql(f"select max(booked_at) from read_csv('{tmp_path}/s/transactions_*.csv')").fetchone()[0]
    assert last.replace(tzinfo=UTC) < end


def test_text_files_end_with_a_line_feed_and_hold_no_other_control(fintech) -> None:
    for path in fintech.folder.iterdir():
        content = path.read_bytes()
        assert content.endswith(b"\n"), path.name
        content.decode("utf-8")
        assert not set(content) & (set(range(32)) - {10}), path.name


def test_an_earlier_sample_is_replaced_and_a_killed_one_swept_away(tmp_path: Path) -> None:
    out = tmp_path / "s"
    dead = tmp_path / ".s.partial-4194304"
    dead.mkdir()
    generate_sample(out, "fintech", 30, 50)
    generate_sample(out, "childrens_retail", 30, 50)
    assert "childrens-retail-sample" in (out / "mapping.yml").read_text(encoding="utf-8")
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    assert out.stat().st_mode & 0o077 == 0


def test_other_peoples_files_are_never_replaced(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "thesis.txt").write_text("years of work", encoding="utf-8")
    with pytest.raises(FileExistsError, match="no sample"):
        generate_sample(tmp_path / "s", "fintech", 30, 50)
    assert (tmp_path / "s" / "thesis.txt").exists()


def test_a_failure_leaves_the_earlier_sample_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "s"
    generate_sample(out, "fintech", 30, 50)
    before = _digests(out)

    def stop(stage: str, share: float) -> None:
        if stage == "web events":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_sample(out, "fintech", 40, 60, progress=stop)
    assert _digests(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["s"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"customers": 0}, "at least 1 customer"),
        ({"transactions": -1}, "0 transactions"),
        ({"customers": 10**9}, "at most"),
        ({"profile": "bank"}, "'bank'"),
        ({"file_format": "xlsx"}, "'xlsx'"),
        ({"end": datetime(1950, 1, 1)}, "1950"),
    ],
)
def test_arguments_that_make_no_sense_are_named(tmp_path: Path, arguments: dict, named: str) -> None:
    usual = {"profile": "fintech", "customers": 10, "transactions": 10}
    with pytest.raises(ValueError, match=named):
        generate_sample(tmp_path / "s", **(usual | arguments))


def test_progress_rises_to_one(tmp_path: Path) -> None:
    heard: list[float] = []
    generate_sample(tmp_path / "s", "fintech", 50, 500, progress=lambda stage, share: heard.append(share))
    assert heard == sorted(heard) and heard[-1] == 1.0 and heard[0] == 0.0
