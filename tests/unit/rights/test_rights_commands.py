"""The officer's commands: what they say, and with which exit code."""

import json
import sys

import pytest
from typer.testing import CliRunner

from orchestration.cli import app
from orchestration.commands.options import Failure


@pytest.fixture
def segline(retail, monkeypatch):
    monkeypatch.setenv("SEGLINE_HOME", str(retail.settings.root))
    monkeypatch.setenv("COLUMNS", "220")

    def call(*arguments: str):
        return CliRunner().invoke(app, ["rights", *arguments])

    return call


def test_a_deletion_from_request_to_certificate(retail, segline, tmp_path):
    customer, control = (row["customer_id"] for row in retail.customers()[:2])
    asked = segline("request", customer, "--kind", "deletion", "--verified-by", "officer")
    number = asked.stdout.split(":")[0]
    assert asked.exit_code == 0 and "planned" in asked.stdout
    assert "would be" in segline("apply", "--dry-run").stdout
    seen = segline("verify", "--identifier", customer, "--control", control)
    assert seen.exit_code == 1 and seen.stdout.count("found:") == 1 and not seen.stderr.strip().startswith("found")
    assert customer not in seen.stdout.replace("--identifier", "")
    assert segline("apply").exit_code == 0
    assert segline("verify", "--identifier", customer).exit_code == 0
    shown = segline("certificate", number)
    document = json.loads(shown.stdout)
    assert document["outcome"] == "erased"
    # The stores speak of the pass, which finds no key: it went with the verification, and an auditor asks when that was.
    assert document["received_at"] <= document["key_destroyed_at"] <= document["proven_at"]
    path = tmp_path / "certificate.json"
    path.write_text(shown.stdout)
    assert "good" in segline("certificate", "--check", str(path)).stdout
    path.write_text(shown.stdout.replace('"erased"', '"refused"', 1))
    assert isinstance(segline("certificate", "--check", str(path)).exception, Failure)
    told = json.loads(segline("status", "--format", "json").stdout)
    assert [entry["state"] for entry in told if entry["request_id"] == number] == ["proven"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("request", " ", "--kind", "deletion"), "blank"),
        (("request", "C-1", "--kind", "deletion", "--set", "email=x"), "--set goes with"),
        (("request", "C-1", "--kind", "correction", "--verified-by", "x"), "say what is right"),
        (("certificate", "RR-0"), "no certificate"),
        (("certificate",), "give the number"),
        (("pause", "RR-0", "--reason", "x"), "no request"),
        (("export", "C-1", "--out", "/tmp/x-copy"), "no verified request"),
        (("hold", "C-1"), "needs --reason"),
        (("suppressions",), "--out FILE"),
        (("verify", "--identifier", " "), "blank"),
    ],
)
def test_a_mistake_is_told_and_no_traceback(segline, arguments, message):
    done = segline(*arguments)
    assert isinstance(done.exception, Failure) and message in str(done.exception)


@pytest.mark.skipif("orchestration.rights.opt_out" in sys.modules, reason="the opt-out job is part of this installation")
def test_an_opt_out_without_its_job_is_recorded_and_said(retail, segline, monkeypatch):
    monkeypatch.setitem(sys.modules, "orchestration.rights.opt_out", None)
    done = segline("request", "C-1", "--kind", "opt_out")
    assert isinstance(done.exception, Failure) and "no opt-out job" in str(done.exception)
    assert "opt_out" in segline("status").stdout


def test_an_opt_out_by_command_reaches_the_intake_and_waits_for_a_publication(retail, segline):
    """The log of requests alone puts nothing into force: what is asked for here must be where the opt-out job looks."""
    from orchestration.rights.intake import read_opt_outs

    done = segline("request", "C-1", "--kind", "opt_out")
    assert done.exit_code == 0 and "from the next publication" in done.stdout
    number = done.stdout.split(":")[0]
    assert read_opt_outs(retail.settings)["request_id"].to_pylist() == [number]
    told = json.loads(segline("status", "--format", "json").stdout)
    assert [entry["state"] for entry in told if entry["request_id"] == number] == ["verified"]


def test_an_opt_out_that_is_in_force_closes_its_request(retail, segline):
    from orchestration.lake import open_lake
    from orchestration.rights.opt_out import APPLICATIONS_DDL
    from orchestration.rights.receiving import close_opt_outs

    number = segline("request", "C-1", "--kind", "opt_out").stdout.split(":")[0]
    with open_lake(retail.settings) as connection:
        connection.execute(APPLICATIONS_DDL)
        connection.execute("insert into lake.ops.opt_out_applications (request_id) values (?)", [number])
    assert close_opt_outs(retail.settings) == [number]
    told = json.loads(segline("status", "--format", "json").stdout)
    assert [entry["state"] for entry in told if entry["request_id"] == number] == ["proven"]
    assert close_opt_outs(retail.settings) == []
