"""Retention: nothing is kept longer than the policy says, by purpose and tier, unless a legal hold keeps it.

A row is due when every purpose that has a rule for its relation has let it go; a tier's own rule stands in for the purpose's
general one. The same statements serve the plan (counts), the landing (a delivery that brings expired rows again does not
bring them back) and the job.

A clock that has not started keeps the row: an open relationship, or one whose end nobody recorded. The relationship's end
is when the source last changed a closed customer, or their last movement if that is later.

Belongs here: what is due, removing it, the report. Does not belong here: periods (`retention_policy`), holds (`holds`), erasure
on request.
Articles: GDPR 5(1)(e), COPPA 16 CFR 312.10 (written policy, no indefinite retention).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb
import pyarrow as pa

from orchestration.deliveries import newest_delivery
from orchestration.identity.vault import PERSONS, attached_vault
from orchestration.ingestion.contracts import load_contracts
from orchestration.lake import identifier, literal, open_lake, table_columns, table_exists, transaction
from orchestration.publication import last_publication
from orchestration.rights.holds import holds_in_force
from orchestration.rights.ledger_retention import forget_in_ledger, judge_departed
from orchestration.rights.retention_policy import DEPARTURE, POLICY_FILE, RetentionError, RetentionRule, load_rules, rules_for
from orchestration.rights.suppression import hash_sql
from orchestration.rights.upkeep import compact_sqlite, has_deleted, make_anew, remove_deleted, shred
from orchestration.run_lock import run_lock
from orchestration.settings import Settings
from orchestration.turns import shared_turn

REPORT_DDL = (
    "create table if not exists lake.ops.retention_report (reported_at timestamp, run_id varchar, relation varchar, "
    "rules varchar, rows_total bigint, rows_due bigint, rows_held bigint, rows_removed bigint, oldest timestamp)"
)
AGGREGATES_DDL = (
    "create table if not exists lake.ops.retention_aggregates (relation varchar, month date, row_count bigint, "
    "removed_at timestamp)"
)
NEVER = "timestamp '9999-12-31 00:00:00'"


@dataclass(frozen=True)
class RetentionLine:
    """What the policy says about one relation at one instant.

    Rows held are due, but kept by a legal hold. `oldest` is the earliest event of the rows, where they have one.
    """

    relation: str
    rules: str
    rows_total: int
    rows_due: int
    rows_held: int
    oldest: datetime | None
    rows_removed: int = 0


@dataclass(frozen=True)
class _Target:
    """A relation with the SQL that says when a row starts to count and whether it is due; both over the alias `kept`."""

    relation: str
    rules: tuple[RetentionRule, ...]
    has_person: bool
    clock: str
    oldest: str
    due: str
    ended: str = ""  # what must hold of a person for any row of hers to be due; empty where no relationship has to be over

    @property
    def table(self) -> str:
        zone, name = self.relation.split(".")
        return f"lake.{identifier(zone)}.{identifier(name)}"

    @property
    def joined(self) -> str:
        """The rows that can be due; where a relationship has to be over, only those of persons whose relationship is."""
        if not self.has_person:
            return f"{self.table} as kept"
        kind, ended = ("inner", f" and {self.ended}") if self.ended else ("left", "")
        on = f"persons.subject_token = kept.subject_token{ended}"
        return f"{self.table} as kept {kind} join retention_persons as persons on {on}"

    @property
    def held(self) -> str:
        held = f"{hash_sql('kept.subject_token')} in (select subject_hash from retention_holds)"
        return held if self.has_person else "false"


def _targets(
    connection: duckdb.DuckDBPyConnection, settings: Settings, instant: datetime, zones: Sequence[str]
) -> list[_Target]:
    """What there is to judge, customers last: their row stays while any other row of theirs does."""
    rules = load_rules(settings.profile)
    relations = sorted(
        (name == "customers", f"{zone}.{name}", columns)
        for (zone, name), columns in table_columns(connection).items()
        if zone in zones
    )
    published = last_publication(connection)
    targets = []
    for _, relation, columns in relations:
        zone, name = relation.split(".")
        mine = rules_for(rules, relation)
        if any(rule.clock == DEPARTURE for rule in mine):
            continue  # the ledger's: `_judge_ledger`
        if not mine:
            if zone in ("raw", "ops", "published"):
                raise RetentionError(f"the retention policy has no rule for {relation}: add one to {POLICY_FILE.name}")
            continue
        contract = load_contracts().get(name) if zone == "raw" else None
        event = mine[0].clock_column or (contract.event_time if contract and contract.event_time else "")
        published_at = f"timestamp {literal(published[3])}" if published else NEVER
        clocks = {
            "event": f"kept.{identifier(event)}" if event in columns else "",
            "relationship_end": "persons.ended_at",
            "publication": published_at,
            "person": "null::timestamp",
        }
        if any(not clocks[rule.clock] for rule in mine):
            raise RetentionError(f"{relation} has no column from which rule {mine[0].rule_id} could count: name it there")
        due = " and ".join(
            _purpose_is_over([rule for rule in mine if rule.purpose == purpose], clocks, instant)
            for purpose in sorted({rule.purpose for rule in mine})
        )
        ended = _ended_long_enough(mine, instant)
        if relation == "raw.customers":
            # Of few persons, so that no set is made of everybody's movements to look a handful up in.
            few = f"select subject_token from retention_persons as persons where {ended}"
            among = f" where subject_token in ({few})" if ended else ""
            others = " union all ".join(
                f"select subject_token from lake.raw.{identifier(entity)}{among}"
                for entity in load_contracts()
                if entity != "customers"
            )
            due += f" and kept.subject_token not in ({others})"
        oldest = f"min({clocks['event']})" if clocks["event"] else "null"
        targets.append(_Target(relation, tuple(mine), zone == "raw", clocks[mine[0].clock], oldest, due, ended))
    return targets


def _ended_long_enough(rules: list[RetentionRule], instant: datetime) -> str:
    """SQL over `persons`: the relationship ended before the shortest of the periods that begin with its end."""
    periods = [rule.keep for rule in rules if rule.clock == "relationship_end"]
    return f"persons.ended_at < timestamp {literal(instant - min(periods))}" if periods else ""


def _purpose_is_over(rules: list[RetentionRule], clocks: dict[str, str], instant: datetime) -> str:
    """SQL: whether that purpose has let the row go. A clock that has not started is null, and null lets nothing go."""

    def over(rule: RetentionRule) -> str:
        return f"coalesce({clocks[rule.clock]} < timestamp {literal(instant - rule.keep)}, false)"

    general = [rule for rule in rules if rule.tier == "*"]
    if len(general) != 1:
        raise RetentionError(f"{rules[0].relation}, {rules[0].purpose}: exactly one rule for all tiers (*) is needed")
    cases = " ".join(f"when {literal(rule.tier)} then {over(rule)}" for rule in rules if rule.tier != "*")
    return f"case persons.tier {cases} else {over(general[0])} end" if cases else over(general[0])


def _prepare(connection: duckdb.DuckDBPyConnection, settings: Settings, instant: datetime) -> None:
    """Temporary tables of persons (tier, end of the relationship) and of holds."""
    connection.register("arriving_holds", holds_in_force(settings, instant))
    connection.execute("create or replace temp table retention_holds as select subject_hash from arriving_holds")
    connection.unregister("arriving_holds")
    # Who closed too lately to be due is not due whenever the last movement was, so nobody looks for it.
    periods = [rule.keep for rule in load_rules(settings.profile) if rule.clock == "relationship_end"]
    long_closed = f"status = 'closed' and updated_at < timestamp {literal(instant - min(periods, default=timedelta()))}"
    connection.execute(f"create or replace temp table retention_persons as {persons_sql(connection, long_closed)}")


def persons_sql(connection: duckdb.DuckDBPyConnection, may_have_ended: str = "true") -> str:
    """SQL: subject_token, tier and ended_at of every customer; `ended_at` is null while the relationship lasts.

    Movements are looked for only of the customers for whom `may_have_ended` holds, a condition over `raw.customers`.
    """
    tiers = "select null::varchar as risk_subject_token, null::varchar as tier where false"
    if table_exists(connection, "risk", "risk_ratings"):
        tiers = "select risk_subject_token, tier from lake.risk.risk_ratings"
    return (
        f"with tiers as ({tiers}), "
        "movements as (select subject_token, max(booked_at) as last_at from lake.raw.transactions where subject_token in "
        f"(select subject_token from lake.raw.customers where {may_have_ended}) group by 1) "
        "select customers.subject_token, tiers.tier, case when customers.status = 'closed' "
        "and customers.updated_at is not null then greatest(customers.updated_at, movements.last_at) end as ended_at "
        "from lake.raw.customers as customers "
        "left join tiers on tiers.risk_subject_token = customers.risk_subject_token "
        "left join movements on movements.subject_token = customers.subject_token"
    )


def _judge(connection: duckdb.DuckDBPyConnection, target: _Target) -> RetentionLine:
    total, oldest = connection.execute(f"select count(*), {target.oldest} from {target.table} as kept").fetchone()
    due, held = connection.execute(
        f"select count(*) filter (where not {target.held}), count(*) filter (where {target.held}) "
        f"from {target.joined} where {target.due}"
    ).fetchone()
    return RetentionLine(target.relation, ",".join(rule.rule_id for rule in target.rules), total, due, held, oldest)


def _judge_ledger(
    connection: duckdb.DuckDBPyConnection, settings: Settings, instant: datetime, zones: Sequence[str]
) -> list[RetentionLine]:
    """What is due of the decisions about persons who left the book."""
    if "ops" not in zones:
        return []
    rules = {rule.relation: rule for rule in load_rules(settings.profile) if rule.clock == DEPARTURE}
    keep = max((rule.keep for rule in rules.values()), default=None)
    if keep is None:
        return []
    known = f"select {hash_sql('subject_token')} from lake.raw.customers"
    unknown = f"select count(*) from retention_holds where subject_hash not in ({known})"
    may_be_held = bool(connection.execute(unknown).fetchone()[0])
    return [
        RetentionLine(found.relation, rules[found.relation].rule_id, found.total, found.due, found.held, None)
        for found in judge_departed(connection, instant - keep, may_be_held)
    ]


KEPT_ZONES = ("raw", "ops", "published", "candidate", "audience", "risk", "features", "consent")


def plan(settings: Settings, instant: datetime, zones: Sequence[str] = KEPT_ZONES) -> list[RetentionLine]:
    """What is due at that instant (UTC), per relation; changes nothing. An empty list where nothing was ever landed."""
    with open_lake(settings, read_only=True) as connection:
        _require_profile(connection, settings)
        return judge(connection, settings, instant, zones)


def _require_profile(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Raises `SourceError` if what lies there was landed for another profile: its rows follow that profile's rules."""
    if table_exists(connection, "ops", "deliveries"):
        newest_delivery(connection, settings)


def judge(
    connection: duckdb.DuckDBPyConnection, settings: Settings, instant: datetime, zones: Sequence[str] = KEPT_ZONES
) -> list[RetentionLine]:
    """`plan` on a connection that is open already."""
    if not table_exists(connection, "raw", "customers"):
        return []
    _prepare(connection, settings, instant)
    lines = [_judge(connection, target) for target in _targets(connection, settings, instant, zones)]
    return lines + _judge_ledger(connection, settings, instant, zones)


def remove_due(
    connection: duckdb.DuckDBPyConnection,
    settings: Settings,
    instant: datetime,
    run_id: str,
    zones: Sequence[str] = KEPT_ZONES,
) -> list[RetentionLine]:
    """Delete what is due, in one transaction with the report; the vault's entries of removed customers go as well.

    `connection` holds the lake for writing. The bytes are still in old files afterwards: see `purge`.
    """
    if not table_exists(connection, "raw", "customers"):
        return []
    connection.execute(REPORT_DDL)
    connection.execute(AGGREGATES_DDL)
    _prepare(connection, settings, instant)
    now = datetime.now(UTC).replace(tzinfo=None)
    lines = []
    with transaction(connection):
        connection.execute("create or replace temp table retention_gone (subject_token varchar)")
        for target in _targets(connection, settings, instant, zones):
            line = _judge(connection, target)
            if line.rows_due:
                _delete(connection, target, now)
            lines.append(_removed(line))
        lines += [_removed(line) for line in _judge_ledger(connection, settings, instant, zones)]
        connection.register("arriving_report", pa.Table.from_pylist([_report_row(line, now, run_id) for line in lines]))
        connection.execute("insert into lake.ops.retention_report by name select * from arriving_report")
        connection.unregister("arriving_report")
        # First the keys: whoever dies between the two finds the customers still due, and goes on.
        _forget_persons(connection, settings)
    return lines


def enforce_at_landing(
    connection: duckdb.DuckDBPyConnection, settings: Settings, as_of: datetime, run_id: str
) -> list[RetentionLine]:
    """A delivery that brings what is past its time does not bring it back: removed before anything reads it, and counted.

    The report's rows are the count under a reason: `landing` judged them by the rules that it names.
    """
    lines = remove_due(connection, settings, as_of, run_id, ("raw",))
    for line in lines:
        if line.rows_removed:  # else the file keeps the bytes for as long as the table stands
            make_anew(connection, "lake", *line.relation.split("."))
    return lines


def _removed(line: RetentionLine) -> RetentionLine:
    return RetentionLine(**{**vars(line), "rows_removed": line.rows_due})


def _report_row(line: RetentionLine, now: datetime, run_id: str) -> dict[str, object]:
    return {"reported_at": now, "run_id": run_id, **vars(line)}


def _delete(connection: duckdb.DuckDBPyConnection, target: _Target, now: datetime) -> None:
    condition = f"{target.due} and not {target.held}"
    connection.execute(
        f"create or replace temp table retention_due as select kept.rowid as place, {target.clock} as clock "
        f"{', kept.subject_token' if target.has_person else ''} from {target.joined} where {condition}"
    )
    if any(rule.action == "aggregate" for rule in target.rules):
        connection.execute(
            "insert into lake.ops.retention_aggregates select $relation, date_trunc('month', clock)::date, count(*), $now "
            "from retention_due group by 2",
            {"relation": target.relation, "now": now},
        )
    if target.relation == "raw.customers":
        connection.execute("insert into retention_gone select subject_token from retention_due")
    connection.execute(f"delete from {target.table} where rowid in (select place from retention_due)")


def _forget_persons(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Erase what the ledger says of customers who are gone; destroy their keys, then their vault entries: rule T301."""
    gone = [row[0] for row in connection.execute("select subject_token from retention_gone").fetchall()]
    forget_in_ledger(connection, settings, gone)
    if not gone:
        return
    shred(settings, gone)
    if settings.vault_catalog.exists():
        with attached_vault(connection, settings) as vault:
            vault.execute(f"delete from {PERSONS} where subject_token in (select unnest($gone))", {"gone": gone})
            remove_deleted(vault, "vault")


def _has_deleted(settings: Settings) -> bool:
    """Whether deleted rows still lie in a file: a landing deletes, and leaves the files to this job."""
    with open_lake(settings, read_only=True) as connection:
        return has_deleted(connection, "lake")


def purge(settings: Settings) -> None:
    """Take deleted rows out of the store's bytes: data files, then the catalogue. Ends time travel to before now."""
    with open_lake(settings) as connection:
        remove_deleted(connection, "lake")
    with shared_turn(settings.turn_file, settings.lock_wait_seconds):
        compact_sqlite(settings.catalog)


def apply_retention(settings: Settings, instant: datetime, run_id: str) -> list[RetentionLine]:
    """The whole job: delete what is due, take it out of the bytes, and look again.

    Waits for a run that is writing. Raises `RetentionError` if anything that is due is still there afterwards.
    """
    with run_lock(settings):
        with open_lake(settings) as connection:
            _require_profile(connection, settings)
            lines = remove_due(connection, settings, instant, run_id)
        if any(line.rows_removed for line in lines) or _has_deleted(settings):
            purge(settings)
        left = older_than_policy(plan(settings, instant))
    if left:
        raise RetentionError(f"older than policy after the removal: {', '.join(line.relation for line in left)}")
    return lines


def older_than_policy(lines: Iterable[RetentionLine]) -> list[RetentionLine]:
    """The relations that hold rows which should be gone and that no hold keeps: none, or the policy is broken."""
    return [line for line in lines if line.rows_due and not line.rows_removed]
