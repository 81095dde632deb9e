"""Dagster's pages as `segline ui` serves them: the whole graph, read-only, on the loopback interface."""

import base64
import hashlib
import ipaddress
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from orchestration.settings import PROJECT_ROOT
from tests.e2e.browser import CHROMIUM, QUIET

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def pages(fintech):
    port = free_port()
    server = subprocess.Popen(
        fintech.cli.command("ui", "--port", str(port)), env=fintech.cli.environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 180
    while True:
        try:
            urllib.request.urlopen(f"{address}/server_info", timeout=5).read()
            break
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert time.monotonic() < deadline and server.poll() is None, "the pages did not come up"
            time.sleep(0.5)
    yield address
    os.killpg(server.pid, signal.SIGTERM)
    server.wait(timeout=30)


def ask(address: str, query: str) -> dict:
    request = urllib.request.Request(
        f"{address}/graphql", json.dumps({"query": query}).encode(), {"content-type": "application/json"}
    )
    return json.loads(urllib.request.urlopen(request, timeout=60).read())["data"]


def test_nobody_can_forge_a_result_through_the_pages(pages):
    """A default Dagster webserver lets anyone report materialisations and passed checks."""
    wipe = ask(pages, "mutation { wipeAssets(assetPartitionRanges: []) { __typename } }")
    assert wipe["wipeAssets"]["__typename"] == "UnauthorizedError"
    forge = ask(
        pages,
        'mutation { reportRunlessAssetEvents(eventParams: {eventType: ASSET_MATERIALIZATION, '
        'assetKey: {path: ["published", "risk_segments"]}}) { __typename } }',
    )
    assert forge["reportRunlessAssetEvents"]["__typename"] == "UnauthorizedError"


def test_an_auditor_walks_from_a_published_segment_to_its_sources(pages):
    nodes = ask(pages, "{ assetNodes { assetKey { path } dependencyKeys { path } groupName } }")["assetNodes"]
    parents = {tuple(n["assetKey"]["path"]): [tuple(d["path"]) for d in n["dependencyKeys"]] for n in nodes}
    seen, edge = set(), [("published", "risk_segments")]
    while edge:
        key = edge.pop()
        if key not in seen:
            seen.add(key)
            edge += parents.get(key, [])
    assert {("sources", "customers"), ("vault", "persons"), ("consent", "gate"), ("risk", "risk_ratings")} <= seen


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install Debian's package chromium to look at the pages")
def test_a_real_browser_shows_the_whole_graph(pages, tmp_path):
    done = subprocess.run(
        [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path}", "--window-size=2000,1300", "--virtual-time-budget=40000",
         "--dump-dom", f"{pages}/asset-groups"],
        capture_output=True, text=True, timeout=150, check=False,
    )  # fmt: skip
    for zone in ("sources", "vault", "raw", "staging", "consent", "features", "risk", "audience", "candidate", "published"):
        assert f">{zone}<" in done.stdout, zone
    assert "Join the Dagster community" not in done.stdout


NGINX = os.environ.get("SEGLINE_TEST_NGINX") or shutil.which("nginx")
PASSWORDS = {"runs": ("auditor", "read-the-runs"), "documentation": ("officer", "read-the-pages")}


def certificate(folder: Path) -> None:
    """A self-signed certificate for the loopback interface."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    (folder / "proxy.crt").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "proxy.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@dataclass
class Proxy:
    """The shipped configuration in a running nginx; only its three ports were changed."""

    ports: dict[str, int]
    folder: Path

    def status(self, page: str, path: str, account: tuple[str, str] | None = None, **more) -> tuple[int, bytes]:
        headers = {"Authorization": "Basic " + base64.b64encode(":".join(account).encode()).decode()} if account else {}
        request = urllib.request.Request(
            f"https://127.0.0.1:{self.ports[page]}{path}", headers=headers | more.pop("headers", {}), **more
        )
        context = ssl.create_default_context(cafile=str(self.folder / "proxy.crt"))
        try:
            with urllib.request.urlopen(request, timeout=60, context=context) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, refused.read()


@pytest.fixture(scope="module")
def proxy(fintech, pages, tmp_path_factory):
    if not NGINX:
        pytest.skip("no nginx here: install it (Debian: nginx), or name it in SEGLINE_TEST_NGINX")
    folder = tmp_path_factory.mktemp("proxy")
    (folder / "temp").mkdir()
    certificate(folder)
    shutil.copytree(fintech.cli.home / "documentation" / "site", folder / "site")
    for page, (name, password) in PASSWORDS.items():
        digest = base64.b64encode(hashlib.sha1(password.encode()).digest()).decode()
        (folder / f"{page}.htpasswd").write_text(f"{name}:{{SHA}}{digest}\n")
    ports = {"runs": free_port(), "documentation": free_port()}
    config = (PROJECT_ROOT / "deploy" / "proxy" / "nginx.conf").read_text()
    for shipped, given in (("listen 8443", f"listen 127.0.0.1:{ports['runs']}"), ("http://127.0.0.1:3000", pages),
                           ("listen 8444", f"listen 127.0.0.1:{ports['documentation']}")):  # fmt: skip
        assert shipped in config
        config = config.replace(shipped, given)
    (folder / "nginx.conf").write_text(config)
    options = "daemon off;" + (" user root;" if os.geteuid() == 0 else "")
    server = subprocess.Popen([NGINX, "-p", str(folder), "-c", "nginx.conf", "-g", options], start_new_session=True)
    running = Proxy(ports, folder)
    deadline = time.monotonic() + 30
    while True:
        try:
            running.status("documentation", "/")
            break
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < deadline and server.poll() is None, (folder / "error.log").read_text()
            time.sleep(0.1)
    yield running
    server.terminate()
    server.wait(timeout=30)


def test_the_proxy_lets_nobody_in_without_the_page_s_own_account(proxy):
    for page, path in (("runs", "/server_info"), ("runs", "/graphql"), ("documentation", "/"), ("documentation", "/index.html")):
        other = next(account for name, account in PASSWORDS.items() if name != page)
        for account in (None, ("auditor", "wrong"), ("nobody", ""), other):
            assert proxy.status(page, path, account)[0] == 401, (page, path, account)


def test_an_auditor_reads_through_the_proxy(proxy):
    assert proxy.status("runs", "/server_info", PASSWORDS["runs"])[0] == 200
    body = json.dumps({"query": "{ assetNodes { assetKey { path } } }"}).encode()
    status, answer = proxy.status("runs", "/graphql", PASSWORDS["runs"], data=body, headers={"content-type": "application/json"})
    assert status == 200 and b"risk_segments" in answer
    status, page = proxy.status("documentation", "/", PASSWORDS["documentation"])
    assert status == 200 and b"<html" in page
    assert proxy.status("documentation", "/../nginx.conf", PASSWORDS["documentation"])[0] in (400, 404)


def test_nobody_forges_a_result_through_the_proxy_not_even_an_auditor(proxy):
    """The webserver behind is read-only; the proxy shuts the ways of reporting as well."""
    forge = (
        'mutation { reportRunlessAssetEvents(eventParams: {eventType: ASSET_MATERIALIZATION, '
        'assetKey: {path: ["published", "risk_segments"]}}) { __typename } }'
    )
    account, kind = PASSWORDS["runs"], {"content-type": "application/json"}
    body = json.dumps({"query": forge}).encode()
    status, answer = proxy.status("runs", "/graphql", account, data=body, headers=kind)
    assert status == 200 and json.loads(answer)["data"]["reportRunlessAssetEvents"]["__typename"] == "UnauthorizedError"
    for path in ("/report_asset_materialization/published/risk_segments", "/report_asset_check/x?check_name=y&passed=true"):
        assert proxy.status("runs", path, account, data=b"{}", headers=kind)[0] == 403
    for method in ("POST", "PUT", "DELETE"):
        assert proxy.status("runs", "/server_info", account, data=b"{}", method=method)[0] == 403
        assert proxy.status("documentation", "/index.html", PASSWORDS["documentation"], data=b"{}", method=method)[0] in (403, 405)


def test_the_proxy_s_log_names_the_reader_and_no_password(proxy):
    assert proxy.status("runs", "/server_info", PASSWORDS["runs"])[0] == 200
    log = (proxy.folder / "access.log").read_text()
    assert '"auditor" "GET /server_info" 200' in log
    assert not any(password in log for _, password in PASSWORDS.values())
