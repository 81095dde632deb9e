"""The documentation of a real publication: made by the run and by the command, whole, without a person, opened in a browser."""

import csv
import re
import shutil
import sqlite3
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from orchestration.documentation.controls import NOT_RUN, controls
from tests.e2e.browser import CHROMIUM, QUIET
from tests.e2e.conftest import Cli

pytestmark = pytest.mark.slow


class Links(HTMLParser):
    """Ids of a page, where its links lead, and whatever a browser would fetch for it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids, self.targets, self.fetched = set(), [], []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if "id" in given:
            self.ids.add(given["id"])
        if tag == "a":
            self.targets.append(given["href"])
        elif "href" in given or "src" in given or tag in ("script", "iframe", "object"):
            self.fetched.append((tag, given))


@pytest.fixture(scope="module")
def site(fintech, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("documentation") / "site"
    done = fintech.cli("docs", "build", "--out", str(folder))
    assert str(folder / "index.html") in done.stdout.replace("\n", "")
    return folder


def test_the_run_itself_left_the_pages_of_its_publication(fintech):
    folder = fintech.cli.home / "documentation" / "site"
    assert (folder / "index.html").is_file()
    assert folder.stat().st_mode & 0o077 == 0
    (publication,) = fintech.cli.rows("select run_id from published.publication")
    assert publication["run_id"] in (folder / "index.html").read_text(encoding="utf-8")
    assert NOT_RUN not in (folder / "controls.html").read_text(encoding="utf-8"), "made before all checks had run"
    assert "documentation_is_built" not in fintech.printed, "the run warned that the pages could not be made"


def test_the_pages_say_what_the_store_says(fintech, site):
    (count,) = fintech.cli.rows("select count(*) as n from published.risk_segments")
    overview = (site / "index.html").read_text(encoding="utf-8")
    assert f'<span class="figure">{int(count["n"]):,}</span>' in overview
    hits = fintech.cli.rows(
        "select rule_id, count(*) as n from (select unnest(string_split(reason_codes, ',')) as rule_id "
        "from published.risk_segments where tier is not null) where rule_id <> '' group by 1"
    )
    register = (site / "rules.html").read_text(encoding="utf-8")
    assert hits and all(f"<code>{hit['rule_id']}</code>" in register and f">{int(hit['n']):,}</td>" in register for hit in hits)


def test_every_link_leads_somewhere_and_nothing_is_fetched(site):
    pages = {path.name: Links(path) for path in site.glob("*.html")}
    assert len(pages) >= 18
    for name, page in pages.items():
        assert page.fetched == [], name
        for target in page.targets:
            file, _, anchor = target.partition("#")
            assert (file or name) in pages, f"{name}: {target}"
            assert not anchor or anchor == "content" or anchor in pages[file or name].ids, f"{name}: {target}"


def test_every_control_that_a_check_enforces_was_evaluated_in_the_run(site):
    """A control that names a check which does not exist would say so on the page for ever."""
    page = (site / "controls.html").read_text(encoding="utf-8")
    assert NOT_RUN not in page
    for control in controls():
        assert f'id="{control.id}"' in page


def test_the_rules_have_a_history_out_of_the_ledger(fintech, site):
    page = (site / "rules.html").read_text(encoding="utf-8")
    past = page[page.index('id="history"') :]
    rules = fintech.cli.rows("select rule_id, version from published.risk_rules")
    assert rules and past.count("<tr>") == len(rules) + 1


def test_no_identifier_and_no_pseudonym_of_anybody_is_on_a_page(fintech, site):
    """Every customer of the sample, in every zone, against every byte of the site."""
    with (fintech.sources / "customers.csv").open(encoding="utf-8", newline="") as file:
        customers = list(csv.DictReader(file))
    identifiers = {customer["customer_id"].strip() for customer in customers} - {""}
    mails = {customer["email"].strip().lower() for customer in customers if "@" in customer["email"]}
    tokens = {row["subject_token"] for zone in ("risk", "audience")
              for row in fintech.cli.rows(f"select subject_token from published.{zone}_segments")}  # fmt: skip
    tokens |= {row["subject_token"] for row in fintech.cli.rows("select distinct subject_token from consent.gate")}
    assert len(identifiers) > 500 and len(tokens) > 1500
    written = " ".join(path.read_text(encoding="utf-8") for path in site.glob("*.*"))
    words = set(re.findall(r"[A-Za-z0-9_-]+", written))
    assert not words & identifiers
    assert not words & tokens
    assert mails and not [mail for mail in mails if mail in written.lower()]


def test_the_reading_of_the_ledger_is_logged(fintech, site):
    assert '"documentation"' in (fintech.cli.home / "ledger" / "readings.jsonl").read_text(encoding="utf-8")


@pytest.mark.nightly  # a whole run; that such a folder is refused is tried in the gate below
def test_pages_that_cannot_be_made_leave_the_publication_standing(fintech, tmp_path):
    """A stranger's file lies where the site should be: the next run publishes, and warns."""
    other = fintech.cli.copy(tmp_path / "home")
    shutil.rmtree(other.home / "documentation")
    (other.home / "documentation" / "site").mkdir(parents=True)
    (other.home / "documentation" / "site" / "mine.txt").write_text("keep me")
    done = other("run", "--sources", str(fintech.sources))
    assert "warning: ops/documentation: documentation_is_built" in done.stdout
    assert len(other.rows("select distinct run_id from ops.publications")) == 2
    assert (other.home / "documentation" / "site" / "mine.txt").read_text() == "keep me"


def test_a_home_without_a_store_is_not_made_by_looking(tmp_path):
    done = Cli(tmp_path / "home")("docs", "build", expect=1)
    assert "segline run" in done.stderr
    assert not (tmp_path / "home").exists()


def test_a_folder_that_holds_something_else_is_refused(fintech, tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    done = fintech.cli("docs", "build", "--out", str(tmp_path), expect=1)
    assert "holds other files" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install Debian's package chromium to look at the pages")
@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("index", ["What is published", "Risk segments"]),
        ("rules", ["Rule register", "R101"]),
        ("policy", ["Policy tables", "signed by nobody"]),
        ("ledger", ["To verify as an outsider", "segline_verify.py"]),
        ("controls", ["Nothing reaches a segment but through the consent gate", "GDPR"]),
        ("lesson_5_default_segment", ["What the default segment means"]),
        ("sources", ["select segment, gate_reason, count(*)"]),
    ],
)
def test_a_real_browser_shows_the_pages_from_a_folder(site, tmp_path, page, words):
    address = (site / f"{page}.html").as_uri()
    done = subprocess.run(
        [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--v=0", "--dump-dom", address],
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    text = re.sub(r"<[^>]+>", "", done.stdout)
    for word in words:
        assert word in text, word
    assert "Refused to" not in done.stderr, "the page asks for something that its own policy forbids"
    picture = tmp_path / "page.png"
    subprocess.run(
        [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path}", "--window-size=1300,900", f"--screenshot={picture}", address],
        capture_output=True, timeout=150, check=False,
    )  # fmt: skip
    assert len(set(picture.read_bytes())) > 200 and picture.stat().st_size > 20_000, "an empty picture"


def test_the_checks_of_the_pages_are_those_of_the_run(fintech, site):
    """The page's source is Dagster's own record: it is read here by another way."""
    page = (site / "checks.html").read_text(encoding="utf-8")
    (publication,) = fintech.cli.rows("select run_id from published.publication")
    (record,) = (fintech.cli.home / "dagster").rglob(f"{publication['run_id']}.db")
    with sqlite3.connect(f"file:{record}?mode=ro", uri=True) as db:
        kind = "ASSET_CHECK_EVALUATION"
        (ran,) = db.execute("select count(*) from event_logs where dagster_event_type = ?", [kind]).fetchone()
    db.close()
    assert page.count("<tr>") == ran + 1
