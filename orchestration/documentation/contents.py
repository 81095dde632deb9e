"""The table of contents: which pages there are, in which order, and the functions that write them.

Belongs here: the list. Does not belong here: what a page says (`pages`), making the site (`site`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from orchestration.documentation.facts import Facts
from orchestration.documentation.pages import (
    checks,
    clusters,
    consent,
    controls,
    data_map,
    glossary,
    ledger,
    models,
    overview,
    passports,
    policy,
    rules,
    sources,
    training,
)


@dataclass(frozen=True)
class Page:
    """One page: the name of its file, its title, its group in the contents, its text in Markdown."""

    name: str
    title: str
    group: str
    text: str


def _title(lesson: Path) -> str:
    return lesson.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ").strip()


def contents() -> list[tuple[str, str, str, Callable[[Facts], str]]]:
    """File name, title, group and writer of each page."""
    lessons = [
        (f"lesson_{path.stem}", _title(path), "Training", partial(training.lesson, path)) for path in training.lessons()
    ]
    return [
        ("index", "What is published", "This publication", overview.page),
        ("checks", "Check results", "This publication", checks.page),
        ("consent", "Consent", "This publication", consent.page),
        ("rules", "Rule register", "What decides", rules.page),
        ("policy", "Policy tables", "What decides", policy.page),
        ("models", "Models", "What decides", models.page),
        ("clusters", "Clusters", "What decides", clusters.page),
        ("passports", "Lineage passports", "Proof", passports.page),
        ("ledger", "Decision ledger", "Proof", ledger.page),
        ("controls", "Controls and articles", "Law", controls.page),
        ("data_map", "Data map", "Law", data_map.page),
        *lessons,
        ("glossary", "Glossary", "Reference", glossary.page),
        ("sources", "Sources", "Reference", sources.page),
    ]


def write_pages(facts: Facts) -> list[Page]:
    """All pages."""
    return [Page(name, title, group, write(facts)) for name, title, group, write in contents()]
