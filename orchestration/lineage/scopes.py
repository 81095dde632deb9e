"""The FROM and WHERE of one query: which tables are joined how, which subjects are equal, whom the gate let through.

Belongs here: name resolution, joins, what a condition proves. Does not belong here: expressions, grouping and set
operations (`queries`).
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from orchestration.lineage.labels import Column, Flow, Key, Label, Origin, Relation, mapped

OUTCOME, ROLE = "outcome", "role"
BOTH = frozenset({OUTCOME, ROLE})


class NotUnderstood(ValueError):
    """SQL outside what the analysis knows: it proves nothing, so nothing is let through."""


@dataclass
class Scope:
    """The tables of one query and what is known about their subjects. Owners that are equal form classes (`parents`)."""

    outer: "Scope | None" = None
    tables: dict[str, dict[str, Column]] = field(default_factory=dict)
    orders: dict[str, list[str]] = field(default_factory=dict)
    merged: dict[str, tuple[Column, set[str]]] = field(default_factory=dict)
    alias_of: Callable[[str], Column | None] | None = None
    rows: Label = frozenset()
    row_origins: frozenset[Origin] = frozenset()
    parents: dict[int, int] = field(default_factory=dict)
    allowed: set[int] = field(default_factory=set)
    facts: dict[int, tuple[int, frozenset[str]]] = field(default_factory=dict)

    # -- owners -------------------------------------------------------------------------------------------------------

    @property
    def outer_owners(self) -> set[int]:
        """Owners of the enclosing queries; in a sub-select they stand for one row each."""
        if self.outer is None:
            return set()
        return {self.outer.find(owner) for owner in self.outer.local_owners()} | self.outer.outer_owners

    def local_owners(self) -> set[int]:
        """Owners that the tables' columns name."""
        return {
            self.find(column.key.owner) for columns in self.tables.values() for column in columns.values() if column.key
        }

    def find(self, owner: int) -> int:
        """Whoever stands for the owner's class."""
        while owner in self.parents:
            owner = self.parents[owner]
        return owner

    def unite(self, left: int, right: int) -> None:
        """Both owners are the same subject in every row that is left."""
        left, right = self.find(left), self.find(right)
        if left == right:
            return
        if left in self.outer_owners:
            left, right = right, left
        self.parents[left] = right
        if left in self.allowed:
            self.allowed.add(right)

    def prove(self, use: int, part: str) -> None:
        """A condition on the gate's row holds; with both, the gate let the row's subject pass for the role."""
        owner, held = self.facts.get(use, (None, frozenset()))
        if owner is None:
            return
        self.facts[use] = (owner, held | {part})
        if held | {part} >= BOTH:
            self.allowed.add(self.find(owner))

    def is_allowed(self, owner: int) -> bool:
        """Whether every row that is left belongs, by this owner, to a subject whom the gate let through."""
        return self.find(owner) in {self.find(one) for one in self.allowed}

    def settled(self, label: Label) -> Label:
        """The label with equal owners as one, and without what the gate has cleared."""
        allowed = {self.find(one) for one in self.allowed}

        def settle(flow: Flow) -> Flow | None:
            owner = self.find(flow.owner)
            return None if owner in allowed else replace(flow, owner=owner)

        return mapped(label, settle)

    def settled_column(self, column: Column) -> Column:
        """The column with settled label and key."""
        key = column.key and replace(column.key, owner=self.find(column.key.owner))
        return replace(column, label=self.settled(column.label), key=key)

    # -- names --------------------------------------------------------------------------------------------------------

    def add(self, alias: str, relation: Relation) -> None:
        """One more table. Its rows are not joined yet: see `join`."""
        if alias in self.tables:
            raise NotUnderstood(f"two tables are called {alias}")
        self.tables[alias] = dict(relation.columns)
        if len(self.tables[alias]) < len(relation.columns):
            raise NotUnderstood(f"two columns of {alias} bear one name")
        self.orders[alias] = [name for name, _ in relation.columns]
        self.allowed |= relation.allowed
        self.facts.update({use: (owner, frozenset(held)) for use, (owner, held) in relation.facts.items()})

    def place(self, name: str, table: str) -> tuple[str, str] | None:
        """(alias, column) that a name of this query's own tables means; `None` if it is none of theirs."""
        if table:
            if table not in self.tables:
                return None
            if name not in self.tables[table]:
                raise NotUnderstood(f"{table}.{name} is not known")
            return table, name
        found = [alias for alias, columns in self.tables.items() if name in columns]
        if len(found) > 1 and name in self.merged and set(found) <= self.merged[name][1]:
            return "", name
        if len(found) > 1:
            raise NotUnderstood(f"{name} is ambiguous")
        return (found[0], name) if found else None

    def lookup(self, name: str, table: str) -> Column:
        """The column that a name means, settled. Raises `NotUnderstood` if it means none, or may mean two.

        `alias_of` gives columns of the select list where the clause at hand may mean one; which of the two the engine
        takes depends on the clause, so a name that may mean either proves nothing and depends on both.
        """
        alias = self.alias_of(name) if self.alias_of and not table else None
        try:
            place = self.place(name, table)
        except NotUnderstood:
            if alias is None:
                raise
            place = None
        if place is None:
            if alias is not None:
                return alias
            if self.outer is not None:
                return self.outer.lookup(name, table)
            raise NotUnderstood(f"{table + '.' if table else ''}{name} is not known")
        column = self.settled_column(self.merged[name][0] if place[0] == "" else self.tables[place[0]][name])
        if alias is None or alias == column:
            return column
        return Column(
            column.label | alias.label,
            pseudonyms=column.pseudonyms | alias.pseudonyms,
            origins=column.origins | alias.origins,
        )

    # -- joins --------------------------------------------------------------------------------------------------------

    def fork(self) -> "Scope":
        """A copy to try conditions in that hold on one side of an outer join only."""
        return replace(self, parents=dict(self.parents), allowed=set(self.allowed), facts=dict(self.facts))

    def keys_of(self, aliases: Iterable[str]) -> set[int]:
        """Owners that columns of these tables name, as they stand in the columns."""
        return {column.key.owner for alias in aliases for column in self.tables[alias].values() if column.key}

    def seen_from(self, kept: set[int], trial: "Scope", cause: str):
        """How flows look from the kept side of an outer join: through an equal key they are the kept subject's own; what
        the gate cleared on the way is gone; the rest is mixed."""
        chosen: dict[int, int] = {}
        for owner in sorted(kept | self.outer_owners):
            chosen.setdefault(trial.find(owner), owner)

        def see(flow: Flow) -> Flow | None:
            if trial.is_allowed(flow.owner):
                return None
            if self.find(flow.owner) in {self.find(owner) for owner in kept}:
                return flow
            standing = chosen.get(trial.find(flow.owner))
            return replace(flow, owner=standing) if standing is not None else replace(flow, owner=None, cause=cause)

        return see

    def outer_join(self, optional: list[str], kept: list[str], optional_rows: Label, trial: "Scope", condition: Label) -> None:
        """Join tables of which one side may be missing. `trial` holds what the join's condition proves where it matched."""
        see = self.seen_from(self.keys_of(kept), trial, "an outer join that is not on the subject's key")
        self.rows |= mapped(optional_rows, see) | mapped(condition, see)
        gone = self.keys_of(optional)
        for alias in optional:
            self.tables[alias] = {
                name: Column(mapped(column.label, see), pseudonyms=column.pseudonyms, origins=column.origins)
                for name, column in self.tables[alias].items()
            }
            self.merged = {name: entry for name, entry in self.merged.items() if alias not in entry[1]}
        self.allowed -= gone - self.keys_of(kept)
        self.facts = {use: fact for use, fact in self.facts.items() if fact[0] not in gone}

    def semi_join(self, kept: list[str], hidden: str, rows: Label, trial: "Scope", condition: Label, matched: bool) -> None:
        """Keep rows for which a row of the hidden table exists (`matched`), or does not; the table is gone afterwards."""
        see = self.seen_from(self.keys_of(kept), trial, "a test for other subjects' rows")
        self.rows |= mapped(rows, see) | mapped(condition, see)
        gone = self.keys_of([hidden])
        del self.tables[hidden], self.orders[hidden]
        self.allowed -= gone
        self.facts = {use: fact for use, fact in self.facts.items() if fact[0] not in gone}
        if matched:
            self.allowed |= {owner for owner in self.keys_of(kept) if trial.is_allowed(owner)}

    def full_join(self, left: list[str], right: list[str], pairs: list[tuple[Key, Key]], rows: Label, condition: Label) -> None:
        """Join tables either of which may be missing. Only flows of subjects whose keys the condition equates stay own,
        and only both halves of the key name the subject."""
        self.rows = self.settled(self.rows)
        for alias in (*left, *right):
            self.tables[alias] = {name: self.settled_column(column) for name, column in self.tables[alias].items()}
        rows, condition = self.settled(rows), self.settled(condition)
        linked: dict[int, int] = {}
        for one, other in pairs:
            allowed = self.is_allowed(one.owner) and self.is_allowed(other.owner)
            before = {self.find(one.owner), self.find(other.owner)}
            self.unite(one.owner, other.owner)
            self.allowed = {owner for owner in self.allowed if self.find(owner) != self.find(one.owner)}
            if allowed:
                self.allowed.add(self.find(one.owner))
            for owner in before:
                linked[owner] = self.find(one.owner)
        classes = {self.find(owner) for owner in linked}
        kept = {owner for owner in (self.keys_of(left) | self.keys_of(right)) if self.find(owner) in classes} | self.outer_owners

        def see(flow: Flow) -> Flow:
            if flow.owner in kept or self.find(flow.owner) in classes:
                return replace(flow, owner=self.find(flow.owner))
            return replace(flow, owner=None, cause="a full join that is not on the subject's key")

        self.rows = mapped(self.rows | rows | condition, see)
        for side, aliases in (("left", left), ("right", right)):
            for alias in aliases:
                self.tables[alias] = {
                    name: Column(
                        mapped(column.label, see),
                        key=Key(self.find(column.key.owner), column.key.domain, side)
                        if column.strong_key and self.find(column.key.owner) in classes
                        else None,
                        pseudonyms=column.pseudonyms,
                        origins=column.origins,
                    )
                    for name, column in self.tables[alias].items()
                }
        self.merged, self.facts = {}, {}
        self.allowed = {owner for owner in self.allowed if self.find(owner) in classes}


def whole(halves: Iterable[Column]) -> Key | None:
    """The key that both halves of a full join's key name together; `None` if these are not they."""
    keys = [column.key for column in halves]
    if len(keys) != 2 or not all(keys):
        return None
    same = keys[0].owner == keys[1].owner and keys[0].domain == keys[1].domain
    return replace(keys[0], side="") if same and {key.side for key in keys} == {"left", "right"} else None


def literal_parts(accepted: Mapping[str, frozenset[str]], part: str, values: set[str]) -> str | None:
    """Which fact a gate column's equality with these values proves. `accepted` gives, per part of the gate, the values
    that prove it."""
    if not values or not values <= accepted.get(part, frozenset()):
        return None
    return OUTCOME if part == OUTCOME else ROLE
