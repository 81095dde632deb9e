"""Controls: each has an article and something that enforces or shows it, and is judged by the worst of its checks."""

import re
import shlex

import pytest
import typer
from pydantic import ValidationError

from orchestration.cli import app
from orchestration.documentation.contents import write_pages
from orchestration.documentation.controls import (
    FAILED,
    HELD,
    LAWS,
    NOT_RUN,
    SHOWN,
    WARNED,
    Control,
    controls,
    require_controls,
    verdict,
)
from orchestration.documentation.facts import Check
from orchestration.documentation.sources import OTHERS


def control(**given) -> Control:
    plain = {"id": "C01", "title": "t", "how": "h", "articles": {"GDPR": ["6"]}, "checks": ["a.b: one", "a.b: two"]}
    return Control.model_validate(plain | given)


def check(name: str, passed: bool = True, severity: str = "ERROR") -> Check:
    return Check("a.b", name, passed, severity, severity == "ERROR")


@pytest.mark.parametrize(
    ("checks", "said"),
    [
        ([check("one"), check("two")], HELD),
        ([check("one"), check("two", passed=False)], FAILED),
        ([check("one"), check("two", passed=False, severity="WARN")], WARNED),
        ([check("one")], NOT_RUN),
        ([], NOT_RUN),
        ([check("one", passed=False)], FAILED),
    ],
)
def test_a_control_is_as_good_as_its_worst_check(checks, said):
    assert verdict(control(), checks) == said


def test_a_control_without_a_check_is_shown_by_a_command():
    assert verdict(control(checks=[], shown_by=["segline verify"]), []) == SHOWN


def test_the_shipped_controls_are_well_formed_and_cover_each_law():
    require_controls(controls())
    for law in LAWS:
        assert sum(law in one.articles for one in controls()) >= 5, law


def test_a_control_that_nothing_shows_or_asks_for_is_refused():
    for bad in ([control(checks=[])], [control(articles={})], [control(), control()]):
        with pytest.raises(ValueError, match=r"C01|one id"):
            require_controls(bad)
    with pytest.raises(ValidationError):
        control(articles={"GPDR": ["6"]})


def resolve(command: str) -> None:
    """Raises `AssertionError` or `KeyError` unless the command line has that command with those options."""
    current = typer.main.get_command(app)
    words = shlex.split(command)
    assert words.pop(0) == "segline"
    while words and getattr(current, "commands", None):
        current = current.commands[words.pop(0)]
    options = {name for parameter in current.params for name in parameter.opts}
    assert not {word for word in words if word.startswith("--")} - options, command


def named_commands(text: str) -> set[str]:
    """The commands that a text names as code."""
    return {found.strip() for found in re.findall(r"(?:<code>|`)(segline [a-z-]+(?: [a-z-]+)?)", text)}


def test_every_command_that_the_site_names_exists(facts):
    """A reader who is told to give a command must find it."""
    commands = {command for one in controls() for command in one.shown_by}
    commands |= {line.partition("#")[0] for source in OTHERS if source.kind == "command" for line in source.how.splitlines()}
    lessons = " ".join(page.text for page in write_pages(facts) if page.name.startswith("lesson"))
    assert len(commands) > 10 and named_commands(lessons)
    for command in commands | named_commands(lessons):
        resolve(command)


@pytest.mark.parametrize("command", ["segline forget", "segline rights forgive X", "segline verify --quickly"])
def test_a_command_that_does_not_exist_would_be_found(command):
    with pytest.raises((AssertionError, KeyError)):
        resolve(command)
