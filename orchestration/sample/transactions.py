"""The transactions files: everyday movements and planted ones merged, month after month, one file per quarter.

Belongs here: merging, order, oddities and the numbering of rows. Does not belong here: what moves (`movements`,
`bursts`). At no time is more than one part of one month in memory as text.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from orchestration.sample import feeds, kinds
from orchestration.sample.behaviour import Behaviour
from orchestration.sample.counterparties import Pool
from orchestration.sample.kinds import Movements
from orchestration.sample.movements import everyday, months_before
from orchestration.sample.oddities import HELD, EntityAccount, chosen_last, disturb, quota
from orchestration.sample.people import People
from orchestration.sample.writing import GrowingFile


def write_transactions(
    folder: Path,
    profile: str,
    people: People,
    pool: Pool,
    behaviour: Behaviour,
    planted: Movements,
    count: int,
    end: int,
    seeds: np.random.SeedSequence,
    rng: np.random.Generator,
    suffix: str,
    progress: Callable[[float], None],
) -> tuple[EntityAccount, dict[str, int]]:
    """Write `count` movements, `planted` among them, as `transactions_<quarter>.<suffix>`; rows in order of booking
    within each part. Returns the account and the rows per file; `progress` hears the share done."""
    typed = suffix == "parquet"
    planted = planted.take(np.argsort(planted.time, kind="stable"))
    oddities = feeds.oddities_of("transactions", profile, len(people), end, typed)
    quarters = list(dict.fromkeys(quarter for _, _, quarter in months_before(end)))
    due = _dues(count, len(oddities), len(quarters))
    account, files = EntityAccount(), dict[str, int]()
    schema = kinds.render(rng, kinds.no_movements(), 0, people, pool.ids, typed).schema
    held = schema.empty_table()
    done = 0
    file: GrowingFile | None = None
    try:
        for part in everyday(seeds, profile, people, pool, behaviour, count - len(planted), end):
            name = f"transactions_{part.quarter}.{suffix}"
            opening = name not in files
            if file is None or opening:
                if file:
                    file.close()
                file = GrowingFile(folder / name, schema)
                file.append(held)
                held = schema.empty_table()
            rows = part.rows
            if part.opens:
                first, last = np.searchsorted(planted.time, [part.start, part.stop])
                rows = kinds.concat([rows, planted.take(slice(first, last))])
            rows = rows.take(np.argsort(rows.time, kind="stable"))
            each = due[len(files)] if opening else 0
            counts = [0 if oddity.effect == HELD and part.quarter == quarters[-1] else each for oddity in oddities]
            order, chosen = chosen_last(rng, len(rows), sum(counts))
            counts = counts if chosen == sum(counts) else [0] * len(counts)
            table = kinds.render(rng, rows.take(order), done, people, pool.ids, typed)
            done += len(rows)
            quiet = len(rows) - sum(counts)
            file.append(table.slice(0, quiet), bare=True)
            if sum(counts):
                changed, held = disturb(table.slice(quiet), oddities, counts, account)
                file.append(changed)
            files[name] = file.rows
            progress(done / max(count, 1))
    finally:
        if file:
            file.close()
    account.rows = sum(files.values())
    return account, files


def _dues(count: int, oddities: int, quarters: int) -> list[int]:
    """How many rows of each kind every quarter's file gets."""
    each = quota(count, oddities)
    return [each // quarters + (number < each % quarters) for number in range(quarters)]
