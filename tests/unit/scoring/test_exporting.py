"""A model that leaves the platform scores the same, needs nothing of it, and brings nothing that runs when it is loaded but code
that can be read."""

import json
import pickletools
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from orchestration.scoring import registry
from orchestration.scoring.deployment import promote
from orchestration.scoring.errors import ScoringError
from orchestration.scoring.exporting import example, export, write
from tests.unit.scoring.conftest import small_table

TODAY = f"{datetime.now(UTC):%Y-%m-%d} 00:00:00"
# What a stranger would run: MLflow, and not this project.
STRANGER = """
import json, os, sys
# An environment into which the project is installed is made one into which it is not.
sys.meta_path = [finder for finder in sys.meta_path if "editable" not in repr(finder).lower()]
sys.path = [place for place in sys.path if not os.path.isdir(os.path.join(place, "orchestration"))]
assert not any("orchestration" in name for name in sys.modules)
try:
    import orchestration
except ModuleNotFoundError:
    pass
else:
    raise SystemExit("the project is on the path")
import mlflow.pyfunc, pandas as pd
rows = pd.DataFrame(json.load(open(sys.argv[2])))
model = mlflow.pyfunc.load_model(sys.argv[1])
try:
    found = model.predict(rows)
except Exception as error:
    raise SystemExit(f"refused: {error}")
print(json.dumps([[repr(value) if isinstance(value, float) else value for value in row] for row in found.values.tolist()]))
"""


def elsewhere(folder: Path, rows: pd.DataFrame, work: Path) -> subprocess.CompletedProcess:
    """Load and predict in a process of its own, in a folder of its own, without this project."""
    work.mkdir(exist_ok=True)
    # Every digit of every number: pandas' own JSON rounds.
    plain = {name: [None if value != value else value for value in rows[name]] for name in rows}
    (work / "rows.json").write_text(json.dumps(plain), encoding="utf-8")
    environment = {
        "PATH": "/usr/bin:/bin", "HOME": str(work), "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "PYTHONDONTWRITEBYTECODE": "1",
    }  # fmt: skip
    command = [sys.executable, "-P", "-c", STRANGER, str(folder), str(work / "rows.json")]
    return subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    write(small_table(trained_as_of=TODAY), folder)
    return folder


def test_a_process_without_the_project_scores_the_same(exported, tmp_path):
    """Score, probability, reasons and counts, for every kind of bin."""
    channels = ["branch", "o'clock", "pigeon", None, "branch", "branch"]
    rows = pd.DataFrame(
        {
            "cash_share_90d": [0.0, 0.1, 0.25, 0.30000000000000004, 7.5, np.nan],
            "forward_days_90d": [2.4, 2.5, np.nan, 0.0, 1e9, -3.0],
            "onboarding_channel": channels,
        }
    )
    done = elsewhere(exported, rows, tmp_path / "stranger")
    assert done.returncode == 0, done.stderr
    table = small_table()
    for values, row in zip(json.loads(done.stdout), rows.to_dict("records"), strict=True):
        expected = table.score({name: None if value != value else value for name, value in row.items()})
        assert abs(float(values[0]) - expected.score) <= 1e-12
        assert abs(float(values[1]) - expected.probability) <= 1e-12
        assert values[3] == ",".join(expected.reasons)
        assert values[4:] == [expected.missing, expected.unseen]
        assert values[2] == ("high" if expected.score >= 0.5 else "medium" if expected.score >= -2.0 else "low")


def test_nothing_in_the_folder_is_a_pickle_or_a_person(exported):
    names = {path.relative_to(exported).as_posix() for path in exported.rglob("*") if path.is_file()}
    assert {"MLmodel", "requirements.txt", "artifacts/points.json", "portable_model.py", "input_example.json"} <= names
    for name in names:
        data = (exported / name).read_bytes()
        assert not name.endswith((".pkl", ".pickle", ".joblib", ".so", ".pyc")), name
        with pytest.raises((ValueError, IndexError)):  # any protocol: a pickle of none ends in disassembly
            list(pickletools.genops(data))
        assert b"cloudpickle" not in data or name in ("MLmodel", "conda.yaml"), name
    assert "==" in (exported / "requirements.txt").read_text() and "segline" not in (exported / "requirements.txt").read_text()
    invented = example(small_table())
    assert len(invented) == 2 and "risk_subject_token" not in invented


def test_a_changed_table_is_refused_where_it_is_loaded(exported, tmp_path):
    """The fingerprint travels with the code: whoever edits a weight afterwards has no model."""
    import shutil

    other = tmp_path / "model"
    shutil.copytree(exported, other)
    points = other / "artifacts" / "points.json"
    points.write_text(points.read_text().replace("-3.125", "-1.125"))
    done = elsewhere(other, example(small_table()), tmp_path / "stranger")
    assert done.returncode != 0 and "SHA-256 differs" in done.stderr


def test_rows_without_a_column_are_refused(exported, tmp_path):
    done = elsewhere(exported, example(small_table()).drop(columns="forward_days_90d"), tmp_path / "stranger")
    assert done.returncode != 0 and "forward_days_90d" in done.stderr


def test_a_stale_model_is_not_exported(tmp_path):
    """Nor does one score that became stale where it runs: the example is scored on export by the very code."""
    with pytest.raises(ScoringError, match="good until"):
        write(small_table(trained_as_of="2020-01-01 00:00:00"), tmp_path / "model")


def test_what_nobody_promoted_is_not_exported_and_nothing_is_overwritten(settings, tmp_path):
    judged = {registry.BLOCKED: registry.NOT_BLOCKED}
    entry, _ = registry.register(settings, small_table(trained_as_of=TODAY), "Alice", {}, judged)
    with pytest.raises(ScoringError, match="promoted by nobody"):
        export(settings, "1", tmp_path / "out")
    promote(settings, "1", "Bob", "x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep me")
    with pytest.raises(ScoringError, match="holds something"):
        export(settings, "1", tmp_path / "full")
    assert export(settings, entry.version, tmp_path / "out").number == 1
    assert (tmp_path / "out" / "MLmodel").is_file() and [path.name for path in tmp_path.glob(".out-*")] == []


@pytest.mark.parametrize("blocked", [{}, {registry.BLOCKED: "scores_are_calibrated: 4.0 incidents came"}])
def test_a_model_that_failed_what_blocks_or_was_never_judged_is_not_promoted(settings, blocked):
    from orchestration.scoring.errors import PromotionRefused

    registry.register(settings, small_table(), "Alice", {}, blocked)
    with pytest.raises(PromotionRefused, match=r"train again|calibrated"):
        promote(settings, "1", "Bob", "x")
