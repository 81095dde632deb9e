"""One pull: ask for what is new, recognise what is known, account for every item, then move the cursor.

Belongs here: the order of work. Does not belong here: HTTP (`transport`), a vendor's fields, what lies where (`folder`).

Items are counted once as received; each must come out as a written row, a duplicate or a dead letter, and the written rows
are counted in the part as it lies on the disk. A slice of a list is durable before the cursor passes it. Windows overlap,
for vendors save late; rows are recognised by their content key.
"""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from orchestration.connectors.dead_letters import EXPECTED, DeadLetter
from orchestration.connectors.errors import ConnectorError, PullNotReconciled
from orchestration.connectors.folder import (
    State,
    locked,
    make_durable,
    parts_of,
    read_state,
    remove_unknown,
    require_outside,
    write_state,
)
from orchestration.connectors.resources import Connector, Resource, Window
from orchestration.connectors.rows import COLUMNS, KEYS, ConsentRow, Row, content_key, record_key
from orchestration.connectors.settings import Patience
from orchestration.connectors.vocabulary import (
    OneTrustVocabulary,
    SignalsVocabulary,
    TrustArcVocabulary,
    Vocabulary,
    fingerprint,
)
from orchestration.identity.keys import MasterKeys
from orchestration.lake import engine, literal
from orchestration.settings import Settings

BATCH = 5_000
MOST_PARTS = 50  # of one entity; landing opens each of them


@dataclass
class PullCount:
    """One list's reconciliation of a pull: received = rows + duplicates + dead letters."""

    connector: str
    resource: str
    since: datetime
    until: datetime
    pages: int = 0
    records: int = 0
    received: int = 0
    rows: int = 0
    duplicates: int = 0
    dead_letters: int = 0

    def require_reconciled(self) -> None:
        """`PullNotReconciled` if an item is unaccounted for."""
        if self.received != self.rows + self.duplicates + self.dead_letters:
            raise PullNotReconciled(
                f"{self.connector}/{self.resource}: {self.received} items received, but {self.rows} rows + "
                f"{self.duplicates} duplicates + {self.dead_letters} dead letters; nothing was taken in"
            )


@dataclass
class PullReport:
    """What a pull did: counts per list, dead letters by (list, reason), the parts that it wrote."""

    connector: str
    counts: list[PullCount] = field(default_factory=list)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    parts: list[str] = field(default_factory=list)

    @property
    def unexpected(self) -> int:
        """Dead letters that somebody should look at."""
        return sum(count for (_, reason), count in self.reasons.items() if reason not in EXPECTED)


def pull(
    connector: Connector,
    vocabulary: Vocabulary,
    settings: Settings,
    keys: MasterKeys,
    folder: Path,
    patience: Patience,
    now: datetime | None = None,
    from_start: bool = False,
) -> PullReport:
    """Pull what is new into `folder`. `now` is UTC without zone; `from_start` asks for everything again.

    Raises `ConnectorError` or `PullNotReconciled`; slices that were complete before it stay taken in, the cursor stands
    behind the last of them.
    """
    require_outside(folder, settings)
    now = now or datetime.now(UTC).replace(tzinfo=None)
    report = PullReport(connector.name)
    with locked(folder), engine(settings) as connection:
        state = read_state(folder, connector.name)
        meaning = fingerprint(vocabulary)
        if state is None:
            state = State(connector.name, meaning, keys.version)
        elif state.keys != keys.version:
            raise ConnectorError("other_keys", f"{folder} was filled with keys of version {state.keys}")
        remove_unknown(folder, state)
        if state.vocabulary != meaning:
            # Dead letters of before may be readable now; what became rows must still mean the same.
            _require_same_meaning(connection, folder, state, vocabulary)
            state.vocabulary, state.cursors = meaning, {}
        _merge_parts(connection, folder, state)
        for resource in connector.resources:
            since = connector.first_instant(resource, now)
            if resource.name in state.cursors and not from_start:
                since = max(since, state.cursors[resource.name] - timedelta(hours=patience.overlap_hours))
            until = now - timedelta(seconds=patience.settle_seconds)
            total = PullCount(connector.name, resource.name, since, until)
            report.counts.append(total)
            for window in Window(since, until).slices(resource.longest):
                _pull_slice(connection, connector, resource, window, keys, folder, state, report, total, now)
        state.completed_at = now
        write_state(folder, state)
    return report


def _pull_slice(
    connection: duckdb.DuckDBPyConnection,
    connector: Connector,
    resource: Resource,
    window: Window,
    keys: MasterKeys,
    folder: Path,
    state: State,
    report: PullReport,
    total: PullCount,
    now: datetime,
) -> None:
    """One window of one list, taken in as a whole or not at all."""
    count = PullCount(connector.name, resource.name, window.since, window.until)
    for entity, columns in COLUMNS.items():
        body = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        connection.execute(f"create or replace temp table arriving_{entity} ({body})")
    dead: list[DeadLetter] = []
    waiting: list[Row] = []
    arrived = 0
    for page in connector.pages(resource, window):
        count.pages += 1
        count.records += len(page)
        for record in page:
            for outcome in connector.read(resource, record):
                count.received += 1
                (dead if isinstance(outcome, DeadLetter) else waiting).append(outcome)  # type: ignore[arg-type]
        if len(waiting) >= BATCH:
            arrived += _store(connection, connector.name, waiting, keys, now)
            waiting = []
    arrived += _store(connection, connector.name, waiting, keys, now)
    state.sequence += 1
    written: dict[str, int] = {}
    for entity in COLUMNS:
        written |= _write_part(connection, entity, folder, state)
    count.rows = sum(written.values())
    count.dead_letters = len(dead)
    count.duplicates = arrived - count.rows
    count.require_reconciled()
    written |= _write_dead_letters(connector.name, dead, keys, folder, state, now)
    state.parts |= written
    state.cursors[resource.name] = window.until
    write_state(folder, state)
    report.parts += written
    report.reasons.update((resource.name, letter.reason) for letter in dead)
    for name in ("pages", "records", "received", "rows", "duplicates", "dead_letters"):
        setattr(total, name, getattr(total, name) + getattr(count, name))


def _store(
    connection: duckdb.DuckDBPyConnection, connector: str, rows: Iterable[Row], keys: MasterKeys, now: datetime
) -> int:
    """Put rows beside those that arrived before; returns how many."""
    stored = 0
    by_entity: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        values = {name: getattr(row, name, None) for name in COLUMNS[row.entity]}
        values[row.key] = content_key(keys, connector, row)
        if isinstance(row, ConsentRow):
            values["received_at"] = now
        by_entity.setdefault(row.entity, []).append(values)
    for entity, values in by_entity.items():
        connection.register("page", pa.Table.from_pylist(values))
        columns = ", ".join(f"{name}::{kind}" for name, kind in COLUMNS[entity].items())
        connection.execute(f"insert into arriving_{entity} select {columns} from page")
        connection.unregister("page")
        stored += len(values)
    return stored


def _write_part(connection: duckdb.DuckDBPyConnection, entity: str, folder: Path, state: State) -> dict[str, int]:
    """The rows that no part holds yet, each once; returns the part with its rows as counted in the file."""
    key = KEYS[entity]
    known = [str(path) for path in parts_of(folder, state, entity)]
    earlier = ""
    if known:
        earlier = f"anti join (select {key} from read_parquet([{', '.join(map(literal, known))}])) using ({key})"
    fresh = f"from arriving_{entity} {earlier} qualify row_number() over (partition by {key} order by {key}) = 1"
    if not connection.execute(f"select count(*) from (select {key} {fresh})").fetchone()[0]:
        return {}
    name = f"{entity}-{state.sequence:06}.parquet"
    draft = folder / f".draft-{name}"
    connection.execute(f"copy (select * {fresh}) to {literal(draft)} (format parquet)")
    rows = connection.execute(f"select count(*) from read_parquet({literal(draft)})").fetchone()[0]
    make_durable(draft, folder / name)
    return {name: int(rows)}


def _merge_parts(connection: duckdb.DuckDBPyConnection, folder: Path, state: State) -> None:
    """Make many parts one: the merged part first, then the state, then the old ones' end."""
    for entity in COLUMNS:
        old = parts_of(folder, state, entity)
        if len(old) <= MOST_PARTS:
            continue
        state.sequence += 1
        name = f"{entity}-{state.sequence:06}.parquet"
        draft = folder / f".draft-{name}"
        files = ", ".join(map(literal, old))
        connection.execute(f"copy (select * from read_parquet([{files}])) to {literal(draft)} (format parquet)")
        rows = int(connection.execute(f"select count(*) from read_parquet({literal(draft)})").fetchone()[0])
        if rows != sum(state.parts[path.name] for path in old):
            raise PullNotReconciled(f"{len(old)} parts of {entity} hold {rows} rows, their state counts others")
        make_durable(draft, folder / name)
        state.parts = {part: count for part, count in state.parts.items() if folder / part not in old} | {name: rows}
        write_state(folder, state)
        for path in old:
            path.unlink()


def _write_dead_letters(
    connector: str, dead: list[DeadLetter], keys: MasterKeys, folder: Path, state: State, now: datetime
) -> dict[str, int]:
    if not dead:
        return {}
    name = f"dead_letters-{state.sequence:06}.jsonl"
    draft = folder / f".draft-{name}"
    with draft.open("w", encoding="utf-8") as stream:
        for letter in dead:
            line = {
                "connector": connector,
                "resource": letter.resource,
                "record": record_key(keys, connector, letter.record) if letter.record else None,
                "reason": letter.reason,
                "field": letter.field,
                "shape": letter.shape,
                "received_at": now.isoformat(timespec="seconds"),
            }
            stream.write(json.dumps(line) + "\n")
    make_durable(draft, folder / name)
    return {name: len(dead)}


def _require_same_meaning(
    connection: duckdb.DuckDBPyConnection, folder: Path, state: State, vocabulary: Vocabulary
) -> None:
    """`ConnectorError` if a row that lies here would be read differently now."""
    known = [str(path) for path in parts_of(folder, state, "consent_events")]
    if not known or isinstance(vocabulary, SignalsVocabulary):  # what a string means is no vocabulary's choice
        return
    files = ", ".join(map(literal, known))
    pairs = connection.execute(f"select distinct vendor_purpose, purpose from read_parquet([{files}])").fetchall()
    if isinstance(vocabulary, OneTrustVocabulary | TrustArcVocabulary):
        # A word that is gone may have been the purpose's name beside its id, so only another meaning is a contradiction.
        changed = [word for word, purpose in pairs if vocabulary.purposes.get(word, purpose) != purpose]
        changed += [word for word, _ in pairs if word in vocabulary.not_consent]
    else:
        questions = {question.slide: question.purpose for question in vocabulary.consent_questions}
        changed = [word for word, purpose in pairs if questions.get(word, purpose) != purpose]
    if changed:
        raise ConnectorError("vocabulary_changed", f"{len(changed)} purposes of earlier rows mean something else now")
