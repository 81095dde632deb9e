"""Sync drift: a CMP's full state against the platform's consent state.

Belongs here: resolving the CMP's people, the comparison, its limits, its table. Does not belong here: reading the CMP
(the vendor modules).

Directions differ in kind. Permissive: the CMP holds no standing grant and we hold one, or allow a use; no such pair is
tolerated. Restrictive: we refuse what the CMP grants; that harms nobody and never blocks. What changed at the CMP after the
last pull ended is under way, not drift: how old that pull may be is a limit of its own.
"""

from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from orchestration.connectors.dead_letters import EXPECTED, DeadLetter
from orchestration.connectors.errors import ConnectorError
from orchestration.connectors.folder import read_state
from orchestration.connectors.resources import Connector
from orchestration.connectors.rows import COLUMNS
from orchestration.identity.keys import MasterKeys
from orchestration.identity.split import drop_tables, tokenise
from orchestration.ingestion.delivery import scratch_database
from orchestration.ingestion.errors import SourceError
from orchestration.ingestion.examining import Examiner
from orchestration.ingestion.expressions import compile_expression
from orchestration.ingestion.mapping import OWN, Feed, Mapping, join_expressions
from orchestration.lake import identifier, literal, table_exists
from orchestration.settings import Settings

TOTAL = "*"
STATE_NAMES = ("subject", "purpose", "state", "changed_at")
DRIFT_DDL = (
    "create table if not exists lake.ops.consent_drift (run_id varchar, connector varchar, purpose varchar, "
    "compared bigint, equal bigint, permissive bigint, restrictive bigint, missing_here bigint, missing_there bigint, "
    "in_flight bigint, unjudged bigint, unresolved bigint, unreadable bigint, drift_share double, newest_event_at timestamp, "
    "pulled_at timestamp, pull_age_hours double, verdict varchar, measured_at timestamp)"
)


class DriftLimits(BaseSettings):
    """What is tolerated: the share of harmless differences, and the hours since the last complete pull.

    Beyond `oldest_pull_hours` warns, beyond twice that blocks. Permissive drift has no setting: none is tolerated.
    """

    model_config = SettingsConfigDict(env_prefix="SEGLINE_DRIFT_", extra="ignore", frozen=True)

    tolerated_share: float = Field(0.01, ge=0, le=1)
    oldest_pull_hours: float = Field(24, gt=0)


@dataclass
class PurposeDrift:
    """One purpose's comparison in pairs of subject and purpose; compared = the five kinds after it together."""

    purpose: str
    equal: int = 0
    permissive: int = 0
    restrictive: int = 0
    missing_here: int = 0
    missing_there: int = 0
    in_flight: int = 0
    unjudged: int = 0

    @property
    def compared(self) -> int:
        """Pairs on which a judgement was possible."""
        return self.equal + self.permissive + self.restrictive + self.missing_here + self.missing_there

    @property
    def drift_share(self) -> float:
        """Share of the compared pairs that differ."""
        return 1 - self.equal / self.compared if self.compared else 0.0


@dataclass
class DriftReport:
    """A comparison: per purpose, in total, and what could not be compared.

    `unresolved` counts CMP entries of people who are no customers here, `unreadable` by reason those that say nothing
    readable. Times are UTC.
    """

    connector: str
    measured_at: datetime
    pulled_at: datetime | None
    newest_event_at: datetime | None
    purposes: list[PurposeDrift] = field(default_factory=list)
    unresolved: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> PurposeDrift:
        """All purposes together."""
        total = PurposeDrift(TOTAL)
        for part in self.purposes:
            for name, value in asdict(part).items():
                if name != "purpose":
                    setattr(total, name, getattr(total, name) + value)
        return total

    @property
    def pull_age_hours(self) -> float | None:
        """Hours since the last complete pull began; `None` if there was none."""
        return (self.measured_at - self.pulled_at).total_seconds() / 3600 if self.pulled_at else None

    def verdict(self, limits: DriftLimits) -> tuple[str, list[str]]:
        """("blocked", "warning" or "in_step", reasons). Whatever is missing counts as the worst."""
        blocking, warning = [], []
        total, age = self.total, self.pull_age_hours
        if total.permissive:
            blocking.append(f"{total.permissive} grants stand here that the CMP does not hold")
        if age is None or age > 2 * limits.oldest_pull_hours:
            blocking.append("there was no complete pull yet" if age is None else f"the last complete pull is {age:.1f} h old")
        elif age > limits.oldest_pull_hours:
            warning.append(f"the last complete pull is {age:.1f} h old")
        if total.drift_share > limits.tolerated_share:
            warning.append(f"{total.drift_share:.2%} of {total.compared} pairs differ")
        unread = sum(count for reason, count in self.unreadable.items() if reason not in EXPECTED)
        if unread:
            warning.append(f"{unread} entries of the CMP could not be read")
        kind = "blocked" if blocking else "warning" if warning else "in_step"
        return kind, blocking + warning


def measure_drift(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    keys: MasterKeys,
    connector: Connector,
    mapping: Mapping,
    data: Path,
    folder: Path,
    now: datetime | None = None,
) -> DriftReport:
    """Read the CMP's full state and compare it. `connection` has the lake attached; `folder` is the connector's.

    The CMP's people become customers by the joins and expressions of the very feed that lands the connector's rows, then
    subject tokens. Raises `ConnectorError` if the state cannot be read whole or there is nothing to compare with.
    """
    if not (table_exists(connection, "consent", "gate") and table_exists(connection, "consent", "consent_states")):
        raise ConnectorError("no_state", "the platform has no consent state")
    now = now or datetime.now(UTC).replace(tzinfo=None)
    feed = _feed_of(mapping, connector.name)
    state = read_state(folder, connector.name)
    cursors = state.cursors.values() if state else []
    pulled_until = min(cursors) if cursors else datetime.min.replace(year=1970)
    newest = connection.execute(
        f"select max(effective_at) from lake.raw.consent_events where starts_with(event_id, {literal(connector.name + '-')})"
    ).fetchone()[0]
    report = DriftReport(connector.name, now, state.completed_at if state else None, newest)
    try:
        entries = _collect(connection, connector, now, report)
        _resolve(connection, settings, keys, mapping, feed, data, now, entries, report)
        purposes = _compare(connection, connector.name, pulled_until)
    finally:
        connection.execute("use lake")
        drop_tables(connection, "cmp_state", "cmp_people", "cmp_resolved", "cmp_tokens")
    for purpose, *numbers in purposes:
        report.purposes.append(PurposeDrift(purpose, *map(int, numbers)))
    return report


def record_drift(
    connection: duckdb.DuckDBPyConnection, report: DriftReport, limits: DriftLimits, run_id: str
) -> None:
    """Append a comparison: one row per purpose and one for all (`*`)."""
    connection.execute(DRIFT_DDL)
    verdict, _ = report.verdict(limits)
    total = report.total
    rows = [
        {
            "run_id": run_id,
            "connector": report.connector,
            **asdict(part),
            "compared": part.compared,
            "drift_share": part.drift_share,
            "unresolved": report.unresolved if part is total else None,
            "unreadable": sum(report.unreadable.values()) if part is total else None,
            "newest_event_at": report.newest_event_at,
            "pulled_at": report.pulled_at,
            "pull_age_hours": report.pull_age_hours,
            "verdict": verdict,
            "measured_at": report.measured_at,
        }
        for part in (*report.purposes, total)
    ]
    connection.register("measured", pa.Table.from_pylist(rows))
    connection.execute("insert into lake.ops.consent_drift by name select * from measured")
    connection.unregister("measured")


def _feed_of(mapping: Mapping, connector: str) -> Feed:
    """The feed that lands this connector's consent rows."""
    for feed in mapping.feeds_of("consent_events"):
        patterns = [feed.files] if isinstance(feed.files, str) else feed.files
        if "customer_id" in (feed.columns or {}) and any(f"pulled/{connector}/" in pattern for pattern in patterns):
            return feed
    raise SourceError(
        "no_feed",
        f"no feed of the mapping takes in pulled/{connector}/consent_events-*.parquet",
        f"add one (see examples/{connector}/mapping.yml)",
    )


def _collect(connection: duckdb.DuckDBPyConnection, connector: Connector, now: datetime, report: DriftReport) -> int:
    """The full state into the temporary table `cmp_state`; returns its entries."""
    connection.execute("use memory.main")
    connection.execute(
        "create or replace temp table cmp_state (entry varchar, subject varchar, purpose varchar, state varchar, "
        "changed_at timestamp)"
    )
    entries = 0
    for page in connector.full_state(now):
        rows = []
        for item in page:
            if isinstance(item, DeadLetter):
                report.unreadable[item.reason] += 1
                continue
            rows.append({"entry": str(entries), **{name: getattr(item, name) for name in STATE_NAMES}})
            entries += 1
        if rows:
            kinds = [(name, pa.timestamp("us") if name == "changed_at" else pa.string()) for name in ("entry", *STATE_NAMES)]
            connection.register("state_page", pa.Table.from_pylist(rows, schema=pa.schema(kinds)))
            connection.execute("insert into cmp_state by name select * from state_page")
            connection.unregister("state_page")
    return entries


def _resolve(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    keys: MasterKeys,
    mapping: Mapping,
    feed: Feed,
    data: Path,
    now: datetime,
    entries: int,
    report: DriftReport,
) -> None:
    """The CMP's people as subject tokens, in the temporary table `cmp_resolved`; nothing of them reaches a file."""
    connection.execute(
        "create or replace temp table cmp_resolved (subject_token varchar, purpose varchar, state varchar, "
        "changed_at timestamp)"
    )
    if not entries:
        return
    given = {
        "event_id": "entry",
        "subject": "subject",
        "purpose": "purpose",
        "action": "case state when 'granted' then 'granted' else 'denied' end",
        "effective_at": "changed_at",
        "actor": "'self'",
    }
    picked = ", ".join(f"{given.get(name, 'null')}::{kind} as {name}" for name, kind in COLUMNS["consent_events"].items())
    with scratch_database(connection, settings):
        only = mapping.model_copy(update={"feeds": [feed], "lookups": _lookups(mapping, feed)})
        Examiner(connection, only, data, now).open_lookups()
        connection.execute(
            f"create or replace temp table cmp_people as select {identifier(OWN)}.event_id as entry, "
            f"{_customer(feed)} as customer_id from (select {picked} from cmp_state) as {identifier(OWN)}{_joined(mapping, feed)}"
        )
    tokenise(connection, "cmp_people", "customer_id", "raw", keys, "cmp_tokens")
    connection.execute(
        "insert into cmp_resolved select customers.subject_token, cmp_state.purpose, cmp_state.state, cmp_state.changed_at "
        "from cmp_people inner join cmp_state on cmp_state.entry = cmp_people.entry "
        "inner join cmp_tokens on cmp_tokens.value = cmp_people.customer_id "
        "inner join lake.raw.customers as customers on customers.subject_token = cmp_tokens.token"
    )
    found = connection.execute("select count(*) from cmp_resolved").fetchone()[0]
    report.unresolved = entries - int(found)


def _customer(feed: Feed) -> str:
    """The feed's expression for the customer, as trimmed text."""
    lookups = frozenset(join.lookup for join in feed.joins)
    return f"nullif(trim(cast({compile_expression((feed.columns or {})['customer_id'], OWN, lookups).sql} as varchar)), '')"


def _joined(mapping: Mapping, feed: Feed) -> str:
    """The feed's joins, as the landing makes them: a lookup's key is unique, so no entry is doubled."""
    sql = ""
    for join, on in zip(feed.joins, join_expressions(feed), strict=True):
        alias, key = identifier(join.lookup), identifier(mapping.lookups[join.lookup].key.lower())
        sql += f" left join {identifier(f'lookup_{join.lookup}')} as {alias} on {on.sql} = {alias}.{key}"
    return sql


def _lookups(mapping: Mapping, feed: Feed) -> dict:
    needed = {join.lookup for join in feed.joins}
    return {name: lookup for name, lookup in mapping.lookups.items() if name in needed}


def _compare(connection: duckdb.DuckDBPyConnection, connector: str, pulled_until: datetime) -> list[tuple]:
    """Counts per purpose. Two entries of one person and purpose count as the more restrictive one."""
    return connection.execute(
        f"""
        with cmp as (
            select
                subject_token,
                purpose,
                case
                    when bool_or(state = 'refused') then 'refused'
                    when bool_or(state = 'granted') then 'granted'
                    else 'unjudged'
                end as cmp_state,
                max(changed_at) as changed_at
            from cmp_resolved
            group by subject_token, purpose
        ),

        ours as (
            select
                subject_token,
                purpose,
                consent_status,
                starts_with(coalesce(consent_event_id, ''), {literal(connector + "-")}) as is_from_cmp
            from lake.consent.consent_states
        ),

        allowed as (
            select subject_token, purpose
            from lake.consent.gate
            where gate_outcome = 'ALLOW'
        ),

        pairs as (
            select
                coalesce(cmp.purpose, ours.purpose) as purpose,
                cmp.cmp_state,
                cmp.changed_at,
                ours.consent_status,
                coalesce(ours.consent_status = 'granted', false) or allowed.subject_token is not null as is_open
            from cmp
            full outer join ours
                on cmp.subject_token = ours.subject_token
                and cmp.purpose = ours.purpose
            left join allowed
                on coalesce(cmp.subject_token, ours.subject_token) = allowed.subject_token
                and coalesce(cmp.purpose, ours.purpose) = allowed.purpose
            where cmp.subject_token is not null or ours.is_from_cmp
        ),

        judged as (
            select
                purpose,
                case
                    when changed_at > timestamp {literal(pulled_until)} then 'in_flight'
                    when cmp_state = 'unjudged' then 'unjudged'
                    when cmp_state is null and consent_status = 'granted' then 'permissive'
                    when cmp_state is null then 'missing_there'
                    when cmp_state = 'refused' and is_open then 'permissive'
                    when consent_status is null then 'missing_here'
                    when cmp_state = 'granted' and consent_status <> 'granted' then 'restrictive'
                    else 'equal'
                end as kind
            from pairs
        )

        select
            purpose,
            count(*) filter (kind = 'equal'),
            count(*) filter (kind = 'permissive'),
            count(*) filter (kind = 'restrictive'),
            count(*) filter (kind = 'missing_here'),
            count(*) filter (kind = 'missing_there'),
            count(*) filter (kind = 'in_flight'),
            count(*) filter (kind = 'unjudged')
        from judged
        group by purpose
        order by purpose
        """
    ).fetchall()
