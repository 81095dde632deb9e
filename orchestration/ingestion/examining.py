"""One entity's delivery against its contract: which rows stay, which are duplicates, which go to quarantine and why.

Belongs here: the set-based passes over a delivery. Does not belong here: reading files (`reading`), the SQL of single
values (`parsing`), writing to the lake (`landing`).

Problems and repeated keys are gathered in small side tables, and the rows that stay are a view. What is dear to read
(CSV, JSON, lookups) is parsed once, into the scratch database; a Parquet file is parsed again by each pass, which costs
less than writing its rows down and reading them back. A file that changes between two passes breaks the reconciliation,
and with it the delivery. A repeated key with equal content keeps its first row; with different content nobody can say
which one is right, so none stays.
"""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from orchestration.ingestion.contracts import SQL_TYPES, Contract
from orchestration.ingestion.errors import REASONS, SourceError
from orchestration.ingestion.expressions import Expression, compile_expression
from orchestration.ingestion.mapping import OWN, Feed, Mapping, column_expressions, join_expressions, paths
from orchestration.ingestion.parsing import TypedColumns, typed_columns
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


@dataclass(frozen=True)
class _Opened:
    """A feed that is ready to be parsed: its files, its compiled expressions and the engine types that these deliver."""

    feed: Feed
    source: Source
    expressions: dict[str, Expression]
    kinds: dict[str, str]

    @property
    def is_cheap_to_parse(self) -> bool:
        """Whether parsing it again costs less than storing its rows: typed, columnar, and no join."""
        return self.feed.options.format == "parquet" and not self.feed.joins


class Examiner:
    """Examines one mapping's feeds, entity by entity, on one connection that has a `scratch` database attached."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, mapping: Mapping, data: Path, as_of: datetime) -> None:
        self.connection = connection
        self.mapping = mapping
        self.data = data
        self.as_of = as_of
        self.lookup_counts: dict[str, FeedCount] = {}
        self.lookup_sources: dict[str, Source] = {}

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
            expressions, source = self._open(feed, contract, found)
            sources[feed.name] = source
            counts[feed.name] = FeedCount(feed.name, contract.entity, source.rows_in_files)
            delivered = self._execute(f"describe {self._delivered(feed, source, expressions)}").fetchall()
            kinds = {row[0][2:]: row[1] for row in delivered if row[0].startswith("d_")}
            opened.append(_Opened(feed, source, expressions, kinds))
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
        self._count(contract, counts, sources)
        self._fill_quarantine(contract, sources)
        return examination

    def _judge(self, contract: Contract, opened: list[_Opened], subjects: str | None, examination: Examination) -> None:
        """The passes over the rows: problems, repeated keys, and the view of what stays."""
        entity, key, names = contract.entity, identifier(contract.key), _names(contract)
        counterparty = [identifier(column.name) for column in contract.columns if column.counterparty]
        parsed = f"{SCRATCH}.parsed_{entity}"
        rows = " union all ".join(self._parsed(one, contract, subjects) for one in opened)
        if all(one.is_cheap_to_parse for one in opened):
            self._execute(f"create or replace view {parsed} as {rows}")
            keys, others = (
                " union all ".join(self._values(one, contract, wanted) for one in opened)
                for wanted in ([key], counterparty)
            )
            few = " union all ".join(self._parsed(one, contract, subjects, f"suspects_{entity}") for one in opened)
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
        kinds = self._execute(
            "select lower(table_type) from information_schema.tables where table_catalog = ? and table_name = ?",
            [SCRATCH, f"parsed_{entity}"],
        ).fetchall()
        for (kind,) in kinds:
            self._execute(f"drop {'view' if kind == 'view' else 'table'} {SCRATCH}.parsed_{entity}")
        side_tables = (f"problems_{entity}", f"repeated_{entity}", f"suspects_{entity}", f"repeats_{entity}")
        files = ("delivery_files", "delivery_gaps", "delivery_rejects")
        for table in (*side_tables, *files, examination.quarantine):
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

    def _base(self, feed: Feed, source: Source, only: str | None = None) -> str:
        """The feed's rows with what it joins; `only` names a table (feed, _file, _row) of the rows that are wanted."""
        lookups = frozenset(join.lookup for join in feed.joins)
        rows = source.relation
        if only:
            wanted = f"(select _file, _row from {only} where feed = {literal(feed.name)})"
            rows = f"(select * from {rows} semi join {wanted} using (_file, _row))"
        sql = f"{rows} as {identifier(OWN)}"
        for join, on in zip(feed.joins, join_expressions(feed), strict=True):
            alias, table = identifier(join.lookup), identifier(f"lookup_{join.lookup}")
            key = identifier(self.mapping.lookups[join.lookup].key.lower())
            sql += f" left join {table} as {alias} on {on.sql} = {alias}.{key}"
        if feed.where:
            sql += f" where {compile_expression(feed.where, OWN, lookups).sql}"
        return sql

    def _delivered(
        self, feed: Feed, source: Source, expressions: dict[str, Expression], only: str | None = None
    ) -> str:
        """A select of what a feed delivers for each column that it has, as `d_<column>`."""
        own = identifier(OWN)
        delivered = "".join(f", {expression.sql} as d_{name}" for name, expression in expressions.items())
        return f"select {own}._file, {own}._row{delivered} from {self._base(feed, source, only)}"

    def _typed(self, opened: _Opened, contract: Contract, only: str | None = None) -> tuple[str, TypedColumns]:
        """A select of a feed's typed values (and `_file`, `_row`), and what may be wrong with them."""
        first = self._delivered(opened.feed, opened.source, opened.expressions, only)
        typed = typed_columns(contract, opened.kinds, opened.feed.options, self.as_of)
        return f"select *, {', '.join(typed.values)} from (select *, {', '.join(typed.texts)} from ({first}))", typed

    def _values(self, opened: _Opened, contract: Contract, columns: list[str]) -> str:
        """A select of some typed columns of all rows, good and bad; the engine reads no others for it."""
        typed, _ = self._typed(opened, contract)
        picked = ", ".join([f"{literal(opened.feed.name)} as feed", "_file", "_row", *columns])
        return f"select {picked} from ({typed})"

    def _parsed(self, opened: _Opened, contract: Contract, subjects: str | None, only: str | None = None) -> str:
        """A select of a feed's rows, typed, each with what is wrong with it and that value's shape."""
        select, typed = self._typed(opened, contract, only)
        problems, source = list(typed.problems), opened.source
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
        kind = " ".join(f"when {condition} then {literal(code)}" for condition, code, _ in problems)
        shape = " ".join(f"when {condition} then cast({text} as varchar)" for condition, _, text in problems)
        shapes = f"regexp_replace(regexp_replace(left(case {shape} end, 60), '[[:alpha:]]', 'a', 'g'), '[0-9]', '9', 'g')"
        return (
            f"select {literal(opened.feed.name)} as feed, _file, _row, {_names(contract)}, case {kind} end as _problem, "
            f"{shapes} as _shape from ({select}){joined}"
        )

    def _find_problems(self, contract: Contract) -> None:
        self._execute(
            f"create or replace temp table problems_{contract.entity} as "
            f"select feed, _file, _row, _problem, _shape from {SCRATCH}.parsed_{contract.entity} where _problem is not null"
        )

    def _find_repeats(self, contract: Contract, keys: str, few: str) -> None:
        """Rows whose key another row has too, and their fate. `keys` selects every row's key, `few` the suspects' rows."""
        entity, key = contract.entity, identifier(contract.key)
        content = _names(contract)
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
