"""Controls and the articles that ask for them, each judged by the checks of the run.

Belongs here: reading `controls.yml` and what the run says of each control. Does not belong here: the checks themselves.
"""

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from orchestration.documentation.facts import Check
from orchestration.ingestion.strict_yaml import load_yaml

CONTROLS_FILE = Path(__file__).parent / "controls.yml"
Law = Literal["GDPR", "CCPA", "COPPA", "HIPAA"]
LAWS: tuple[Law, ...] = ("GDPR", "CCPA", "COPPA", "HIPAA")
HELD, WARNED, FAILED, NOT_RUN, SHOWN = "held", "warned", "FAILED", "not evaluated in this run", "shown by command"


class Control(BaseModel):
    """One control: what is done, which articles ask for it, the checks that enforce it, the commands that show it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(pattern=r"^C\d{2}$")
    title: str
    how: str
    articles: dict[Law, tuple[str, ...]]
    checks: tuple[str, ...]
    shown_by: tuple[str, ...] = ()


@cache
def controls() -> tuple[Control, ...]:
    """All controls. Raises `ValueError` for one without articles, or that nothing enforces or shows, or named twice."""
    found = tuple(Control.model_validate(one) for one in load_yaml(CONTROLS_FILE)["controls"])
    require_controls(found)
    return found


def require_controls(found: Iterable[Control]) -> None:
    """Raises `ValueError` unless every control is one of its name, has an article, and something enforces or shows it."""
    names = [one.id for one in found]
    if len(set(names)) != len(names):
        raise ValueError("two controls have one id")
    for one in found:
        if not one.articles or not (one.checks or one.shown_by):
            raise ValueError(f"control {one.id} has no article, or nothing that enforces or shows it")


def verdict(control: Control, checks: Iterable[Check]) -> str:
    """What the run says of a control: the worst of its checks. One that the run did not evaluate is no success."""
    if not control.checks:
        return SHOWN
    by_key = {check.key: check for check in checks}
    found = [by_key.get(key) for key in control.checks]
    if any(check and not check.passed and check.severity == "ERROR" for check in found):
        return FAILED
    if any(check is None for check in found):
        return NOT_RUN
    return HELD if all(check.passed for check in found if check) else WARNED
