"""The stores that are databases: the persons' keys, the vault, the lake.

Belongs here: erasing in those three. Does not belong here: which stores there are (`stores`), which rows (`reach`), how bytes
go (`upkeep`).
"""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

from orchestration.identity.vault import PERSONS, attached_vault
from orchestration.lake import identifier, table_exists, transaction
from orchestration.ledger.erasure import erase_payloads
from orchestration.rights.duties import Duty
from orchestration.rights.engines import attached_lake, one_engine
from orchestration.rights.reach import DERIVED_KEYS, LEAVES, Relation, relations
from orchestration.rights.stores import Batch, Outcome
from orchestration.rights.upkeep import compact_sqlite, remove_deleted, shred
from orchestration.settings import Settings
from orchestration.turns import shared_turn

_FULL, _RESTRICTED = "erased_full", "erased_restricted"


@contextmanager
def _batch_tables(connection: duckdb.DuckDBPyConnection, batch: Batch) -> Iterator[None]:
    """The batch's pseudonyms as temporary tables; they never stand in SQL."""
    for name, tokens in ((_FULL, batch.full), (_RESTRICTED, batch.restricted)):
        connection.register("tokens_given", pa.table({"token": pa.array(sorted(tokens), pa.string())}))
        connection.execute(f"create or replace temp table {name} as select * from tokens_given")
        connection.unregister("tokens_given")
    try:
        yield
    finally:
        for name in (_FULL, _RESTRICTED):
            connection.execute(f"drop table if exists temp.{name}")


def _count(connection: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = connection.execute(sql).fetchone()
    return int(row[0]) if row and row[0] is not None else 0


@dataclass
class KeyStore:
    """The persons' wrapped keys: without hers, a person's values are noise wherever copies of them lie."""

    settings: Settings
    name: str = "keys"
    holds: str = "one wrapped key per person; destroying it makes every copy of the person's sealed values unreadable"

    def paths(self) -> tuple[Path, ...]:
        """The file."""
        path = self.settings.key_store
        return (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm"))

    def forget(self, batch: Batch) -> list[Outcome]:
        """Destroy keys, those of the batch of whom nothing is kept."""
        kept = self._held(batch.restricted)
        return [Outcome(self.name, "subject_keys", shred(self.settings, batch.full), kept)]

    def purge(self, batch: Batch) -> list[Outcome]:
        """Overwrite free pages."""
        if self.settings.key_store.exists():
            compact_sqlite(self.settings.key_store)
        return []

    def survey(self, batch: Batch) -> list[Outcome]:
        """Keys that are there."""
        return [Outcome(self.name, "subject_keys", self._held(batch.full), self._held(batch.restricted))]

    def _held(self, tokens: Iterable[str]) -> int:
        if not self.settings.key_store.exists():
            return 0
        with closing(sqlite3.connect(self.settings.key_store, timeout=30)) as store:
            return sum(
                store.execute("select count(*) from subject_keys where subject_token = ?", [token]).fetchone()[0]
                for token in tokens
            )


@dataclass
class VaultStore:
    """The vault's sealed identifiers."""

    settings: Settings
    name: str = "vault"
    holds: str = "direct identifiers, sealed value by value"

    def paths(self) -> tuple[Path, ...]:
        """Catalogue and data."""
        return (self.settings.vault_catalog.parent,)

    def forget(self, batch: Batch) -> list[Outcome]:
        """Delete entries."""
        with self._open() as vault:
            if vault is None:
                return [Outcome(self.name, "persons")]
            with _batch_tables(vault, batch):
                kept = _count(vault, f"select count(*) from {PERSONS} where subject_token in (select token from {_RESTRICTED})")
                erased = _count(vault, f"delete from {PERSONS} where subject_token in (select token from {_FULL})")
        return [Outcome(self.name, "persons", erased, kept)]

    def purge(self, batch: Batch) -> list[Outcome]:
        """Rewrite, expire, clean up, compact."""
        with self._open() as vault:
            if vault is None:
                return []
            remove_deleted(vault, "vault")
        compact_sqlite(self.settings.vault_catalog)
        return []

    def survey(self, batch: Batch) -> list[Outcome]:
        """Entries that are there."""
        with self._open() as vault:
            if vault is None:
                return []
            with _batch_tables(vault, batch):
                erased, kept = (
                    _count(vault, f"select count(*) from {PERSONS} where subject_token in (select token from {tokens})")
                    for tokens in (_FULL, _RESTRICTED)
                )
        return [Outcome(self.name, "persons", erased, kept)]

    @contextmanager
    def _open(self) -> Iterator[duckdb.DuckDBPyConnection | None]:
        """The vault, `None` where no delivery has made it yet."""
        if not self.settings.vault_catalog.exists():
            yield None
            return
        with one_engine(self.settings) as connection, attached_vault(connection, self.settings) as vault:
            tables = vault.execute("select table_name from duckdb_tables() where database_name = 'vault'").fetchall()
            yield vault if ("persons",) in tables else None


@dataclass
class LakeStore:
    """Every table of the lake in which a person can be found, whoever made it."""

    settings: Settings
    name: str = "lake"
    holds: str = "pseudonymous rows: raw, consent, features, segments, ledger payloads, quarantine; and their old snapshots"

    def paths(self) -> tuple[Path, ...]:
        """Catalogue and data."""
        return (self.settings.catalog.parent,)

    def forget(self, batch: Batch) -> list[Outcome]:
        """Delete the persons' rows from every table, in one transaction, and their pseudonyms from other people's rows."""
        if not self.settings.catalog.exists():
            return []
        outcomes = []
        with attached_lake(self.settings) as connection, _batch_tables(connection, batch):
            # By the ledger itself: a leaf whose payload goes without the ledger's own word for it is a finding.
            erased = erase_payloads(connection, self.settings, batch.full, "erasure")
            outcomes.append(Outcome(self.name, "ops.decision_payloads, ops.decision_inputs", erased))
            found = relations(connection)
            self._derive_keys(connection, found)
            with transaction(connection):
                for relation in found:
                    outcomes.append(self._forget_in(connection, relation, batch.duty))
        return outcomes

    def purge(self, batch: Batch) -> list[Outcome]:
        """Rewrite, expire, clean up, compact."""
        if self.settings.catalog.exists():
            with shared_turn(self.settings.turn_file, self.settings.lock_wait_seconds):
                with attached_lake(self.settings) as connection:
                    remove_deleted(connection, "lake")
                compact_sqlite(self.settings.catalog)
        return []

    def survey(self, batch: Batch) -> list[Outcome]:
        """Rows that are there."""
        if not self.settings.catalog.exists():
            return []
        outcomes = []
        with attached_lake(self.settings, read_only=True) as connection, _batch_tables(connection, batch):
            found = relations(connection)
            self._derive_keys(connection, found)
            for relation in found:
                there = sum(
                    _count(connection, f"select count(*) from {relation.sql} where {condition}")
                    for _, condition in self._conditions(relation, batch.duty)
                )
                kept = _count(connection, f"select count(*) from {relation.sql} where {self._kept(relation, batch.duty)}")
                outcomes.append(Outcome(self.name, str(relation), there, kept))
        return outcomes

    def _derive_keys(self, connection: duckdb.DuckDBPyConnection, found: list[Relation]) -> None:
        """Numbers that stand for the batch's persons, looked up before the rows that say so go."""
        for key, (schema, name, column) in DERIVED_KEYS.items():
            there = table_exists(connection, schema, name)
            for tokens in (_FULL, _RESTRICTED):
                source = f"lake.{schema}.{name} where {column} in (select token from {tokens})"
                query = f"select {key} as number from {source}" if there else "select null::bigint as number where false"
                connection.execute(f"create or replace temp table {tokens}_{key} as {query}")

    def _owned(self, relation: Relation, tokens: str) -> str:
        parts = [f"{identifier(column)} in (select token from {tokens})" for column in relation.owners]
        parts += [f"{identifier(column)} in (select number from {tokens}_{column})" for column in relation.derived]
        return f"({' or '.join(parts)})"

    def _conditions(self, relation: Relation, duty: Duty | None) -> list[tuple[str, str]]:
        """What to do (`delete`, `null <column>`) and the condition of the rows."""
        if (relation.schema, relation.name) in LEAVES:
            return []
        made = []
        if relation.owners or relation.derived:
            kept = duty.kept(relation.schema, relation.name) if duty else False
            condition = self._owned(relation, _FULL)
            if kept is False:
                condition += f" or {self._owned(relation, _RESTRICTED)}"
            elif kept is not True:
                condition += f" or ({self._owned(relation, _RESTRICTED)} and not coalesce({kept}, false))"
            made.append(("delete", condition))
        for column in relation.mentions:
            made.append((f"null {column}", f"{identifier(column)} in (select token from {_FULL})"))
        return made

    def _kept(self, relation: Relation, duty: Duty | None) -> str:
        """Condition of the rows that the duty keeps."""
        kept = duty.kept(relation.schema, relation.name) if duty else False
        if kept is False or not (relation.owners or relation.derived):
            return "false"
        owned = self._owned(relation, _RESTRICTED)
        return owned if kept is True else f"{owned} and coalesce({kept}, false)"

    def _forget_in(self, connection: duckdb.DuckDBPyConnection, relation: Relation, duty: Duty | None) -> Outcome:
        erased, notes = 0, []
        conditions = self._conditions(relation, duty)
        if not conditions:
            return Outcome(self.name, str(relation), note="a leaf holds hashes only; its payload is erased")
        for action, condition in conditions:
            if action == "delete":
                erased += _count(connection, f"delete from {relation.sql} where {condition}")
            else:
                column = identifier(action.removeprefix("null "))
                changed = _count(connection, f"update {relation.sql} set {column} = null where {condition}")
                if changed:
                    erased += changed
                    notes.append(f"{changed} mentions in other people's rows emptied")
        kept = _count(connection, f"select count(*) from {relation.sql} where {self._kept(relation, duty)}")
        return Outcome(self.name, str(relation), erased, kept, "; ".join(notes))
