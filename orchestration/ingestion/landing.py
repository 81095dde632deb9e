"""Landing: from files to pseudonymous raw tables, reconciled, in one transaction.

Belongs here: the order of work of one delivery and what is recorded about it. Does not belong here: how rows are judged
(`examining`), how persons are pseudonymised (`orchestration.identity`).

Identifiers exist only inside the engine of this process: the identity split sits between the examination and the first
write to the lake, and the vault commits before the raw tables do.
"""

from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from orchestration.identity.capability import capability_column, forget_persons, remember_persons
from orchestration.identity.keys import MasterKeys
from orchestration.identity.split import CUSTOMERS, SUBJECTS, SplitResult, drop_tables, split_customers, tokenise
from orchestration.ingestion.contracts import load_contracts
from orchestration.ingestion.delivery import Delivery, Report, clear_leftovers, count_rows, record, scratch_database
from orchestration.ingestion.examining import Examination, Examiner
from orchestration.ingestion.mapping import Mapping
from orchestration.ingestion.reading import Source
from orchestration.lake import ensure_zones, identifier, literal, transaction
from orchestration.rights.intake import renew_opt_outs
from orchestration.rights.suppression import Suppression
from orchestration.settings import Settings
from orchestration.turns import shared_turn

RECONCILIATION_DDL = (
    "create table if not exists lake.ops.reconciliation (run_id varchar, feed varchar, entity varchar, "
    "rows_in_file bigint, rows_excluded bigint, rows_read bigint, rows_kept bigint, duplicates bigint, "
    "quarantined bigint, quarantined_share double, landed_at timestamp)"
)
QUARANTINE_DDL = (
    "create table if not exists lake.ops.quarantine (run_id varchar, entity varchar, feed varchar, file varchar, "
    "row_number bigint, column_name varchar, reason varchar, value_shape varchar, quarantined_at timestamp)"
)
LOADS_DDL = (
    "create table if not exists lake.ops.loads (run_id varchar, feed varchar, entity varchar, file varchar, sha256 varchar, "
    "bytes bigint, modified_at timestamp, loaded_at timestamp)"
)


class ReconciliationError(RuntimeError):
    """Rows went missing or appeared between a file and the raw table; the delivery is rolled back."""


def land(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    keys: MasterKeys,
    mapping: Mapping,
    data: Path,
    as_of: datetime,
    run_id: str,
    report: Report,
) -> Delivery:
    """Take in a whole delivery: all raw tables are replaced together, or none.

    `connection` has the lake attached. Raises `SourceError` for a file that cannot be taken in, `ReconciliationError` if
    counts do not add up; both leave the lake as it was.
    """
    with shared_turn(settings.turn_file, settings.lock_wait_seconds):
        ensure_zones(connection)
        with transaction(connection):
            for ddl in (RECONCILIATION_DDL, QUARANTINE_DDL, LOADS_DDL):
                connection.execute(ddl)
    delivery = Delivery()
    examiner = Examiner(connection, mapping, data, as_of)
    suppression = Suppression(connection, settings)
    examiner.withheld = suppression.condition
    contracts = load_contracts()
    clear_leftovers(settings)
    with scratch_database(connection, settings), ExitStack() as turn:
        # The engine writes to one database per transaction, so everything is examined before the lake's begins.
        connection.execute("use memory.main")
        try:
            examiner.open_lookups()
            examinations = []
            for step, (entity, contract) in enumerate(contracts.items()):
                report(f"checking {entity}", step / len(contracts) / 2)
                examinations.append(examiner.examine(contract, None if entity == "customers" else "subjects"))
                if entity == "customers":
                    split = _split(connection, settings, keys, examinations[0], as_of, run_id, suppression)
                suppression.blank_rows(examinations[-1])
            turn.enter_context(shared_turn(settings.turn_file, settings.lock_wait_seconds))
            with transaction(connection):
                connection.execute("delete from lake.ops.quarantine")
                for step, examination in enumerate(examinations):
                    entity = examination.contract.entity
                    report(f"landing {entity}", 0.5 + step / len(contracts) / 2)
                    if entity == "customers":
                        columns = ", ".join(contracts[entity].raw_columns())
                        connection.execute(f"create or replace table lake.raw.{entity} as select {columns} from {split.relation}")
                    else:
                        _store_events(connection, keys, examination, run_id, suppression)
                    for count in examination.counts.values():
                        count.rows_kept = count_rows(connection, f"lake.raw.{entity} where feed = {literal(count.feed)}")
                    record(delivery, examination, connection)
                    _store_evidence(connection, examination, run_id)
                delivery.counts += examiner.lookup_counts.values()
                _store_counts(connection, delivery, run_id)
                _store_files(connection, examiner.lookup_sources, "lookup", run_id, prefix="lookup:")
                _require_reconciled(delivery)
            for examination in examinations:
                examiner.close(examination)
        finally:
            connection.execute("drop view if exists subjects")
            drop_tables(connection, CUSTOMERS, SUBJECTS)
            forget_persons(connection)
            suppression.close()
            connection.execute("use lake")
    return delivery


def _split(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    keys: MasterKeys,
    customers: Examination,
    as_of: datetime,
    run_id: str,
    suppression: Suppression,
) -> SplitResult:
    """Identifiers into the vault; `subjects` becomes what events refer to."""
    connection.execute(f"create or replace temp table typed_customers as select * from {customers.kept}")
    suppression.withhold_customers(keys, customers, "typed_customers")
    split = split_customers(connection, customers.contract, "typed_customers", keys, settings, as_of, run_id)
    remember_persons(connection, "typed_customers", split.subjects, customers.contract.key)
    renew_opt_outs(settings, keys, connection, split.subjects)
    connection.execute("drop table typed_customers")
    connection.execute(
        "create or replace temp view subjects as "
        f"select value as customer_id, token as subject_token from {identifier(split.subjects)}"
    )
    return split


def _store_events(
    connection: duckdb.DuckDBPyConnection,
    keys: MasterKeys,
    examination: Examination,
    run_id: str,
    suppression: Suppression,
) -> None:
    contract = examination.contract
    counterparty = next((column.name for column in contract.columns if column.counterparty), None)
    joined = ""
    if counterparty:
        tokenise(connection, examination.counterparties, counterparty, "raw", keys, "counterparty_tokens")
        suppression.withhold_counterparties(keys, "counterparty_tokens")
        joined = f" left join counterparty_tokens on kept.{counterparty} = counterparty_tokens.value"
    picked = {
        "load_id": f"{literal(run_id)}::varchar as load_id",
        "counterparty_token": "counterparty_tokens.token as counterparty_token",
    }
    if contract.age_checked:
        capable, joins = capability_column("kept", contract.event_time or contract.key)
        picked["is_capable_at_collection"] = f"{capable} as is_capable_at_collection"
        joined += joins
    columns = ", ".join(picked.get(name, f"kept.{name}") for name in contract.raw_columns())
    connection.execute(
        f"create or replace table lake.raw.{contract.entity} as select {columns} from {examination.kept} as kept{joined}"
    )
    connection.execute("drop table if exists counterparty_tokens")
    suppression.repeat_requests(contract, run_id)


def _store_evidence(connection: duckdb.DuckDBPyConnection, examination: Examination, run_id: str) -> None:
    now = _now()
    connection.execute(
        f"insert into lake.ops.quarantine select {literal(run_id)}, {literal(examination.contract.entity)}, feed, file, "
        f"row_number, column_name, reason, value_shape, timestamp {literal(now)} from {examination.quarantine}"
    )
    _store_files(connection, examination.sources, examination.contract.entity, run_id)


def _store_files(
    connection: duckdb.DuckDBPyConnection, sources: dict[str, Source], entity: str, run_id: str, prefix: str = ""
) -> None:
    rows = [
        {
            "run_id": run_id,
            "feed": prefix + feed,
            "entity": entity,
            "file": file.path.name,
            "sha256": file.sha256,
            "bytes": file.size,
            "modified_at": datetime.fromtimestamp(file.modified, UTC).replace(tzinfo=None),
            "loaded_at": _now(),
        }
        for feed, source in sources.items()
        for file in source.files
    ]
    _insert(connection, "lake.ops.loads", rows)


def _store_counts(connection: duckdb.DuckDBPyConnection, delivery: Delivery, run_id: str) -> None:
    landed_at = _now()
    rows = [
        {
            "run_id": run_id,
            "feed": count.feed,
            "entity": count.entity,
            "rows_in_file": count.rows_in_file,
            "rows_excluded": count.rows_excluded,
            "rows_read": count.rows_read,
            "rows_kept": count.rows_kept,
            "duplicates": count.duplicates,
            "quarantined": count.quarantined,
            "quarantined_share": count.quarantined / count.rows_read if count.rows_read else 0.0,
            "landed_at": landed_at,
        }
        for count in delivery.counts
    ]
    _insert(connection, "lake.ops.reconciliation", rows)


def _insert(connection: duckdb.DuckDBPyConnection, table: str, rows: list[dict[str, object]]) -> None:
    if rows:
        connection.register("arriving", pa.Table.from_pylist(rows))
        connection.execute(f"insert into {table} by name select * from arriving")
        connection.unregister("arriving")


def _require_reconciled(delivery: Delivery) -> None:
    for count in delivery.counts:
        if not count.reconciles:
            raise ReconciliationError(
                f"feed {count.feed}: {count.rows_read} rows read, but {count.rows_kept} kept + {count.duplicates} duplicates "
                f"+ {count.quarantined} quarantined; nothing was stored"
            )


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)
