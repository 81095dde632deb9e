"""The site: loads nothing, replaces itself at once, overwrites nobody's files, shows no pseudonym."""

import json
import os
import re
import time
from html.parser import HTMLParser

import pytest

from orchestration.documentation.contents import Page, write_pages
from orchestration.documentation.site import (
    LEFTOVER_SECONDS,
    MARK,
    DocumentationError,
    build_site,
    require_free,
    require_no_pseudonym,
)

TOKEN = "risk_" + "Ab3-_" * 4 + "Zz"


class Fetched(HTMLParser):
    """What a browser would fetch for a page, and its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag in ("script", "iframe", "object", "embed") or given.get("src") or (tag != "a" and given.get("href")):
            self.found.append((tag, given))
        if tag == "a" and re.match(r"[a-z]+:|//", given.get("href", "")):
            self.found.append((tag, given))


@pytest.fixture
def site(facts, tmp_path):
    return build_site(facts, tmp_path / "home" / "site")


def test_no_page_loads_anything_or_leads_out_of_the_site(site):
    for page in site.folder.glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert Fetched(text).found == [], page.name
        assert not re.search(r"@import|url\(", text), page.name
        assert "default-src 'none'" in text, page.name


def test_a_page_that_loads_something_would_be_found():
    assert Fetched('<link rel="stylesheet" href="https://cdn.example/x.css">').found
    assert Fetched('<a href="//elsewhere.example">x</a>').found
    assert not Fetched('<a href="rules.html#R101">x</a>').found


def test_drawings_stand_in_the_page(site):
    overview = (site.folder / "index.html").read_text(encoding="utf-8")
    assert overview.count('<svg role="img" aria-label="Customers per') == 2
    assert "http://www.w3.org" not in overview


def test_every_page_of_the_contents_is_there_and_names_the_others(site, facts):
    names = {f"{page.name}.html" for page in write_pages(facts)}
    assert names | {"404.html", MARK} >= {path.name for path in site.folder.iterdir()} >= names
    overview = (site.folder / "index.html").read_text(encoding="utf-8")
    assert all(f'href="{name}"' in overview for name in names - {"index.html"})


def test_the_folder_is_private_and_says_which_run_it_is_about(site):
    assert site.folder.stat().st_mode & 0o777 == 0o700
    assert json.loads((site.folder / MARK).read_text())["run_id"] == "run-1"


def test_a_new_site_replaces_the_old_one_whole(site, facts):
    (site.folder / "left_over.html").write_text("old")
    again = build_site(facts, site.folder)
    assert not (again.folder / "left_over.html").exists() and again.index.exists()
    assert [path.name for path in again.folder.parent.iterdir()] == ["site"]


def test_a_site_that_cannot_be_made_leaves_the_old_one(site, facts, monkeypatch):
    monkeypatch.setattr("orchestration.documentation.site.write_pages", lambda _: [Page("index", "x", "y", f"a {TOKEN} b")])
    with pytest.raises(DocumentationError, match="pseudonym"):
        build_site(facts, site.folder)
    assert "What is published" in site.index.read_text(encoding="utf-8")


def test_what_a_killed_build_left_is_cleared_and_what_is_in_use_stays(site, facts):
    old, young = (site.folder.parent / f".site-{name}" for name in ("old", "young"))
    for folder in (old, young):
        folder.mkdir()
        (folder / "page.md").write_text("x")
    past = time.time() - LEFTOVER_SECONDS - 1
    os.utime(old, (past, past))
    build_site(facts, site.folder)
    assert not old.exists() and young.exists()


def test_pages_that_lead_nowhere_are_refused(facts, tmp_path, monkeypatch):
    monkeypatch.setattr("orchestration.documentation.site.write_pages", lambda _: [Page("index", "x", "y", "[a](nowhere.md)")])
    with pytest.raises(DocumentationError, match="MkDocs"):
        build_site(facts, tmp_path / "site")
    assert not (tmp_path / "site").exists()


def test_nobodys_files_are_overwritten(tmp_path):
    require_free(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    require_free(tmp_path / "empty")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")
    for place in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt"):
        with pytest.raises(DocumentationError, match=r"empty|give a folder"):
            require_free(place)


@pytest.mark.parametrize("prefix", ["risk_", "aud_", "led_"])
def test_a_pseudonym_on_a_page_is_refused(prefix):
    with pytest.raises(DocumentationError, match="index"):
        require_no_pseudonym([Page("index", "x", "y", f"<td>{prefix}{TOKEN[5:]}</td>")])


@pytest.mark.parametrize("word", ["risk_segments", "risk_subject_token", "aud_x", "led_" + "a" * 21, "led_" + "a" * 23, "a" * 22])
def test_what_is_no_pseudonym_passes(word):
    require_no_pseudonym([Page("index", "x", "y", f"<td>{word}</td>")])
