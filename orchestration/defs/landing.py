"""Sources, landing and identity split: from a tenant's files to pseudonymous raw tables.

Belongs here: asset keys, owners, freshness, metadata. Does not belong here: reading or judging rows (`ingestion`),
pseudonyms (`identity`).
https://docs.dagster.io/guides/build/assets/defining-assets
"""

from collections.abc import Iterator, Mapping
from datetime import timedelta

import dagster as dg

from orchestration import progress
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.deliveries import record_delivery, resolve_as_of, source_folders
from orchestration.identity.keys import load_keys
from orchestration.identity.vault import PERSONS, attached_vault
from orchestration.ingestion.contracts import Contract, load_contracts
from orchestration.ingestion.landing import Delivery, land
from orchestration.ingestion.mapping import load_mapping
from orchestration.lake import open_lake, row_counts
from orchestration.lineage.landed import delivered_columns
from orchestration.online.receiving import add_received_events, forget_past
from orchestration.rights.canary import place_canaries
from orchestration.rights.erasure import repeat_at_start
from orchestration.rights.opt_out import add_received_opt_outs
from orchestration.rights.retention import enforce_at_landing
from orchestration.turns import shared_turn

EVIDENCE = {
    "reconciliation": "Rows read, kept, duplicate and quarantined, one row per run and feed; "
    "what was read is accounted for, or the run fails.",
    "quarantine": "Rows of the newest delivery that broke their contract, with file, row and reason; "
    "values are shown as shapes only.",
    "loads": "Every file ever taken in, with SHA-256, size and time.",
    "deliveries": "One row per delivery: run, mapping, profile and the point in time it stands for.",
}


def source_key(entity: str) -> dg.AssetKey:
    """Asset key of what a tenant delivers for one contract."""
    return dg.AssetKey(["sources", entity])


def raw_key(entity: str) -> dg.AssetKey:
    """Asset key of a raw table."""
    return dg.AssetKey(["raw", entity])


VAULT_KEY = dg.AssetKey(["vault", "persons"])


def source_spec(contract: Contract) -> dg.AssetSpec:
    """The tenant's side: not made here, but the place where every lineage begins."""
    return dg.AssetSpec(
        source_key(contract.entity),
        group_name="sources",
        description=f"{contract.description} Delivered as files; the mapping file says which.",
        owners=[contract.owner],
        kinds={"file"},
        tags={"zone": "sources"},
        metadata={
            "contract/key": contract.key,
            "contract/cadence_hours": contract.cadence_hours,
            "dagster/column_schema": dg.TableSchema(
                columns=[dg.TableColumn(one.name, type=one.type, description=one.description) for one in contract.columns]
            ),
        },
    )


def raw_spec(contract: Contract) -> dg.AssetSpec:
    """A pseudonymous raw table with its schema as the contract gives it."""
    deps = [source_key(contract.entity), VAULT_KEY if contract.entity == "customers" else raw_key("customers")]
    hours = contract.cadence_hours
    return dg.AssetSpec(
        raw_key(contract.entity),
        deps=deps,
        group_name="raw",
        description=f"{contract.description} Checked against its contract, minimised, under keyed pseudonyms.",
        owners=[contract.owner],
        kinds={"duckdb", "python"},
        tags={"zone": "raw"},
        freshness_policy=dg.FreshnessPolicy.time_window(
            fail_window=timedelta(hours=2 * hours), warn_window=timedelta(hours=hours)
        ),
        metadata={"dagster/column_schema": _schema(contract), "dagster/column_lineage": _lineage(contract)},
    )


def vault_spec() -> dg.AssetSpec:
    """The identity vault."""
    return dg.AssetSpec(
        VAULT_KEY,
        deps=[source_key("customers")],
        group_name="vault",
        description="Direct identifiers, encrypted value by value under a key per person. Read by rights jobs only.",
        owners=["team:privacy"],
        kinds={"duckdb", "python"},
        tags={"zone": "vault"},
    )


def evidence_specs() -> list[dg.AssetSpec]:
    """The records that a delivery leaves for auditors."""
    return [
        dg.AssetSpec(
            dg.AssetKey(["ops", name]),
            deps=[source_key(entity) for entity in load_contracts()],
            group_name="ops",
            description=description,
            owners=["team:data-platform"],
            kinds={"duckdb", "python"},
            tags={"zone": "ops"},
        )
        for name, description in EVIDENCE.items()
    ]


def _schema(contract: Contract) -> dg.TableSchema:
    described = {column.name: column.description for column in contract.columns}
    return dg.TableSchema(
        columns=[
            dg.TableColumn(name, type=sql_type, description=described.get(name))
            for name, sql_type in contract.raw_columns().items()
        ]
    )


def _lineage(contract: Contract) -> dg.TableColumnLineage:
    source = source_key(contract.entity)
    return dg.TableColumnLineage(
        {
            name: [dg.TableColumnDep(source, column) for column in columns]
            for name, columns in delivered_columns(contract).items()
        }
    )


def _results(delivery: Delivery, counts_by_table: Mapping[tuple[str, str], int]) -> Iterator[dg.MaterializeResult]:
    persons = {"dagster/row_count": counts_by_table[("vault", "persons")], "persons_delivered": delivery.rows("customers")}
    yield dg.MaterializeResult(VAULT_KEY, metadata=persons)
    for entity in load_contracts():
        counts = [count for count in delivery.counts if count.entity == entity]
        yield dg.MaterializeResult(
            raw_key(entity),
            metadata={
                "dagster/row_count": delivery.rows(entity),
                "rows_read": sum(count.rows_read for count in counts),
                "duplicates": sum(count.duplicates for count in counts),
                "quarantined": sum(count.quarantined for count in counts),
                "feeds": [count.feed for count in counts],
            },
        )
    quarantined = sum(count.quarantined for count in delivery.counts)
    of_run = {"reconciliation": len(delivery.counts), "quarantine": quarantined}
    for name in EVIDENCE:
        metadata = {"dagster/row_count": counts_by_table.get(("ops", name), 0)}
        if name in of_run:
            metadata["rows_of_run"] = of_run[name]
        yield dg.MaterializeResult(dg.AssetKey(["ops", name]), metadata=metadata)


@dg.definitions
def defs() -> dg.Definitions:
    """Source assets and the one step that lands a whole delivery.

    One step for all raw tables: they refer to each other's customers, and a delivery is taken in as a whole or not at all.
    """
    contracts = load_contracts().values()

    @dg.multi_asset(
        name="landing",
        specs=[vault_spec(), *(raw_spec(contract) for contract in contracts), *evidence_specs()],
        pool=LAKE_POOL,
    )
    def landing(context: dg.AssetExecutionContext, platform: Platform) -> Iterator[dg.MaterializeResult]:
        settings = platform.settings()
        sources, data = source_folders(settings)
        mapping = load_mapping(sources)
        as_of = resolve_as_of(settings, mapping)
        keys = load_keys(settings)
        repeat_at_start(settings)
        with open_lake(settings, holds_turn=False) as connection:
            delivery = land(connection, settings, keys, mapping, data, as_of, context.run_id, progress.report)
            with shared_turn(settings.turn_file, settings.lock_wait_seconds):
                add_received_opt_outs(connection, settings, context.run_id)
                received = add_received_events(connection, settings, as_of, context.run_id)
                enforce_at_landing(connection, settings, as_of, context.run_id)
                forget_past(connection, settings, as_of, received)
                place_canaries(connection, keys, as_of, context.run_id)
                record_delivery(connection, context.run_id, mapping.name, settings.profile, as_of)
            counts = row_counts(connection)
            with attached_vault(connection, settings, read_only=True) as vault:
                counts[("vault", "persons")] = int(vault.execute(f"select count(*) from {PERSONS}").fetchone()[0])
        yield from _results(delivery, counts)

    return dg.Definitions(assets=[*(source_spec(contract) for contract in contracts), landing])
