"""Opt-outs on a published home, beside a run and through a full run; the canary and the data map as they ran."""

import csv
import json
import os
import signal
import subprocess
import time
from datetime import UTC, datetime, timedelta

import pytest

from orchestration.identity.keys import load_keys
from orchestration.identity.pseudonyms import ledger_token, token
from orchestration.lake import open_lake
from orchestration.rights.canary import canary_tokens, judge_canaries
from orchestration.rights.intake import OptOut, intake_folder, record_opt_outs
from orchestration.rights.opt_out import apply_opt_outs
from orchestration.settings import Settings

pytestmark = pytest.mark.slow
EARLY = 40
COLUMNS = (
    "subject_token, segment_family, segment, consent_event_id, consent_status, legal_basis, legal_reference, policy_version, "
    "gate_outcome, gate_reason"
)


@pytest.fixture(scope="module")
def opted(fintech, tmp_path_factory):
    """A copy of a published home in which people of every kind have opted out; the first forty by the command's own path."""
    cli = fintech.cli.copy(tmp_path_factory.mktemp("opted") / "home")
    settings = Settings(home=cli.home)
    with (fintech.sources / "customers.csv").open(encoding="utf-8") as stream:
        people = [row["customer_id"] for row in csv.DictReader(stream) if row["customer_id"].strip()]
    record_opt_outs(settings, [OptOut(name, "test") for name in people[:EARLY]])
    apply_opt_outs(settings)
    return cli, settings, people


def published(settings: Settings, people: list[str]) -> list[tuple]:
    tokens = [token(load_keys(settings), "audience", name) for name in people]
    with open_lake(settings, read_only=True) as connection:
        return connection.execute(
            f"select {COLUMNS} from lake.published.audience_segments where subject_token in $tokens order by all",
            {"tokens": tokens},
        ).fetchall()


def test_opt_outs_on_a_published_home_put_everybody_into_the_default_segment(opted):
    """Over what a real run published: the unit tests' home is made by hand."""
    _, settings, people = opted
    rows = published(settings, people[:EARLY])
    assert rows and {row[2] for row in rows} == {"default"}
    assert "privacy_request_opt_out" in {row[-1] for row in rows}


def test_no_segment_changes_between_runs_without_its_decision(opted):
    """The ledger says what is published at every moment, and still adds up."""
    cli, settings, people = opted
    with open_lake(settings, read_only=True) as connection:
        keys = load_keys(settings)
        tokens = [ledger_token(keys, token(keys, "raw", name)) for name in people[:EARLY]]
        decided = connection.execute(
            "select distinct segment from lake.ops.decisions as decided where family <> 'risk' and subject_token in $tokens "
            "and not exists (select 1 from lake.ops.decisions as later where later.previous_leaf = decided.leaf_index)",
            {"tokens": tokens},
        ).fetchall()
        (moved,) = connection.execute(
            "select subject_token from lake.ops.decisions where run_id like 'opt-outs-%' limit 1"
        ).fetchone()
        (between,) = connection.execute(
            "select statement from lake.ops.ledger_statements where statement ->> 'run_id' like 'opt-outs-%'"
        ).fetchone()
    assert decided == [("default",)]
    assert json.loads(between)["decisions"] > 0
    cli("verify")
    cli("replay", people[tokens.index(moved)], "--as-of", "2999-01-01")


def test_nothing_computed_is_kept_of_who_opted_out(opted):
    """The default segment tells nothing, and neither does what lies behind it."""
    _, settings, people = opted
    tokens = [token(load_keys(settings), "audience", name) for name in people[:EARLY]]
    with open_lake(settings, read_only=True) as connection:
        for relation in ("features.audience_features", "audience.audience_members"):
            kept, others = connection.execute(
                f"select count(*) filter (where audience_subject_token in $tokens), count(*) from lake.{relation}",
                {"tokens": tokens},
            ).fetchone()
            assert (kept, others > 0) == (0, True), relation
        built = connection.execute(
            "select distinct segment from lake.candidate.audience_segments where subject_token in $tokens", {"tokens": tokens}
        ).fetchall()
    assert built == [("default",)]


def test_a_damaged_ledger_delays_nobodys_opt_out(opted, tmp_path):
    """A right does not wait for an operator to restore a backup; that the ledger is damaged is said, and runs stop at it."""
    cli, settings, people = opted
    damaged = cli.copy(tmp_path / "home")
    settings = Settings(home=damaged.home)
    with open_lake(settings) as connection:
        keys = load_keys(settings)
        named = {row[0] for row in connection.execute(
            "select subject_token from lake.published.audience_segments where segment <> 'default'"
        ).fetchall()}  # fmt: skip
        connection.execute("update lake.ops.ledger_nodes set node_hash = unhex(sha256('damage'))")
    person = next(name for name in people if token(keys, "audience", name) in named)
    record_opt_outs(settings, [OptOut(person, "test")])
    result = apply_opt_outs(settings)
    assert result.ledger_error and len(result.applied) == 1
    assert {row[2] for row in published(settings, [person])} == {"default"}
    damaged("verify", expect=1)


@pytest.mark.nightly  # two whole runs; a commit beside an open transaction is in tests/unit/test_turns.py
def test_opt_outs_before_during_and_after_a_run_end_as_a_full_run_ends_them(fintech, opted):
    """One commit beside a run must not make it fail, and no run may bring anybody back."""
    cli, settings, people = opted
    early, during = people[:EARLY], people[EARLY:]
    direct = published(settings, early)

    # As of the sample's own instant, which lies before the requests: the run's gate cannot know them.
    run = subprocess.Popen(
        cli.command("run", "--sources", str(fintech.sources)), env=cli.environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    beside, served = 0, []
    while run.poll() is None and during:
        name = during.pop()
        record_opt_outs(settings, [OptOut(name, "test")])
        beside += apply_opt_outs(settings).beside_a_run
        served.append(name)
        time.sleep(0.5)
    printed, _ = run.communicate()
    assert run.returncode == 0, printed[-3000:]
    assert beside, "no opt-out fell into the run: nothing was shown"
    apply_opt_outs(settings)
    assert published(settings, early) == direct
    after = published(settings, early + served)
    assert {row[2] for row in after} == {"default"}

    later = (datetime.now(UTC) + timedelta(minutes=10)).replace(tzinfo=None, microsecond=0)
    cli("run", "--sources", str(fintech.sources), "--as-of", later.isoformat())
    assert published(settings, early + served) == after


def test_the_aml_rating_is_not_touched(fintech, opted):
    cli, *_ = opted
    before = fintech.cli.rows("select subject_token, tier from published.risk_segments order by 1")
    assert [row["subject_token"] for row in before] == [
        row["subject_token"] for row in cli.rows("select subject_token from published.risk_segments order by 1")
    ]
    assert {row["segment"] for row in cli.rows("select distinct segment from published.risk_segments")}.isdisjoint({"default"})


@pytest.mark.parametrize("which", ["fintech", "retail"])
def test_the_canary_went_through_the_run_and_is_not_published(request, which):
    home = request.getfixturevalue(which).cli.home
    settings = Settings(home=home)
    keys = load_keys(settings)
    tokens = [one for twin in canary_tokens(keys).values() for one in twin]
    with open_lake(settings, read_only=True) as connection:
        outcomes = judge_canaries(connection, keys, ["audience_segments", "risk_segments"])
        assert all(outcome.passed for outcome in outcomes)
        assert any(outcome.consent_rows and outcome.named for outcome in outcomes)
        for relation in ("audience_segments", "risk_segments"):
            found = connection.execute(
                f"select count(*) from lake.published.{relation} where subject_token in $tokens", {"tokens": tokens}
            ).fetchone()
            assert found == (0,)


def test_a_gate_that_forgets_opt_outs_publishes_nothing(fintech, tmp_path, monkeypatch):
    """The canary's twin gets through, and that alone holds the publication back."""
    settings = Settings(home=fintech.cli.copy(tmp_path / "home").home)
    keys = load_keys(settings)
    opted_out = canary_tokens(keys)["opted_out"][2]
    with open_lake(settings) as connection:
        connection.execute(
            "update lake.candidate.audience_segments set segment = 'champion', gate_outcome = 'ALLOW' where subject_token = ?",
            [opted_out],
        )
        (outcome,) = judge_canaries(connection, keys, ["audience_segments"])
    assert not outcome.passed and outcome.escaped == 1


def test_the_records_can_be_read(fintech, tmp_path):
    shown = fintech.cli("records", "retention", "--dry-run", "--as-of", "2026-11-01").stdout
    assert "raw.transactions" in shown and "rows are due" in shown
    page = tmp_path / "map.html"
    fintech.cli("records", "data-map", "--format", "html", "--out", str(page))
    assert "published.audience_segments.segment" in page.read_text(encoding="utf-8")
    document = fintech.cli.json("records", "data-map", "--sources", str(fintech.sources))
    assert document["segments_traced"]
    assert any("feed " in text for entry in document["entries"] for text in entry["source"])


@pytest.mark.nightly  # a daemon of its own; the sensor alone is in tests/unit/rights/test_opt_out_intake.py
def test_an_opt_out_that_is_dropped_as_a_file_is_published_within_a_minute(fintech, tmp_path):
    """The way of a bank's Monday: the scheduler runs, a file is dropped into the intake, nobody types a command."""
    cli = fintech.cli.copy(tmp_path / "home")
    settings = Settings(home=cli.home)
    keys = load_keys(settings)
    with open_lake(settings, read_only=True) as connection:
        named = connection.execute(
            "select subject_token from lake.published.audience_segments where segment <> 'default'"
        ).fetchall()
    with (fintech.sources / "customers.csv").open(encoding="utf-8") as stream:
        people = [row["customer_id"] for row in csv.DictReader(stream) if row["customer_id"].strip()]
    person = next(name for name in people if (token(keys, "audience", name),) in named)
    daemon = subprocess.Popen(
        cli.command("schedule", "--sources", str(fintech.sources)), env=cli.environment(),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        intake = intake_folder(settings)
        intake.mkdir(parents=True, exist_ok=True)
        draft = tmp_path / "today.csv"
        draft.write_text(f"customer_id\n{person}\n")
        draft.rename(intake / "today.csv")
        until = time.monotonic() + 300  # the daemon's own start, and a busy machine; the figure asserted is the log's
        while time.monotonic() < until and {row[2] for row in published(settings, [person])} != {"default"}:
            assert daemon.poll() is None, daemon.communicate()[0][-3000:]
            time.sleep(1)
        assert {row[2] for row in published(settings, [person])} == {"default"}
    finally:
        os.killpg(daemon.pid, signal.SIGTERM)
        daemon.wait(60)
    assert not (intake / "today.csv").exists()
