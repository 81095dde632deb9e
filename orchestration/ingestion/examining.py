"""One entity's delivery against its contract: which rows stay, which are duplicates, which go to quarantine and why.

Belongs here: the set-based passes over a delivery. Does not belong here: reading files (`reading`), the SQL of single
values (`parsing`), writing to the lake (`landing`).

The delivery is parsed once, into the scratch database: problems and repeated keys are gathered in small side tables,
and the rows that stay are a view. A repeated key with equal content keeps its first row; with different content nobody
can say which one is right, so none stays.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from orchestration.ingestion.contracts import SQL_TYPES, Contract
from orchestration.ingestion.errors import REASONS, SourceError
from orchestration.ingestion.expressions import Expression, compile_expression
from orchestration.ingestion.mapping import OWN, Feed, Mapping, column_expressions, join_expressions, paths
from orchestration.ingestion.parsing import typed_columns
from orchestration.ingestion.reading import SCRATCH, Source, close_source, header_of, open_source
from orchestration.lake import identifier, literal


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
    `subject_token` in place of the customer's identifier. `quarantine` is a table (feed, file, row_number,
    column_name, reason, value_shape). Counts are per feed; `rows_kept` is left to whoever stores the rows.
    """

    contract: Contract
    kept: str
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
        absent, parsed = [], []
        for feed in self.mapping.feeds_of(contract.entity):
            found = paths(feed.files, self.data)
            if not found:
                if contract.entity == "customers":
                    raise SourceError("missing_file", f"feed {feed.name}: no file matches", "deliver it", str(feed.files))
                absent.append(feed.name)
                continue
            expressions, source = self._open(feed, contract, found)
            sources[feed.name] = source
            counts[feed.name] = FeedCount(feed.name, contract.entity, source.rows_in_files)
            parsed.append(self._parsed(feed, contract, source, expressions, subjects))
        entity = contract.entity
        quarantine, kept = f"quarantine_{entity}", f"kept_{entity}"
        self._execute(
            f"create or replace temp table {quarantine} (feed varchar, file varchar, row_number bigint, "
            "column_name varchar, reason varchar, value_shape varchar)"
        )
        names = _names(contract)
        if not parsed:
            empty = ", ".join(f"null::{SQL_TYPES[column.type]} as {identifier(column.name)}" for column in contract.columns)
            empty += ", null::varchar as subject_token" if subjects else ""
            self._execute(f"create or replace temp view {kept} as select {empty}, null::varchar as feed where false")
            return Examination(contract, kept, quarantine, counts, sources, absent)
        self._execute(f"create or replace table {SCRATCH}.parsed_{entity} as {' union all '.join(parsed)}")
        self._find_problems(contract)
        self._find_repeats(contract)
        self._execute(
            f"create or replace temp view {kept} as "
            f"select {names}, feed from {SCRATCH}.parsed_{entity} where _problem is null and "
            f"hash({identifier(contract.key)}) not in (select key_hash from repeated_{entity}) "
            f"union all select {names}, feed from repeats_{entity} where fate = 'kept'"
        )
        self._count(contract, counts, sources)
        self._fill_quarantine(contract, sources)
        return Examination(contract, kept, quarantine, counts, sources, absent)

    def close(self, examination: Examination) -> None:
        """Drop what an examination left in the engine."""
        entity = examination.contract.entity
        self._execute(f"drop view if exists {examination.kept}")
        self._execute(f"drop table if exists {SCRATCH}.parsed_{entity}")
        for table in (f"problems_{entity}", f"repeated_{entity}", f"repeats_{entity}", examination.quarantine):
            self._execute(f"drop table if exists {table}")
        for feed in examination.sources:
            close_source(self.connection, feed)

    def _execute(self, sql: str) -> duckdb.DuckDBPyConnection:
        try:
            return self.connection.execute(sql)
        except (duckdb.ConversionException, duckdb.InvalidInputException) as error:
            raise SourceError(
                "expression_failed",
                f"an expression of the mapping fails on some row: {type(error).__name__}",
                "use try_cast or try_strptime there, so that the row alone goes to quarantine",
            ) from error

    def _open(self, feed: Feed, contract: Contract, found: list[Path]) -> tuple[dict[str, Expression], Source]:
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
        return expressions, open_source(self.connection, feed.name, found, feed.options, wanted)

    def _base(self, feed: Feed, source: Source) -> str:
        lookups = frozenset(join.lookup for join in feed.joins)
        sql = f"{source.relation} as {identifier(OWN)}"
        for join, on in zip(feed.joins, join_expressions(feed), strict=True):
            alias, table = identifier(join.lookup), identifier(f"lookup_{join.lookup}")
            key = identifier(self.mapping.lookups[join.lookup].key.lower())
            sql += f" left join {table} as {alias} on {on.sql} = {alias}.{key}"
        if feed.where:
            sql += f" where {compile_expression(feed.where, OWN, lookups).sql}"
        return sql

    def _parsed(
        self, feed: Feed, contract: Contract, source: Source, expressions: dict[str, Expression], subjects: str | None
    ) -> str:
        base = self._base(feed, source)
        own = identifier(OWN)
        delivered = "".join(f", {expression.sql} as d_{name}" for name, expression in expressions.items())
        first = f"select {own}._file, {own}._row{delivered} from {base}"
        kinds = {row[0][2:]: row[1] for row in self._execute(f"describe {first}").fetchall() if row[0].startswith("d_")}
        typed = typed_columns(contract, kinds, feed.options, self.as_of)
        problems = list(typed.problems)
        if source.cut_off:
            last = " or ".join(f"(_file = {file} and _row = {source.readable[file] - 1})" for file in source.cut_off)
            problems.insert(0, (last, ":file_cut_off", "null"))
        joined = ""
        if subjects:
            subject = identifier(contract.subject_column.name)
            joined = (
                f" left join (select customer_id as known_customer_id, subject_token from {subjects}) as known "
                f"on {subject} = known_customer_id"
            )
            problems.append(("known_customer_id is null", f"{contract.subject_column.name}:unknown_customer", "null"))
        withheld = self.withheld(contract)
        if withheld:
            problems.insert(0, (withheld, f"{contract.subject_column.name}:suppressed", "null"))
        names = _names(contract)
        kind = " ".join(f"when {condition} then {literal(code)}" for condition, code, _ in problems)
        shape = " ".join(f"when {condition} then cast({text} as varchar)" for condition, _, text in problems)
        shapes = f"regexp_replace(regexp_replace(left(case {shape} end, 60), '\\p{{L}}', 'a', 'g'), '\\p{{N}}', '9', 'g')"
        return (
            f"select {literal(feed.name)} as feed, _file, _row, {names}, case {kind} end as _problem, {shapes} as _shape "
            f"from (select *, {', '.join(typed.values)} from (select *, {', '.join(typed.texts)} from ({first}))){joined}"
        )

    def _find_problems(self, contract: Contract) -> None:
        self._execute(
            f"create or replace temp table problems_{contract.entity} as "
            f"select feed, _file, _row, _problem, _shape from {SCRATCH}.parsed_{contract.entity} where _problem is not null"
        )

    def _find_repeats(self, contract: Contract) -> None:
        entity, key = contract.entity, identifier(contract.key)
        content = _names(contract)
        # Eight bytes a row instead of the keys themselves: at twenty million rows this decides whether it fits in memory.
        self._execute(
            f"create or replace temp table repeated_{entity} as select hash({key}) as key_hash "
            f"from {SCRATCH}.parsed_{entity} where _problem is null group by key_hash having count(*) > 1"
        )
        self._execute(
            f"create or replace temp table repeats_{entity} as with suspects as ("
            f"select *, hash({content}) as content_hash from {SCRATCH}.parsed_{entity} where _problem is null "
            f"and hash({key}) in (select key_hash from repeated_{entity})), judged as (select *, "
            f"min(content_hash) over (partition by {key}) = max(content_hash) over (partition by {key}) as is_same, "
            f"row_number() over (partition by {key} order by feed, _file, _row) as version from suspects) "
            "select *, case when not is_same then 'contradictory' when version = 1 then 'kept' else 'duplicate' end as fate "
            "from judged"
        )

    def _count(self, contract: Contract, counts: dict[str, FeedCount], sources: dict[str, Source]) -> None:
        entity = contract.entity
        for feed in self.mapping.feeds_of(entity):
            if feed.name not in counts:
                continue
            source, count = sources[feed.name], counts[feed.name]
            rejected = sum(len(rows) for rows in source.rejects.values())
            selected = sum(source.readable)
            if feed.where:
                selected = self._execute(f"select count(*) from {self._base(feed, source)}").fetchone()[0]
            count.rows_excluded = sum(source.readable) - selected
            count.quarantined = rejected
        for feed_name, rows in self._execute(f"select feed, count(*) from problems_{entity} group by feed").fetchall():
            counts[feed_name].quarantined += rows
        for feed_name, fate, rows in self._execute(
            f"select feed, fate, count(*) from repeats_{entity} where fate != 'kept' group by feed, fate"
        ).fetchall():
            if fate == "duplicate":
                counts[feed_name].duplicates += rows
            else:
                counts[feed_name].quarantined += rows

    def _fill_quarantine(self, contract: Contract, sources: dict[str, Source]) -> None:
        """Bad rows with file and the row's number as a person counts it, rejected rows above it included."""
        entity = contract.entity
        files = [
            (name, position, file.path.name, source.header_rows)
            for name, source in sources.items()
            for position, file in enumerate(source.files)
        ]
        # The k-th rejected record at line n leaves n - header - k readable rows above it.
        gaps = [
            (name, position, line - source.header_rows - order - 1)
            for name, source in sources.items()
            for position, rows in source.rejects.items()
            for order, line in enumerate(sorted(rows))
        ]
        rejects = [
            (name, position, line, reason)
            for name, source in sources.items()
            for position, rows in source.rejects.items()
            for line, reason in rows.items()
        ]
        _small_table(self.connection, "delivery_files", "feed varchar, _file integer, file varchar, header_rows integer", files)
        _small_table(self.connection, "delivery_gaps", "feed varchar, _file integer, above bigint", gaps)
        columns = "feed varchar, _file integer, row_number bigint, reason varchar"
        _small_table(self.connection, "delivery_rejects", columns, rejects)
        self._execute(
            f"insert into quarantine_{entity} with bad as ("
            f"select feed, _file, _row, nullif(split_part(_problem, ':', 1), '') as column_name, "
            f"split_part(_problem, ':', 2) as reason, _shape from problems_{entity} union all "
            f"select feed, _file, _row, {literal(contract.key)}, 'contradictory_key', null from repeats_{entity} "
            "where fate = 'contradictory'), shifts as (select bad.feed, bad._file, bad._row, count(gap.above) as shift "
            "from bad left join delivery_gaps as gap on bad.feed = gap.feed and bad._file = gap._file and gap.above <= bad._row "
            "group by bad.feed, bad._file, bad._row) "
            "select bad.feed, file, bad._row + 1 + header_rows + shift, column_name, reason, _shape "
            "from bad join shifts using (feed, _file, _row) join delivery_files using (feed, _file) "
            "union all select feed, file, row_number, null, reason, null "
            "from delivery_rejects join delivery_files using (feed, _file)"
        )
        unknown = {row[0] for row in self._execute(f"select distinct reason from quarantine_{entity}").fetchall()} - set(REASONS)
        if unknown:
            raise RuntimeError(f"quarantine reasons without a description: {unknown}")


def _names(contract: Contract) -> str:
    """The contract's columns; whatever refers to a customer has the pseudonym in place of the identifier."""
    if contract.entity == "customers":
        return ", ".join(identifier(column.name) for column in contract.columns)
    return ", ".join("subject_token" if column.subject else identifier(column.name) for column in contract.columns)


def _small_table(connection: duckdb.DuckDBPyConnection, name: str, columns: str, rows: list[tuple]) -> None:
    connection.execute(f"create or replace temp table {name} ({columns})")
    if rows:
        arrow = pa.table({f"c{i}": pa.array(values) for i, values in enumerate(zip(*rows, strict=True))})
        connection.register("small_rows", arrow)
        connection.execute(f"insert into {name} select * from small_rows")
        connection.unregister("small_rows")
