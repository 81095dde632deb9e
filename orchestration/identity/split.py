"""The identity split: a delivery of customers becomes vault entries and rows without identifiers.

Belongs here: the order of the steps and the temporary tables between landing and `raw`. Does not belong here: the
cryptography (`sealing`), the store (`vault`), the reading of files (ingestion).

Keys never enter SQL: tokens come in as Arrow tables. Temporary tables that hold identifiers lie in the engine's memory,
or in its spill files, which must be encrypted.
"""

from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow as pa

from orchestration.identity.age import age_band_sql, min_ages_of, self_consent_sql
from orchestration.identity.errors import DuplicateSubjectError, IdentityError, without_values
from orchestration.identity.keys import MasterKeys
from orchestration.identity.pseudonyms import Zone
from orchestration.identity.region import region_sql
from orchestration.identity.vault import VaultCounts, VaultWriter, open_vault
from orchestration.identity.workers import PERSONS_WORTH_A_PROCESS, TOKENS_WORTH_A_PROCESS, Workers
from orchestration.ingestion.contracts import Contract
from orchestration.lake import identifier, literal
from orchestration.settings import Settings

BATCH_ROWS = 100_000
CUSTOMERS = "split_customers"
SUBJECTS = "split_subjects"
_TOKENS = ("subject_token", "risk_subject_token", "audience_subject_token")


@dataclass(frozen=True)
class SplitResult:
    """Where the split left its rows, and what it did.

    `relation`: temporary table with exactly `Contract.raw_columns()`. `subjects`: temporary table (value, token) of the
    customers' identifiers as delivered and their subject tokens, by which other entities find theirs; it holds
    identifiers, so `drop_tables` it as soon as they have.
    """

    relation: str
    subjects: str
    persons: int
    vault: VaultCounts


def _require_encrypted_spill(connection: duckdb.DuckDBPyConnection) -> None:
    row = connection.execute("select current_setting('temp_file_encryption')").fetchone()
    if not row or not row[0]:
        raise IdentityError("this engine would spill identifiers in plain text; open it with `orchestration.lake.engine`")


def _register_as_table(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    """A temporary table of the engine with those rows."""
    connection.register("arriving", rows)
    try:
        connection.execute(f"create or replace temp table {identifier(name)} as select * from arriving")
    finally:
        connection.unregister("arriving")


def drop_tables(connection: duckdb.DuckDBPyConnection, *names: str) -> None:
    """Drop temporary tables; those that are gone already do not matter."""
    for name in names:
        connection.execute(f"drop table if exists temp.{identifier(name)}")


def _seal_outdated(
    vault: VaultWriter, workers: Workers, batch: pa.RecordBatch, identified: pa.RecordBatch
) -> tuple[pa.Array, pa.Array, Future[pa.RecordBatch]] | None:
    """Send the new and changed persons of a batch to be sealed; nothing if there are none."""
    subjects, fingerprints = identified.column("subject_token"), identified.column("fingerprint")
    outdated = vault.outdated(subjects, fingerprints).combine_chunks()
    if not outdated.num_rows:
        return None
    position = outdated.column("position").combine_chunks()
    rows = {
        "subject_token": subjects.take(position),
        "nonce": outdated.column("nonce").combine_chunks(),
        "wrapped_key": outdated.column("wrapped_key").combine_chunks(),
        **{name: batch.column(name).take(position) for name in batch.schema.names},
    }
    sealing = workers.submit("seal", pa.record_batch(rows))
    return fingerprints.take(position), outdated.column("is_known").combine_chunks(), sealing


def _fill_vault(
    batches: pa.RecordBatchReader, vault: VaultWriter, workers: Workers
) -> list[pa.RecordBatch]:
    """Identify every person, stage the outdated ones; returns value and tokens per person, batch by batch.

    Two short queues keep the helper processes busy without holding more than a few batches in memory.
    """
    ahead = workers.processes + 1
    identifying: deque[tuple[pa.RecordBatch, Future[pa.RecordBatch]]] = deque()
    sealing: deque[tuple[pa.Array, pa.Array, Future[pa.RecordBatch]]] = deque()
    subjects: list[pa.RecordBatch] = []

    def stage_until(left: int) -> None:
        while len(sealing) > left:
            fingerprints, is_known, future = sealing.popleft()
            vault.stage(fingerprints, is_known, future.result())

    def identify_until(left: int) -> None:
        while len(identifying) > left:
            batch, future = identifying.popleft()
            identified = future.result()
            if identified.column("subject_token").null_count:
                raise DuplicateSubjectError("a customer without an identifier reached the split; landing must refuse it")
            values = {"value": batch.column(0)} | {name: identified.column(name) for name in _TOKENS}
            subjects.append(pa.record_batch(values))
            sent = _seal_outdated(vault, workers, batch, identified)
            if sent:
                sealing.append(sent)
            stage_until(ahead)

    for batch in batches:
        identifying.append((batch, workers.submit("identify", batch)))
        identify_until(ahead)
    identify_until(0)
    stage_until(0)
    return subjects


def _raw_select(contract: Contract, relation: str, as_of: datetime, load_id: str) -> str:
    """`select` of the raw columns, in order, from the delivery and the split's own tables."""
    names = {column.name for column in contract.columns}
    birth_date = "delivered.birth_date" if "birth_date" in names else "cast(null as date)"
    region = "delivered.region" if "region" in names else "cast(null as varchar)"
    postal_code = "delivered.postal_code" if "postal_code" in names else "cast(null as varchar)"
    made = {
        "subject_token": "subjects.subject_token",
        "risk_subject_token": "subjects.risk_subject_token",
        "audience_subject_token": "subjects.audience_subject_token",
        "age_band": age_band_sql(birth_date, "delivered.customer_type", as_of),
        "is_self_consent_capable": self_consent_sql(birth_date, "delivered.customer_type", "ages.min_age", as_of),
        "region": region_sql(region, postal_code),
        "load_id": literal(load_id),
    }
    columns = ", ".join(
        f"cast({made.get(name, 'delivered.' + identifier(name))} as {sql_type}) as {identifier(name)}"
        for name, sql_type in contract.raw_columns().items()
    )
    subject = identifier(contract.subject_column.name)
    return (
        f"select {columns} from {relation} as delivered "
        f"inner join {SUBJECTS}_all as subjects on subjects.value = delivered.{subject} "
        "left join split_ages as ages on ages.country = delivered.country"
    )


@without_values("the identity split")
def split_customers(
    connection: duckdb.DuckDBPyConnection,
    contract: Contract,
    relation: str,
    keys: MasterKeys,
    settings: Settings,
    as_of: datetime,
    load_id: str,
) -> SplitResult:
    """Write a delivery's identifiers to the vault and leave its other columns, pseudonymous, in a temporary table.

    `relation` names a table of the connection with all of the contract's columns, typed, and `feed`; the customer's
    identifier is unique in it and never null. `as_of` is UTC. The vault is committed before this returns.

    Raises `DuplicateSubjectError` if two customers are one after Unicode normalisation, `MasterKeyError` and
    `ReferenceDataError` as they say, `IdentityError` without any value for whatever else happens. Nothing is in the vault
    then, or all of the delivery.
    """
    if not contract.identifiers:
        raise IdentityError(f"the contract {contract.entity} has no identifiers to split off")
    _require_encrypted_spill(connection)
    source = identifier(relation)
    attributes = [contract.subject_column.name, *(column.name for column in contract.identifiers)]
    texts = ", ".join(f"cast({identifier(name)} as varchar) as {identifier(name)}" for name in attributes)
    counted = connection.execute(f"select count(*) from {source}").fetchone()
    persons = counted[0] if counted else 0
    countries = [row[0] for row in connection.execute(f"select distinct country from {source}").fetchall()]
    ages = min_ages_of(countries, as_of)

    with open_vault(settings, keys, attributes) as vault, Workers(keys, persons, PERSONS_WORTH_A_PROCESS) as workers:
        batches = connection.execute(f"select {texts} from {source}").to_arrow_reader(BATCH_ROWS)
        subjects = _fill_vault(batches, vault, workers)
        try:
            schema = pa.schema([(name, pa.string()) for name in ("value", *_TOKENS)])
            _register_as_table(connection, f"{SUBJECTS}_all", pa.Table.from_batches(subjects, schema))
            _register_as_table(connection, "split_ages", ages)
            distinct = connection.execute(f"select count(distinct subject_token) from {SUBJECTS}_all").fetchone()
            if not distinct or distinct[0] != persons:
                raise DuplicateSubjectError(
                    f"{persons} rows of {contract.entity} name {distinct[0] if distinct else 0} customers: some "
                    "identifiers are equal once trimmed and in Unicode normal form C; make them one row each"
                )
            connection.execute(
                f"create or replace temp table {CUSTOMERS} as {_raw_select(contract, source, as_of, load_id)}"
            )
            connection.execute(
                f"create or replace temp table {SUBJECTS} as select value, subject_token as token from {SUBJECTS}_all"
            )
        finally:
            drop_tables(connection, f"{SUBJECTS}_all", "split_ages")
        counts = vault.commit(load_id)
    return SplitResult(CUSTOMERS, SUBJECTS, persons, counts)


@without_values("making pseudonyms")
def tokenise(
    connection: duckdb.DuckDBPyConnection,
    relation: str,
    column: str,
    label: Zone,
    keys: MasterKeys,
    table: str | None = None,
) -> str:
    """A temporary table (value, token) of the column's distinct values, to join to; returns its name.

    `value` is the text as delivered; null and blank values are not in it. `table` names it, else it is called after zone
    and column. It holds identifiers: `drop_tables` it when the join is done.
    """
    _require_encrypted_spill(connection)
    name = table or f"tokens_{label}_{column}"
    query = f"select distinct cast({identifier(column)} as varchar) as value from {identifier(relation)}"
    values = connection.execute(f"{query} where {identifier(column)} is not null").to_arrow_table()
    with Workers(keys, values.num_rows, TOKENS_WORTH_A_PROCESS) as workers:
        pending = [(batch, workers.submit(label, batch)) for batch in values.to_batches(max_chunksize=BATCH_ROWS)]
        parts = [
            pa.record_batch({"value": batch.column(0), "token": future.result().column(0)}) for batch, future in pending
        ]
    schema = pa.schema([("value", pa.string()), ("token", pa.string())])
    _register_as_table(connection, name, pa.Table.from_batches(parts, schema))
    connection.execute(f"delete from temp.{identifier(name)} where token is null")
    return name
