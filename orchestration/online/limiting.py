"""Limits of a request: how large its body may be, and how many a caller may send.

Belongs here: refusing before work is done. Does not belong here: what a request means.
"""

import math
import time
from typing import Any

import orjson
from limits import RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter

from orchestration.online.errors import Problem

LARGEST_BODY = 1_048_576  # bytes


class Rate:
    """Subjects and events that one caller may send per second."""

    def __init__(self, per_second: int) -> None:
        self._limit = RateLimitItemPerSecond(per_second)
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def take(self, caller: str, cost: int = 1) -> None:
        """Count these. Raises `Problem` 429 past the limit; a batch that is larger than it goes alone."""
        cost = min(cost, self._limit.amount)
        if not self._limiter.hit(self._limit, caller, cost=cost):
            reset = self._limiter.get_window_stats(self._limit, caller).reset_time
            wait = max(1, math.ceil(reset - time.time()))
            raise Problem(429, "too_many_requests", f"more than {self._limit.amount} a second", retry_after=wait)


class BodyLimit:
    """ASGI middleware: refuses a body that is too large, announced or not, before it is in memory."""

    def __init__(self, app: Any, largest: int = LARGEST_BODY) -> None:
        self._app, self._largest = app, largest

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > self._largest:
            await self._refuse(send)
            return
        seen, parts, more = 0, [], True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return
            seen += len(message.get("body", b""))
            if seen > self._largest:
                await self._refuse(send)
                return
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        body = b"".join(parts)
        given = False

        async def whole() -> dict[str, Any]:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope, whole, send)

    async def _refuse(self, send: Any) -> None:
        problem = Problem(413, "too_large", f"a body has at most {self._largest} bytes; send less at once")
        headers = [(b"content-type", b"application/problem+json"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": 413, "headers": headers})
        await send({"type": "http.response.body", "body": orjson.dumps(problem.document())})
