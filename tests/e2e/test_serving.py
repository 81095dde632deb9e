"""The online service as callers meet it: `segline serve` in a process of its own, over HTTP, on a published home."""

import csv
import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
import requests

from tests import effort
from tests.e2e.serving import Server, transaction, withdrawal

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(fintech, tmp_path_factory):
    """One service for all tests of this module; each test asks about customers of its own."""
    running = Server(fintech.cli.copy(tmp_path_factory.mktemp("served") / "home"))
    yield running
    if running.process.poll() is None:
        running.end()


@pytest.fixture(scope="module")
def people(fintech) -> list[str]:
    with (fintech.sources / "customers.csv").open(encoding="utf-8") as stream:
        return list(dict.fromkeys(row["customer_id"] for row in csv.DictReader(stream) if row["customer_id"].strip()))


@pytest.fixture(scope="module")
def consenting(server, people) -> list[str]:
    """Customers who are in a named audience segment; each test takes some off the end."""
    found = server.post("/v1/decisions", {"subjects": people}, "audience").json()["decisions"]
    return [one["subject"] for one in found if one["status"] == "decided" and one["audience"][0]["segment"] != "default"]


def test_what_stands_published_is_what_the_service_answers(server, people):
    """An answer that differs from the publication would be a second truth."""
    answered = server.post("/v1/decisions", {"subjects": people}).json()["decisions"]
    decided = [one["risk"] for one in answered if one["status"] == "decided"]
    published = server.cli.rows("select segment, tier, points, gate_reason from published.risk_segments")
    told = sorted((one["segment"], one["tier"] or "", str(one["points"] or ""), one["basis"]["gate_reason"]) for one in decided)
    # A point count of zero is a number, and not nothing.
    held = sorted((row["segment"], row["tier"], "" if row["points"] == "0" else row["points"], row["gate_reason"]) for row in published)
    assert told == held
    assert all(reason["text"] for one in decided for reason in one["reasons"]), "a code without its text explains nothing"


def test_an_event_moves_its_customer_at_once_and_the_answer_says_why(server, people):
    """Five minutes later is too late for a payment."""
    customer = people[3]
    before = server.decision(customer)["risk"]["points"]
    sent = transaction(customer, "serve-cash-1", amount=990_000, payment_method="cash")
    first = server.post("/v1/events", sent)
    after = first.json()["events"][0]["decision"]
    assert first.status_code == 201 and after["source"] == "online"
    assert after["risk"]["points"] > before and any("cash" in reason["text"] for reason in after["risk"]["reasons"])
    assert server.decision(customer)["risk"] == after["risk"], "the look-up and the event's answer are one decision"


def test_the_same_event_again_is_the_same_event_and_another_of_its_key_is_refused(server, people):
    """A sender that got no answer sends again; a duplicate must not count twice, a forged one not at all."""
    sent = transaction(people[4], "serve-twice")
    first, again = server.post("/v1/events", sent), server.post("/v1/events", sent)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["events"][0]["replayed"] and again.json()["events"][0]["sequence"] == first.json()["events"][0]["sequence"]
    other = server.post("/v1/events", transaction(people[4], "serve-twice", amount=26))
    assert other.status_code == 409 and other.json()["type"].endswith("contradictory")
    somebody_else = server.post("/v1/events", transaction(people[5], "serve-twice"))
    assert somebody_else.status_code == 409


def test_a_batch_with_a_contradiction_leaves_nothing_of_itself(server, people):
    """All or none: half a batch would have to be worked out by its sender."""
    server.post("/v1/events", transaction(people[6], "serve-batch-1"))
    refused = server.post("/v1/events", [transaction(people[6], "serve-batch-2"), transaction(people[6], "serve-batch-1", amount=1)])
    assert refused.status_code == 409
    assert server.post("/v1/events", transaction(people[6], "serve-batch-2")).status_code == 201, "it was kept after all"


def test_a_withdrawal_is_in_force_for_the_very_next_request(server, consenting):
    """Each of them: an acknowledged withdrawal that the next answer ignores is a segment without a basis."""
    for number in range(effort.examples(12)):
        customer = consenting.pop()
        purpose = server.decision(customer, "audience")["audience"][0]["purpose"]
        sent = server.post("/v1/events", withdrawal(customer, f"serve-w-{number}", purpose), "audience", Prefer="respond-async")
        assert sent.status_code == 202 and "decision" not in sent.json()["events"][0]
        now = server.decision(customer, "audience")["audience"]
        assert {one["segment"] for one in now} == {"default"} and {one["basis"]["gate_reason"] for one in now} == {"consent_withdrawn"}


def test_an_opt_out_by_another_way_reaches_the_answers_too(server, consenting):
    """The command line and the intake's files are ways to opt out as well."""
    customer = consenting.pop()
    server.cli("rights", "request", customer, "--kind", "opt_out")
    deadline = time.monotonic() + 30
    while server.decision(customer, "audience")["audience"][0]["segment"] != "default":
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_wall_stands_between_callers_too(server, people):
    """Marketing must not learn a tier, compliance no segment, a sender neither, and without a key nothing is said."""
    customer = people[7]
    assert "audience" not in server.decision(customer, "risk") and "risk" not in server.decision(customer, "audience")
    assert server.post("/v1/events", transaction(customer, "serve-wall"), "sender").json()["events"][0].keys() == {"sequence", "replayed"}
    for caller, status in (("sender", 403), ("operator", 403), (None, 401)):
        assert server.get(f"/v1/subjects/{customer}", caller).status_code == status
        assert server.post("/v1/decisions", {"subjects": [customer]}, caller).status_code == status
    assert server.get("/metrics", "risk").status_code == 403 and server.get("/metrics", "operator").status_code == 200
    refused = server.cli("api-keys", "add", "both", "--role", "risk", "--role", "audience", "--by", "test", expect=1)
    assert "never" not in refused.stdout and "no key has both" in refused.stderr
    forged = requests.get(f"{server.url}/v1/subjects/{customer}", headers={"Authorization": "Bearer segline_x"}, timeout=30)
    assert forged.status_code == 401 and forged.headers["WWW-Authenticate"] == "Bearer"


def test_a_revoked_key_is_refused(server, people):
    """Within a second or two, without a restart."""
    server.keys["passing"] = server.cli("api-keys", "add", "passing", "--role", "risk", "--by", "test").stdout.strip()
    deadline = time.monotonic() + 20
    while server.get(f"/v1/subjects/{people[8]}", "passing").status_code == 401:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    server.cli("api-keys", "revoke", "passing")
    while server.get(f"/v1/subjects/{people[8]}", "passing").status_code != 401:
        assert time.monotonic() < deadline
        time.sleep(0.2)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"amount": "Infinity"}, "malformed"),
        ({"amount": 10.999}, "malformed"),
        ({"amount": -1}, "malformed"),
        ({"currency": "XXX"}, "malformed"),
        ({"payment_method": "barter"}, "malformed"),
        ({"booked_at": "2026-10-31T12:00:00"}, "malformed"),  # no zone: a guess would be wrong by hours
        ({"booked_at": "2031-01-01T00:00:00Z"}, "in_future"),
        ({"customer_id": "nobody-of-that-name"}, "unknown_subject"),
        ({"customer_id": "  "}, "malformed"),
        ({"email": "planted@example.org"}, "malformed"),
    ],
)
def test_an_event_that_does_not_fit_is_refused_with_its_reason_and_repeats_nothing(server, people, change, kind):
    """Refused, never guessed; and a refusal is no place for what was sent."""
    sent = transaction(people[9], f"serve-bad-{kind}-{next(iter(change))}", **change)
    refused = server.post("/v1/events", sent)
    assert refused.status_code == 422 and refused.json()["type"].endswith(kind), refused.text
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert "planted" not in refused.text and people[9] not in refused.text


def test_what_is_no_request_is_refused_and_the_service_lives_on(server, people):
    """Not JSON, too deep, too large, NaN, too many."""
    body = json.dumps(transaction(people[9], "serve-nan")).replace("25.5", "NaN").encode()
    assert server.post("/v1/events", body).status_code == 422
    assert server.post("/v1/events", b"{").status_code == 422
    assert server.post("/v1/events", b"[" * 100_000).status_code in (400, 422)
    assert server.post("/v1/events", b"\xff\xfe").status_code in (400, 422)
    assert server.post("/v1/events", []).status_code == 422
    assert server.post("/v1/decisions", {"subjects": ["x"] * 1001}).status_code == 422
    assert server.post("/v1/decisions", {"subjects": ["\ud800"]}).status_code in (400, 422)
    large = b" " * 1_100_000
    assert server.post("/v1/events", large).status_code == 413
    unannounced = requests.post(
        f"{server.url}/v1/events", data=iter([large]), headers=server.headers("risk") | {"Content-Type": "application/json"}, timeout=30
    )
    assert unannounced.status_code == 413
    assert server.get("/readyz").status_code == 200


@pytest.mark.nightly
def test_a_caller_that_sends_too_much_is_told_when_to_come_back(fintech, tmp_path_factory, people):
    """One caller must not take the service from the others."""
    limited = Server(fintech.cli.copy(tmp_path_factory.mktemp("limited") / "home"), "--rate", "5")
    try:
        answers = [limited.get(f"/v1/subjects/{people[0]}", "risk") for _ in range(12)]
        refused = [one for one in answers if one.status_code == 429]
        assert refused and int(refused[0].headers["Retry-After"]) >= 1
        assert limited.get(f"/v1/subjects/{people[0]}", "audience").status_code in (200, 404), "another caller has a limit of his own"
    finally:
        limited.end()


def test_nothing_acknowledged_is_lost_to_a_kill_under_load(fintech, tmp_path_factory, people):
    """SIGKILL while four senders send: after the restart every acknowledged event is there, and its customer's answer has it."""
    server = Server(fintech.cli.copy(tmp_path_factory.mktemp("killed") / "home"))
    acknowledged: list[tuple[str, str]] = []

    def send(worker: int) -> None:
        session = requests.Session()
        headers = server.headers("sender") | {"Content-Type": "application/json"}
        for number in range(10_000):
            customer, key = people[(worker * 97 + number) % len(people)], f"kill-{worker}-{number}"
            body = json.dumps(transaction(customer, key, amount=1_000_000, payment_method="cash"))
            try:
                answer = session.post(f"{server.url}/v1/events", data=body, headers=headers, timeout=30)
            except requests.RequestException:
                return
            if answer.status_code == 201:
                acknowledged.append((customer, key))

    senders = [threading.Thread(target=send, args=(worker,)) for worker in range(4)]
    for sender in senders:
        sender.start()
    while len(acknowledged) < 200:
        time.sleep(0.02)
    assert server.end(signal.SIGKILL) == -signal.SIGKILL
    for sender in senders:
        sender.join()
    with closing(sqlite3.connect(server.cli.home / "online" / "events.sqlite")) as log:
        held = {row[0] for row in log.execute("select event_key from events")}
    assert {key for _, key in acknowledged} <= held
    server.start()
    answers = server.post("/v1/decisions", {"subjects": sorted({customer for customer, _ in acknowledged})}).json()["decisions"]
    assert {one["source"] for one in answers} == {"online"}
    assert server.end() == 0, "an ordinary end is no failure"


@pytest.mark.nightly
def test_a_second_service_of_one_home_and_an_old_publication_are_refused(server):
    """Two services would not know of each other's events; old data would be answered as today's."""
    second = server.cli("serve", "--port", "0", "--as-of", "2026-11-01", expect=5)
    assert "another service" in second.stderr
    old = server.cli("serve", "--port", "0", expect=1)
    assert "segline serve --as-of 2026-11-01" in old.stderr.replace("\n", " ")


def test_no_log_of_the_service_names_a_customer(server, people):
    """Paths and bodies name them; a log is kept longer than they may be known."""
    server.get(f"/v1/subjects/{people[10]}", "risk")
    text = Path(server.log).read_text()
    assert people[10] not in text and "serve-" not in text


def test_schemathesis_finds_no_server_error(server, tmp_path):
    """Whatever fits the description, or does not, gets an answer that the description has."""
    command = [
        str(Path(sys.executable).with_name("schemathesis")), "run", f"{server.url}/openapi.json",
        "-H", f"Authorization: {server.headers('risk')['Authorization']}", "--max-examples", str(effort.examples(36)),
        "--checks", "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
        "--exclude-path", "/metrics", "--suppress-health-check", "all", "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=540)  # it keeps a cache there
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.nightly
def test_the_next_run_lands_the_events_and_a_running_service_follows_it(fintech, tmp_path_factory, people):
    """From the event to the ledger: the batch decides what the service had decided, and the service goes on from there."""
    cli = fintech.cli.copy(tmp_path_factory.mktemp("followed") / "home")
    server = Server(cli)
    try:
        rich = server.post("/v1/events", transaction(people[1], "land-1", amount=990_000, payment_method="cash")).json()
        decided = rich["events"][0]["decision"]["risk"]
        found = server.post("/v1/decisions", {"subjects": people}, "audience").json()["decisions"]
        named = next(one for one in found if one["status"] == "decided" and one["audience"][0]["segment"] != "default")
        server.post("/v1/events", withdrawal(named["subject"], "land-2", named["audience"][0]["purpose"]), "audience")
        before = server.get("/readyz").json()["run_id"]
        assert "end it, rotate" in cli("keys", "rotate", "--pseudonyms", expect=1).stderr.replace("\n", " ")
        cli("run", "--sources", str(fintech.sources))
        counted = {row["feed"]: row for row in cli.rows("select * from ops.reconciliation where feed like 'online:%'")}
        assert {feed: row["rows_kept"] for feed, row in counted.items()} == {"online:transactions": "1", "online:consent_events": "1"}
        deadline = time.monotonic() + 60
        while server.get("/readyz").json().get("run_id") in (before, None):
            assert time.monotonic() < deadline, server.log.read_text()
            time.sleep(0.5)
        after = server.decision(people[1])
        assert after["source"] == "published" and after["run_id"] != before
        assert {name: after["risk"][name] for name in ("tier", "points")} == {name: decided[name] for name in ("tier", "points")}
        withdrawn = server.decision(named["subject"], "audience")
        assert withdrawn["source"] == "published" and withdrawn["audience"][0]["basis"]["gate_reason"] == "consent_withdrawn"
        cli("verify")
        assert server.post("/v1/events", transaction(people[1], "land-1", amount=990_000, payment_method="cash")).status_code == 200
    finally:
        server.end()
    cli("keys", "rotate", "--pseudonyms")
    server.start()
    try:
        assert server.decision(people[1])["risk"]["points"] == decided["points"]
        assert server.post("/v1/events", transaction(people[1], "land-1", amount=990_000, payment_method="cash")).status_code == 200
    finally:
        assert server.end() == 0
