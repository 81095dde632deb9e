"""Training rows: features as they were before each label window, labels that came to light after it.

Belongs here: the windows, the point-in-time features, labels, who may be trained on, the fingerprint. Does not belong
here: how a feature is measured: the SQL is the newest run's own, compiled by dbt, with an earlier instant in the place of
the run's. Nothing of it is kept: a training row lives as long as the training, so an erasure leaves none behind.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import duckdb
import pandas as pd

from orchestration.deliveries import newest_delivery
from orchestration.lake import identifier, literal, open_lake, table_exists
from orchestration.scoring.errors import ScoringError
from orchestration.scoring.features import FEATURES
from orchestration.settings import Settings
from orchestration.transformation import TIMESTAMP_FORMAT, run_manifest

GOAL = "risk_features"
SCHEMA = "window_features"
PROTECTED = ("age_band", "country_code", "customer_type")  # kept beside the rows for audits of fairness, never scored by
INSTANT = re.compile(r"cast\('(\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2})(?:\.\d+)?' as timestamp\)")


@dataclass(frozen=True)
class Windows:
    """Label windows of `label_days`, counted back from the newest instant at which outcomes are settled.

    Incidents of the last `maturity_days` are too young: many are still open. Test windows are the newest; no training
    window's labels reach into them.
    """

    label_days: int = 90
    maturity_days: int = 45
    train: int = 3
    test: int = 2

    def starts(self, as_of: datetime) -> tuple[list[datetime], list[datetime]]:
        """Starts of the training windows and of the test windows, oldest first (UTC)."""
        last = as_of - timedelta(days=self.maturity_days + self.label_days)
        all_starts = [last - timedelta(days=self.label_days * number) for number in range(self.train + self.test)]
        return sorted(all_starts[self.test :]), sorted(all_starts[: self.test])


@dataclass
class TrainingSet:
    """Rows sorted by window and subject token. `rows`: split, window_start, label and the features; `protected`: groups for
    audits of fairness; `audits`: row number, has_issue, selection_probability of audits within the row's window."""

    rows: pd.DataFrame
    protected: pd.DataFrame
    audits: pd.DataFrame
    as_of: datetime
    windows: Windows
    lineage: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over every row in order: the same data give the same, one changed value another."""
        digest = hashlib.sha256()
        for name in self.rows.columns:
            values = self.rows[name]
            digest.update(name.encode() + b"\0")
            if values.dtype.kind in "fiub":
                digest.update(values.to_numpy(dtype=float).tobytes())
            else:
                digest.update("\0".join("\x01" if pd.isna(value) else str(value) for value in values).encode())
        return digest.hexdigest()

    def split(self, name: str) -> pd.DataFrame:
        """The rows of `train` or `test`."""
        return self.rows[self.rows["split"] == name]


def feature_sql(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Name and compiled SQL of risk_features and what it rests on within its zone, in the order of building.

    Raises `ScoringError` if the manifest was not left by a run.
    """
    nodes = {
        node["unique_id"]: node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["schema"] == "features"
    }
    ordered: list[tuple[str, str]] = []

    def visit(unique_id: str) -> None:
        node = nodes[unique_id]
        if any(name == node["name"] for name, _ in ordered):
            return
        for parent in node["depends_on"]["nodes"]:
            if parent in nodes:
                visit(parent)
        if not node.get("compiled_code"):
            raise ScoringError(f"the last run left no compiled SQL of {node['name']}: run `segline run` again")
        ordered.append((node["name"], node["compiled_code"]))

    goal = next((unique_id for unique_id, node in nodes.items() if node["name"] == GOAL), None)
    if goal is None:
        raise ScoringError(f"the last run has no model {GOAL}")
    visit(goal)
    return ordered


def at_instant(sql: str, built_for: datetime, instant: datetime) -> str:
    """The same SQL as of another instant, reading the zone's other models from the window's own schema.

    Raises `ScoringError` if the SQL was compiled for an instant that is not the run's: then it is not the run's SQL.
    """
    others = {found for found in INSTANT.findall(sql) if found != built_for.strftime(TIMESTAMP_FORMAT)}
    if others:
        raise ScoringError(f"the last run's SQL speaks of {sorted(others)[0]} beside its own instant: run `segline run` again")
    moved = INSTANT.sub(f"cast('{instant.strftime(TIMESTAMP_FORMAT)}' as timestamp)", sql)
    return moved.replace('"lake"."features".', f'"memory"."{SCHEMA}".')


def build_features(
    connection: duckdb.DuckDBPyConnection, models: list[tuple[str, str]], built_for: datetime, instant: datetime
) -> str:
    """Build risk_features as of an instant, outside the lake; returns the relation."""
    connection.execute(f"drop schema if exists memory.{SCHEMA} cascade")
    connection.execute(f"create schema memory.{SCHEMA}")
    for name, sql in models:
        connection.execute(f"create table memory.{SCHEMA}.{identifier(name)} as {at_instant(sql, built_for, instant)}")
    return f"memory.{SCHEMA}.{GOAL}"


def training_purpose(connection: duckdb.DuckDBPyConnection, profile: str) -> str:
    """The purpose under which that profile may train. Raises `ScoringError` if the policy names none, or an undeclared one."""
    purposes = []
    if table_exists(connection, "policy", "model_purposes"):
        purposes = connection.execute(
            "select purpose from lake.policy.model_purposes where profile = ? and model_use = 'training'", [profile]
        ).fetchall()
    if len(purposes) != 1:
        raise ScoringError(
            f"the policy names {len(purposes)} purposes for training under {profile}: see seeds/policy/model_purposes.csv"
        )
    return str(purposes[0][0])


_ROWS_SQL = """
with allowed as (
    select distinct subject_token, risk_subject_token from lake.consent.gate
    where purpose = {purpose} and gate_outcome = 'ALLOW'
),
incidents as (
    select allowed.risk_subject_token, found.status, found.occurred_at, coalesce(found.reported_at, found.occurred_at) as known_at
    from lake.staging.stg_compliance__incidents as found
    inner join allowed on found.subject_token = allowed.subject_token
),
outcomes as (
    select
        risk_subject_token,
        coalesce(bool_or(status = 'confirmed' and occurred_at <= {start} and known_at <= {start}), false) as is_known_before,
        coalesce(bool_or(status = 'confirmed' and occurred_at > {start} and occurred_at <= {stop}), false) as is_confirmed,
        coalesce(bool_or(status = 'open' and occurred_at > {start} and occurred_at <= {stop}), false) as is_unsettled
    from incidents
    group by risk_subject_token
)
select
    features.risk_subject_token as subject,
    {columns},
    {protected},
    case when outcomes.is_confirmed then 1 else 0 end as label
from {relation} as features
inner join allowed on features.risk_subject_token = allowed.risk_subject_token
left join outcomes on features.risk_subject_token = outcomes.risk_subject_token
where
    coalesce(features.tenure_days, 0) >= 0
    and not coalesce(outcomes.is_known_before, false)
    and (coalesce(outcomes.is_confirmed, false) or not coalesce(outcomes.is_unsettled, false))
order by features.risk_subject_token
"""

_AUDITS_SQL = """
select gate.risk_subject_token as subject, audits.has_issue, audits.selection_probability
from lake.staging.stg_compliance__audit_outcomes as audits
inner join lake.consent.gate as gate on audits.subject_token = gate.subject_token and gate.purpose = {purpose}
where audits.audited_at > {start} and audits.audited_at <= {stop} and audits.selection_probability > 0
order by 1, audits.audit_id
"""


@contextmanager
def run_of_record(settings: Settings) -> Iterator[tuple[duckdb.DuckDBPyConnection, Any, list[tuple[str, str]]]]:
    """The lake read-only, the newest delivery, and the SQL that its run compiled for the features.

    Raises `ScoringError` without such a run.
    """
    with open_lake(settings, read_only=True) as connection:
        delivery = newest_delivery(connection, settings)
        manifest = run_manifest(settings, delivery.run_id)
        if manifest is None:
            raise ScoringError("the newest delivery was never transformed: complete it with `segline run`")
        yield connection, delivery, feature_sql(manifest)


def window_rows(
    connection: duckdb.DuckDBPyConnection, relation: str, purpose: str, start: datetime, label_days: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows and audits of one window: features at its start, labels from (start, start + label_days].

    Left out are whoever the gate does not allow for the training purpose, who was no customer yet, whose confirmed
    incident was known before (the rules judge those), and whose only incident in the window is still open.
    """
    parts = {
        "relation": relation,
        "purpose": literal(purpose),
        "start": f"timestamp {literal(start)}",
        "stop": f"timestamp {literal(start + timedelta(days=label_days))}",
        "columns": ", ".join(f"features.{identifier(feature.name)}" for feature in FEATURES),
        "protected": ", ".join(f"features.{name} as {identifier(f'protected_{name}')}" for name in PROTECTED),
    }
    rows = connection.execute(_ROWS_SQL.format(**parts)).df()
    audits = connection.execute(_AUDITS_SQL.format(**parts)).df()
    return rows, audits


def build(settings: Settings, windows: Windows = Windows()) -> TrainingSet:
    """The training set of the newest delivery. Raises `ScoringError` if the store cannot give one."""
    frames, audit_frames = [], []
    with run_of_record(settings) as (connection, delivery, models):
        purpose = training_purpose(connection, delivery.profile)
        train, test = windows.starts(delivery.as_of)
        first = connection.execute("select min(booked_at) from lake.staging.stg_payments__transactions").fetchone()[0]
        for start in train + test:
            if first is None or start < first + timedelta(days=30):
                continue  # no behaviour before it to learn from
            relation = build_features(connection, models, delivery.as_of, start)
            rows, audits = window_rows(connection, relation, purpose, start, windows.label_days)
            rows.insert(0, "window_start", start.strftime(TIMESTAMP_FORMAT))
            rows.insert(0, "split", "train" if start in train else "test")
            offset = sum(len(frame) for frame in frames)
            place = pd.Series(range(offset, offset + len(rows)), index=rows["subject"])
            audits["row"] = audits["subject"].map(place)
            frames.append(rows)
            audit_frames.append(audits.dropna(subset=["row"]).drop(columns="subject"))
        if not frames:
            raise ScoringError("the delivery holds too little history for a label window: deliver at least nine months")
    rows = pd.concat(frames, ignore_index=True).drop(columns="subject")
    protected = rows[[f"protected_{name}" for name in PROTECTED]].rename(columns=lambda name: name.removeprefix("protected_"))
    features_digest = hashlib.sha256("\n".join(sql for _, sql in models).encode()).hexdigest()
    lineage = {
        "delivery_run_id": delivery.run_id,
        "profile": delivery.profile,
        "feature_sql_sha256": features_digest,
        "training_purpose": purpose,
    }
    return TrainingSet(
        coerced(rows.drop(columns=[f"protected_{name}" for name in PROTECTED])),
        protected,
        pd.concat(audit_frames, ignore_index=True),
        delivery.as_of,
        windows,
        lineage,
    )


def coerced(rows: pd.DataFrame) -> pd.DataFrame:
    """Numbers as float64 with NaN for missing, categories as objects with None for missing."""
    for feature in FEATURES:
        if feature.kind == "number":
            rows[feature.name] = pd.to_numeric(rows[feature.name]).astype("float64")
        else:
            values = rows[feature.name].astype(object)
            rows[feature.name] = values.where(values.notna(), None)
    return rows
