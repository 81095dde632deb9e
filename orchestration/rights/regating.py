"""The gate asked again, for a few subjects: the SQL that the published run compiled, over their rows only.

There is one evaluator: no rule of the gate is written down a second time here. `regate` runs the SQL that the publication left
(`published_sql`) with every relation that holds persons replaced by a temporary table of the few. Which relations those are
follows from the manifest: sources with a subject token, and whatever is built on them.

Belongs here: running that SQL, and bringing published rows into line with it. Does not belong here: whose turn it is, the
log (`opt_out`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import duckdb

from orchestration.lake import identifier, table_columns, table_exists
from orchestration.rights.published_sql import GATE, Model, RegatingError, at_instant

REQUESTS = "privacy_requests"
COMPUTED_ZONES = ("features", "audience", "risk")


@dataclass
class Regated:
    """The gate's fresh answers: temporary tables by the relation that they stand for, and how many rows changed where."""

    tables: dict[str, str]
    changed: dict[str, int]


def regate(
    connection: duckdb.DuckDBPyConnection, models: list[Model], people: str, requests: str, as_of: datetime, instant: datetime
) -> Regated:
    """Ask the gate again about everybody in the temporary table `people` (three token columns), as of `instant`.

    `requests` is a temporary table of opt-outs (request_id, subject_token, received_at) that the raw tables may not hold
    yet. `as_of` is the instant that the compiled SQL carries. Writes nothing but temporary tables.
    """
    regated = Regated({}, {})
    for place, model in enumerate(model for model in models if model.zone != "candidate"):
        table = f"regated_{place}"
        if model.kind == "source":
            names = [column[0] for column in connection.execute(f"select * from {model.relation} limit 0").description]
            if "subject_token" not in names:
                continue
            connection.execute(
                f"create or replace temp table {table} as select * from {model.relation} "
                f"where subject_token in (select subject_token from {people})"
            )
            if model.name == REQUESTS:
                connection.execute(
                    f"insert into {table} by name select request_id, subject_token, 'opt_out' as request_type, "
                    f"'received' as status, received_at from {requests} as fresh "
                    f"where not exists (select 1 from {table} as held where held.request_id = fresh.request_id)"
                )
        elif any(relation in regated.tables for relation in model.depends_on):
            sql = _rewritten(model, regated.tables, as_of, instant)
            connection.execute(f"create or replace temp table {table} as {sql}")
        else:
            continue
        regated.tables[model.relation] = table
    if _gate(models).relation not in regated.tables:
        raise RegatingError("the gate of the published run reads no person's rows: its manifest is not to be trusted")
    return regated


def _gate(models: list[Model]) -> Model:
    return next(model for model in models if (model.zone, model.name) == GATE)


def _rewritten(model: Model, tables: Mapping[str, str], as_of: datetime, instant: datetime) -> str:
    sql = model.sql
    if not sql:
        raise RegatingError(f"{model.zone}.{model.name} has no compiled SQL: run the whole job")
    for relation in model.depends_on:
        if relation in tables:
            sql = sql.replace(relation, tables[relation])
    return at_instant(sql, as_of, instant)


def bring_into_line(
    connection: duckdb.DuckDBPyConnection,
    models: list[Model],
    regated: Regated,
    as_of: datetime,
    instant: datetime,
    zone: str = "published",
) -> None:
    """Make a zone's rows of the regated say what the gate says now. Inside the caller's transaction.

    Only rows that are there change: who is not in the zone, because no run has put them there yet, is not put there. Whoever
    the gate no longer allows gets the row that the model itself writes for them (the default segment with its cause, or none
    where the gate blocks). Whoever it still allows keeps the segment, with fresh evidence. A purpose that reads no signal is
    not touched. Nobody moves from the default into a named segment here: that is a run's business.
    """
    gate = regated.tables[_gate(models).relation]
    roles = "('risk', 'audience')"
    connection.execute(
        "create or replace temp table regated_persons as "
        "select case purpose_role when 'risk' then risk_subject_token else audience_subject_token end as token, "
        "bool_and(gate_outcome = 'ALLOW') as is_allowed "
        f"from {gate} where purpose_role in {roles} and consent_status <> 'not_applicable' group by 1"
    )
    for model in models:
        # A candidate that is a view follows from what it reads: the gate's fresh answers, and what `forget_denied` leaves.
        follows = zone == "candidate" and model.materialized == "view"
        if model.zone == "candidate" and not follows and model.token_column and table_exists(connection, zone, model.name):
            _bring_relation_into_line(connection, zone, model, regated, gate, as_of, instant)


def _bring_relation_into_line(
    connection: duckdb.DuckDBPyConnection,
    zone: str,
    model: Model,
    regated: Regated,
    gate: str,
    as_of: datetime,
    instant: datetime,
) -> None:
    published = f"lake.{zone}.{identifier(model.name)}"
    token = identifier(str(model.token_column))
    columns = [column[0] for column in connection.execute(f"select * from {published} limit 0").description]
    gate_columns = {column[0] for column in connection.execute(f"select * from {gate} limit 0").description}
    tables = dict(regated.tables)
    for place, source in enumerate(model.depends_on):
        if source not in tables and _holds_persons(connection, source):
            tables[source] = f"regated_empty_{place}"
            connection.execute(f"create or replace temp table regated_empty_{place} as select * from {source} limit 0")
    connection.execute(f"create or replace temp table regated_defaults as {_rewritten(model, tables, as_of, instant)}")
    evidence = [name for name in columns if name in gate_columns and not name.endswith("subject_token")]
    fresh = ", ".join(
        f"case when held.gate_outcome = 'ALLOW' then gate.{identifier(name)} else held.{identifier(name)} end "
        f"as {identifier(name)}"
        for name in evidence
    )
    by_purpose = "purpose" in columns and "gate_outcome" in columns
    if by_purpose and "segment" in columns:
        # A family may rest on a purpose of its own, which the person may have lost alone.
        fresh += (
            ", case when held.gate_outcome = 'ALLOW' and gate.gate_outcome <> 'ALLOW' then 'default' else held.segment end "
            "as segment"
        )
    kept = f"held.* replace ({fresh})" if "gate_outcome" in columns else "held.*"
    own = "case gate.purpose_role when 'risk' then gate.risk_subject_token when 'audience' then gate.audience_subject_token end"
    matched = (
        f"held.{token} in (gate.risk_subject_token, gate.audience_subject_token) and gate.purpose = held.purpose"
        if by_purpose
        else f"held.{token} = {own} and gate.place = 1"
    )
    names = ", ".join(map(identifier, columns))
    compared = ", ".join(identifier(name) for name in columns if name != "as_of")
    connection.execute(
        f"""
        create or replace temp table regated_rows as
        with held as (
            select * from {published} where {token} in (select token from regated_persons)
        ),
        allowed as (
            select {kept}
            from held
            inner join regated_persons as persons on persons.token = held.{token} and persons.is_allowed
            inner join (
                select *, row_number() over (partition by subject_token, purpose_role order by purpose) as place
                from {gate}
            ) as gate on {matched}
        ),
        denied as (
            select {names}
            from regated_defaults
            where {token} in (select token from regated_persons where not is_allowed) and {token} in (select {token} from held)
        )
        select {names} from allowed
        union all
        select {names} from denied
        """
    )
    connection.execute(
        f"""
        create or replace temp table regated_changed as
        with held as (
            select {compared} from {published} where {token} in (select token from regated_persons)
        ),
        fresh as (select {compared} from regated_rows)
        select {token} as token from (from held except all from fresh)
        union
        select {token} from (from fresh except all from held)
        """
    )
    moved = int(connection.execute("select count(*) from regated_changed").fetchone()[0])
    if moved:
        connection.execute(f"delete from {published} where {token} in (select token from regated_changed)")
        connection.execute(
            f"insert into {published} by name select * from regated_rows "
            f"where {token} in (select token from regated_changed)"
        )
        if zone == "published":
            regated.changed[f"{zone}.{model.name}"] = moved


def forget_denied(connection: duckdb.DuckDBPyConnection) -> None:
    """Delete what was computed about whom the gate no longer allows: features, scores, memberships. After `bring_into_line`.

    The default segment tells nothing, and nothing is kept that could. Only while no run rebuilds these relations.
    """
    for (zone, name), columns in table_columns(connection).items():
        own = [column for column in ("risk_subject_token", "audience_subject_token") if column in columns]
        if zone in COMPUTED_ZONES and own:
            gone = " or ".join(f"{column} in (select token from regated_persons where not is_allowed)" for column in own)
            connection.execute(f"delete from lake.{identifier(zone)}.{identifier(name)} where {gone}")


def _holds_persons(connection: duckdb.DuckDBPyConnection, relation: str) -> bool:
    columns = connection.execute(f"select * from {relation} limit 0").description
    return any(column[0].endswith("subject_token") for column in columns)


def write_consent(connection: duckdb.DuckDBPyConnection, models: list[Model], regated: Regated) -> None:
    """Put the fresh states and the gate's fresh answers into the consent zone. Only while no run rebuilds it."""
    for model in models:
        table = regated.tables.get(model.relation)
        if table and model.zone == GATE[0] and model.materialized == "table":
            connection.execute(
                f"delete from {model.relation} where subject_token in (select distinct subject_token from {table})"
            )
            connection.execute(f"insert into {model.relation} by name select * from {table}")


def recount(connection: duckdb.DuckDBPyConnection, models: list[Model], regated: Regated) -> None:
    """Write anew what is published without pseudonyms and counts the gate's answers. After `write_consent`."""
    for model in models:
        if model.zone != "candidate" or model.token_column or _gate(models).relation not in model.depends_on:
            continue
        published = f"lake.published.{identifier(model.name)}"
        connection.execute(f"create or replace temp table regated_counts as {model.sql}")
        differs = connection.execute(
            f"select count(*) from ((from {published} except all from regated_counts) union all "
            f"(from regated_counts except all from {published}))"
        ).fetchone()
        if differs[0]:
            connection.execute(f"delete from {published}")
            connection.execute(f"insert into {published} by name select * from regated_counts")
            regated.changed[f"published.{model.name}"] = int(differs[0])
