"""Pages: odd text stays text, every figure has its source, what is missing is said."""

import re
from dataclasses import replace

import pytest

from orchestration.documentation.contents import contents, write_pages
from orchestration.documentation.facts import Table
from orchestration.documentation.pages import policy, rules, training
from orchestration.documentation.sources import all_sources
from orchestration.documentation.writing import figure, table
from tests.unit.documentation.conftest import ODD

SENTINEL = re.compile(r"(?<![\d,])(?:9,000,0\d\d|4,500,003|7,070,707)(?![\d,])")


def sourced(page: str) -> str:
    """The page without tables, drawings and figures that name their source."""
    page = re.sub(r"<table><caption>.*?<a class=\"source\".*?</table>", "", page, flags=re.DOTALL)
    page = re.sub(r"<figure>.*?<a class=\"source\".*?</figure>", "", page, flags=re.DOTALL)
    return re.sub(r'<span class="figure">[^<]*</span> <a class="source" href="sources.html#\w+"', "", page)


def test_every_figure_has_a_source(facts):
    seen = set()
    for page in write_pages(facts):
        seen |= set(SENTINEL.findall(page.text))
        assert not SENTINEL.findall(sourced(page.text)), page.name
    assert len(seen) >= 20, "the sentinels did not reach the pages, so nothing was tested"


def test_a_figure_without_a_source_would_be_found(facts):
    assert SENTINEL.findall(sourced("There are 9,000,003 customers."))
    assert not SENTINEL.findall(sourced(f"There are {figure(9000003, 'subjects')} customers."))


def test_every_source_that_a_page_names_is_on_the_page_of_sources(facts):
    pages = {page.name: page.text for page in write_pages(facts)}
    known = set(re.findall(r'<section id="(\w+)"', pages["sources"]))
    named = {name for text in pages.values() for name in re.findall(r'href="sources.html#(\w+)"', text)}
    assert known == set(all_sources())
    assert named and named <= known


def test_odd_text_neither_marks_up_a_page_nor_runs_in_it(facts):
    for page in write_pages(facts):
        assert "<script" not in page.text, page.name
        assert "[d](http" not in sourced(page.text), page.name  # tables and drawings are HTML, where this is no link
        assert ODD not in page.text, page.name


def test_odd_text_in_a_table_stays_one_cell():
    assert table(("a",), [(ODD,)], "tiers").count("<td>") == 1


def test_a_home_of_which_little_is_known_has_all_its_pages(bare):
    pages = {page.name: page.text for page in write_pages(bare)}
    assert len(pages) == len(contents())
    for name in ("checks", "passports", "ledger", "data_map"):
        assert len(pages[name]) > 40 and "None" not in pages[name]
    assert "could not be read" in pages["index"]
    assert "<script" not in pages["checks"]


def test_a_check_that_failed_stands_first(facts):
    page = {page.name: page.text for page in write_pages(facts)}["checks"]
    assert page.index("FAILED") < page.index(">passed<")


def test_the_policy_shows_both_modes_only_where_they_differ(facts):
    page = policy.page(facts)
    assert '<span class="outcome allow">ALLOW</span></td>' in page
    assert '<span class="outcome default">DEFAULT</span> / <span class="outcome cond">COND</span>' in page
    assert page.index("<td>&lt;13</td>") < page.index("<td>18+</td>")


def test_an_unsigned_policy_says_so_and_a_signed_one_does_not(facts):
    assert "signed by nobody" in policy.page(facts)
    versions = facts.table("policy_versions")
    signed = Table(versions.source, versions.columns, tuple((*row[:2], "A. Lawyer", *row[3:]) for row in versions.rows))
    page = policy.page(replace(facts, tables={**facts.tables, "policy_versions": signed}))
    assert "signed by nobody" not in page and "Every version is signed." in page


def test_a_rule_out_of_force_has_no_hits(facts):
    """R1 has two versions, and the reasons name the rule alone: the hits are those of the version in force."""
    first, second = re.findall(r"<tr><td><code>R1</code>.*?</tr>", rules.page(facts))[:2]
    assert "not in force" in first and "4,500,003" not in first
    assert "4,500,003" in second and "50.00 %" in second


def test_the_lesson_computes_the_tier_from_the_version_in_force(facts):
    """30 points are medium; the version of 10 points that is out of force would be low."""
    assert training.filled("{{ top_rule_tier }} {{ top_rule_hits }}", facts).startswith("medium ")


def test_a_lesson_that_names_an_unknown_figure_is_refused(facts):
    with pytest.raises(training.UnknownFigure):
        training.filled("{{ no_such_figure }}", facts)
    assert training.filled("{{ profile }}", facts) == "fintech"


def test_every_lesson_has_an_example_and_questions_with_answers(facts):
    assert 4 <= len(training.lessons()) <= 6
    for path in training.lessons():
        page = training.lesson(path, facts)
        assert "## Worked example: this run" in page, path.name
        assert 2 <= page.count("<details><summary>") <= 3, path.name
        assert page.count("<p>") >= page.count("<details>"), path.name
        assert 'class="source"' in page and "{{" not in page, path.name


def test_without_a_model_the_page_says_that_the_rules_stand_alone(facts):
    pages = {page.name: page.text for page in write_pages(replace(facts, cards=()))}
    assert "The rules stand alone" in pages["models"] and "No model is registered" in pages["models"]
    scored = {**facts.tables, "scores": Table("scores", ("customers",), ((5,),))}
    pages = {page.name: page.text for page in write_pages(replace(facts, tables=scored))}
    assert "The rules stand alone" not in pages["models"] and "## Model card: m1" in pages["models"]


def test_a_models_plots_stand_in_its_card_and_a_picture_of_elsewhere_does_not():
    """The page fetches nothing: a plot is drawn into it, and any other picture stays text."""
    from orchestration.documentation.facts import Facts, ModelCard
    from orchestration.documentation.pages import models

    text = "# Model card: m\n\n![Capture](capture.svg)\n\n![x](http://elsewhere/x.png)\n"
    drawn = '<svg xmlns="http://www.w3.org/2000/svg" role="img"><path/></svg>\n'
    page = models.page(Facts({}, cards=(ModelCard("m", ("champion",), "f" * 64, text, {"capture.svg": drawn}),)))
    assert '<figure><svg role="img"><path/></svg><figcaption>Capture ' in page
    assert "](http" in page and "![x]" not in page and "xmlns" not in page
