"""The online service under load, on a copy of a published home: the real command in a process of its own.

| figure | what it is |
|---|---|
| decisions at a rate | `POST /v1/decisions` for one random customer each, timed from when each was due |
| events at a rate | `POST /v1/events` with `Prefer: respond-async`: from due to durably acknowledged |
| event to decision | `POST /v1/events` that waits for the new decision |
| most | as many as are answered, by sixteen callers that wait for each answer |
| killed | events at a rate, SIGKILL in the middle, restart: acknowledged events that the log does not hold |

Beside it stands the ZEN engine deciding the same rules in this process, without HTTP, consent or durability (`zen`).

Belongs here: the order of measurements. Does not belong here: sending (`load`), drawing.
"""

import json
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil
import urllib3

from orchestration import progress
from orchestration.bench.load import load
from orchestration.bench.measure import BenchError
from orchestration.bench.zen import measure_zen
from orchestration.identity import rotation
from orchestration.identity.keys import load_keys
from orchestration.ingestion.contracts import load_contracts
from orchestration.lake import engine, open_lake
from orchestration.online.api_keys import make_key
from orchestration.publication import last_publication
from orchestration.settings import Settings

CALLERS = 16
PEOPLE = 20_000
START_SECONDS = 600


class _Server:
    """`segline serve` on a home, with the keys of two callers."""

    def __init__(self, settings: Settings, folder: Path, as_of: datetime) -> None:
        self._settings, self._as_of, self._log = settings, as_of, folder / "serve.log"
        self._pool = urllib3.PoolManager(retries=False)
        self.key = make_key(settings, "bench", ("events", "risk"), "bench")
        self.headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        self.start()

    def start(self) -> None:
        """Start it and wait until it may answer. Raises `BenchError` if it does not."""
        command = [sys.executable, "-m", "orchestration.cli", "serve", "--port", "0", "--as-of", self._as_of.isoformat(),
                   "--rate", "100000"]  # fmt: skip
        environment = os.environ | {
            "SEGLINE_HOME": str(self._settings.home), "SEGLINE_PROFILE": self._settings.profile, "COLUMNS": "200",
        }  # fmt: skip
        with self._log.open("w") as stream:
            self.process = subprocess.Popen(command, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        began = time.perf_counter()
        while time.perf_counter() - began < START_SECONDS and self.process.poll() is None:
            found = re.search(r"http://127\.0\.0\.1:\d+", self._log.read_text())
            if found:
                self.url = found.group()
                try:
                    if self._pool.request("GET", f"{self.url}/readyz").status == 200:
                        self.start_seconds = round(time.perf_counter() - began, 1)
                        return
                except urllib3.exceptions.HTTPError:
                    pass
            time.sleep(0.2)
        self.process.kill()
        raise BenchError(f"the service did not come up: {self._log.read_text()[-500:]}")

    def end(self, how: int = signal.SIGTERM) -> None:
        """End it."""
        self.process.send_signal(how)
        self.process.wait(timeout=60)

    @property
    def memory_mb(self) -> int:
        """Resident memory."""
        return psutil.Process(self.process.pid).memory_info().rss // 2**20


def measure_online(home: Path, rates: list[int], event_rate: int, seconds: float, zen_people: int = 500) -> dict[str, Any]:
    """The figures of the table above, for a copy of `home`. Raises `BenchError` if nothing is published there."""
    with tempfile.TemporaryDirectory(prefix="segline-bench-online-") as place:
        folder = Path(place)
        progress.report("copying the home")
        if not (home / "lake" / "catalog.sqlite").exists():
            raise BenchError(f"{home} is no published home: name one with --home")
        shutil.copytree(home, folder / "home", ignore=shutil.ignore_patterns("online", "tmp"))
        settings, publication = _published(Settings(home=folder / "home"))
        figures: dict[str, Any] = {"customers": publication["customers"], "rules": len(publication["rules"])}
        progress.report("the ZEN engine")
        figures |= measure_zen(publication["rules"], publication["people"][:zen_people])
        progress.report("starting the service")
        server = _Server(settings, folder, publication["as_of"])
        try:
            figures["seconds_until_ready"] = server.start_seconds
            _measure_service(figures, server, _customers(settings), publication["as_of"], rates, event_rate, seconds)
            figures["memory_mb"] = server.memory_mb
            progress.report("killing it under load")
            figures |= _killed(server, settings, _customers(settings), publication["as_of"], event_rate, seconds)
        finally:
            if server.process.poll() is None:
                server.end()
        return figures


def _measure_service(
    figures: dict[str, Any],
    server: _Server,
    customers: list[str],
    as_of: datetime,
    rates: list[int],
    event_rate: int,
    seconds: float,
) -> None:
    chosen = random.Random(7)

    def ask(number: int) -> bytes:
        return json.dumps({"subjects": [chosen.choice(customers)]}).encode()

    def event(prefix: str, number: int) -> bytes:
        return _event(chosen.choice(customers), f"{prefix}-{number}", as_of)

    load(server.url, server.headers, "/v1/decisions", ask, 2, 50)  # warm
    for rate in rates:
        progress.report(f"decisions at {rate} a second")
        figures[f"decisions at {rate}/s"] = load(server.url, server.headers, "/v1/decisions", ask, seconds, rate).figures()
    later = server.headers | {"Prefer": "respond-async"}
    progress.report(f"events at {event_rate} a second")
    sent = load(server.url, later, "/v1/events", lambda number: event("bench-a", number), seconds, event_rate)
    figures[f"events at {event_rate}/s"] = sent.figures()
    figures["seconds until all were evaluated"] = _settled(server)
    progress.report("events with their decisions")
    waited = load(server.url, server.headers, "/v1/events", lambda number: event("bench-w", number), seconds, 20)
    figures["event to decision at 20/s"] = waited.figures()
    progress.report("decisions, as many as it answers")
    _settled(server)
    most = load(server.url, server.headers, "/v1/decisions", ask, seconds, None, CALLERS)
    figures["most decisions"] = most.figures()
    progress.report("decisions in batches of a thousand")

    def ask_many(number: int) -> bytes:
        return json.dumps({"subjects": chosen.choices(customers, k=1000)}).encode()

    many = load(server.url, server.headers, "/v1/decisions", ask_many, seconds, None, 2)
    figures["most decisions, by the thousand"] = many.figures() | {"per_second": round(many.per_second * 1000)}


def _settled(server: _Server) -> float:
    """Wait until nobody's event waits for its evaluation; returns the seconds it took."""
    pool, began = urllib3.PoolManager(), time.perf_counter()
    while time.perf_counter() - began < START_SECONDS:
        state = json.loads(pool.request("GET", f"{server.url}/readyz").data)
        if not state.get("pending"):
            break
        time.sleep(0.05)
    return round(time.perf_counter() - began, 2)


def _killed(
    server: _Server, settings: Settings, customers: list[str], as_of: datetime, rate: int, seconds: float
) -> dict[str, Any]:
    """Events at a rate; SIGKILL in the middle; how many of the acknowledged the log does not hold after the restart."""
    acknowledged: set[str] = set()
    numbers = iter(range(10**9))
    guard = threading.Lock()

    def send() -> None:
        pool = urllib3.connectionpool.connection_from_url(server.url, maxsize=1, retries=False, timeout=30)
        while True:
            with guard:
                key = f"bench-k-{next(numbers)}"
            body = _event(random.choice(customers), key, as_of)
            try:
                answer = pool.request("POST", "/v1/events", body=body, headers=server.headers | {"Prefer": "respond-async"})
            except urllib3.exceptions.HTTPError:
                return
            if answer.status == 202:
                acknowledged.add(key)
            time.sleep(8 / rate)

    senders = [threading.Thread(target=send) for _ in range(8)]
    for sender in senders:
        sender.start()
    time.sleep(seconds)
    server.end(signal.SIGKILL)
    for sender in senders:
        sender.join()
    server.start()
    with closing(sqlite3.connect(settings.online_dir / "events.sqlite")) as log:
        held = {row[0] for row in log.execute("select event_key from events where event_key like 'bench-k-%'")}
    return {
        "killed: acknowledged": len(acknowledged),
        "killed: lost": len(acknowledged - held),
        "killed: seconds until ready again": server.start_seconds,
    }


def _event(customer: str, key: str, as_of: datetime) -> bytes:
    data = {
        "transaction_id": key, "customer_id": customer, "booked_at": f"{as_of.isoformat()}Z", "direction": "debit",
        "amount": 19.99, "currency": "EUR", "payment_method": "card", "channel": "pos", "counterparty_id": "bench-counterparty",
    }  # fmt: skip
    return json.dumps({"type": "transaction", "data": data}).encode()


def _customers(settings: Settings) -> list[str]:
    """Identifiers of some customers, out of the vault: the lake knows none."""
    attribute = load_contracts()["customers"].subject_column.name
    with engine(settings) as connection:
        batch = next(rotation.customers_of(connection, settings, load_keys(settings), attribute), [])
    return batch[:PEOPLE]


def _published(settings: Settings) -> tuple[Settings, dict[str, Any]]:
    """What stands published: its instant, rules in force, and people with their features and the codes that fired."""
    with open_lake(settings, read_only=True) as connection:
        publication = last_publication(connection)
        if publication is None:
            raise BenchError(f"nothing is published in {settings.root}")
        rules = connection.execute(
            "select rule_id, predicate from lake.published.risk_rules "
            "where valid_from <= $day and (valid_to is null or valid_to > $day)",
            {"day": publication[2].date()},
        ).fetchall()
        cursor = connection.execute(
            "select features.*, segments.reason_codes as fired from lake.features.risk_features as features "
            "inner join lake.published.risk_segments as segments on segments.subject_token = features.risk_subject_token "
            "using sample 1000 rows"
        )
        names = [column[0] for column in cursor.description]
        people = []
        for values in cursor.fetchall():
            row = dict(zip(names, values, strict=True))
            fired = frozenset(code for code in (row.pop("fired") or "").split(",") if code)
            plain = {name: value for name, value in row.items() if isinstance(value, (bool, int, float, str)) or value is None}
            people.append((plain, fired))
        customers = connection.execute("select count(*) from lake.raw.customers").fetchone()[0]
    known = [dict(zip(("rule_id", "predicate"), rule, strict=True)) for rule in rules]
    found = {"as_of": publication[2], "rules": known, "people": people, "customers": customers}
    return Settings(home=settings.home, profile=publication[1]), found
