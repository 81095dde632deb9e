"""The compiled consent models over rows that a test makes up, on bare DuckDB: hundreds of cases in one execution."""

import csv
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa

from orchestration.consent.evaluation import CompiledModels
from orchestration.settings import DBT_PROJECT_DIR

AS_OF = datetime(2026, 11, 1)
SIGNAL_PURPOSES = ("analytics", "personalisation", "ads_sale_share", "significant_decision_admt", "sensitive")
MODELS = ("policy_in_force", "consent_states", "gate", "consent_changes", "consent_history")
SEEDS = {
    "policy": ("consent_decision_table", "profile_purposes", "policy_versions", "packs", "profile_packs", "notices"),
    "reference": ("countries",),
}
EVENT = {
    "consent_event_id": pa.string(), "subject_token": pa.string(), "purpose": pa.string(), "action": pa.string(),
    "actor": pa.string(), "method": pa.string(), "parental_scope": pa.string(), "notice_version": pa.string(),
    "notice_hash": pa.string(), "effective_precision": pa.string(), "feed": pa.string(), "load_id": pa.string(),
    "is_after_conflict_notice": pa.bool_(), "is_capable_at_collection": pa.bool_(), "effective_at": pa.timestamp("us"),
    "received_at": pa.timestamp("us"), "expires_at": pa.timestamp("us"),
}  # fmt: skip
REQUEST = {
    "request_id": pa.string(), "subject_token": pa.string(), "request_type": pa.string(), "status": pa.string(),
    "received_at": pa.timestamp("us"),
}  # fmt: skip
PERSON = {
    "subject_token": pa.string(), "risk_subject_token": pa.string(), "audience_subject_token": pa.string(),
    "country_code": pa.string(), "region_code": pa.string(), "age_band": pa.string(), "is_self_consent_capable": pa.bool_(),
}  # fmt: skip
NOTICE = {
    "profile": pa.string(), "purpose": pa.string(), "version": pa.string(), "valid_from": pa.timestamp("us"),
    "superseded_at": pa.timestamp("us"), "is_material": pa.bool_(), "notice_hash": pa.string(),
}  # fmt: skip
CHANGES_DDL = (
    "create or replace table lake.consent.consent_changes (subject_token varchar, purpose varchar, consent_status varchar, "
    "signal varchar, state_reason varchar, consent_event_id varchar, gpc_event_id varchar, revision integer, "
    "valid_from timestamp, effective_at timestamp, expires_at timestamp, known_at timestamp, recorded_as_of timestamp)"
)
STATE = "signal, consent_status, state_reason, consent_event_id, gpc_event_id, effective_at, expires_at"
Row = dict[str, Any]


def compiled(artefact: Mapping[str, Any], names: Iterable[str] = MODELS) -> CompiledModels:
    """The compiled models of a manifest, for `AS_OF` and the profile fintech."""
    texts = {node["name"]: node.get("compiled_code") for node in artefact["nodes"].values() if node["resource_type"] == "model"}
    return CompiledModels("test", AS_OF, {name: texts[name] for name in names})


def table(columns: Mapping[str, pa.DataType], rows: Iterable[Row]) -> pa.Table:
    """Rows as a table; what a row does not name is null, what the table does not know is an error."""
    rows = list(rows)
    assert not {name for row in rows for name in row} - set(columns)
    return pa.table({name: pa.array([row.get(name) for row in rows], kind) for name, kind in columns.items()})


class Store:
    """An in-memory database called `lake` with the project's own seeds, and rows for the models to work on."""

    def __init__(self, models: CompiledModels, profile: str = "fintech", mode: str = "strict") -> None:
        self.texts = {name: text.replace("'fintech'", f"'{profile}'") for name, text in models.texts.items()}
        self.connection = duckdb.connect()
        self.connection.execute("set timezone = 'UTC'; attach ':memory:' as lake")
        for schema in ("policy", "reference", "staging", "consent", "features", "audience", "candidate"):
            self.connection.execute(f"create schema lake.{schema}")
        types = seed_types()
        for schema, names in SEEDS.items():
            for name in names:
                path = DBT_PROJECT_DIR / "seeds" / schema / f"{name}.csv"
                with path.open(encoding="utf-8", newline="") as stream:
                    header = next(csv.reader(stream))
                columns = ", ".join(f"'{column}': '{types[name][column]}'" for column in header)
                self.connection.execute(
                    f"create table lake.{schema}.{name} as from read_csv('{path}', header => true, columns => {{{columns}}}, "
                    "auto_detect => false, delim => ',', quote => '\"', nullstr => '')"
                )
        self.connection.execute(f"update lake.policy.profile_purposes set mode = '{mode}'")
        self.make("policy_in_force", AS_OF)

    def put(self, schema: str, name: str, rows: pa.Table) -> None:
        """Replace an input table."""
        self.connection.register("arriving", rows)
        self.connection.execute(f"create or replace table lake.{schema}.{name} as select * from arriving")
        self.connection.unregister("arriving")

    def put_people(self, people: Iterable[Row], events: Iterable[Row], requests: Iterable[Row] = ()) -> None:
        """Replace the customers, the consent events and the privacy requests."""
        self.put("staging", "stg_crm__customers", table(PERSON, people))
        self.put("staging", "stg_cmp__consent_events", table(EVENT, events))
        self.put("staging", "stg_cmp__privacy_requests", table(REQUEST, requests))

    def sql(self, name: str, instant: datetime) -> str:
        """A model's SQL at that instant."""
        return CompiledModels("test", AS_OF, self.texts).at(name, instant)

    def make(self, name: str, instant: datetime) -> None:
        """Build one model as a table."""
        self.connection.execute(f"create or replace table lake.consent.{name} as {self.sql(name, instant)}")

    def rows(self, sql: str) -> list[Row]:
        """Rows of a query as dictionaries."""
        cursor = self.connection.execute(sql)
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def states_only(self, instant: datetime) -> set[tuple[Any, ...]]:
        """What a run at that instant makes of everybody's will; nothing on record is left out, as in the history."""
        return self._set(f"select subject_token, purpose, {STATE} from ({self.sql('consent_states', instant)})")

    def empty_changes(self) -> None:
        """A store that no run has written its history to."""
        self.connection.execute(CHANGES_DDL)

    def append_changes(self, instant: datetime) -> None:
        """What a run at that instant adds to the history."""
        self.connection.execute(f"insert into lake.consent.consent_changes by name {self.sql('consent_changes', instant)}")

    def changes(self) -> list[tuple[Any, ...]]:
        """Every recorded change in the order of recording."""
        return self.connection.execute(
            "select * from lake.consent.consent_changes order by revision, subject_token, purpose, valid_from"
        ).fetchall()

    def history_at(self, instant: datetime) -> set[tuple[Any, ...]]:
        """The interval of each subject and purpose that holds the instant."""
        return self._set(
            f"select subject_token, purpose, {STATE} from ({self.sql('consent_history', instant)}) "
            f"where valid_from <= timestamp '{instant}' and (valid_to is null or timestamp '{instant}' < valid_to) "
            "and state_reason <> 'no_consent_on_record' or gpc_event_id is not null and valid_from <= timestamp "
            f"'{instant}' and (valid_to is null or timestamp '{instant}' < valid_to)"
        )

    def _set(self, sql: str) -> set[tuple[Any, ...]]:
        rows = self.connection.execute(sql).fetchall()
        assert len({row[:2] for row in rows}) == len(rows), "one state per subject and purpose"
        return set(rows)

    def gate(self, instant: datetime = AS_OF) -> dict[tuple[str, str], Row]:
        """The gate's answers by subject and purpose."""
        self.make("consent_states", instant)
        return {(row["subject_token"], row["purpose"]): row for row in self.rows(self.sql("gate", instant))}


def seed_types() -> dict[str, dict[str, str]]:
    """The column types that the project declares for its seeds."""
    import yaml

    declared: dict[str, dict[str, str]] = {}
    for path in (DBT_PROJECT_DIR / "seeds").rglob("*.yml"):
        for seed in yaml.safe_load(path.read_text(encoding="utf-8"))["seeds"]:
            types = dict(seed["config"]["column_types"])
            declared[seed["name"]] = {column["name"]: types.get(column["name"], "varchar") for column in seed["columns"]}
    return json.loads(json.dumps(declared))
