"""A role's bundle: one encrypted DuckDB file with the relations that the role opens, and nothing else.

A laptop's store has no users: whoever can read the catalogue can read everything, for it holds the files' keys. So a role gets a
copy, made of what its table names, under a key of its own (AES-256-GCM, by DuckDB). The vault's keys, the ledger's inputs and the
other roles' pseudonyms are not behind a lock in it; they are not there. Any DuckDB from 1.4 on opens it, read-only.

A bundle is as old as the publication that wrote it: each one writes every bundle anew, whole or not at all, and so does an
erasure. A bundle in which a pseudonym of another zone stands is not handed out.

Belongs here: writing and opening bundles. Does not belong here: who has one (`grants`).
https://duckdb.org/docs/stable/sql/statements/attach (encryption).
"""

import os
import shutil
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from orchestration.access.errors import AccessError
from orchestration.access.grants import Grant, in_force, key_path, read_key
from orchestration.access.roles import NO_ZONE, Opening, Role, load_roles
from orchestration.identity.pseudonyms import PREFIXES, TOKEN_LENGTH
from orchestration.lake import attach, engine, identifier, literal, relation_columns, transaction
from orchestration.ledger.errors import LedgerError
from orchestration.ledger.reading_log import log_reading
from orchestration.settings import Settings

DECISIONS = "ops.decisions"
_LEDGER = ("ops.decision", "ops.ledger_")


@dataclass(frozen=True)
class Written:
    """A bundle that was written: rows by relation, and relations of the role that no run has made yet."""

    grant: Grant
    rows: dict[str, int]
    absent: tuple[str, ...]


def write_bundles(settings: Settings, chosen: Iterable[Grant] | None = None) -> list[Written]:
    """Write the bundles of these grants, or of all in force, from one state of the lake.

    Each bundle with ledger relations is logged as a reading of the ledger before it appears. Raises `AccessError` if a bundle
    cannot be written, or would hold a pseudonym of another zone; what was there before it stays.
    """
    wanted = list(in_force(settings) if chosen is None else chosen)
    if not wanted:
        return []
    if not settings.catalog.exists():
        raise AccessError(f"there is no store under {settings.root} yet: start one with `segline run`")
    written = []
    with engine(settings) as connection:
        attach(connection, "lake", settings.catalog, settings.lake_data, read_only=True)
        known = relation_columns(connection)
        for grant in wanted:
            role = load_roles().get(grant.role)
            if role is None:
                raise AccessError(f"the grant {grant.grant_id} is for {grant.role!r}, which is no role any more: revoke it")
            written.append(_write(connection, settings, grant, role, known))
    return written


def refresh_bundles(settings: Settings) -> str | None:
    """Write every bundle anew after somebody left what is published. Returns what went wrong, if anything did.

    An error is told and not raised: the opt-out is in force in the lake, and the next publication writes the bundle again.
    """
    try:
        write_bundles(settings)
    except (AccessError, LedgerError, OSError, duckdb.Error) as error:
        return f"{type(error).__name__}: {error}" if isinstance(error, AccessError | LedgerError) else type(error).__name__
    return None


def _write(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    grant: Grant,
    role: Role,
    known: dict[tuple[str, str], dict[str, str]],
) -> Written:
    folder = Path(grant.folder)
    draft = folder / f".{grant.bundle.name}.{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        for left in folder.glob(f".{grant.bundle.name}.*"):
            left.unlink()
    except OSError as error:
        raise AccessError(f"{folder} cannot be written to ({error.strerror}): revoke the grant and give one elsewhere") from None
    there = [one for one in role.opens if (one.schema, one.name) in known]
    try:
        _attach_bundle(connection, draft, read_key(key_path(settings, grant)), read_only=False)
        try:
            with transaction(connection):  # one state of the lake, whatever is published meanwhile
                rows = {one.relation: _copy(connection, one, known[one.schema, one.name]) for one in there}
                _describe(connection, grant, role, rows)
                _require_zone(connection, role)
            connection.execute("checkpoint bundle")
        finally:
            connection.execute("detach bundle")
        _hand_over(draft, grant.group)
        if any(relation.startswith(_LEDGER) for relation in rows):
            log_reading(settings, f"bundle:{role.role}", leaf_count=rows.get(DECISIONS, 0))
        os.replace(draft, grant.bundle)
    except duckdb.Error as error:
        # The engine's message may quote the statement, and with it the key.
        raise AccessError(f"the bundle of {role.role} could not be written ({type(error).__name__})") from None
    finally:
        draft.unlink(missing_ok=True)
        draft.with_name(f"{draft.name}.wal").unlink(missing_ok=True)
    return Written(grant, rows, tuple(one.relation for one in role.opens if one not in there))


def _attach_bundle(connection: duckdb.DuckDBPyConnection, path: Path, key: str, read_only: bool) -> None:
    """Attach as `bundle`. The statement is the one place where the key is text; no log of the engine is on."""
    options = f"encryption_key {literal(key)}" + (", read_only" if read_only else "")
    connection.execute(f"attach {literal(path)} as bundle ({options})")


def _copy(connection: duckdb.DuckDBPyConnection, opening: Opening, columns: dict[str, str]) -> int:
    missing = sorted(set(opening.columns) - set(columns))
    if missing:
        raise AccessError(f"{opening.relation} has no column {', '.join(missing)}: correct roles.yml")
    chosen = ", ".join(identifier(name) for name in opening.columns or columns)
    target = f"bundle.{identifier(opening.schema)}.{identifier(opening.name)}"
    condition = f" where {opening.where}" if opening.where else ""
    connection.execute(f"create schema if not exists bundle.{identifier(opening.schema)}")
    connection.execute(
        f"create table {target} as select {chosen} from lake.{identifier(opening.schema)}.{identifier(opening.name)}{condition}"
    )
    return int(connection.execute(f"select count(*) from {target}").fetchone()[0])


def _describe(connection: duckdb.DuckDBPyConnection, grant: Grant, role: Role, rows: dict[str, int]) -> None:
    """What the bundle is, for whoever opens it."""
    connection.execute("create schema bundle.about")
    connection.execute(
        "create table bundle.about.bundle as select ? as role, ? as holder, ? as grant_id, ? as pseudonyms_of_zone, "
        "cast(? as timestamp) as written_at",
        [role.role, grant.holder, grant.grant_id, role.zone, datetime.now(UTC).replace(tzinfo=None)],
    )
    connection.execute("create table bundle.about.relations (relation varchar, row_count bigint)")
    connection.executemany("insert into bundle.about.relations values (?, ?)", list(rows.items()) or [("none", 0)])


def _require_zone(connection: duckdb.DuckDBPyConnection, role: Role) -> None:
    """Every column of pseudonyms holds those of the role's zone; a role without a zone has no such column."""
    columns = connection.execute(
        "select schema_name, table_name, column_name from duckdb_columns() where database_name = 'bundle' "
        "and regexp_matches(column_name, '_token$')"
    ).fetchall()
    for schema, table, column in columns:
        is_pure = False
        if role.zone != NO_ZONE:
            form = f"{PREFIXES[role.zone]}[A-Za-z0-9_-]{{{TOKEN_LENGTH}}}"  # type: ignore[index]
            (is_pure,) = connection.execute(
                f"select coalesce(bool_and(regexp_full_match({identifier(column)}, ?)), true) "
                f"from bundle.{identifier(schema)}.{identifier(table)}",
                [form],
            ).fetchone()
        if not is_pure:
            raise AccessError(
                f"{schema}.{table}.{column} holds pseudonyms that are not of {role.role}'s zone {role.zone}: "
                "nothing is handed out"
            )


def _hand_over(path: Path, group: str | None) -> None:
    """Whole on the disk; readable by its owner, and by the group if there is one."""
    os.chmod(path, 0o640 if group else 0o600)
    if group:
        try:
            shutil.chown(path, group=group)
        except (LookupError, OSError) as error:
            raise AccessError(f"the bundle cannot be given to the group {group!r} ({error}): make the group first") from None
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read_bundle(path: Path, key_file: Path, sql: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Column names and rows of one SELECT over a bundle; the engine reaches nothing but that file.

    Raises `AccessError` for a wrong key, a file that is no bundle, or a query that is refused.
    """
    if not path.is_file():
        raise AccessError(f"there is no bundle {path}")
    key = read_key(key_file)
    with closing(duckdb.connect()) as connection:
        try:
            _attach_bundle(connection, path, key, read_only=True)
        except duckdb.Error:
            raise AccessError(f"{path} does not open with the key in {key_file}") from None
        connection.execute("use bundle")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        try:
            statements = connection.extract_statements(sql)
            if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
                raise AccessError("one SELECT is expected")
            cursor = connection.execute(statements[0])
            return [column[0] for column in cursor.description], cursor.fetchall()
        except duckdb.Error as error:
            raise AccessError(str(error).splitlines()[0]) from None
