"""The online service's files as a store: how a person is erased from the log of events.

Belongs here: the store. Does not belong here: who is erased, in which order (`rights`).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from sqlite3 import Connection

from orchestration.online.event_log import has_events, open_log
from orchestration.rights.duties import Duty
from orchestration.rights.stores import Batch, Outcome
from orchestration.settings import Settings


@dataclass
class EventStore:
    """The log of accepted events, and the register of callers, which holds no person."""

    settings: Settings
    name: str = "online events"
    holds: str = "events that a service accepted, by pseudonym, until deliveries bring them; hashes of the callers' keys"

    def paths(self) -> tuple[Path, ...]:
        """The folder."""
        return (self.settings.online_dir,)

    def forget(self, batch: Batch) -> list[Outcome]:
        """Delete events, and the pseudonyms of the erased from other people's; what a duty keeps in `raw` stays."""
        with self._open() as log:
            if log is None:
                return []
            erased, mentions, kept = self._count(log, batch)
            log.execute("begin immediate")
            _each(log, "delete from events where subject_token = ?", batch.full)
            for entity in self._given_up(log, batch.duty):
                _each(log, "delete from events where subject_token = ? and entity = ?", batch.restricted, entity)
            _each(log, "update events set counterparty_token = null where counterparty_token = ?", batch.full)
            log.execute("commit")
        note = f"{mentions} mentions in other people's events emptied" if mentions else ""
        return [Outcome(self.name, "events", erased + mentions, kept, note)]

    def purge(self, batch: Batch) -> list[Outcome]:
        """Overwrite free pages and the write-ahead log."""
        with self._open() as log:
            if log is not None:
                log.execute("vacuum")
                log.execute("pragma wal_checkpoint(truncate)")
        return []

    def survey(self, batch: Batch) -> list[Outcome]:
        """Events that are there."""
        with self._open() as log:
            if log is None:
                return []
            erased, mentions, kept = self._count(log, batch)
        return [Outcome(self.name, "events", erased + mentions, kept)]

    def _count(self, log: Connection, batch: Batch) -> tuple[int, int, int]:
        given_up = self._given_up(log, batch.duty)
        erased = _total(log, "select count(*) from events where subject_token = ?", batch.full)
        of_restricted = _total(log, "select count(*) from events where subject_token = ?", batch.restricted)
        gone = sum(
            _total(log, "select count(*) from events where subject_token = ? and entity = ?", batch.restricted, entity)
            for entity in given_up
        )
        mentions = _total(log, "select count(*) from events where counterparty_token = ?", batch.full)
        return erased + gone, mentions, of_restricted - gone

    def _given_up(self, log: Connection, duty: Duty | None) -> list[str]:
        """Entities of which a duty keeps nothing."""
        entities = [row[0] for row in log.execute("select distinct entity from events").fetchall()]
        return [entity for entity in entities if not (duty and duty.kept("raw", entity))]

    @contextmanager
    def _open(self) -> Iterator[Connection | None]:
        if not has_events(self.settings):
            yield None
            return
        with open_log(self.settings) as log:
            yield log


def _each(log: Connection, sql: str, tokens: frozenset[str], *others: str) -> None:
    log.executemany(sql, [(token, *others) for token in sorted(tokens)])


def _total(log: Connection, sql: str, tokens: frozenset[str], *others: str) -> int:
    return sum(int(log.execute(sql, (token, *others)).fetchone()[0]) for token in sorted(tokens))
