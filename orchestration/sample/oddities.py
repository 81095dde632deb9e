"""What real feeds do to their rows: odd formats, duplicates, contradictions, gaps, times to come.

Belongs here: the kinds of oddity, how many of each, what the platform is to make of each, and the account of it all.
Does not belong here: oddities of meaning, such as two expressions of will at one instant (`signals`). An oddity changes
rows as text; what it leaves is cast back to the file's types.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

KEPT, DUPLICATE, HELD = "kept", "duplicate", "held"
_FEWEST_ROWS, _MOST_EACH = 40, 200
Change = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Oddity:
    """One kind. `effect`: `KEPT`, `DUPLICATE`, `HELD` (kept, but in a later file), or the quarantine reason.

    `change` takes the chosen rows as text and returns what is written instead; `each` is how many rows bear the effect
    for one chosen row. `text_only` kinds make no sense in typed files.
    """

    kind: str
    effect: str
    change: Change
    each: int = 1
    text_only: bool = False


@dataclass
class EntityAccount:
    """What was written for one entity, and what the platform is to make of it (all in rows)."""

    rows: int = 0
    duplicates: int = 0
    quarantined: Counter[str] = field(default_factory=Counter)
    oddities: Counter[str] = field(default_factory=Counter)

    @property
    def kept(self) -> int:
        """Rows that pass: rows = kept + duplicates + quarantined."""
        return self.rows - self.duplicates - self.quarantined.total()


def quota(rows: int, kinds: int) -> int:
    """How many rows each of so many kinds gets in a file of `rows`: none in tiny files, at most 200."""
    if rows < max(_FEWEST_ROWS, 8 * kinds):
        return 0
    return int(np.clip(rows // 1000, 2, _MOST_EACH))


def chosen_last(
    rng: np.random.Generator, rows: int, count: int, eligible: np.ndarray | None = None
) -> tuple[np.ndarray, int]:
    """An order of the rows in which at most `count` randomly chosen (among `eligible`) come last, the others as they
    were; and how many were chosen."""
    candidates = np.arange(rows) if eligible is None else np.flatnonzero(eligible)
    chosen = rng.choice(candidates, min(count, len(candidates)), replace=False)
    rest = np.ones(rows, dtype=bool)
    rest[chosen] = False
    return np.concatenate([np.flatnonzero(rest), chosen]), len(chosen)


def disturb(
    tail: pa.Table, oddities: list[Oddity], counts: list[int], account: EntityAccount
) -> tuple[pa.Table, pa.Table]:
    """Change the rows of `tail`, the first `counts[0]` by the first oddity and so on, and enter them in the account.

    Returns the rows to write now and those to write into the next file. Rows beyond the counts stay as they are.
    """
    text = tail.cast(pa.schema([(name, pa.string()) for name in tail.column_names]))
    now, held, at = [text.slice(sum(counts))], [text.slice(0, 0)], 0
    for oddity, count in zip(oddities, counts, strict=True):
        rows = text.slice(at, count)
        at += rows.num_rows
        if not rows.num_rows:
            continue
        changed = oddity.change(rows)
        (held if oddity.effect == HELD else now).append(changed)
        # A change of form finds nothing to change in an empty field.
        account.oddities[oddity.kind] += _differing(rows, changed) if oddity.effect == KEPT else rows.num_rows
        if oddity.effect == DUPLICATE:
            account.duplicates += rows.num_rows
        elif oddity.effect not in (KEPT, HELD):
            account.quarantined[oddity.effect] += rows.num_rows * oddity.each
    return pa.concat_tables(now).cast(tail.schema), pa.concat_tables(held).cast(tail.schema)


def _differing(before: pa.Table, after: pa.Table) -> int:
    """How many rows carry another text than before."""
    differs = np.zeros(before.num_rows, dtype=bool)
    for old, new in zip(before.columns, after.columns, strict=True):
        differs |= pc.fill_null(pc.not_equal(old, new), False).to_numpy()
    return int(differs.sum())


def scatter(
    rng: np.random.Generator,
    table: pa.Table,
    oddities: list[Oddity],
    account: EntityAccount,
    eligible: np.ndarray | None = None,
) -> pa.Table:
    """The whole of a small file with its oddities; only `eligible` rows are touched."""
    each = quota(table.num_rows, len(oddities))
    order, count = chosen_last(rng, table.num_rows, each * len(oddities), eligible)
    each = count // max(len(oddities), 1)
    if each:
        table = table.take(pa.array(order))
        first = table.num_rows - count
        changed, _ = disturb(table.slice(first), oddities, [each] * len(oddities), account)
        table = pa.concat_tables([table.slice(0, first), changed])
    account.rows += table.num_rows
    return table


def _with(rows: pa.Table, column: str, values: pa.Array | pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.column_names.index(column), column, values)


def unchanged(rows: pa.Table) -> pa.Table:
    """The rows as they are."""
    return rows


def twice(rows: pa.Table) -> pa.Table:
    """Each row a second time."""
    return pa.concat_tables([rows, rows])


def set_to(column: str, value: str | None) -> Change:
    """That value in the column; None empties it."""
    return lambda rows: _with(rows, column, pa.array([value] * rows.num_rows, type=pa.string()))


def contradict(column: str, value: str, other: str) -> Change:
    """Each row a second time, under the same key, with `value` in the column, or `other` where it already has that."""

    def change(rows: pa.Table) -> pa.Table:
        same = pc.fill_null(pc.equal(rows[column], value), False)
        return pa.concat_tables([rows, _with(rows, column, pc.if_else(same, other, value))])

    return change


def replaced(column: str, old: str, new: str) -> Change:
    """`old` replaced by `new` in the column."""
    return lambda rows: _with(rows, column, pc.replace_substring(rows[column], old, new))


def slashed(column: str) -> Change:
    """2026-03-01T10:00:00 as 2026/03/01 10:00:00, and dates likewise."""

    def change(rows: pa.Table) -> pa.Table:
        values = pc.replace_substring(pc.replace_substring(rows[column], "-", "/"), "T", " ")
        return _with(rows, column, pc.replace_substring(values, "Z", ""))

    return change


def zoned(column: str) -> Change:
    """The offset of another zone behind an instant."""
    return lambda rows: _with(rows, column, pc.binary_join_element_wise(rows[column], "+02:00", ""))


def thousands(column: str) -> Change:
    """'87.20' as '1,087.20': with a comma every thousand."""

    def change(rows: pa.Table) -> pa.Table:
        whole = pc.utf8_lpad(pc.utf8_slice_codeunits(rows[column], -6), 6, "0")
        return _with(rows, column, pc.binary_join_element_wise("1,", whole, ""))

    return change


def lower(column: str) -> Change:
    """Lower case."""
    return lambda rows: _with(rows, column, pc.utf8_lower(rows[column]))


def upper(column: str) -> Change:
    """Upper case."""
    return lambda rows: _with(rows, column, pc.utf8_upper(rows[column]))


def negative(column: str) -> Change:
    """A minus before the number."""
    return lambda rows: _with(rows, column, pc.binary_join_element_wise("-", rows[column], ""))


def yes_no(*columns: str) -> Change:
    """'true' and 'false' as Y and N."""

    def change(rows: pa.Table) -> pa.Table:
        for column in columns:
            rows = replaced(column, "true", "Y")(replaced(column, "false", "N")(rows))
        return rows

    return change
