"""The identity split: a delivery of customers becomes vault entries and rows without identifiers.

Belongs here: the order of the steps and the temporary tables between landing and `raw`. Does not belong here:
the cryptography (`sealing`), the store (`vault`), the reading of files (ingestion).

Keys never enter SQL: tokens come in as Arrow tables. Temporary tables that hold identifiers lie in the
engine's memory, or in its spill files, which must be encrypted.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from orchestration.identity.age import age_band_sql, min_ages_of, self_consent_sql
from orchestration.identity.errors import DuplicateSubjectError, IdentityError, without_values
from orchestration.identity.keys import MasterKeys
from orchestration.identity.pseudonyms import Zone
from orchestration.identity.region import region_sql
from orchestration.identity.vault import VaultCounts, VaultWriter, open_vault
from orchestration.identity.workers import PERSONS_WORTH_A_PROCESS, TOKENS_WORTH_A_PROCESS, Task, Workers
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

    `relation`: temporary table with exactly `Contract.raw_columns()`. `subjects`: temporary table (value,
    token) of the customers' identifiers as delivered and their subject tokens, by which other entities find
    theirs; it holds identifiers, so `drop_tables` it as soon as they have.
    """

    relation: str
    subjects: str
    persons: int
    vault: VaultCounts


def _require_encrypted_spill(connection: duckdb.DuckDBPyConnection) -> None:
    row = connection.execute("select current_setting('temp_file_encryption')").fetchone()
    if not row or not row[0]:
        raise IdentityError(
            "this engine would spill identifiers in plain text; open it with `orchestration.lake.engine`"
        )


def drop_tables(connection: duckdb.DuckDBPyConnection, *names: str) -> None:
    """Drop temporary tables; those that are gone already do not matter."""
    for name in names:
        connection.execute(f"drop table if exists temp.{identifier(name)}")


def _texts(attributes: Sequence[str]) -> str:
    return ", ".join(
        f"cast(delivered.{identifier(name)} as varchar) as {identifier(name)}" for name in attributes
    )


def _each(workers: Workers, task: Task, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The task's result on each batch, in order; few are under way at a time, to bound memory."""
    waiting: deque[Future[pa.RecordBatch]] = deque()
    for batch in batches:
        waiting.append(workers.submit(task, batch))
        if len(waiting) > workers.processes + 1:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _identify(workers: Workers, batches: pa.RecordBatchReader, entity: str) -> pa.Table:
    """Value, tokens and fingerprint of each person; `DuplicateSubjectError` if two rows are one person."""
    fields = [pa.field(name, pa.string()) for name in ("value", *_TOKENS)]
    schema = pa.schema([*fields, pa.field("fingerprint", pa.binary())])
    people = pa.Table.from_batches(_each(workers, "identify", batches), schema)
    named = people.num_rows - people["subject_token"].null_count
    distinct = pc.count_distinct(people["subject_token"], mode="only_valid").as_py()
    if not people.num_rows == named == distinct:
        raise DuplicateSubjectError(
            f"{people.num_rows} rows of {entity} name {distinct} customers: {people.num_rows - named} "
            f"without an identifier, {named - distinct} with one that equals another's once trimmed and in "
            "Unicode normal form C; make each customer one row"
        )
    return people


def _fill_vault(
    connection: duckdb.DuckDBPyConnection,
    source: str,
    attributes: Sequence[str],
    people: pa.Table,
    vault: VaultWriter,
    workers: Workers,
    load_id: str,
) -> None:
    """Seal those persons whom the vault does not hold as they were delivered, and add them to it."""
    outdated = vault.outdated(people["subject_token"], people["fingerprint"])
    if not outdated.num_rows:
        return
    chosen = people.select(["value", "subject_token", "fingerprint"]).take(outdated["position"])
    for name in ("nonce", "wrapped_key"):
        chosen = chosen.append_column(name, outdated[name])
    connection.register("split_outdated", chosen)
    try:
        batches = connection.execute(
            "select outdated.subject_token, outdated.fingerprint, outdated.nonce, outdated.wrapped_key, "
            f"{_texts(attributes)} from {source} as delivered "
            f"inner join split_outdated as outdated on outdated.value = delivered.{identifier(attributes[0])}"
        ).to_arrow_reader(BATCH_ROWS)
        for sealed in _each(workers, "seal", batches):
            vault.add(sealed, load_id)
    finally:
        connection.unregister("split_outdated")


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
        "is_self_consent_capable": self_consent_sql(
            birth_date, "delivered.customer_type", "ages.min_age", as_of
        ),
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
        f"inner join split_people as subjects on subjects.value = delivered.{subject} "
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
    """Write a delivery's identifiers to the vault; leave the rest, pseudonymous, in a temporary table.

    `relation` names a table of the connection with all of the contract's columns, typed, and `feed`; the
    customer's identifier is unique in it and never null. `as_of` is UTC. The vault is committed before this
    returns.

    Raises `DuplicateSubjectError` if two customers are one after Unicode normalisation, `MasterKeyError` and
    `ReferenceDataError` as they say, `IdentityError` without any value for whatever else happens. Nothing is
    in the vault then, or all of the delivery.
    """
    if not contract.identifiers:
        raise IdentityError(f"the contract {contract.entity} has no identifiers to split off")
    _require_encrypted_spill(connection)
    source = identifier(relation)
    attributes = [contract.subject_column.name, *(column.name for column in contract.identifiers)]
    counted = connection.execute(f"select count(*) from {source}").fetchone()
    persons = counted[0] if counted else 0
    try:
        with Workers(keys, persons, PERSONS_WORTH_A_PROCESS) as workers:
            query = f"select {_texts(attributes)} from {source} as delivered"
            people = _identify(
                workers, connection.execute(query).to_arrow_reader(BATCH_ROWS), contract.entity
            )
            # Registered, not copied: the engine reads the Arrow tables where they are.
            connection.register("split_people", people)
            countries = connection.execute(f"select distinct country from {source}").fetchall()
            connection.register("split_ages", min_ages_of((row[0] for row in countries), as_of))
            raw_rows = _raw_select(contract, source, as_of, load_id)
            connection.execute(f"create or replace temp table {CUSTOMERS} as {raw_rows}")
            connection.execute(
                f"create or replace temp table {SUBJECTS} as "
                "select value, subject_token as token from split_people"
            )
            # Last, when nothing but the vault itself can fail any more.
            with open_vault(connection, settings, keys, attributes) as vault:
                _fill_vault(connection, source, attributes, people, vault, workers, load_id)
                counts = vault.commit()
    except BaseException:
        drop_tables(connection, CUSTOMERS, SUBJECTS)
        raise
    finally:
        connection.unregister("split_people")
        connection.unregister("split_ages")
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

    `value` is the text as delivered; null and blank values are not in it. `table` names it, else it is called
    after zone and column. It holds identifiers: `drop_tables` it when the join is done.
    """
    _require_encrypted_spill(connection)
    name = table or f"tokens_{label}_{column}"
    query = f"select distinct cast({identifier(column)} as varchar) as value from {identifier(relation)}"
    values = connection.execute(f"{query} where {identifier(column)} is not null").to_arrow_table()
    with Workers(keys, values.num_rows, TOKENS_WORTH_A_PROCESS) as workers:
        made = list(_each(workers, label, values.to_batches(max_chunksize=BATCH_ROWS)))
    tokens = pa.Table.from_batches(made, pa.schema([("token", pa.string())]))["token"]
    connection.register("tokenised", values.append_column("token", tokens))
    try:
        connection.execute(
            f"create or replace temp table {identifier(name)} as "
            "select * from tokenised where token is not null"
        )
    finally:
        connection.unregister("tokenised")
    return name
