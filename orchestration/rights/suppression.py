"""Suppression: whoever was erased stays erased, whatever a source delivers or a backup brings back.

The list holds a keyed hash per zone and person (`requests.token_hash`), nothing that names anybody. A delivery is held
against it before anything is written: the rows of a suppressed person go to quarantine as `suppressed`, without value and
row number, so that the delivery still reconciles. It lies in the rights folder, apart from lake and vault, because their
backups are older than it; it can be copied elsewhere (`write_copy`) for the day on which the whole home is restored.

Belongs here: the list, and holding a delivery against it. Does not belong here: erasing what is there (`erasure`).
Colorado Privacy Act Rule 4.06(D): keep the minimum that is needed to stay deleted.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pyarrow as pa

from orchestration.identity.keys import MasterKeys
from orchestration.identity.pseudonyms import zone_of
from orchestration.identity.split import drop_tables, tokenise
from orchestration.ingestion.contracts import Contract
from orchestration.ingestion.examining import Examination
from orchestration.lake import identifier, literal
from orchestration.rights.duties import Duty, duties
from orchestration.rights.errors import RightsError
from orchestration.rights.requests import HASH_LABEL, RightsLog, Subject, has_log, now, open_log, token_hash
from orchestration.settings import Settings

REASON = "suppressed"
OWN_FEED = "segline_rights"
_FIELDS = ("token_hash", "zone", "subject_hash", "duty", "request_id", "since")
_LIST = "suppression_list"
_WITHHELD = "withheld_customers"


def hash_sql(column: str) -> str:
    """SQL of `requests.token_hash`."""
    return f"sha256({literal(HASH_LABEL)} || {column})"


def suppress(log: RightsLog, subject: Subject, duty: str | None, request_id: str) -> None:
    """Put a person on the list; with a duty, only for what it does not keep. Who is suppressed wholly stays so."""
    rows = [
        (token_hash(token), zone_of(name), subject.hash, duty, request_id, now().isoformat())
        for name, token in subject.tokens.items()
    ]
    with log.transaction():
        log.store.executemany(
            "insert into suppressions values (?, ?, ?, ?, ?, ?) on conflict (token_hash) do update "
            "set duty = null, request_id = excluded.request_id where duty is not null and excluded.duty is null",
            rows,
        )


def write_copy(log: RightsLog, path: Path) -> int:
    """Write the list for a safe place elsewhere; returns the number of entries."""
    rows = log.store.execute(f"select {', '.join(_FIELDS)} from suppressions order by since, token_hash").fetchall()
    path.write_text(json.dumps([dict(zip(_FIELDS, row, strict=True)) for row in rows], indent=1) + "\n", encoding="utf-8")
    return len(rows)


def merge_copy(log: RightsLog, path: Path) -> int:
    """Take entries in that this list has lost; none is removed. Returns how many were new."""
    try:
        rows = [tuple(entry[name] for name in _FIELDS) for entry in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, KeyError, TypeError):
        raise RightsError(f"{path} is no copy of a suppression list: take one that `segline rights suppressions` wrote") from None
    with log.transaction():
        before = log.store.total_changes
        log.store.executemany("insert or ignore into suppressions values (?, ?, ?, ?, ?, ?)", rows)
        return log.store.total_changes - before


def entries(settings: Settings) -> list[tuple[str, str, str | None]]:
    """Token hash, zone and duty of every suppression of a home."""
    if not has_log(settings):
        return []
    with open_log(settings) as log:
        return log.store.execute("select token_hash, zone, duty from suppressions").fetchall()


class Suppression:
    """Holds one delivery against the list, on landing's connection; without a suppressed person it does nothing."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
        self._connection = connection
        rows: list[tuple] = []
        if has_log(settings):
            with open_log(settings) as log:
                rows = log.store.execute(
                    "select token_hash, duty, request_id, since from suppressions where zone = 'raw'"
                ).fetchall()
        self.is_active = bool(rows)
        self._duties: dict[str, Duty] = {duty.duty: duty for duty in duties()}
        if rows:
            names = ("token_hash", "duty", "request_id", "since")
            columns = {name: pa.array(values, pa.string()) for name, values in zip(names, zip(*rows, strict=True), strict=True)}
            connection.register("suppressions_given", pa.table(columns))
            connection.execute(f"create or replace temp table {_LIST} as select * from suppressions_given")
            connection.unregister("suppressions_given")

    def withhold_customers(self, keys: MasterKeys, examination: Examination, table: str) -> None:
        """Take suppressed persons out of the table of typed customers, into the examination's quarantine and counts."""
        if not self.is_active:
            return
        subject = identifier(examination.contract.subject_column.name)
        column = examination.contract.subject_column.name
        tokens = tokenise(self._connection, table, column, "raw", keys, "suppression_tokens")
        listed = f"list.duty, list.request_id, list.since from {tokens} as tokens"
        self._connection.execute(
            f"create or replace temp table {_WITHHELD} as select tokens.value, tokens.token, {listed} "
            f"inner join {_LIST} as list on list.token_hash = {hash_sql('tokens.token')}"
        )
        for past in self._past_tokens(table, column, keys):
            self._connection.execute(
                f"insert into {_WITHHELD} select tokens.value, tokens.token, {listed} inner join {past} as past using (value) "
                f"inner join {_LIST} as list on list.token_hash = {hash_sql('past.token')} "
                f"where tokens.value not in (select value from {_WITHHELD})"
            )
        drop_tables(self._connection, tokens)
        gone = f"{subject} in (select value from {_WITHHELD} where duty is null)"
        self._connection.execute(
            f"insert into {examination.quarantine} select feed, null, null, {literal(examination.contract.subject_column.name)}, "
            f"{literal(REASON)}, null from {identifier(table)} where {gone}"
        )
        for feed, rows in self._connection.execute(
            f"select feed, count(*) from {identifier(table)} where {gone} group by feed"
        ).fetchall():
            examination.counts[feed].quarantined += rows
        self._connection.execute(f"delete from {identifier(table)} where {gone}")

    def _past_tokens(self, table: str, column: str, keys: MasterKeys) -> Iterator[str]:
        """A table (value, token) per retired pseudonym key: whoever was erased before a re-keying is on the list by that key."""
        for past in keys.generations[1:]:
            name = tokenise(self._connection, table, column, "raw", past, "suppression_past")
            yield name
            drop_tables(self._connection, name)

    def condition(self, contract: Contract) -> str | None:
        """SQL, over a contract's typed columns, of the rows that are withheld; `None` if none can be."""
        if not self.is_active or contract.entity == "customers":
            return None
        subject = identifier(contract.subject_column.name)
        parts = [f"{subject} in (select value from {_WITHHELD} where duty is null)"]
        for duty in self._duties.values():
            kept = duty.kept("raw", contract.entity)
            if kept is True:
                continue
            held = f"{subject} in (select value from {_WITHHELD} where duty = {literal(duty.duty)})"
            parts.append(held if kept is False else f"({held} and not coalesce({kept}, false))")
        return f"({' or '.join(parts)})"

    def blank_rows(self, examination: Examination) -> None:
        """Take the row numbers from quarantined rows of suppressed persons: in the source file they point to a person."""
        if self.is_active:
            self._connection.execute(
                f"update {examination.quarantine} set row_number = null where reason = {literal(REASON)}"
            )

    def withhold_counterparties(self, keys: MasterKeys, table: str) -> None:
        """Forget the pseudonyms of suppressed persons as the other side of somebody else's movement."""
        if not self.is_active:
            return
        gone = f"in (select token_hash from {_LIST} where duty is null)"
        self._connection.execute(f"delete from {identifier(table)} where {hash_sql('token')} {gone}")
        for past in self._past_tokens(table, "value", keys):
            self._connection.execute(
                f"delete from {identifier(table)} where value in (select value from {past} where {hash_sql('token')} {gone})"
            )

    def repeat_requests(self, contract: Contract, load_id: str) -> None:
        """Let the gate know of deletions that came here and not by a feed, where a duty keeps the customer."""
        if not self.is_active or contract.entity != "privacy_requests":
            return
        made = {
            "request_id": "request_id",
            "subject_token": "token",
            "request_type": "'deletion'",
            "received_at": "cast(since as timestamp)",
            "status": "'completed'",
            "feed": literal(OWN_FEED),
            "load_id": literal(load_id),
        }
        columns = ", ".join(f"cast({made[name]} as {kind}) as {name}" for name, kind in contract.raw_columns().items())
        self._connection.execute(
            f"insert into lake.raw.{contract.entity} by name select {columns} from {_WITHHELD} where duty is not null"
        )

    def close(self) -> None:
        """Drop what holds identifiers."""
        drop_tables(self._connection, _LIST, _WITHHELD)
