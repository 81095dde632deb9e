"""Re-keying: every pseudonym that is stored becomes the one that the new key makes, and nobody is lost on the way.

| where | what becomes of it |
|---|---|
| lake | every column of pseudonyms is written anew, in one transaction; old snapshots and files go |
| ledger | stays as it is, it is signed; `ops.ledger_names` says by which pseudonym it knows whom |
| rights log | open requests and legal holds move to the new pseudonyms; what is closed is found by the retired key |
| suppression list | who is known is entered anew; who was erased is known to nobody, and stays found by the retired key |
| opt-outs | move; those of people who were no customers yet follow when a delivery names them |
| exports | withdrawn: a right would find nobody in them any more |
| vault, key store | sealed anew (`identity.rotation`) |

Who is nobody's customer (the other side of a payment) gets a stand-in until the next delivery. Each step is done wholly or not at
all and may be repeated; the vault comes last, for as long as it is the old one the way from old to new can be worked out again.

Belongs here: the places of pseudonyms and their order. Does not belong here: keys and vault (`identity.rotation`).
"""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow as pa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestration.identity import rotation
from orchestration.identity.errors import RotationError
from orchestration.identity.keys import MasterKeys, load_keys
from orchestration.identity.pseudonyms import person_tokens, stand_ins, tokens_by_zone
from orchestration.identity.sealing import NONCE_BYTES
from orchestration.identity.vault import attached_vault
from orchestration.ingestion.contracts import load_contracts
from orchestration.lake import identifier, table_columns, table_exists, transaction
from orchestration.ledger.names import DDL as NAMES_DDL
from orchestration.ledger.names import RELATION as NAMES_RELATION
from orchestration.online.event_log import has_events
from orchestration.online.event_log import open_log as open_events
from orchestration.online.event_log import replace_tokens as replace_event_tokens
from orchestration.online.serving import is_serving
from orchestration.rights import certificate
from orchestration.rights.canary import canary_tokens
from orchestration.rights.engines import attached_lake, one_engine
from orchestration.rights.erasure import pending_deletions
from orchestration.rights.export_files import withdraw_all
from orchestration.rights.intake import intake_path, read_opt_outs, replace_tokens
from orchestration.rights.reach import key_columns
from orchestration.rights.requests import RightsLog, has_log, now, open_log, token_hash
from orchestration.rights.upkeep import compact_sqlite, remove_deleted
from orchestration.settings import Settings

KEYS_DDL = "create table if not exists lake.ops.pseudonym_keys (key_version integer, in_use_from timestamp)"
_ZONES = ("raw", "risk", "audience")
_LEDGER_COLUMN = "ledger_token"
# Signed: a row that changed would be a finding.
_SIGNED = {("ops", "decision_payloads"), ("ops", "decisions")}
_RENEWED = "renewed_tokens"


@dataclass(frozen=True)
class Rotated:
    """What a rotation did. `persons` is how many persons' keys were wrapped anew or replaced."""

    version: int
    kek_version: int
    persons: int
    with_pseudonyms: bool
    keeps_old_pseudonym_key: bool


def rotate(settings: Settings, with_pseudonyms: bool = False, report: Callable[[str], None] = lambda stage: None) -> Rotated:
    """Rotate the wrapping key, or with `with_pseudonyms` all master keys; goes on where one was interrupted, whatever is asked.

    The caller holds the home's lock and a turn at the store, which keeps opt-outs away. Raises `RotationError` if something has
    to be done first.
    """
    with one_engine(settings) as engine:
        begun = rotation.pending(settings)
        goes_on = begun is not None
        if begun is None:
            keys = load_keys(settings)
            if with_pseudonyms:
                _require_ready(engine, settings, keys)
            keeps = with_pseudonyms and _needs_old_pseudonyms(settings)
            begun = rotation.begin(settings, with_pseudonyms, keeps, certificate.public_key(keys))
        old, new = begun
        if new.version == old.version:
            report("wrapping the persons' keys")
            with _first_step(settings, goes_on):
                persons = rotation.rewrap(settings, old, new)
            if has_log(settings):
                with open_log(settings) as log:
                    _renew_log(log, old, new, {})
                    log.compact()
        else:
            persons = _rekey(engine, settings, old, new, report, goes_on)
        rotation.finish(settings)
    return Rotated(new.version, new.kek_version, persons, new.version > old.version, len(new.retired) > len(old.retired))


@contextmanager
def _first_step(settings: Settings, goes_on: bool) -> Iterator[None]:
    """The step before which nothing was changed, done wholly or not at all: an error in it leaves everything as it was."""
    try:
        yield
    except Exception:
        if not goes_on:
            rotation.abandon(settings)
        raise


def _require_ready(engine: duckdb.DuckDBPyConnection, settings: Settings, keys: MasterKeys) -> None:
    """Whoever is to be erased must be before, and whoever is in the book or under a hold must be in the vault: of anybody else
    nobody could say who he is under the new key."""
    if is_serving(settings):
        raise RotationError("an online service answers for this home with the present keys: end it, rotate, start it again")
    apply_first = "carry out the deletions that wait (`segline rights apply`), then rotate"
    known = rotation.known_tokens(engine, settings)
    if rotation.keyless(engine, settings):
        raise RotationError(f"entries of the vault have no key any more: {apply_first}")
    if has_log(settings):
        with open_log(settings) as log:
            waiting = [request for request in pending_deletions(log) if request.state != "received"]
            held = set(log.held_on(now()))
        if waiting:
            raise RotationError(f"{len(waiting)} deletions are not done: {apply_first}")
        if held - {token_hash(value) for value in known["subject_token"].to_pylist()}:
            raise RotationError("a legal hold is on somebody who is not in the vault: end it, rotate, and place it again")
    if settings.catalog.exists():
        twins = pa.table({"subject_token": [tokens[0] for tokens in canary_tokens(keys).values()]})
        with attached_lake(settings, read_only=True) as connection:
            if not table_exists(connection, "raw", "customers"):
                return
            connection.register("known_persons", pa.concat_tables([known.cast(twins.schema), twins]))
            row = connection.execute(
                "select count(*) from lake.raw.customers where subject_token not in (select subject_token from known_persons)"
            ).fetchone()
            connection.unregister("known_persons")
        if row and row[0]:
            raise RotationError(
                f"{row[0]} customers of the book are not in the vault: restore it from its backup, or run the delivery again "
                "with the present keys"
            )


def _needs_old_pseudonyms(settings: Settings) -> bool:
    """Whether something stays that only the old key can find: ledger rows, requests, suppressions, opt-outs."""
    if has_log(settings) or intake_path(settings).exists():
        return True
    if not settings.catalog.exists():
        return False
    with attached_lake(settings, read_only=True) as connection:
        return table_exists(connection, "ops", "decision_payloads")


def _rekey(
    engine: duckdb.DuckDBPyConnection,
    settings: Settings,
    old: MasterKeys,
    new: MasterKeys,
    report: Callable[[str], None],
    goes_on: bool,
) -> int:
    contract = load_contracts()["customers"]
    attributes = [contract.subject_column.name, *(column.name for column in contract.identifiers)]
    if not rotation.is_resealed(engine, settings, new):
        with _first_step(settings, goes_on):
            report("working out the new pseudonyms")
            persons = _persons(engine, settings, old, new, attributes[0])
            if settings.catalog.exists():
                report("rewriting the lake")
                _renew_lake(settings, persons, new)
        by_hash = {token_hash(before): token_hash(after) for before, after in persons.pairs("raw")}
        if has_log(settings):
            report("moving requests, holds and suppressions")
            with open_log(settings) as log:
                _renew_log(log, old, new, by_hash)
        _renew_opt_outs(settings, persons)
        _renew_events(settings, persons, new)
    withdraw_all(settings)
    report("sealing the vault anew")
    resealed = rotation.reseal(engine, settings, old, new, attributes)
    report("removing what was replaced")
    if settings.catalog.exists():
        with attached_lake(settings) as connection:
            remove_deleted(connection, "lake")
        compact_sqlite(settings.catalog)
    if settings.vault_catalog.exists():
        with attached_vault(engine, settings) as vault:
            remove_deleted(vault, "vault")
        compact_sqlite(settings.vault_catalog)
    if has_log(settings):
        with open_log(settings) as log:
            log.compact()
    return resealed


@dataclass(frozen=True)
class _Persons:
    """Old and new token by zone of everybody in the vault, and of the canary's twins; `ledger` the ledger's old one."""

    old: dict[str, pa.ChunkedArray]
    new: dict[str, pa.ChunkedArray]
    ledger: pa.ChunkedArray

    def pairs(self, zone: str) -> list[tuple[str, str]]:
        return list(zip(self.old[zone].to_pylist(), self.new[zone].to_pylist(), strict=True))

    def table(self) -> pa.Table:
        parts = [pa.table({"token": self.old[zone], "renewed": self.new[zone]}) for zone in _ZONES]
        return pa.concat_tables(parts)


def _persons(
    engine: duckdb.DuckDBPyConnection, settings: Settings, old: MasterKeys, new: MasterKeys, subject_attribute: str
) -> _Persons:
    before: dict[str, list[pa.Array]] = {zone: [] for zone in _ZONES}
    after: dict[str, list[pa.Array]] = {zone: [] for zone in _ZONES}
    for customers in rotation.customers_of(engine, settings, old, subject_attribute):
        names = pa.array(customers, pa.string())
        for made, keys in ((before, old), (after, new)):
            for zone, column in zip(_ZONES, tokens_by_zone(keys, _ZONES, names), strict=True):
                made[zone].append(column)
    twins = canary_tokens(old), canary_tokens(new)
    for twin in twins[0]:
        for place, zone in enumerate(_ZONES):
            before[zone].append(pa.array([twins[0][twin][place]], pa.string()))
            after[zone].append(pa.array([twins[1][twin][place]], pa.string()))
    (ledger,) = zip(*(tokens_by_zone(old, ["ledger"], column) for column in before["raw"]), strict=True)
    return _Persons(
        {zone: pa.chunked_array(parts) for zone, parts in before.items()},
        {zone: pa.chunked_array(parts) for zone, parts in after.items()},
        pa.chunked_array(list(ledger)),
    )


# the lake


def _renew_lake(settings: Settings, persons: _Persons, new: MasterKeys) -> None:
    """Every pseudonym of every table, in one transaction, with the record that it was done."""
    with attached_lake(settings) as connection:
        connection.execute("create schema if not exists lake.ops")
        connection.execute(KEYS_DDL)
        connection.execute(NAMES_DDL)
        done = connection.execute("select count(*) from lake.ops.pseudonym_keys where key_version >= ?", [new.version]).fetchone()
        if done[0]:
            return
        connection.register("renewed_given", persons.table())
        connection.execute(f"create or replace temp table {_RENEWED} as select * from renewed_given")
        connection.unregister("renewed_given")
        tables = [
            (schema, name, columns)
            for (schema, name), owned in table_columns(connection).items()
            if (schema, name) not in _SIGNED and (columns := _token_columns(owned))
        ]
        _add_stand_ins(connection, tables, new)
        try:
            with transaction(connection):
                for schema, name, columns in tables:
                    _renew_table(connection, f"lake.{identifier(schema)}.{identifier(name)}", columns)
                _name_for_ledger(connection, persons)
                connection.execute("insert into lake.ops.pseudonym_keys values (?, ?)", [new.version, now()])
        finally:
            connection.execute(f"drop table if exists temp.{_RENEWED}")


def _token_columns(columns: dict[str, str]) -> list[str]:
    """Columns of pseudonyms that are made anew: all but the ledger's."""
    owners, mentions, _ = key_columns(columns)
    return [name for name in (*owners, *mentions) if name != _LEDGER_COLUMN]


def _add_stand_ins(connection: duckdb.DuckDBPyConnection, tables: list[tuple[str, str, list[str]]], new: MasterKeys) -> None:
    """A new token for whoever is in the lake and not in the vault, so that equal ones stay equal."""
    asked = " union ".join(
        f"select {identifier(column)} as token from lake.{identifier(schema)}.{identifier(name)} "
        f"where {identifier(column)} is not null"
        for schema, name, columns in tables
        for column in columns
    )
    if not asked:
        return
    others = connection.execute(f"select token from ({asked}) anti join {_RENEWED} using (token)").to_arrow_table()
    if others.num_rows:
        column = others["token"].combine_chunks()
        connection.register("standing_in", pa.table({"token": column, "renewed": stand_ins(new, column)}))
        connection.execute(f"insert into {_RENEWED} select * from standing_in")
        connection.unregister("standing_in")


def _renew_table(connection: duckdb.DuckDBPyConnection, relation: str, columns: list[str]) -> None:
    """All rows out and in again, with their new pseudonyms: cheaper than changing most of them; the table stays the same."""
    replaced = ", ".join(f"made_{place}.renewed as {identifier(name)}" for place, name in enumerate(columns))
    joins = " ".join(
        f"left join {_RENEWED} as made_{place} on made_{place}.token = held.{identifier(name)}"
        for place, name in enumerate(columns)
    )
    connection.execute(
        f"create or replace temp table renewed_rows as select held.* replace ({replaced}) from {relation} as held {joins}"
    )
    connection.execute(f"delete from {relation}")
    connection.execute(f"insert into {relation} by name select * from renewed_rows")
    connection.execute("drop table temp.renewed_rows")


def _name_for_ledger(connection: duckdb.DuckDBPyConnection, persons: _Persons) -> None:
    """Who is in the ledger keeps the pseudonym by which it knows him: `ops.ledger_names`, erased with the person."""
    if not table_exists(connection, "ops", "decision_payloads"):
        return
    connection.register("named_given", pa.table({"subject_token": persons.new["raw"], "ledger_token": persons.ledger}))
    connection.execute(
        f"insert into {NAMES_RELATION} by name select given.* from named_given as given "
        "semi join lake.ops.decision_payloads as payloads on payloads.subject_token = given.ledger_token "
        f"anti join {NAMES_RELATION} as held on held.subject_token = given.subject_token"
    )
    connection.unregister("named_given")


# the rights folder


def _renew_log(log: RightsLog, old: MasterKeys, new: MasterKeys, by_hash: dict[str, str]) -> None:
    """Open requests are sealed anew; holds and suppressions of people who are known move. Closed requests stay as they are."""
    decrypt, encrypt = AESGCM(old.kek).decrypt, AESGCM(new.kek).encrypt
    renewed = new.version > old.version
    with log.transaction():
        for request_id, sealed in log.store.execute("select request_id, sealed from pending").fetchall():
            bound = request_id.encode()
            try:
                AESGCM(new.kek).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound)
                continue  # done before an interruption
            except InvalidTag:
                pass
            fields = json.loads(decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], bound))
            if renewed and fields["customer"]:
                fields["tokens"] = person_tokens(new, fields["customer"])
            nonce = os.urandom(NONCE_BYTES)
            again = nonce + encrypt(nonce, json.dumps(fields).encode(), bound)
            log.store.execute("update pending set sealed = ? where request_id = ?", [again, request_id])
        if not renewed:
            return
        for hold_id, held in log.store.execute("select hold_id, subject_hash from holds where lifted_at is null").fetchall():
            if held in by_hash:
                log.store.execute("update holds set subject_hash = ? where hold_id = ?", [by_hash[held], hold_id])
        rows = log.store.execute("select token_hash, zone, subject_hash, duty, request_id, since from suppressions").fetchall()
        known = [(by_hash[row[0]], row[1], by_hash[row[2]], *row[3:]) for row in rows if row[0] in by_hash and row[2] in by_hash]
        log.store.executemany("insert or ignore into suppressions values (?, ?, ?, ?, ?, ?)", known)


def _renew_opt_outs(settings: Settings, persons: _Persons) -> None:
    if not intake_path(settings).exists():
        return
    held = set(read_opt_outs(settings)["subject_token"].to_pylist())
    zones = zip(persons.old["raw"].to_pylist(), *(persons.new[zone].to_pylist() for zone in _ZONES), strict=True)
    replace_tokens(settings, [(before, dict(zip(_ZONES, made, strict=True))) for before, *made in zones if before in held])


def _renew_events(settings: Settings, persons: _Persons, new: MasterKeys) -> None:
    """The events that a service accepted: their persons are in the vault, the other sides need not be."""
    if not has_events(settings):
        return
    known = dict(persons.pairs("raw"))

    def renewed(tokens: set[str]) -> dict[str, str]:
        others = sorted(tokens - known.keys())
        standing_in = dict(zip(others, stand_ins(new, pa.array(others, pa.string())).to_pylist(), strict=True))
        return {token: known[token] for token in tokens if token in known} | standing_in

    with open_events(settings) as log:
        replace_event_tokens(log, renewed, new.version)


@dataclass(frozen=True)
class Status:
    """What the keys are now: where they come from, versions, when pseudonyms were last made anew, retired versions, persons."""

    origin: str
    version: int
    kek_version: int
    retired: tuple[int, ...]
    in_use_from: datetime | None
    persons: int
    under_older_wrapping: int
    is_unfinished: bool


def status(settings: Settings) -> Status:
    """The state of the keys; makes and changes nothing. Raises `MasterKeyError` as `load_keys` does."""
    import sqlite3

    from orchestration.identity.keys import VARIABLE

    begun = rotation.pending(settings)
    keys = begun[0] if begun else load_keys(settings)
    persons = older = 0
    if settings.key_store.exists():
        with closing(sqlite3.connect(settings.key_store, timeout=30)) as store:
            persons, older = store.execute(
                "select count(*), coalesce(sum(kek_version <> ?), 0) from subject_keys", [keys.kek_version]
            ).fetchone()
    since = None
    if settings.catalog.exists():
        with attached_lake(settings, read_only=True) as connection:
            if table_exists(connection, "ops", "pseudonym_keys"):
                (since,) = connection.execute("select max(in_use_from) from lake.ops.pseudonym_keys").fetchone()
    origin = f"the environment variable {VARIABLE}" if os.environ.get(VARIABLE) else str(settings.key_file)
    retired = tuple(one.version for one in keys.retired)
    return Status(origin, keys.version, keys.kek_version, retired, since, persons, older, begun is not None)
