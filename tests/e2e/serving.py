"""A running online service for tests: the real command in a process of its own, and who may call it.

Belongs here: starting, asking, ending. Does not belong here: what is expected of answers.
"""

import json
import re
import signal
import subprocess
import time
from pathlib import Path

import requests

from tests.e2e.conftest import Cli

AS_OF = "2026-11-01"


class Server:
    """`segline serve` on a free port; `keys` has the secret of each role's caller."""

    def __init__(self, cli: Cli, *options: str) -> None:
        self.cli = cli
        self._options = ("--port", "0", "--as-of", AS_OF, *options)
        self.keys = {
            name: cli("api-keys", "add", name, *roles, "--by", "test").stdout.strip()
            for name, roles in (
                ("risk", ("--role", "events", "--role", "risk")),
                ("audience", ("--role", "events", "--role", "audience")),
                ("sender", ("--role", "events")),
                ("operator", ("--role", "operator")),
            )
        }
        self.session = requests.Session()
        self.start()

    def start(self) -> None:
        """Start, and wait until it may answer."""
        log = Path(self.cli.home).parent / f"serve-{time.monotonic_ns()}.log"
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                self.cli.command("serve", *self._options), env=self.cli.environment(), stdout=stream, stderr=subprocess.STDOUT
            )
        self.log = log
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
            if found:
                self.url = found.group()
                try:
                    if self.get("/readyz").status_code == 200:
                        return
                except requests.ConnectionError:
                    pass
            assert self.process.poll() is None and "decide differently" not in log.read_text(), log.read_text()
            time.sleep(0.2)
        raise AssertionError(f"not ready: {log.read_text()}")

    def end(self, how: int = signal.SIGTERM) -> int:
        """End it; returns the exit code."""
        self.process.send_signal(how)
        return self.process.wait(timeout=60)

    def headers(self, caller: str | None) -> dict[str, str]:
        """What a caller sends."""
        return {"Authorization": f"Bearer {self.keys[caller]}"} if caller else {}

    def get(self, path: str, caller: str | None = None) -> requests.Response:
        """One GET."""
        return self.session.get(self.url + path, headers=self.headers(caller), timeout=60)

    def post(self, path: str, body: object, caller: str | None = "risk", **headers: str) -> requests.Response:
        """One POST of JSON, or of bytes as they are."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json", **self.headers(caller), **headers}
        return self.session.post(self.url + path, data=data, headers=given, timeout=60)

    def decision(self, customer: str, caller: str = "risk") -> dict:
        """What holds for one customer."""
        (found,) = self.post("/v1/decisions", {"subjects": [customer]}, caller).json()["decisions"]
        return found


def transaction(customer: str, key: str, **given: object) -> dict:
    """A movement that nobody could object to; `given` changes it."""
    data = {
        "transaction_id": key, "customer_id": customer, "booked_at": "2026-10-31T12:00:00Z", "direction": "credit",
        "amount": 25.5, "currency": "EUR", "payment_method": "card",
    }  # fmt: skip
    return {"type": "transaction", "data": data | given}


def withdrawal(customer: str, key: str, purpose: str) -> dict:
    """A withdrawal of consent."""
    data = {
        "event_id": key, "customer_id": customer, "purpose": purpose, "action": "withdrawn",
        "effective_at": "2026-11-01T00:00:00Z", "actor": "self",
    }  # fmt: skip
    return {"type": "consent", "data": data}
