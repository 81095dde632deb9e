"""Consent strings as a site or an app logged them: TC, GPP and US Privacy strings and Sec-GPC headers, into consent events.

A log is files: a row says whose signal it is, when it was received, and holds a string of each declared kind, or nothing.
A file is read when it was changed, or put there, since the last pull; rows that are known are recognised by their content.

Belongs here: files, their rows, which dead letter a row becomes. Does not belong here: decoding a string and what it means
(`consent.signals`). A log holds what people sent, not a state: there is nothing to measure drift against.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from orchestration.connectors.dead_letters import DeadLetter, shape_of
from orchestration.connectors.errors import ConnectorError
from orchestration.connectors.resources import Resource, StateItem, Window
from orchestration.connectors.rows import EPOCH, ConsentRow, Row, instant
from orchestration.connectors.settings import Signals
from orchestration.connectors.vocabulary import SignalsVocabulary
from orchestration.consent.signals.decoding import decode
from orchestration.consent.signals.meaning import consent_events
from orchestration.consent.signals.results import Unknown
from orchestration.ingestion.delivery import scratch_database
from orchestration.ingestion.reading import close_source, open_source
from orchestration.lake import engine, identifier
from orchestration.settings import Settings

LOT = 5_000
_TABLE = "signal_log"
_UNREADABLE = "_unreadable"


class SignalsConnector:
    """Reads one folder of logs. Files that changed within the time that every pull leaves out at its end are read next time."""

    name = "signals"
    resources = (Resource("strings", timedelta(days=36_500)),)

    def __init__(self, folder: Signals, vocabulary: SignalsVocabulary, settings: Settings) -> None:
        self.folder = folder.folder.expanduser()
        self.vocabulary = vocabulary
        self.settings = settings
        if not self.folder.is_dir():
            raise ConnectorError("not_configured", f"the folder of consent strings does not exist: {self.folder}")

    def first_instant(self, resource: Resource, now: datetime) -> datetime:
        """Everything that lies there."""
        return EPOCH

    def pages(self, resource: Resource, window: Window) -> Iterator[list[Any]]:
        """Rows of the files that were put there or changed within the window, in lots, in the order of their names.

        By the inode's time of change: a copy may keep the time of the file's last edit, and would be missed by it.
        Raises `SourceError` for a file that is empty, unreadable or lacks a declared column: nothing of the pull is kept.
        """
        wanted = {self.vocabulary.subject, self.vocabulary.received_at, *self.vocabulary.signals}
        columns = {column: column.lower() for column in sorted(wanted)}
        with engine(self.settings) as connection, scratch_database(connection, self.settings):
            for path in self._files(window):
                source = open_source(connection, _TABLE, [path], self.vocabulary.read, set(columns.values()))
                cut_off = {source.header_rows + source.rows_in_files: "file_cut_off"} if source.cut_off else {}
                faults = {**source.rejects[0], **cut_off}
                picked = ", ".join(_text_of(name, source.columns[name]) for name in columns.values())
                yield [{_UNREADABLE: reason, "file": path.name, "row": row} for row, reason in sorted(faults.items())]
                last = f"where _row < {source.readable[0] - 1}" if source.cut_off else ""
                found = connection.execute(f"select {picked} from {source.relation} {last} order by _row")
                while lot := found.fetchmany(LOT):
                    yield [dict(zip(columns, row, strict=True)) for row in lot]
                close_source(connection, _TABLE)

    def _files(self, window: Window) -> list[Path]:
        def changed(path: Path) -> datetime:
            return datetime.fromtimestamp(path.stat().st_ctime, UTC).replace(tzinfo=None)

        found = (path for path in self.folder.glob(self.vocabulary.files) if path.is_file() and not path.name.startswith("."))
        return sorted(path for path in found if window.since <= changed(path) < window.until)

    def full_state(self, now: datetime) -> Iterator[list[StateItem | DeadLetter]]:
        """A log holds what was sent, no state."""
        raise ConnectorError("not_configured", "a log of consent strings holds no consent state that could be compared")

    def read(self, resource: Resource, record: Any) -> Iterator[Row | DeadLetter]:
        """The events that each string of a row amounts to; a dead letter for each that grants or refuses nothing."""
        if _UNREADABLE in record:
            yield DeadLetter("strings", f"{record['file']}:{record['row']}", "malformed_row", record[_UNREADABLE], "row")
            return
        vocabulary = self.vocabulary
        subject, received = record[vocabulary.subject], record[vocabulary.received_at]
        known = "|".join(f"{record[name]}" for name in sorted(record))

        def dead(reason: str, field: str, shape: str) -> DeadLetter:
            return DeadLetter("strings", known, reason, field, shape)

        received_at = instant(received)
        sent = {column: kind for column, kind in vocabulary.signals.items() if record[column]}
        if subject is None or not subject.strip():
            yield dead("anonymous_subject", vocabulary.subject, shape_of(subject))
        elif received_at is None:
            yield dead("malformed_timestamp" if received else "missing_field", vocabulary.received_at, shape_of(received))
        elif not sent:
            yield dead("no_expression", "", "nothing")
        else:
            for column, kind in sent.items():
                for said in _events(subject, record[column], kind, received_at):
                    yield dead(said[0], column, said[1]) if isinstance(said, tuple) else said


def _events(subject: str, text: str, kind: str, received_at: datetime) -> Iterator[Row | tuple[str, str]]:
    """What a string amounts to: events, or the reason and shape of a dead letter.

    It is judged as of its receipt, so that one and the same says the same whenever it is pulled.
    """
    signal = decode(text, received_at, None if kind == "any" else kind)
    found = consent_events(signal, received_at.replace(tzinfo=UTC))
    for event in found:
        yield ConsentRow(
            subject=subject,
            purpose=event.purpose,
            action=event.action,
            effective_at=_bare(event.effective_at),
            expires_at=_bare(event.expires_at) if event.expires_at else None,
            method=event.method,
            actor=event.actor,
            vendor_purpose=event.source,
        )
    if isinstance(signal, Unknown) and kind != "gpc":
        # Also beside refusals in what was readable of it: somebody has to look at the rest.
        yield "not_understood", f"text of {len(text)}: {signal.reason}"
    elif not found:
        yield "no_expression", f"text of {len(text)}"


def _text_of(column: str, kind: str) -> str:
    """SQL: the column as text; an instant as the UTC time that it is."""
    value = f"{identifier(column)} at time zone 'UTC'" if kind == "TIMESTAMP WITH TIME ZONE" else identifier(column)
    return f"cast({value} as varchar)"


def _bare(moment: datetime) -> datetime:
    return moment.astimezone(UTC).replace(tzinfo=None)
