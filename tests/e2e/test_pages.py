"""Dagster's pages as `segline ui` serves them: the whole graph, read-only, on the loopback interface."""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

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
