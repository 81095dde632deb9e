"""The facts of one publication: everything that the pages say, as plain values, each with its source.

Belongs here: the types. Does not belong here: where facts come from (`gathering`), how they look (`pages`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from orchestration.lineage.data_map import DataMap


@dataclass(frozen=True)
class Source:
    """Where figures come from: a query, a file or a command that anybody may repeat."""

    name: str
    what: str
    how: str
    kind: str = "query"


@dataclass(frozen=True)
class Table:
    """The answer to a query; `source` is its name."""

    source: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...] = ()

    def dicts(self) -> list[dict[str, Any]]:
        """Rows by column name."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def value(self, column: str | None = None) -> Any:
        """The one value of a one-row answer; `None` if there is no row."""
        if not self.rows:
            return None
        return self.rows[0][self.columns.index(column) if column else 0]


@dataclass(frozen=True)
class Check:
    """One check of the run: on which relation, whether it passed, whether its failure would have stopped the publication."""

    relation: str
    name: str
    passed: bool
    severity: str
    is_blocking: bool
    figures: str = ""

    @property
    def key(self) -> str:
        """Relation and name, as controls name it."""
        return f"{self.relation}: {self.name}"


@dataclass(frozen=True)
class RuleText:
    """What makes a version of a rule that version. `floor_rank` counts the tiers from the lowest on."""

    rule_id: str
    version: int
    name: str
    predicate: str
    points: int | None
    floor_rank: int | None


@dataclass(frozen=True)
class RuleVersion(RuleText):
    """One version of a rule as the ledger's bundles hold it, and from when to when it decided.

    A version that was written down and in force in no run has no times.
    """

    first_decided: str | None
    last_decided: str | None
    runs: int


@dataclass(frozen=True)
class LedgerRun:
    """What one run entered: times, first and last leaf, totals per family."""

    run_id: str
    as_of: str
    decided_at: str
    profile: str
    decisions: int
    book: int
    bundle: str
    families: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Head:
    """The ledger's newest signed head. `key_id` tells the signing key apart; the key itself is handed over another way."""

    origin: str
    size: int
    root: str
    key_id: str
    note: str
    made_at: datetime


@dataclass(frozen=True)
class ModelCard:
    """The card of a registered model: its name, the aliases it carries, its fingerprint, its text (Markdown), and its plots as
    SVG by the file name that the text calls them."""

    version: str
    aliases: tuple[str, ...]
    sha256: str
    text: str
    plots: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """All that the pages are made of. `missing` says what could not be read, and why, by source."""

    tables: Mapping[str, Table]
    checks: tuple[Check, ...] = ()
    rule_history: tuple[RuleVersion, ...] = ()
    ledger_runs: tuple[LedgerRun, ...] = ()
    head: Head | None = None
    data_map: DataMap | None = None
    passports: tuple[Mapping[str, Any], ...] = ()
    cards: tuple[ModelCard, ...] = ()
    missing: Mapping[str, str] = field(default_factory=dict)

    def table(self, name: str) -> Table:
        """The answer to a query, empty if it was not asked."""
        return self.tables.get(name) or Table(name, ())

    @property
    def publication(self) -> dict[str, Any]:
        """Run, profile, as-of and time of what stands published."""
        return self.table("publication").dicts()[0]
