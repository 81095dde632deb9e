"""The proof is only as good as the search: each format is opened, and a search that finds nobody proves nothing."""

import bz2
import gzip
import io
import json
import lzma
import sqlite3
import tarfile
import zipfile
from contextlib import closing

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestration.lake import open_lake
from orchestration.rights.needles import identifier_forms, needles_of
from orchestration.rights.scanner import CLEAR, FOUND, INCONCLUSIVE, Scanner, any_control, judge, verify

NEEDLE = "planted.person+7@example.org"


def tar_of(content: bytes) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("inner.txt")
        entry.size = len(content)
        archive.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


def zip_of(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inner.bin", content)
    return stream.getvalue()


def parquet_of(text: str) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"v": ["aaa", text, "zzz"] * 50}), stream, compression="zstd")
    return stream.getvalue()


def sqlite_at(path, text: str, wal: bool) -> None:
    with closing(sqlite3.connect(path)) as db:
        if wal:
            db.execute("pragma journal_mode = wal")
        db.execute("create table t (a integer, b text, c blob)")
        db.executemany("insert into t values (?, ?, ?)", [(1, "x", b"y"), (2, text, None), (3, None, gzip.compress(b"z" * 90))])
        db.commit()


def duckdb_at(path, text: str) -> None:
    with duckdb.connect(str(path)) as db:
        db.execute("create table t as select i, case when i = 7 then ? else 'x' end as v from range(3000) as r(i)", [text])


PLAIN = NEEDLE.encode()
FILES = {
    "text": lambda path: path.write_bytes(b"line\n" + PLAIN + b"\n"),
    "utf-16": lambda path: path.write_bytes(NEEDLE.encode("utf-16")),
    "json": lambda path: path.write_text(json.dumps({"a": [NEEDLE]})),
    "gzip": lambda path: path.write_bytes(gzip.compress(PLAIN * 3)),
    "bzip2": lambda path: path.write_bytes(bz2.compress(PLAIN)),
    "xz": lambda path: path.write_bytes(lzma.compress(PLAIN)),
    "zip": lambda path: path.write_bytes(zip_of(PLAIN)),
    "tar.gz": lambda path: path.write_bytes(gzip.compress(tar_of(PLAIN))),
    "zip in tar in gzip": lambda path: path.write_bytes(gzip.compress(tar_of(zip_of(PLAIN)))),
    "parquet": lambda path: path.write_bytes(parquet_of(NEEDLE)),
    "parquet in zip": lambda path: path.write_bytes(zip_of(parquet_of(NEEDLE))),
    "sqlite": lambda path: sqlite_at(path, NEEDLE, False),
    "sqlite with a write-ahead log": lambda path: sqlite_at(path, NEEDLE, True),
    "duckdb": lambda path: duckdb_at(path, NEEDLE),
}


@pytest.fixture
def scan(retail):
    """Searches the home for the planted identifier."""
    return lambda paths=None: Scanner(retail.settings, retail.keys, {"person": identifier_forms(NEEDLE)}).run(paths)


@pytest.mark.parametrize("kind", FILES)
def test_every_format_is_opened(retail, scan, kind):
    path = retail.settings.root / "somewhere" / "file"
    path.parent.mkdir()
    FILES[kind](path)
    found = scan([path])
    assert {hit.file for hit in found.of("person")} == {"somewhere/file"}
    assert not any(NEEDLE in str(hit) for hit in found.of("person"))


def test_rows_deleted_from_a_database_are_found_in_its_free_pages(retail, scan):
    """DELETE leaves the bytes: this is why the search reads files and not only tables."""
    path = retail.settings.root / "x.db"
    sqlite_at(path, NEEDLE, False)
    with closing(sqlite3.connect(path)) as db:
        db.execute("pragma secure_delete = off")
        db.execute("delete from t")
        db.commit()
    assert [hit.place for hit in scan([path]).of("person")] == ["as it lies there"]


def test_encrypted_tables_old_snapshots_and_the_catalogues_statistics_are_searched(retail, scan):
    with open_lake(retail.settings) as connection:
        connection.execute("create table lake.ops.planted as select ? as v", [NEEDLE])
        places = {hit.file.split("/")[1] for hit in scan().of("person")}
        assert places == {"catalog.sqlite", "data"} or places == {"catalog.sqlite", "catalog.sqlite-wal", "data"}
        connection.execute("drop table lake.ops.planted")
    assert any("data" in hit.file for hit in scan().of("person"))  # the old snapshot still holds it


def test_the_vaults_values_are_opened_and_a_file_name_counts(retail, scan):
    customer = retail.customers()[0]
    found = Scanner(retail.settings, retail.keys, {"person": identifier_forms(customer["email"])}).run()
    assert {hit.place for hit in found.of("person")} == {"column email, opened with the person's key"}
    (retail.settings.root / f"{NEEDLE}.txt").write_text("x")
    assert [hit.place for hit in scan().of("person")] == ["file name"]


def test_a_value_that_runs_over_into_the_next_cell_is_no_hit(retail, scan):
    path = retail.settings.root / "x.parquet"
    pq.write_table(pa.table({"v": [NEEDLE[:9], NEEDLE[9:]]}), path, compression="zstd")
    assert scan([path]).of("person") == []


def test_nothing_found_proves_nothing_without_the_control(retail):
    """A search with the wrong keys, or in the wrong folder, finds nobody: that must not pass for a proof."""
    control = retail.customers()[0]["customer_id"]
    assert verify(retail.settings, retail.keys, ["CU-NOBODY-1"], control).verdict == CLEAR
    assert verify(retail.settings, retail.keys, ["CU-NOBODY-1"], None).verdict == INCONCLUSIVE
    assert verify(retail.settings, retail.keys, ["CU-NOBODY-1"], "CU-NOBODY-2").verdict == INCONCLUSIVE
    assert verify(retail.settings, retail.keys, [control], retail.customers()[1]["customer_id"]).verdict == FOUND
    retail.settings.key_store.unlink()
    assert verify(retail.settings, retail.keys, ["CU-NOBODY-1"], control).verdict == INCONCLUSIVE


def test_a_file_that_stays_shut_leaves_it_open(retail):
    control = retail.customers()[0]["customer_id"]
    (retail.settings.root / "broken.gz").write_bytes(gzip.compress(b"x" * 999)[:-9])
    verdict = verify(retail.settings, retail.keys, ["CU-NOBODY-1"], control)
    assert verdict.verdict == INCONCLUSIVE and "broken.gz" in verdict.reason


def test_hits_that_a_duty_allows_do_not_count_and_all_others_do(retail):
    customer, control = (row["customer_id"] for row in retail.customers()[:2])
    wanted = {"person": needles_of(retail.keys, customer), "control": needles_of(retail.keys, control)}
    scan = Scanner(retail.settings, retail.keys, wanted).run()
    assert judge(scan).verdict == FOUND
    assert judge(scan, "person", lambda hit: hit.file.startswith(("lake/", "vault/"))).verdict == CLEAR
    assert judge(scan, "person", lambda hit: hit.file.startswith("vault/")).verdict == FOUND


def test_the_control_is_somebody_else(retail):
    first = any_control(retail.settings, retail.keys, set())
    other = any_control(retail.settings, retail.keys, {retail.subject(first).tokens["raw"]})
    assert first and other and first != other
