"""Helper processes for what has no vectorised form: one HMAC or AES-GCM call per value.

Python's interpreter lock keeps such calls on one core, so batches go to child processes as Arrow messages
through pipes. They are plain `python -m` processes: `multiprocessing` would import the caller's main module
in each child, which is seconds of Dagster, and forking a process that runs DuckDB's threads is not safe. The
keys travel through the pipe, never in arguments or the environment; a child answers an error with its class
only, and ends with its parent.

Belongs here: processes and messages. Does not belong here: what a task computes (`pseudonyms`, `sealing`).
"""

import os
import queue
import signal
import struct
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO, Literal, Self

import pyarrow as pa

from orchestration.identity import errors
from orchestration.identity.errors import IdentityError
from orchestration.identity.keys import KEY_BYTES, VARIABLE, MasterKeys
from orchestration.identity.pseudonyms import PREFIXES, tokens
from orchestration.identity.sealing import identify, seal
from orchestration.settings import PROJECT_ROOT

Task = Literal["raw", "risk", "audience", "identify", "seal"]
# Below these numbers of rows the children's start (0.8 s of a core each, two together 1.3) costs more than it saves: measured on
# two cores, where a million tokens take 1.9 s here and 2.6 s with children, four million 7.5 and 5.9.
TOKENS_WORTH_A_PROCESS = 2_000_000
PERSONS_WORTH_A_PROCESS = 50_000
MOST_PROCESSES = 8
_SIZE = struct.Struct(">Q")


def run_task(keys: MasterKeys, task: str, batch: pa.RecordBatch) -> pa.RecordBatch:
    """One task on one batch: a zone's name makes that zone's tokens of the first column."""
    if task in PREFIXES:
        return pa.record_batch({"token": tokens(keys, task, batch.column(0))})  # type: ignore[arg-type]
    return {"identify": identify, "seal": seal}[task](keys, batch)


def _send(stream: BinaryIO, *parts: bytes | pa.Buffer) -> None:
    for part in parts:
        stream.write(_SIZE.pack(len(part)))
        stream.write(part)
    stream.flush()


def _receive(stream: BinaryIO) -> bytes:
    head = stream.read(_SIZE.size)
    if len(head) < _SIZE.size:
        raise EOFError
    (size,) = _SIZE.unpack(head)
    body = stream.read(size)
    if len(body) < size:
        raise EOFError
    return body


def _message(batch: pa.RecordBatch) -> pa.Buffer:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue()


def _batch(message: bytes) -> pa.RecordBatch:
    return pa.ipc.open_stream(message).read_next_batch()


class _Child:
    """One helper process and its pipes."""

    def __init__(self, keys: MasterKeys) -> None:
        environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
        environment["PYTHONPATH"] = str(PROJECT_ROOT)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "orchestration.identity.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=PROJECT_ROOT,
            env=environment,
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.input, self.output = self.process.stdin, self.process.stdout
        _send(self.input, str(keys.version).encode(), keys.kek + keys.pseudonym + keys.fingerprint)

    def run(self, task: str, batch: pa.RecordBatch) -> pa.RecordBatch:
        _send(self.input, task.encode(), _message(batch))
        state, body = _receive(self.output), _receive(self.output)
        if state == b"ok":
            return _batch(body)
        name, text = body.decode().split(":", 1)
        raise getattr(errors, name, IdentityError)(text)

    def close(self) -> None:
        for pipe in (self.input, self.output):
            with suppress(OSError):  # the child is gone already
                pipe.close()
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Workers:
    """Runs tasks on batches, in helper processes if `rows` is large enough to pay for them, else in this one.

    `rows` are all the rows that are to come, `worth_a_process` the number from which children are started. At
    most one batch per process is under way, others wait; the caller bounds how many it submits.
    """

    def __init__(self, keys: MasterKeys, rows: int, worth_a_process: int) -> None:
        self._keys = keys
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.processes = min(cores, MOST_PROCESSES) if rows >= worth_a_process and cores > 1 else 0
        self._children: list[_Child] = []
        self._idle: queue.SimpleQueue[_Child] = queue.SimpleQueue()
        self._threads: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        if self.processes:
            self._threads = ThreadPoolExecutor(self.processes)
            try:
                for _ in range(self.processes):
                    self._children.append(_Child(self._keys))
            except OSError:
                self._close()
                raise
            for child in self._children:
                self._idle.put(child)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
        for child in self._children:
            child.close()

    def submit(self, task: Task, batch: pa.RecordBatch) -> Future[pa.RecordBatch]:
        """The task's result on that batch, later. An error in it is an `IdentityError`, or its subclass."""
        if self._threads is not None:
            return self._threads.submit(self._in_child, task, batch)
        future: Future[pa.RecordBatch] = Future()
        future.set_result(run_task(self._keys, task, batch))
        return future

    def _in_child(self, task: str, batch: pa.RecordBatch) -> pa.RecordBatch:
        child = self._idle.get()
        try:
            return child.run(task, batch)
        except (EOFError, OSError):
            lost = child.process.poll()
        finally:
            self._idle.put(child)
        raise IdentityError(
            f"a helper process of the identity split ended early (exit code {lost}; -9 means that it was "
            "killed, often for want of memory); start the run again"
        )


def _serve(source: BinaryIO, sink: BinaryIO) -> None:
    """Answer tasks until the parent closes the pipe."""
    version, secret = int(_receive(source)), _receive(source)
    keys = MasterKeys(version, *(secret[KEY_BYTES * part : KEY_BYTES * (part + 1)] for part in range(3)))
    while True:
        try:
            task, message = _receive(source).decode(), _receive(source)
        except EOFError:
            return
        try:
            answer: tuple[bytes, bytes | pa.Buffer] = (b"ok", _message(run_task(keys, task, _batch(message))))
        except IdentityError as error:
            answer = (b"error", f"{type(error).__name__}:{error}".encode())
        except Exception as error:  # its text may quote a value
            answer = (b"error", f"IdentityError:a helper process failed with {type(error).__name__}".encode())
        _send(sink, *answer)


if __name__ == "__main__":
    # Ctrl-C reaches the whole process group; the parent decides, and its end closes the pipe.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _serve(sys.stdin.buffer, sys.stdout.buffer)
