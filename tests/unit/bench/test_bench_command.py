"""The commands hand on what was asked for, and say what cannot be done. The measurements themselves are replaced."""

import json

import pytest
from typer.testing import CliRunner

from orchestration.bench import gate, ledger, measure, people
from orchestration.cli import app
from orchestration.commands.options import Failure

GATE = {"people": 5, "stages": {"consent_states": [0.1, 0.2]}, "cpu_seconds": 0.2, "cpu_ratio_to_floor": 2.0}
PEOPLE = {
    "customers": 9, "opt_outs": [{"opt_outs": 1, "cpu_p50": 0.1}], "deletions": [{"deletions": 1, "cpu_seconds": 0.1}],
    "cpu_ratio_of_last_batch_to_first": 1.0,
}


def run(*words: str):
    return CliRunner().invoke(app, ["bench", *words])


def test_the_pipeline_s_options_stay_those_of_the_command_itself(monkeypatch):
    asked = []
    monkeypatch.setattr(measure, "measure", lambda *given: asked.append(given) or {"seconds": 1.0})
    result = run("--customers", "7", "--transactions", "8", "--format", "json")
    assert asked == [(7, 8, "parquet", None)] and json.loads(result.stdout) == {"seconds": 1.0}


def test_consent_shows_every_decoder_and_the_gate(monkeypatch):
    asked = []
    monkeypatch.setattr(gate, "measure_gate", lambda number: asked.append(number) or GATE)
    figures = json.loads(run("consent", "--people", "5", "--strings", "3", "--format", "json").stdout)
    assert asked == [5] and figures["gate"] == GATE
    assert {"tcf", "tcf_ranges", "gpp_us", "gpp_tcfeu_us", "usp"} <= set(figures["strings_per_cpu_second"])
    assert "cpu_ratio_to_floor" in run("consent", "--people", "5", "--strings", "3").stdout


def test_rights_takes_sizes_and_a_home(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(people, "measure_people", lambda *given: asked.append(given) or PEOPLE)
    words = ("rights", "--home", str(tmp_path), "--opt-outs", "1, 5", "--deletions", "", "--repetitions", "2", "--book", "9")
    assert json.loads(run(*words, "--format", "json").stdout) == PEOPLE
    assert asked == [(tmp_path.resolve(), [1, 5], [], 2, 9)]
    assert "cpu ratio" in run(*words).stdout.replace("_", " ")


def test_the_ledgers_sizes_are_handed_on(monkeypatch):
    asked = []
    monkeypatch.setattr(ledger, "measure_ledger", lambda *given: asked.append(given) or {"enter_seconds": 1.0})
    shown = run("ledger", "--decisions", "3", "--verified", "4", "--exported", "5", "--format", "json")
    assert json.loads(shown.stdout) == {"enter_seconds": 1.0} and asked == [(3, 4, 5, None)]
    assert "enter" in run("ledger").stdout


@pytest.mark.parametrize("sizes", ["0", "x", "1,-2", "1.5"])
def test_sizes_that_are_none_are_wrong_usage(sizes, tmp_path):
    assert run("rights", "--home", str(tmp_path), "--opt-outs", sizes).exit_code == 2


def test_a_folder_that_is_no_home_is_said_to_be_none(tmp_path):
    result = run("rights", "--home", str(tmp_path))
    assert isinstance(result.exception, Failure) and "is no home" in str(result.exception)


@pytest.mark.parametrize("words", [(), ("consent",), ("rights",), ("ledger",)])
def test_help_teaches(words):
    shown = run(*words, "--help").stdout
    assert "Measure" in shown and len(shown) > 400
