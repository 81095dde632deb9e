"""Labels: whose data a row or a value may depend on, and whether the gate can still clear it.

Belongs here: flows, keys, columns and relations as the analysis sees them, and the algebra over them. Does not belong
here: SQL (`queries`), what counts as a source or a wall (`proof`).

Two labels, after the idea of information-flow control with declassification (Sabelfeld and Sands, «Declassification:
Dimensions and Principles», 2009). A flow that has an owner is *own*: the rows of a subject depend on that subject's
data alone, so that a gate on the subject clears it. A flow without an owner is *mixed*: other people's data may have
had a say, and no later gate can take it out.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count

PERSON, COMPLIANCE, IDENTIFIER = "person", "compliance", "identifier"
_numbers = count(1)


def fresh_number() -> int:
    """A number that no owner and no use of the gate has yet."""
    return next(_numbers)


@dataclass(frozen=True)
class Flow:
    """Data of `source` may have an influence. `owner` is the subject, seen from the row, whose data it is; without one
    the flow is mixed, and `cause` says where it became so."""

    kind: str
    source: str
    owner: int | None = None
    cause: str = ""


Label = frozenset[Flow]
NOTHING: Label = frozenset()


@dataclass(frozen=True)
class Key:
    """The column names the subject of its row by the pseudonym `domain`. A `side` marks one half of a full join's key,
    which may be empty: only both halves together name the subject."""

    owner: int
    domain: str
    side: str = ""


@dataclass(frozen=True)
class Origin:
    """A column of a relation that had an influence, and how: identity, transformation, aggregation for values; filter,
    join, group, window, sort for rows."""

    relation: str
    column: str
    how: str


@dataclass(frozen=True)
class Column:
    """One column. `gate` is (use of the gate, part), `carries` the evidence column that it is a plain copy of,
    `pseudonyms` the pseudonyms that its value may give away."""

    label: Label = NOTHING
    key: Key | None = None
    gate: tuple[int, str] | None = None
    carries: str | None = None
    pseudonyms: frozenset[str] = frozenset()
    origins: frozenset[Origin] = frozenset()

    @property
    def strong_key(self) -> Key | None:
        """The key, if it names the subject by itself."""
        return self.key if self.key and not self.key.side else None


@dataclass(frozen=True)
class Relation:
    """Columns in order, and `rows`: on whose data it depends which rows are there at all.

    `allowed` are the owners of whom the gate let every row pass; `facts` says, per use of the gate, whose row it is and
    which conditions are known to hold.
    """

    columns: tuple[tuple[str, Column], ...]
    rows: Label = NOTHING
    row_origins: frozenset[Origin] = frozenset()
    allowed: frozenset[int] = frozenset()
    facts: Mapping[int, tuple[int, frozenset[str]]] = field(default_factory=dict)

    @property
    def label(self) -> Label:
        """Everything that has an influence on the relation."""
        return self.rows.union(*(column.label for _, column in self.columns))

    @property
    def owners(self) -> set[int]:
        """Owners that some column names."""
        return {column.key.owner for _, column in self.columns if column.key}

    def column(self, name: str) -> Column:
        """The column of that name; `KeyError` if there is none."""
        return dict(self.columns)[name]


def mapped(label: Label, owner_of: Callable[[Flow], Flow | None]) -> Label:
    """The label with each owned flow replaced, or cleared where the replacement is `None`."""
    if not any(flow.owner is not None for flow in label):
        return label
    found = (owner_of(flow) if flow.owner is not None else flow for flow in label)
    return frozenset(flow for flow in found if flow)


def mix(label: Label, kept: Iterable[int], cause: str) -> Label:
    """The label after subjects were put together: only the kept owners' flows stay own."""
    owners = set(kept)
    return mapped(label, lambda flow: flow if flow.owner in owners else replace(flow, owner=None, cause=cause))


def renamed(relation: Relation, keep: Iterable[int] = ()) -> Relation:
    """The same relation with owners and gate uses of its own: one use in one query. `keep` stay as they are."""
    kept = set(keep)
    numbers: dict[int, int] = {}

    def number(old: int) -> int:
        return old if old in kept else numbers.setdefault(old, fresh_number())

    def label_of(label: Label) -> Label:
        return mapped(label, lambda flow: replace(flow, owner=number(flow.owner)))

    def column_of(column: Column) -> Column:
        return replace(
            column,
            label=label_of(column.label),
            key=column.key and replace(column.key, owner=number(column.key.owner)),
            gate=column.gate and (number(column.gate[0]), column.gate[1]),
        )

    return replace(
        relation,
        columns=tuple((name, column_of(column)) for name, column in relation.columns),
        rows=label_of(relation.rows),
        allowed=frozenset(number(owner) for owner in relation.allowed),
        facts={number(use): (number(owner), held) for use, (owner, held) in relation.facts.items()},
    )


def as_parent(relation: Relation, name: str) -> Relation:
    """The relation as a query that reads it sees it: each column's origin is that column."""
    return replace(
        relation,
        columns=tuple(
            (column, replace(found, origins=frozenset({Origin(name, column, "identity")})))
            for column, found in relation.columns
        ),
        row_origins=frozenset(),
    )


def combined(columns: Iterable[Column], how: str = "transformation", gives_away: bool = True) -> Column:
    """What an expression over these columns depends on."""
    parts = list(columns)
    origins = {
        replace(origin, how=how if origin.how != "aggregation" else "aggregation") for part in parts for origin in part.origins
    }
    return Column(
        label=NOTHING.union(*(part.label for part in parts)),
        pseudonyms=frozenset().union(*(part.pseudonyms for part in parts)) if gives_away else frozenset(),
        origins=frozenset(origins),
    )


def distinct(relation: Relation, keep: set[int]) -> Relation:
    """One row for each set of equal rows: separable by subject only if a column names the subject."""
    kept = keep | {column.strong_key.owner for _, column in relation.columns if column.strong_key}
    cause = "distinct rows of several subjects"
    rows = mix(relation.label, kept, cause)
    columns = tuple((name, replace(column, label=mix(column.label, kept, cause))) for name, column in relation.columns)
    return replace(relation, columns=columns, rows=rows)


def limited(relation: Relation, keep: set[int]) -> Relation:
    """The first so many rows: which they are depends on everybody's."""
    cause = "a limited number of several subjects' rows"
    columns = tuple((name, replace(column, label=mix(column.label, keep, cause))) for name, column in relation.columns)
    return replace(relation, columns=columns, rows=mix(relation.label, keep, cause))
