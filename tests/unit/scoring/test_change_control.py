"""Who may put a model in charge, and what a run does with one that is missing, changed, or made for other columns."""

import re
from dataclasses import replace

import pytest

from orchestration.lake import open_lake
from orchestration.scoring import registry
from orchestration.scoring.deployment import history, promote, refresh, rollback, standing
from orchestration.scoring.errors import BadModel, PromotionRefused, ScoringError
from tests.unit.scoring.conftest import small_table

JUDGED = {registry.BLOCKED: registry.NOT_BLOCKED}
COLUMNS = {"cash_share_90d": "double", "forward_days_90d": "double", "onboarding_channel": "varchar", "tenure_days": "bigint"}


@pytest.fixture
def first(settings):
    entry, is_new = registry.register(settings, small_table(), "Alice", {registry.CARD: "card"}, JUDGED)
    assert is_new
    return entry


@pytest.fixture
def second(settings, first):
    return registry.register(settings, small_table(version="t2", intercept=-4.0), "Alice", {}, JUDGED)[0]


def stands(settings, columns=COLUMNS):
    with open_lake(settings) as connection:
        found = refresh(settings, connection, columns)
        row = connection.execute("select status, document from lake.risk.score_model").fetchall()
    assert row[0][0] == found.status and len(row) == 1
    assert (row[0][1] is None) == (found.table is None)
    return found


def test_before_any_promotion_there_is_no_model_and_the_row_says_so(settings):
    """A fresh machine's first run must publish the rules' tiers."""
    assert stands(settings).status == "no_model"


def test_registering_puts_nothing_in_charge(settings, first):
    assert stands(settings).status == "no_model"


@pytest.mark.parametrize("by", ["Alice", "alice", " ALICE ", "alice\t"])
def test_whoever_trained_a_model_cannot_promote_it(settings, first, by):
    with pytest.raises(PromotionRefused, match="another person"):
        promote(settings, "1", by, "because")
    assert stands(settings).status == "no_model"


@pytest.mark.parametrize(("by", "reason"), [("", "because"), ("  ", "because"), ("Bob", ""), ("Bob", " \n")])
def test_a_promotion_names_a_person_and_a_reason(settings, first, by, reason):
    with pytest.raises(PromotionRefused):
        promote(settings, "1", by, reason)


def test_a_promoted_model_scores_and_the_record_says_who_and_why(settings, first):
    promote(settings, first.version, "Bob", "better than nothing")
    found = stands(settings)
    assert (found.status, found.table) == ("current", small_table())
    with open_lake(settings, read_only=True) as connection:
        [line] = history(connection)
    assert (line.trained_by, line.deployed_by, line.reason, line.sha256) == ("Alice", "Bob", "better than nothing", first.sha256)
    assert registry.find(settings, "champion").number == first.number


def test_the_same_model_is_not_promoted_twice(settings, first):
    promote(settings, "1", "Bob", "x")
    with pytest.raises(PromotionRefused, match="already in charge"):
        promote(settings, "1", "Carol", "again")


def test_rollback_puts_the_model_before_back_in_charge(settings, first, second):
    promote(settings, "1", "Bob", "first")
    with pytest.raises(PromotionRefused, match="no earlier"):
        rollback(settings, "Bob", "too early")
    promote(settings, "2", "Bob", "second")
    assert stands(settings).table.version == "t2"
    rollback(settings, "Carol", "false alarms")
    assert stands(settings).table.version == "t1"
    assert registry.find(settings, "champion").number == 1
    with pytest.raises(PromotionRefused, match="no earlier"):
        rollback(settings, "Carol", "further back there is nothing")
    with open_lake(settings, read_only=True) as connection:
        assert [line.action for line in history(connection)] == ["promote", "promote", "rollback"]


def test_a_model_file_that_changed_on_disk_is_refused_and_the_rules_stand(settings, first):
    """The file is guarded by its fingerprint on record, not by the folder's permissions."""
    promote(settings, "1", "Bob", "x")
    file = first.folder / registry.POINTS
    file.write_text(file.read_text().replace("-3.125", "-1.125"))
    found = stands(settings)
    assert (found.status, found.table) == ("refused", None) and "SHA-256" in found.reason
    with pytest.raises(BadModel, match="SHA-256"):
        registry.load_table(registry.find(settings, "1"))


@pytest.mark.parametrize("fault", ["gone", "empty", "binary", "folder", "link"])
def test_a_model_file_that_cannot_be_read_is_refused_without_stopping_the_run(settings, first, fault, tmp_path):
    promote(settings, "1", "Bob", "x")
    file = first.folder / registry.POINTS
    kept = file.read_bytes()
    file.unlink()
    if fault == "empty":
        file.write_bytes(b"")
    elif fault == "binary":
        file.write_bytes(b"\xff\xfe\x00")
    elif fault == "folder":
        file.mkdir()
    elif fault == "link":
        (tmp_path / "elsewhere.json").write_bytes(kept)
        file.symlink_to(tmp_path / "elsewhere.json")
    assert stands(settings).status == "refused"


def test_a_changed_file_cannot_be_promoted(settings, first):
    file = first.folder / registry.POINTS
    file.write_text(file.read_text() + " ")
    with pytest.raises(BadModel):
        promote(settings, "1", "Bob", "x")
    assert stands(settings).status == "no_model"


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({name: kind for name, kind in COLUMNS.items() if name != "forward_days_90d"}, "forward_days_90d"),
        (COLUMNS | {"cash_share_90d": "varchar"}, "cash_share_90d"),
        (COLUMNS | {"onboarding_channel": "bigint"}, "onboarding_channel"),
        ({}, "cash_share_90d"),
    ],
)
def test_a_model_trained_on_other_columns_is_refused(settings, first, columns, named):
    """Otherwise dbt would fail on it, and the rules' tiers with it."""
    promote(settings, "1", "Bob", "x")
    found = stands(settings, columns)
    assert found.status == "refused" and named in found.reason


def test_the_daily_run_needs_no_machine_learning_library(settings, first):
    """Scoring fits nothing: what it reads is JSON."""
    import subprocess
    import sys

    code = "import sys, orchestration.scoring.deployment; bad = {'interpret', 'sklearn', 'mlflow', 'skops', 'fairlearn'} & set(sys.modules); sys.exit(bool(bad))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_same_table_is_registered_once(settings, first):
    again, is_new = registry.register(settings, small_table(), "Dora", {}, {})
    assert (again.number, is_new, again.trained_by) == (1, False, "Alice")


def test_an_unknown_model_is_a_clear_error(settings, first):
    with pytest.raises(ScoringError, match=re.escape("0 registered models answer to 'nobody'")):
        registry.find(settings, "nobody")


def test_a_model_in_charge_cannot_be_removed(settings, first, second):
    promote(settings, "1", "Bob", "x")
    with pytest.raises(ScoringError, match="champion"):
        registry.remove(settings, registry.find(settings, "1"))
    registry.remove(settings, second)
    assert [entry.number for entry in registry.versions(settings)] == [1]


def test_a_home_that_moved_keeps_its_models(settings, first, tmp_path):
    promote(settings, "1", "Bob", "x")
    moved = tmp_path / "moved"
    settings.root.rename(moved)
    assert stands(type(settings)(home=moved)).status == "current"


def test_a_foreign_file_is_no_challenger():
    """A skops file may name types; only those that our own challenger is made of are built."""
    import pickle

    import skops.io
    from sklearn.preprocessing import FunctionTransformer

    for data in (pickle.dumps({"a": 1}), b"", skops.io.dumps(FunctionTransformer(func=print))):
        with pytest.raises(BadModel):
            registry.load_challenger(data)


def test_the_challenger_comes_back_from_its_file_and_predicts_the_same():
    import numpy as np

    from orchestration.scoring import models
    from orchestration.scoring.features import FEATURES
    from tests.unit.scoring.conftest import training_rows

    rows = training_rows(400)
    features = list(FEATURES)
    fitted = models.fit_boosted(rows, rows["label"].to_numpy(), features, 1)
    back = registry.load_challenger(registry.dump_challenger(fitted.model))
    codes = models.category_codes(rows, features)
    assert np.array_equal(back.predict_proba(models.coded(rows, features, codes))[:, 1], fitted.predict(rows))


def test_standing_says_refused_when_the_record_names_a_folder_outside(settings, first):
    """The record is read with the folder's name only: it cannot lead out of the models' folder."""
    promote(settings, "1", "Bob", "x")
    with open_lake(settings) as connection:
        connection.execute("update lake.ops.model_deployments set folder = '../../etc'")
        assert standing(settings, connection, COLUMNS).status == "refused"


def test_tables_differ_in_their_fingerprint_by_any_part():
    assert len({small_table().sha256, replace(small_table(), valid_days=181).sha256, small_table(version="t2").sha256}) == 3
