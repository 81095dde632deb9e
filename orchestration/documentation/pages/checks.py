"""The checks of the run with their results.

Belongs here: the page as text. Does not belong here: checking.
"""

from orchestration.documentation.facts import Check, Facts
from orchestration.documentation.writing import Html, figure, source_link, table, text


def page(facts: Facts) -> str:
    """Failures first, then all by relation."""
    if not facts.checks:
        why = facts.missing.get("checks", "the record of the run holds none")
        return f"# Check results\n\nThere are none to show: {text(why)}. {source_link('checks')}\n"
    failed = [check for check in facts.checks if not check.passed]
    blocking = sum(check.is_blocking for check in facts.checks)
    rows = [_row(check) for check in sorted(facts.checks, key=lambda one: (one.passed, one.relation, one.name))]
    return f"""# Check results

{figure(len(facts.checks), "checks")} checks ran with this publication, {figure(blocking, "checks")} of them blocking:
had one of those failed before it, nothing would have been published. {figure(len(failed), "checks")} did not pass.
Checks that come after the publication, such as those of the anchors, are here if they had run when this page was made.

The name of a check is the sentence that is true when it passes.

{table(("", "relation", "check", "on failure", "what it saw"), rows, "checks", "Results")}
"""


def _row(check: Check) -> tuple:
    mark = '<span class="good">passed</span>' if check.passed else '<span class="bad">FAILED</span>'
    return (Html(mark), check.relation, check.name.replace("_", " "), "stops" if check.is_blocking else "warns", check.figures)
