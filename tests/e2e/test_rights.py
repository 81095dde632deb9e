"""Deletion on whole runs: nothing is left in any file, and no later run brings it back."""

import csv
import json
import os
import signal
import subprocess
import time
from collections import Counter

import pytest

from orchestration.lake import open_lake, table_columns
from orchestration.rights.reach import relations
from orchestration.rights.stores import unnamed_files
from orchestration.settings import Settings
from tests.e2e.conftest import Cli, Published

pytestmark = pytest.mark.slow


def persons(published: Published) -> list[dict[str, str]]:
    """Delivered once, natural, with every identifier, and in the book."""
    with (published.sources / "customers.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    times = Counter(row["customer_id"] for row in rows)
    filled = ("customer_id", "email", "full_name", "phone", "tax_id")
    chosen = [row for row in rows if times[row["customer_id"]] == 1 and all(len(row[name]) >= 6 for name in filled)]
    assert len(chosen) > 50
    return chosen


def verify(cli: Cli, person: dict[str, str], control: str, expect: int) -> dict:
    names = ("customer_id", "email", "full_name", "phone", "tax_id")
    given = [part for name in names for part in ("--identifier", person[name])]
    done = cli("rights", "verify", *given, "--control", control, "--format", "json", expect=expect)
    assert not any(person[name] in done.stdout + done.stderr for name in names)
    return json.loads(done.stdout)


def erase(cli: Cli, person: dict[str, str], other: dict[str, str]) -> None:
    """From the request to the certificate, killed half way."""
    before = verify(cli, person, other["customer_id"], expect=1)
    assert before["verdict"] == "found" and before["control_hits"] and not before["files_left_shut"]
    assert {"DuckDB", "SQLite", "encrypted Parquet", "plain"} <= set(before["opened_as"])
    asked = cli("rights", "request", person["customer_id"], "--kind", "deletion", "--verified-by", "officer").stdout
    number = asked.split(":")[0]

    process = subprocess.Popen(
        cli.command("rights", "apply"), env=cli.environment(), stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    for line in process.stderr:
        if "erasing bytes: lake" in line:
            break
    time.sleep(0.3)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stderr.close()
    told = json.loads(cli("rights", "status", number, "--format", "json").stdout)[0]
    if told["state"] != "proven":
        cli("rights", "apply")
    told = json.loads(cli("rights", "status", number, "--format", "json").stdout)[0]
    assert told["state"] == "proven"
    assert verify(cli, person, other["customer_id"], expect=0)["verdict"] == "clear"
    assert json.loads(cli("rights", "certificate", number).stdout)["outcome"] == "erased"


@pytest.fixture
def two(retail, tmp_path) -> tuple[Cli, dict[str, str], dict[str, str]]:
    """A published home, a customer who is to go, and another, who is looked for to show that looking finds."""
    return retail.cli.copy(tmp_path / "home"), *persons(retail)[7:9]


def test_a_person_is_erased_from_a_published_home(two):
    """dbt's artefacts, Dagster's storage and logs included."""
    erase(*two)


@pytest.mark.nightly  # a whole run; that landing keeps them out is in tests/unit/rights
def test_the_same_delivery_does_not_bring_an_erased_person_back(retail, two):
    erase(*two)
    cli, person, other = two
    cli("run", "--sources", str(retail.sources))
    after = verify(cli, person, other["customer_id"], expect=0)
    assert after["verdict"] == "clear" and after["control_hits"]
    suppressed = cli.rows("select count(*) as n, count(row_number) as numbered from ops.quarantine where reason = 'suppressed'")
    assert int(suppressed[0]["n"]) > 0 and suppressed[0]["numbered"] == "0"
    for row in cli.rows("select * from ops.reconciliation"):
        assert int(row["rows_read"]) == sum(int(row[name]) for name in ("rows_kept", "duplicates", "quarantined"))
    book = [int(one.rows("select count(*) as n from raw.customers")[0]["n"]) for one in (retail.cli, cli)]
    assert book[0] - book[1] == 1


@pytest.mark.nightly  # a whole run; the other deletion runs in the gate, and duties are in tests/unit/rights
def test_a_banks_customer_stays_rated_and_leaves_the_marketing_side(fintech, tmp_path):
    """The rating rests on law; every consent-based purpose falls to the default segment."""
    cli = fintech.cli.copy(tmp_path / "home")
    person = persons(fintech)[7]
    cli("rights", "request", person["customer_id"], "--kind", "deletion", "--verified-by", "officer")
    cli("rights", "apply")
    cli("run", "--sources", str(fintech.sources))
    told = cli.json("explain", person["customer_id"])
    assert told["risk_segment"]["tier"]
    assert {row["segment"] for row in told["audience_segments"]} == {"default"}
    assert not [row for row in told["gate"] if row["legal_basis"] == "consent" and row["gate_outcome"] == "ALLOW"]


@pytest.mark.parametrize("name", ["fintech", "retail"])
def test_every_file_and_every_table_has_a_store_that_erases_it(name, request):
    """A column named like a person's key, or a file that no store names, would be left out of every deletion."""
    settings = Settings(home=request.getfixturevalue(name).cli.home)
    assert unnamed_files(settings) == []
    with open_lake(settings, read_only=True) as connection:
        reached = {(relation.schema, relation.name) for relation in relations(connection)}
        tokens = connection.execute(
            "select subject_token from lake.raw.customers union select risk_subject_token from lake.raw.customers "
            "union select audience_subject_token from lake.raw.customers"
        ).to_arrow_table()
        connection.register("tokens", tokens)
        for (schema, table), columns in table_columns(connection).items():
            counts = ", ".join(f'count(*) filter (where cast("{column}" as varchar) in (select * from tokens))' for column in columns)
            row = connection.execute(f'select {counts} from lake.{schema}."{table}"').fetchone()
            for column in (column for column, held in zip(columns, row, strict=True) if held):
                assert (schema, table) in reached and column.endswith("_token"), f"{schema}.{table}.{column}"
