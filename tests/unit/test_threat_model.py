"""The threat model points to tests that exist: a control that nothing shows any more must not stand in it."""

import ast
import re

from orchestration.settings import PROJECT_ROOT

PAGE = PROJECT_ROOT / "docs" / "threat_model.md"
ROW = re.compile(r"^\| ([STRIDE]\d+) \| (.+) \| (.+) \| (.+) \| `([^`]+)` \|$", re.MULTILINE)


def named_tests(text: str) -> dict[str, str]:
    """The test of each threat by its number."""
    return {found[1]: found[5] for found in ROW.finditer(text)}


def missing(tests: dict[str, str]) -> list[str]:
    """Threats whose test is not there, or is always skipped."""
    gone = []
    for number, name in tests.items():
        path, _, function = name.partition("::")
        file = PROJECT_ROOT / path
        tree = ast.parse(file.read_text(encoding="utf-8")) if file.is_file() else ast.Module([], [])
        functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")}
        chosen = functions.get(function) if function else next(iter(functions.values()), None)
        if chosen is None or any(ast.unparse(mark).startswith("pytest.mark.skip(") for mark in chosen.decorator_list):
            gone.append(f"{number}: {name}")
    return gone


def test_every_threat_has_a_control_with_a_test_that_exists():
    text = PAGE.read_text(encoding="utf-8")
    tests = named_tests(text)
    rows = [line for line in text.splitlines() if re.match(r"^\| [STRIDE]\d+ \|", line)]
    assert len(tests) == len(rows) > 30
    assert {number[0] for number in tests} == set("STRIDE")
    assert missing(tests) == []


def test_a_test_that_is_gone_or_skipped_is_named():
    there = {"S1": "tests/unit/test_threat_model.py::test_every_threat_has_a_control_with_a_test_that_exists"}
    assert missing(there) == []
    assert missing({"S1": "tests/unit/test_threat_model.py::test_that_nobody_wrote"}) != []
    assert missing({"S1": "tests/unit/test_gone.py"}) != [] and missing({"S1": "tests/unit/test_gone.py::test_x"}) != []


def test_actors_that_threaten_are_described_and_what_remains_is_said():
    text = PAGE.read_text(encoding="utf-8")
    described = set(re.findall(r"^\| (P\d) \|", text, re.MULTILINE))
    named = {actor for found in ROW.finditer(text) for actor in re.findall(r"P\d", found[3])}
    assert named <= described and named
    assert text.partition("## What remains")[2].count("\n- ") >= 10
