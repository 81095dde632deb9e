"""Controls by the articles that ask for them, each with the check that enforces it and its result in this run.

Belongs here: the page as text. Does not belong here: the controls (`orchestration.documentation.controls`).
"""

from typing import Any

from orchestration.documentation.controls import FAILED, HELD, LAWS, SHOWN, Control, controls, verdict
from orchestration.documentation.facts import Check, Facts
from orchestration.documentation.writing import Html, cell, code, figure, table, text


def page(facts: Facts) -> str:
    """Controls, then articles."""
    checks = {check.key: check for check in facts.checks}
    rows = [_row(control, checks, verdict(control, facts.checks)) for control in controls()]
    held = sum(verdict(control, facts.checks) in (HELD, SHOWN) for control in controls())
    by_law = "".join(_by_article(law) for law in LAWS)
    return f"""# Controls and articles

What the platform does that a law asks for, and what shows that it is done. {figure(held, "controls")} of
{figure(len(rows), "controls")} controls hold in this run or are shown by a command. A control is only as good as its check: where
a check did not run, the page says so and counts the control as not held.

An engineer's reading, not legal advice. A lawyer confirms the articles before anybody relies on them.

{table(("", "control", "articles", "enforced or shown by", "in this run"), rows, "controls", "Controls")}

## By article

{by_law}
"""


def _row(control: Control, checks: dict[str, Check], state: str) -> tuple[Any, ...]:
    kind = "good" if state in (HELD, SHOWN) else "bad" if state == FAILED else "open"
    what = Html(f"<strong>{cell(control.title)}</strong><br>{cell(control.how)}")
    asked = [f"{cell(law)} {cell(', '.join(control.articles[law]))}" for law in LAWS if law in control.articles]
    enforced = [f"{cell(key)}: {_result(checks.get(key))}" for key in control.checks]
    enforced += [str(code(command)) for command in control.shown_by]
    place, result = Html(f'<span id="{control.id}">{control.id}</span>'), Html(f'<span class="{kind}">{cell(state)}</span>')
    return (place, what, Html("<br>".join(asked)), Html("<br>".join(enforced)), result)


def _result(check: Check | None) -> str:
    if check is None:
        return "not evaluated in this run"
    return "passed" if check.passed else "FAILED"


def _by_article(law: str) -> str:
    found: dict[str, list[str]] = {}
    for control in controls():
        for article in control.articles.get(law, ()):
            found.setdefault(article, []).append(f'<a href="#{control.id}">{control.id}</a> {cell(control.title)}')
    rows = [(article, Html("<br>".join(names))) for article, names in sorted(found.items())]
    return f"\n### {text(law)}\n" + table(("article", "controls"), rows, "controls", f"{law}: article and control")
