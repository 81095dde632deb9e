"""The server process: one per home, uvicorn around the application. https://www.uvicorn.org

Belongs here: the process. Does not belong here: routes (`api`), state (`service`).
"""

import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from orchestration.identity.keys import load_keys
from orchestration.lake import open_lake, private_folder
from orchestration.online.errors import ServeError
from orchestration.publication import last_publication
from orchestration.settings import Settings

GRACE_SECONDS = 20
MOST_CONNECTIONS = 2000


class AlreadyServing(ServeError):
    """Another service writes to this home's log of events."""


@contextmanager
def _sole_server(settings: Settings) -> Iterator[None]:
    """Hold the home's service; the kernel lets a dead one's go. Two would not know of each other's events."""
    private_folder(settings.online_dir)
    with open(settings.online_dir / "serve.lock", "a", encoding="utf-8") as stream:
        os.fchmod(stream.fileno(), 0o600)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyServing(f"another service answers for {settings.root}: end it first") from None
        yield


def is_serving(settings: Settings) -> bool:
    """Whether a service answers for this home right now."""
    path = settings.online_dir / "serve.lock"
    if not path.exists():
        return False
    with path.open("a", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def run_server(
    settings: Settings,
    host: str,
    port: int,
    begins: datetime | None,
    max_age: timedelta,
    per_second: int,
    say: Callable[[str], None],
) -> None:
    """Serve until SIGTERM or SIGINT; then answer what is open, write what is queued, and end.

    `begins` is the instant at which the clock starts (UTC), `None` for the real one. Raises `ServeError` where nothing could be
    answered anyway.
    """
    # Before any library makes a pool of threads: one evaluation at a time is the design, and a pool would only get in its way.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # The thread that evaluates lets the one that answers have the interpreter sooner.
    sys.setswitchinterval(0.001)
    import uvicorn

    from orchestration.online.api import make_app
    from orchestration.online.api_keys import Callers, read_keys
    from orchestration.online.service import Clock, Service

    clock = Clock(begins)
    _require_fresh(settings, clock(), max_age)
    if not any(key.holds(datetime.now()) for key in read_keys(settings)):
        say("Nobody has a key yet: segline api-keys add NAME --role events --role risk --by YOU")
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("segline.online").setLevel(logging.INFO)
    with _sole_server(settings):
        service = Service(settings, load_keys(settings), clock, max_age)
        app = make_app(service, Callers(settings), per_second)
        # No access log: paths name customers. No Date or Server header: nothing reads them.
        config = uvicorn.Config(
            app, host, port, access_log=False, log_level="warning", server_header=False, lifespan="on",
            limit_concurrency=MOST_CONNECTIONS, timeout_graceful_shutdown=GRACE_SECONDS, timeout_keep_alive=75,
        )  # fmt: skip
        listening = _listen(host, port)
        place = f"http://{host}:{listening.getsockname()[1]}"
        # uvicorn raises the signal again once everything is answered and written; then it is an ordinary end.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        say(f"Answering at {place} (description: {place}/openapi.json, ready: {place}/readyz). End with Ctrl-C.")
        uvicorn.Server(config).run(sockets=[listening])


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), reuse_port=False, backlog=512)
    except OSError as error:
        raise ServeError(f"cannot listen on {host}:{port} ({error.strerror}): choose another with --port") from None


def _require_fresh(settings: Settings, now: datetime, max_age: timedelta) -> None:
    """Say at once what would otherwise be the answer to every request."""
    with open_lake(settings, read_only=True) as connection:
        publication = last_publication(connection)
    if publication is None:
        raise ServeError("nothing is published yet: run `segline run` first")
    if publication[1] != settings.profile:
        raise ServeError(f"the publication is of profile {publication[1]}: serve it with --profile {publication[1]}")
    age = now - publication[2]
    if age > max_age:
        day = publication[2].isoformat()
        raise ServeError(
            f"the publication is as of {day}, {age.days} days ago, and answers would rest on old data: run `segline run`, or, "
            f"where it stands for that day on purpose, begin the clock there: segline serve --as-of {day}"
        )
