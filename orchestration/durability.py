"""What a commit names is on the disk: before the commit, and after one of which nobody can say whether it took place.

DuckDB writes a lake's data files without syncing them, and SQLite syncs the catalogue with each commit: after a loss of power a
commit could name files that never came to be. So whoever commits notes which files there are when the transaction begins, and
syncs what has come since, with its folders, before the commit. By names and not by times: a clock may be wrong.

If the disk fails while the catalogue is synced, SQLite reports an error, DuckLake takes the commit for failed and deletes its
files, and yet it stands in the catalogue's log, and whoever opens it next finds it committed: a store whose newest files are
gone (found by a fault's run). So they are put back then, and the next run deletes those that the catalogue does not know.

Belongs here: which files, syncing and keeping them. Does not belong here: when a transaction begins and ends (`lake`,
`identity.vault`). https://man7.org/linux/man-pages/man2/fsync.2.html, https://www.sqlite.org/wal.html
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import duckdb

UNCERTAIN = ".uncertain"  # lies among the data while files of a commit are there that may not have taken place
_UNCERTAIN_TEXTS = ("I/O error", "Input/output error")


class NewFiles:
    """Data files that come to the writable lakes of a connection from now on."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        rows = connection.execute(
            "select options['data_path'] from duckdb_databases() where type = 'ducklake' and not readonly"
        ).fetchall()
        self._roots = [path for (path,) in rows if path]
        self._there = set(self._files())
        self._fresh: list[str] = []

    def sync(self) -> int:
        """Sync them and the folders that name them; returns how many. Raises `OSError`: then nothing may be committed."""
        self._fresh = sorted(set(self._files()) - self._there)
        for path in (*self._fresh, *self._named_in()):
            with suppress(FileNotFoundError):  # another writer's, who took it back
                _sync(path)
        self._there.update(self._fresh)
        return sum(not path.endswith(os.sep) for path in self._fresh)

    def _named_in(self) -> set[str]:
        """The folders that hold a name which was not there."""
        return {os.path.dirname(path.rstrip(os.sep)) for path in self._fresh}

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Around the commit: what was synced last is put back if the commit fails so that it may have taken place."""
        with ExitStack() as stack:
            held = {path: stack.enter_context(open(path, "rb")) for path in self._fresh if os.path.isfile(path)}
            try:
                yield
            except duckdb.Error as error:
                if any(words in str(error) for words in _UNCERTAIN_TEXTS):
                    for root in self._roots:
                        Path(root, UNCERTAIN).touch()
                    for path, content in held.items():
                        if not os.path.exists(path):
                            with open(path, "xb") as file:
                                shutil.copyfileobj(content, file, 1 << 20)
                            _sync(path)
                raise

    def _files(self) -> Iterator[str]:
        """Files, and folders with a slash at their end."""
        for root in self._roots:
            for folder, folders, names in os.walk(root):
                yield from (os.path.join(folder, name) for name in names)
                yield from (os.path.join(folder, name, "") for name in folders)


def _sync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
