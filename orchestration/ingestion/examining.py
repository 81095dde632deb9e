"""One entity's delivery against its contract: which rows stay, which are duplicates, which go to quarantine and why.

Belongs here: the set-based passes over a delivery. Does not belong here: reading files (`reading`), the SQL of a feed's
rows (`rows`), writing to the lake (`landing`).

Problems and repeated keys are gathered in small side tables, and the rows that stay are a view. What is dear to read
(CSV, JSON, lookups) is parsed once, into the scratch database; a Parquet file is parsed again by each pass, which costs
less than writing its rows down and reading them back. A file that changes between two passes breaks the reconciliation,
and with it the delivery. A repeated key with equal content keeps its first row; with different content nobody can say
which one is right, so none stays.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb

from orchestration.ingestion.contracts import SQL_TYPES, Contract
from orchestration.ingestion.errors import SourceError
from orchestration.ingestion.expressions import compile_expression
from orchestration.ingestion.mapping import OWN, Feed, Mapping, column_expressions, join_expressions, paths
from orchestration.ingestion.quarantine import SIDE_TABLES, fill_quarantine
from orchestration.ingestion.reading import SCRATCH, Source, close_source, header_of, open_source
from orchestration.ingestion.rows import FeedRows, column_names
from orchestration.lake import identifier


@dataclass
class FeedCount:
    """One line of the reconciliation: rows_read = rows_kept + duplicates + quarantined must hold, or the run fails."""

    feed: str
    entity: str
    rows_in_file: int = 0
    rows_excluded: int = 0
    rows_kept: int = 0
    duplicates: int = 0
    quarantined: int = 0

    @property
    def rows_read(self) -> int:
        """Rows of the files that belong to this entity."""
        return self.rows_in_file - self.rows_excluded

    @property
    def reconciles(self) -> bool:
        """Whether every row read is accounted for."""
        return self.rows_read == self.rows_kept + self.duplicates + self.quarantined


@dataclass
class Examination:
    """The result for one entity.

    `kept` is a relation with the contract's columns, typed, and `feed`; but for the customers themselves it has
    `subject_token` in place of the customer's identifier. `counterparties` is a relation with at least the values of
    the kept rows' counterparty column, if there is one. `quarantine` is a table (feed, file, row_number,
    column_name, reason, value_shape). Counts are per feed; `rows_kept` is left to whoever stores the rows.
    """

    contract: Contract
    kept: str
    counterparties: str
    quarantine: str
    counts: dict[str, FeedCount]
    sources: dict[str, Source]
    absent: list[str] = field(default_factory=list)


class Examiner:
    """Examines one mapping's feeds, entity by entity, on one connection that has a `scratch` database attached."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, mapping: Mapping, data: Path, as_of: datetime) -> None:
        self.connection = connection
        self.mapping = mapping
        self.data = data
        self.as_of = as_of
        self.lookup_counts: dict[str, FeedCount] = {}
        self.lookup_sources: dict[str, Source] = {}
        # SQL of the rows of a contract that a suppression keeps out; landing sets it.
        self.withheld: Callable[[Contract], str | None] = lambda contract: None

    def open_lookups(self) -> None:
        """Read the side tables. Raises `SourceError` if a lookup's key is not unique: a join would multiply rows."""
        for name, lookup in self.mapping.lookups.items():
            found = paths(lookup.files, self.data)
            if not found:
                raise SourceError("missing_file", f"lookup {name}: no file matches", "deliver it", str(lookup.files))
            wanted = {lookup.key.lower()}
            for feed in self.mapping.feeds:
                joined = frozenset(join.lookup for join in feed.joins)
                texts = [str(text) for text in (feed.columns or {}).values()] + [feed.where or "null"]
                for expression in [*(compile_expression(text, OWN, joined) for text in texts), *join_expressions(feed)]:
                    wanted |= {column.lower() for relation, column in expression.columns if relation == name}
            where = compile_expression(lookup.where, OWN) if lookup.where else None
            wanted |= {column.lower() for _, column in where.columns} if where else set()
            source = open_source(self.connection, f"lookup_{name}", found, lookup.options, wanted)
            condition = f"where {where.sql}" if where else ""
            key = identifier(lookup.key.lower())
            self.connection.execute(
                f"create or replace temp table {identifier(f'lookup_{name}')} as "
                f"select distinct * exclude (_file, _row) from {source.relation} as {identifier(OWN)} {condition}"
            )
            rows, keys = self.connection.execute(
                f"select count(*), count(distinct {key}) from {identifier(f'lookup_{name}')} where {key} is not null"
            ).fetchone()
            if rows != keys:
                raise SourceError(
                    "lookup_key_not_unique",
                    f"lookup {name}: {rows} rows have {keys} different values of {lookup.key}",
                    "narrow it with `where`, or use another key",
                    str(lookup.files),
                    lookup.key,
                )
            selected = self.connection.execute(
                f"select count(*) from {source.relation} as {identifier(OWN)} {condition}"
            ).fetchone()[0]
            rejected = sum(len(lines) for lines in source.rejects.values())
            excluded = source.rows_in_files - rejected - selected
            self.lookup_counts[name] = FeedCount(
                f"lookup:{name}", "lookup", source.rows_in_files, excluded, rows, selected - rows, rejected
            )
            self.lookup_sources[name] = source

    def examine(self, contract: Contract, subjects: str | None) -> Examination:
        """Examine all feeds of one contract.

        `subjects` is a relation (customer_id, subject_token) of the known customers, `None` for the customers themselves.
        """
        counts: dict[str, FeedCount] = {}
        sources: dict[str, Source] = {}
        absent, opened = [], []
        for feed in self.mapping.feeds_of(contract.entity):
            found = paths(feed.files, self.data)
            if not found:
                if contract.entity == "customers":
                    raise SourceError("missing_file", f"feed {feed.name}: no file matches", "deliver it", str(feed.files))
                absent.append(feed.name)
                continue
            rows = self._open(feed, contract, found)
            sources[feed.name] = rows.source
            counts[feed.name] = FeedCount(feed.name, contract.entity, rows.source.rows_in_files)
            opened.append(rows)
        entity = contract.entity
        quarantine, kept, counterparties = f"quarantine_{entity}", f"kept_{entity}", f"counterparties_{entity}"
        examination = Examination(contract, kept, counterparties, quarantine, counts, sources, absent)
        self._execute(
            f"create or replace temp table {quarantine} (feed varchar, file varchar, row_number bigint, "
            "column_name varchar, reason varchar, value_shape varchar)"
        )
        if not opened:
            empty = ", ".join(f"null::{SQL_TYPES[column.type]} as {identifier(column.name)}" for column in contract.columns)
            empty += ", null::varchar as subject_token" if subjects else ""
            self._execute(f"create or replace temp view {kept} as select {empty}, null::varchar as feed where false")
            self._execute(f"create or replace temp view {counterparties} as select * from {kept}")
            return examination
        self._judge(contract, opened, subjects, examination)
        self._count(contract, opened, counts)
        fill_quarantine(self.connection, contract, sources)
        return examination

    def _judge(self, contract: Contract, opened: list[FeedRows], subjects: str | None, examination: Examination) -> None:
        """The passes over the rows: problems, repeated keys, and the view of what stays."""
        entity, key, names = contract.entity, identifier(contract.key), column_names(contract)
        counterparty = [identifier(column.name) for column in contract.columns if column.counterparty]
        parsed = f"{SCRATCH}.parsed_{entity}"
        withheld = self.withheld(contract)
        rows = " union all ".join(one.parsed(subjects, withheld) for one in opened)
        if all(one.is_cheap_to_parse for one in opened):
            self._execute(f"create or replace view {parsed} as {rows}")
            keys, others = (
                " union all ".join(one.values(wanted) for one in opened) for wanted in ([key], counterparty)
            )
            few = " union all ".join(one.parsed(subjects, withheld, only=f"suspects_{entity}") for one in opened)
        else:
            self._execute(f"create or replace table {parsed} as {rows}")
            keys = f"select feed, _file, _row, {key} from {parsed}"
            others = f"select {', '.join(counterparty) or 'feed'} from {parsed}"
            few = f"select parsed.* from {parsed} as parsed semi join suspects_{entity} using (feed, _file, _row)"
        self._execute(f"create or replace temp view {examination.counterparties} as {others}")
        self._find_problems(contract)
        self._find_repeats(contract, keys, few)
        self._execute(
            f"create or replace temp view {examination.kept} as "
            f"select {names}, feed from {parsed} where _problem is null and "
            f"hash({key}) not in (select key_hash from repeated_{entity}) "
            f"union all select {names}, feed from repeats_{entity} where fate = 'kept'"
        )

    def close(self, examination: Examination) -> None:
        """Drop what an examination left in the engine."""
        entity = examination.contract.entity
        for view in (examination.kept, examination.counterparties):
            self._execute(f"drop view if exists {view}")
        is_view = self._execute(
            "select 1 from duckdb_views() where database_name = ? and view_name = ?", [SCRATCH, f"parsed_{entity}"]
        ).fetchall()
        self._execute(f"drop {'view' if is_view else 'table'} if exists {SCRATCH}.parsed_{entity}")
        side_tables = (f"problems_{entity}", f"repeated_{entity}", f"suspects_{entity}", f"repeats_{entity}")
        for table in (*side_tables, *SIDE_TABLES, examination.quarantine):
            self._execute(f"drop table if exists {table}")
        for feed in examination.sources:
            close_source(self.connection, feed)

    def _execute(self, sql: str, values: list[str] | None = None) -> duckdb.DuckDBPyConnection:
        try:
            return self.connection.execute(sql, values)
        except (duckdb.ConversionException, duckdb.InvalidInputException) as error:
            raise SourceError(
                "expression_failed",
                f"an expression of the mapping fails on some row: {type(error).__name__}",
                "use try_cast or try_strptime there, so that the row alone goes to quarantine",
            ) from error

    def _open(self, feed: Feed, contract: Contract, found: list[Path]) -> FeedRows:
        available: set[str] = set()
        if feed.columns is None:
            empty = next((path for path in found if path.stat().st_size == 0), None)
            if empty is None:
                available = {name.lower() for name in header_of(found[0], feed.options)}
                if not available and feed.options.format == "json":
                    available = {column.name for column in contract.columns}
            else:
                raise SourceError("empty_file", "the file has no bytes", "deliver it again", str(empty))
        expressions = column_expressions(feed, contract, available)
        lookups = frozenset(join.lookup for join in feed.joins)
        others = [compile_expression(feed.where, OWN, lookups)] if feed.where else []
        others += join_expressions(feed)
        wanted = {
            column.lower()
            for expression in [*expressions.values(), *others]
            for relation, column in expression.columns
            if relation == OWN
        }
        source = open_source(self.connection, feed.name, found, feed.options, wanted)
        rows = FeedRows(feed, contract, self.mapping, source, expressions, self.as_of)
        for name, kind, *_ in self._execute(f"describe {rows.delivered()}").fetchall():
            if name.startswith("d_"):
                rows.kinds[name[2:]] = kind
        return rows

    def _find_problems(self, contract: Contract) -> None:
        self._execute(
            f"create or replace temp table problems_{contract.entity} as "
            f"select feed, _file, _row, _problem, _shape from {SCRATCH}.parsed_{contract.entity} where _problem is not null"
        )

    def _find_repeats(self, contract: Contract, keys: str, few: str) -> None:
        """Rows whose key another row has too, and their fate. `keys` selects every row's key, `few` the suspects' rows."""
        entity, key = contract.entity, identifier(contract.key)
        content = column_names(contract)
        # Eight bytes a row instead of the keys themselves: at twenty million rows this decides whether it fits in memory.
        # Keys of bad rows count too; a good row that only they repeat is judged alone, and kept.
        self._execute(
            f"create or replace temp table repeated_{entity} as select hash({key}) as key_hash "
            f"from ({keys}) group by key_hash having count(*) > 1"
        )
        repeated = self._execute(f"select count(*) from repeated_{entity}").fetchone()[0]
        self._execute(
            f"create or replace temp table suspects_{entity} as select feed, _file, _row from ({keys}) "
            f"where {'hash(' + key + f') in (select key_hash from repeated_{entity})' if repeated else 'false'}"
        )
        self._execute(
            f"create or replace temp table repeats_{entity} as with suspects as ("
            f"select *, hash({content}) as content_hash from ({few}) where _problem is null), judged as (select *, "
            f"min(content_hash) over (partition by {key}) = max(content_hash) over (partition by {key}) as is_same, "
            f"row_number() over (partition by {key} order by feed, _file, _row) as version from suspects) "
            "select *, case when not is_same then 'contradictory' when version = 1 then 'kept' else 'duplicate' end as fate "
            "from judged"
        )

    def _count(self, contract: Contract, opened: list[FeedRows], counts: dict[str, FeedCount]) -> None:
        entity = contract.entity
        for one in opened:
            source, count = one.source, counts[one.feed.name]
            selected = sum(source.readable)
            if one.feed.where:
                selected = self._execute(f"select count(*) from {one.base()}").fetchone()[0]
            count.rows_excluded = sum(source.readable) - selected
            count.quarantined = sum(len(rows) for rows in source.rejects.values())
        for feed_name, rows in self._execute(f"select feed, count(*) from problems_{entity} group by feed").fetchall():
            counts[feed_name].quarantined += rows
        for feed_name, fate, rows in self._execute(
            f"select feed, fate, count(*) from repeats_{entity} where fate != 'kept' group by feed, fate"
        ).fetchall():
            if fate == "duplicate":
                counts[feed_name].duplicates += rows
            else:
                counts[feed_name].quarantined += rows
