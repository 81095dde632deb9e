"""The SQL of one feed's rows: from its files to typed columns, each row with what is wrong with it.

Belongs here: select statements over an open feed. Does not belong here: executing them, repeated keys, counts
(`examining`), the SQL of single values (`parsing`).
"""

from dataclasses import dataclass, field
from datetime import datetime

from orchestration.ingestion.contracts import Contract
from orchestration.ingestion.expressions import Expression, compile_expression
from orchestration.ingestion.mapping import OWN, Feed, Mapping, join_expressions
from orchestration.ingestion.parsing import TypedColumns, typed_columns
from orchestration.ingestion.reading import Source
from orchestration.lake import identifier, literal


def column_names(contract: Contract) -> str:
    """The contract's columns; whatever refers to a customer has the pseudonym in place of the identifier."""
    if contract.entity == "customers":
        return ", ".join(identifier(column.name) for column in contract.columns)
    return ", ".join("subject_token" if column.subject else identifier(column.name) for column in contract.columns)


@dataclass(frozen=True)
class FeedRows:
    """A feed whose files are open. `kinds` has the engine type of each delivered column, once it is known."""

    feed: Feed
    contract: Contract
    mapping: Mapping
    source: Source
    expressions: dict[str, Expression]
    as_of: datetime
    kinds: dict[str, str] = field(default_factory=dict)

    @property
    def is_cheap_to_parse(self) -> bool:
        """Whether parsing it again costs less than storing its rows: typed, columnar, and no join."""
        return self.feed.options.format == "parquet" and not self.feed.joins

    def base(self, only: str | None = None) -> str:
        """The feed's rows with what it joins; `only` names a table (feed, _file, _row) of the rows that are wanted."""
        lookups = frozenset(join.lookup for join in self.feed.joins)
        rows = self.source.relation
        if only:
            wanted = f"(select _file, _row from {only} where feed = {literal(self.feed.name)})"
            rows = f"(select * from {rows} semi join {wanted} using (_file, _row))"
        sql = f"{rows} as {identifier(OWN)}"
        for join, on in zip(self.feed.joins, join_expressions(self.feed), strict=True):
            alias, table = identifier(join.lookup), identifier(f"lookup_{join.lookup}")
            key = identifier(self.mapping.lookups[join.lookup].key.lower())
            sql += f" left join {table} as {alias} on {on.sql} = {alias}.{key}"
        if self.feed.where:
            sql += f" where {compile_expression(self.feed.where, OWN, lookups).sql}"
        return sql

    def delivered(self, only: str | None = None) -> str:
        """A select of what the feed delivers for each column that it has, as `d_<column>`."""
        own = identifier(OWN)
        columns = "".join(f", {expression.sql} as d_{name}" for name, expression in self.expressions.items())
        return f"select {own}._file, {own}._row{columns} from {self.base(only)}"

    def values(self, columns: list[str]) -> str:
        """A select of some typed columns of all rows, good and bad; the engine reads no others for it."""
        select, _ = self._typed()
        picked = ", ".join([f"{literal(self.feed.name)} as feed", "_file", "_row", *columns])
        return f"select {picked} from ({select})"

    def parsed(self, subjects: str | None, withheld: str | None = None, only: str | None = None) -> str:
        """A select of the rows, typed, each with what is wrong with it and that value's shape.

        `subjects` is a relation (customer_id, subject_token) of the known customers, `None` for the customers themselves.
        `withheld` is the condition of the rows that a suppression keeps out.
        """
        select, typed = self._typed(only)
        problems = list(typed.problems)
        if self.source.cut_off:
            readable = self.source.readable
            last = " or ".join(f"(_file = {file} and _row = {readable[file] - 1})" for file in self.source.cut_off)
            problems.insert(0, (last, ":file_cut_off", "null"))
        joined = ""
        if subjects:
            subject = identifier(self.contract.subject_column.name)
            joined = (
                f" left join (select customer_id as known_customer_id, subject_token from {subjects}) as known "
                f"on {subject} = known_customer_id"
            )
            problems.append(("known_customer_id is null", f"{self.contract.subject_column.name}:unknown_customer", "null"))
        if withheld:
            problems.insert(0, (withheld, f"{self.contract.subject_column.name}:suppressed", "null"))
        kind = " ".join(f"when {condition} then {literal(code)}" for condition, code, _ in problems)
        shape = " ".join(f"when {condition} then cast({text} as varchar)" for condition, _, text in problems)
        shapes = f"regexp_replace(regexp_replace(left(case {shape} end, 60), '\\p{{L}}', 'a', 'g'), '\\p{{N}}', '9', 'g')"
        return (
            f"select {literal(self.feed.name)} as feed, _file, _row, {column_names(self.contract)}, "
            f"case {kind} end as _problem, {shapes} as _shape from ({select}){joined}"
        )

    def _typed(self, only: str | None = None) -> tuple[str, TypedColumns]:
        """A select of the typed values (and `_file`, `_row`), and what may be wrong with them."""
        typed = typed_columns(self.contract, self.kinds, self.feed.options, self.as_of)
        layers = f"select *, {', '.join(typed.texts)} from ({self.delivered(only)})"
        return f"select *, {', '.join(typed.values)} from ({layers})", typed
