"""Load on an HTTP service, measured as its callers feel it.

At a fixed rate each request has an instant at which it is due, whatever the service does; its time counts from then on, so that
a service that stalls does not hide the requests it kept waiting. https://www.scylladb.com/2021/04/22/on-coordinated-omission/

Belongs here: sending and timing. Does not belong here: what is sent, what it is measured beside (`online`).
"""

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import urllib3

THREADS = 32


@dataclass
class Load:
    """What came of a load: answers by status (0: none came), milliseconds from due to answered, and requests per second."""

    statuses: Counter[int] = field(default_factory=Counter)
    milliseconds: list[float] = field(default_factory=list)
    per_second: float = 0.0

    def quantile(self, share: float) -> float:
        """Milliseconds within which that share was answered."""
        return round(float(np.quantile(self.milliseconds, share)), 2) if self.milliseconds else float("nan")

    def figures(self) -> dict[str, object]:
        """As the benchmark reports them."""
        return {
            "per_second": round(self.per_second, 1),
            "p50_ms": self.quantile(0.5),
            "p99_ms": self.quantile(0.99),
            "longest_ms": self.quantile(1.0),
            "answers": dict(self.statuses),
        }


def load(
    url: str, headers: dict[str, str], path: str, body: Callable[[int], bytes], seconds: float,
    per_second: float | None, threads: int = THREADS,
) -> Load:  # fmt: skip
    """POST for so many seconds: at a fixed rate, or, without one, each thread as fast as it is answered.

    `body` makes the nth request. A request that gets no answer ends its thread's connection and counts as status 0.
    """
    found, guard, numbers = Load(), threading.Lock(), itertools.count()
    began = time.perf_counter() + 0.2

    def work() -> None:
        pool = urllib3.connectionpool.connection_from_url(url, maxsize=1, retries=False, timeout=30)
        statuses: Counter[int] = Counter()
        times: list[float] = []
        while True:
            number = next(numbers)
            due = began + number / per_second if per_second else max(began, time.perf_counter())
            if due >= began + seconds:
                break
            content = body(number)
            wait = due - time.perf_counter()
            if wait > 0:
                time.sleep(wait)
            try:
                answer = pool.request("POST", path, body=content, headers=headers)
                statuses[answer.status] += 1
            except urllib3.exceptions.HTTPError:
                statuses[0] += 1
            times.append((time.perf_counter() - due) * 1000)
        with guard:
            found.statuses += statuses
            found.milliseconds += times

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    found.per_second = len(found.milliseconds) / max(seconds, time.perf_counter() - began)
    return found
