"""The gate's look at what is installed: refused releases fail it without a network, advisories with one, silence is said."""

import importlib.util
import json
import sys
import threading
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.etree import ElementTree

import pytest

from orchestration.settings import PROJECT_ROOT

SCRIPT = PROJECT_ROOT / "tools" / "dependencies.py"
TODAY = date(2026, 11, 22)
AUDITOR = PROJECT_ROOT / ".venv" / "audit" / "bin" / "python"
needs_auditor = pytest.mark.skipif(not AUDITOR.exists(), reason="the auditor is not installed: python3.11 bootstrap.py audit")


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("dependencies", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["dependencies"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["dependencies"]


def test_the_committed_list_is_sound_and_nothing_that_is_pinned_is_refused(tool):
    refused, waived = tool.read_list(SCRIPT.with_name("known_bad.toml"))
    fixed = tool.pins(PROJECT_ROOT / "constraints.txt")
    assert tool.refused_among(fixed, refused) == [] and tool.run_out(waived, date.today()) == []
    # An entry about a package that nobody installs would hold nothing up.
    assert {tool.canonicalize_name(entry["package"]) for entry in refused} <= set(fixed)


def test_a_refused_release_fails_without_any_network(tool):
    refused, _ = tool.read_list(SCRIPT.with_name("known_bad.toml"))
    for entry in refused:
        fixed = tool.pins(PROJECT_ROOT / "constraints.txt")
        bad = {"dbt-core": "1.12.0", "duckdb": "2.0.0"}.get(entry["package"], "0.0.1")
        (told,) = tool.refused_among(fixed | {tool.canonicalize_name(entry["package"]): bad}, [entry])
        assert entry["package"] in told and entry["advisory"] in told and bad in told
    assert tool.refused_among({"Jinja2".lower(): "3.1.5rc1"}, refused)  # a pre-release of a bad one is bad


def test_what_crept_in_unpinned_is_named(tool):
    fixed = {"idna": "3.20"}
    assert tool.unpinned({"idna": "3.20", "segline": "0.1.0", "pip": "1"}, fixed) == []
    assert tool.unpinned({"idna": "3.19"}, fixed) == ["idna 3.19 is installed, constraints.txt says 3.20"]
    assert tool.unpinned({"stranger": "1"}, fixed) == ["stranger 1 is installed, constraints.txt says nothing of it"]


@pytest.mark.parametrize(
    "wrong",
    [
        "", "[[refused]]\npackage = 'a'\n", "[[other]]\na = 1\n", "[[refused]\n",
        "[[refused]]\npackage = 'a'\nversions = 'all'\nadvisory = 'x'\nreason = 'y'\n",
        "[[refused]]\npackage = 'a'\nversions = '<1'\nadvisory = ''\nreason = 'y'\n",
        "[[refused]]\npackage = 'a'\nversions = '<1'\nadvisory = 'x'\nreason = 'y'\n[[waived]]\npackage = 'a'\nadvisory = 'x'\nuntil = 'soon'\nreviewed_by = 'b'\nreason = 'y'\n",
    ],
)  # fmt: skip
def test_a_list_that_says_too_little_or_two_things_is_refused(tool, tmp_path, wrong):
    path = tmp_path / "known_bad.toml"
    path.write_text(wrong)
    with pytest.raises(tool.ListError):
        tool.read_list(path)


def test_a_waiver_covers_one_advisory_of_one_package_until_its_day(tool):
    report = {"dependencies": [{"name": "Idna", "version": "3.20", "vulns": [{"id": "GHSA-1", "aliases": ["CVE-1"], "fix_versions": ["4"]}]}]}
    waiver = {"package": "idna", "advisory": "CVE-1", "until": TODAY, "reviewed_by": "Ann", "reason": "not reached"}
    assert tool.advisories(report, [], TODAY) == ["Idna 3.20: CVE-1, GHSA-1; mended in 4"]
    assert tool.advisories(report, [waiver], TODAY) == [] and tool.run_out([waiver], TODAY) == []
    for other in ({"advisory": "CVE-2"}, {"package": "certifi"}, {"until": date(2026, 11, 21)}):
        assert tool.advisories(report, [waiver | other], TODAY)
    assert tool.run_out([waiver | {"until": date(2026, 11, 21)}], TODAY)


class Osv(BaseHTTPRequestHandler):
    """An advisory service that knows something of one package."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))["package"]["name"]
        known = {
            "id": "GHSA-test", "schema_version": "1.4.0", "summary": "planted", "aliases": ["CVE-0000-1"],
            "affected": [{"package": {"name": "idna", "ecosystem": "PyPI"}, "versions": [], "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "999"}]}]}],
        }  # fmt: skip
        body = json.dumps({"vulns": [known]} if asked == "idna" else {}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@needs_auditor
@pytest.mark.nightly  # a question per installed package
def test_what_the_service_reports_fails_the_gate(tool):
    """pip-audit itself against a real server on the loopback interface."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Osv)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        report = tool.ask_service(address=f"http://127.0.0.1:{server.server_port}/v1/query", auditor=str(AUDITOR))
    finally:
        server.shutdown()
    (told,) = tool.advisories(report, [], TODAY)
    assert "idna" in told and "GHSA-test" in told and "999" in told


@needs_auditor
def test_a_service_that_cannot_be_reached_is_said_and_fails_nothing(tool, monkeypatch):
    assert tool.ask_service(address="http://127.0.0.1:9/v1/query", timeout=2, auditor=str(AUDITOR)) is None
    monkeypatch.setattr(tool, "ask_service", lambda environments: None)
    monkeypatch.setattr(tool, "unpinned", lambda *given: [])  # a developer's environment may have more in it
    findings = tool.examine(None, False, TODAY)
    assert findings.wrong == [] and any("NOT asked" in line for line in findings.said)


@needs_auditor
@pytest.mark.nightly  # the gate writes one itself
def test_the_bill_of_materials_names_what_is_installed_and_fits_its_schema(tool, tmp_path):
    path = tmp_path / "build" / "sbom.cdx.xml"
    assert tool.write_sbom(path, auditor=str(AUDITOR)) is None
    space = "{http://cyclonedx.org/schema/bom/1.6}"
    listed = {
        (tool.canonicalize_name(one.findtext(f"{space}name")), one.findtext(f"{space}version"))
        for one in ElementTree.parse(path).getroot().iterfind(f"{space}components/{space}component")
    }
    found = {(name, version) for name, version in tool.installed().items() if name != "segline"}
    assert found <= listed and ("duckdb", "1.5.5") in listed


@needs_auditor
@pytest.mark.nightly
def test_a_bill_that_cannot_be_written_is_a_finding(tool, tmp_path):
    (tmp_path / "sbom").mkdir()
    assert "could not be written" in tool.write_sbom(tmp_path / "sbom", auditor=str(AUDITOR))
