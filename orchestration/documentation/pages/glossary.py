"""The glossary, from its one source.

Belongs here: the page as text. Does not belong here: the words (`glossary.yml`).
"""

from functools import cache
from pathlib import Path

from orchestration.documentation.facts import Facts
from orchestration.documentation.writing import table
from orchestration.ingestion.strict_yaml import load_yaml

GLOSSARY_FILE = Path(__file__).parent.parent / "glossary.yml"


@cache
def terms() -> dict[str, str]:
    """Every term with its meaning."""
    return dict(load_yaml(GLOSSARY_FILE)["terms"])


def page(_: Facts) -> str:
    """All terms in alphabetical order."""
    rows = sorted(terms().items())
    return "# Glossary\n\nEach word means this and nothing else, in code, tables, pages and documents.\n" + table(
        ("word", "meaning"), rows, "glossary", "Words"
    )
