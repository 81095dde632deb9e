"""A suite file that cannot be trusted is refused, with its name and fault; listing the checks stays cheap."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from orchestration.quality.suites import BOUNDARIES, MissingSuiteError, SuiteError, check_specs, load_suite
from orchestration.settings import PROJECT_ROOT


def expectation(**changes: Any) -> dict[str, Any]:
    """A sound expectation with changes."""
    sound = {
        "type": "expect_column_values_to_be_in_set",
        "kwargs": {"column": "tier", "value_set": ["low"]},
        "severity": "critical",
        "notes": "Every tier is low, for the sake of this test.",
        "meta": {"check": "tier_is_low", "relation": "risk.ratings"},
    }
    return sound | changes


def suite(*expectations: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A sound suite with changes."""
    return {
        "name": "gate",
        "notes": "A suite for the sake of these tests.",
        "expectations": list(expectations),
    } | changes


def write(folder: Path, content: Any) -> Path:
    """Put a suite for the boundary `gate` into a folder."""
    (folder / "gate.json").write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def compared(column: str) -> dict[str, Any]:
    """A row condition."""
    return {"type": "comparison", "column": {"name": column}, "operator": "==", "parameter": 1}


def test_sound_suite_loads_with_defaults_that_fail_closed(tmp_path: Path) -> None:
    loaded = load_suite("gate", write(tmp_path, suite(expectation()))).expectations[0]
    assert (loaded.meta.rows, loaded.meta.nulls, loaded.columns) == ("all", "fail", ("tier",))


def test_columns_of_row_conditions_are_read_too(tmp_path: Path) -> None:
    either = {"type": "or", "conditions": [compared("b"), compared("tier")]}
    condition = {"type": "and", "conditions": [compared("a"), either]}
    kwargs = {"column": "tier", "value_set": ["low"], "row_condition": condition}
    loaded = load_suite("gate", write(tmp_path, suite(expectation(kwargs=kwargs))))
    assert loaded.expectations[0].columns == ("tier", "a", "b")


def test_missing_suite_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(MissingSuiteError, match=r"gate\.json"):
        load_suite("gate", tmp_path)


META = {"check": "tier_is_low", "relation": "risk.ratings"}
PAIR = "expect_column_pair_values_to_be_in_set"
PASS_THROUGH = {"type": "pass_through", "pass_through_filter": "tier == 1"}
MEAN = "expect_column_mean_to_be_between"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        pytest.param("{", "Expecting", id="no JSON"),
        pytest.param("[]", "dictionary", id="no suite"),
        pytest.param(suite(), "at least 1 item", id="empty suite"),
        pytest.param(suite(expectation(), expectation()), "used twice: tier_is_low", id="a check twice"),
        pytest.param(suite(expectation(), name="landing"), "calls itself landing", id="another boundary's name"),
        pytest.param(suite(expectation(notes="")), "notes", id="empty notes"),
        pytest.param(suite({k: v for k, v in expectation().items() if k != "notes"}), "notes", id="no notes"),
        pytest.param(suite({k: v for k, v in expectation().items() if k != "severity"}), "severity", id="no severity"),
        pytest.param(suite(expectation(severity="fatal")), "severity", id="unknown severity"),
        pytest.param(suite(expectation(type="expect_column_to_exist")), "vocabulary", id="unknown type"),
        pytest.param(suite(expectation(kwargs={})), "does not name its columns", id="no column"),
        pytest.param(suite(expectation(kwargs={"column": 3})), "does not name its columns", id="column is no name"),
        pytest.param(suite(expectation(meta=META | {"rows": "some"})), "rows", id="unknown row mode"),
        pytest.param(suite(expectation(meta=META | {"blocking": True})), "blocking", id="unknown meta"),
        pytest.param(suite(expectation(meta=META | {"check": "Tier is low"})), "check", id="check is no sentence"),
        pytest.param(suite(expectation(meta=META | {"relation": "ratings"})), "relation", id="relation without zone"),
        pytest.param(
            suite(expectation(kwargs={"column": "tier", "mostly": 0.9}, meta=META | {"rows": "distinct"})),
            "counts rows",
            id="share of distinct rows",
        ),
        pytest.param(
            suite(expectation(type=MEAN, kwargs={"column": "points"}, meta=META | {"rows": "distinct"})),
            "counts rows",
            id="mean of distinct rows",
        ),
        pytest.param(
            suite(expectation(type=PAIR, kwargs={"column_A": "a", "column_B": "b", "row_condition": compared("a")})),
            "row_condition",
            id="condition that Great Expectations would not heed",
        ),
        pytest.param(
            suite(expectation(kwargs={"column": "tier", "row_condition": "tier == 1"})),
            "row_condition",
            id="text condition",
        ),
        pytest.param(
            suite(expectation(kwargs={"column": "tier", "row_condition": PASS_THROUGH})),
            "row_condition",
            id="condition that is evaluated as code",
        ),
        pytest.param(
            suite(expectation(), meta={"derived": {"risk.other": {"a": "1"}}}), "risk.other", id="stray derived"
        ),
        pytest.param('{"name": "gate", "name": "gate"}', "written twice: name", id="a key twice"),
    ],
)
def test_unsound_suite_is_refused_by_name_and_fault(content: Any, fault: str, tmp_path: Path) -> None:
    with pytest.raises(SuiteError, match=fault) as refused:
        load_suite("gate", write(tmp_path, content))
    assert "gate.json" in str(refused.value)


def test_checks_are_listed_in_order_with_what_blocks(tmp_path: Path) -> None:
    warning = expectation(severity="warning", meta=META | {"check": "tier_is_mostly_low"})
    specs = check_specs("gate", write(tmp_path, suite(expectation(), warning)))
    assert [(spec.relation, spec.check, spec.blocking) for spec in specs] == [
        ("risk.ratings", "tier_is_low", True),
        ("risk.ratings", "tier_is_mostly_low", False),
    ]
    assert specs[0].description == "Every tier is low, for the sake of this test."


def test_listing_checks_does_not_import_great_expectations() -> None:
    """Dagster lists them each time it loads the definitions; the import would cost it five to ten seconds."""
    program = (
        "import sys; from orchestration.quality import validation; from orchestration.quality.suites import *; "
        f"[check_specs(b) for b in {BOUNDARIES!r}]; print('great_expectations' in sys.modules, 'pandas' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
