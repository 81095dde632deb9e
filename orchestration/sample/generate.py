"""A whole sample: every source file of one profile, and the mapping that presents them to the platform.

Belongs here: the order of making, the streams of random numbers, the account of what was planted. Does not belong here:
what any file says. The platform never imports from this package: it meets the sample as it meets any tenant's files.
"""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from orchestration.sample import aftermath, feeds, signals, visits, writing
from orchestration.sample.behaviour import plant
from orchestration.sample.counterparties import make_pool
from orchestration.sample.oddities import EntityAccount, scatter
from orchestration.sample.people import FORMULA_NAME, QUOTED_NAME, make_people
from orchestration.sample.transactions import write_transactions

DEFAULT_CUSTOMERS = 5_000
DEFAULT_TRANSACTIONS = 100_000
MOST_CUSTOMERS = 20_000_000  # more text than that does not fit one Arrow column
Profile = Literal["fintech", "childrens_retail"]
FileFormat = Literal["csv", "parquet"]
Progress = Callable[[str, float], None]
# One stream of random numbers each; append only, or every sample changes.
_STREAMS = (
    "people",
    "pool",
    "behaviour",
    "everyday",
    "rendering",
    "consent",
    "requests",
    "incidents",
    "audits",
    "complaints",
    "surveys",
    "visits",
    "oddities",
    "campaigns",
)


@dataclass
class SampleSummary:
    """What was written. `files`: rows per file; `entities`: rows, duplicates, quarantined rows per reason and planted
    oddities per entity; `behaviours`: customers per planted pattern and per pattern's look-alikes."""

    profile: str
    seed: int
    files: dict[str, int] = field(default_factory=dict)
    entities: dict[str, EntityAccount] = field(default_factory=dict)
    behaviours: dict[str, int] = field(default_factory=dict)

    @property
    def oddities(self) -> dict[str, dict[str, int]]:
        """Planted oddities per entity and kind."""
        return {entity: dict(account.oddities) for entity, account in self.entities.items()}


def generate_sample(
    out: Path,
    profile: Profile,
    customers: int = DEFAULT_CUSTOMERS,
    transactions: int = DEFAULT_TRANSACTIONS,
    seed: int = 7,
    end: datetime = datetime(2026, 11, 1),
    file_format: FileFormat = "csv",
    progress: Progress | None = None,
) -> SampleSummary:
    """Write the sample's files and `mapping.yml` into the folder `out`, all or nothing.

    `end` is the instant up to which the tenant's life is known (UTC if it names no zone), and the mapping's as-of.
    `file_format` is that of transactions and web events. `progress` hears a stage's name and the share done, 0 to 1.
    `transactions` counts the rows before duplicates are added. The same arguments give the same bytes.
    Raises `ValueError` for a size or name that makes no sense, `FileExistsError` if `out` holds anything but a sample.
    """
    if profile not in ("fintech", "childrens_retail"):
        raise ValueError(f"profile is fintech or childrens_retail, not {profile!r}")
    if file_format not in ("csv", "parquet"):
        raise ValueError(f"file_format is csv or parquet, not {file_format!r}")
    if customers < 1 or transactions < 0:
        raise ValueError(f"a sample needs at least 1 customer and 0 transactions, not {customers} and {transactions}")
    if customers > MOST_CUSTOMERS:
        raise ValueError(f"a sample holds at most {MOST_CUSTOMERS:,} customers, not {customers:,}")
    if not 2000 <= end.year <= 2075:
        raise ValueError(f"the sample's end lies between 2000 and 2075, not in {end.year}")
    instant = int((end.replace(tzinfo=UTC) if end.tzinfo is None else end).timestamp())
    out = out.absolute()
    _refuse_foreign(out)
    _sweep(out)
    partial = out.parent / f".{out.name}.partial-{os.getpid()}"
    partial.mkdir(parents=True, mode=0o700)
    try:
        summary = _write(partial, profile, customers, transactions, seed, instant, file_format, progress or _silent)
        _put_in_place(partial, out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return summary


def _silent(stage: str, share: float) -> None:
    """Nobody listens."""


def _write(
    folder: Path,
    profile: str,
    customers: int,
    transactions: int,
    seed: int,
    end: int,
    file_format: str,
    progress: Progress,
) -> SampleSummary:
    streams = dict(zip(_STREAMS, np.random.SeedSequence(seed).spawn(len(_STREAMS)), strict=True))
    rng = {name: np.random.default_rng(stream) for name, stream in streams.items()}
    summary = SampleSummary(profile, seed)

    def put(entity: str, table: pa.Table, eligible: np.ndarray | None = None) -> pa.Table:
        """Plant the entity's oddities and write its one file."""
        suffix = feeds.suffix_of(entity, file_format)
        account = summary.entities.setdefault(entity, EntityAccount())
        planted = feeds.oddities_of(entity, profile, customers, end, typed=suffix == "parquet")
        table = scatter(rng["oddities"], table, planted, account, eligible)
        name = f"{entity}.{suffix}"
        # Without a header, a file of no rows would be a file of no bytes: it cannot be told from a failed delivery.
        if table.num_rows or suffix != "ndjson":
            summary.files[name] = writing.write_table(folder / name, table)
        return table

    progress("customers", 0.0)
    people = make_people(rng["people"], profile, customers, end)
    ordinary = np.arange(customers) > 1
    written = put("customers", people.table, ordinary)
    summary.entities["customers"].oddities.update(_customer_oddities(written))
    pool = make_pool(profile, people, int(rng["pool"].integers(1, 2**62)))
    behaviour, planted = plant(rng["behaviour"], profile, people, pool, transactions, end)
    summary.behaviours = behaviour.counts()
    progress("transactions", 0.05)
    summary.entities["transactions"], files = write_transactions(
        folder,
        profile,
        people,
        pool,
        behaviour,
        planted,
        transactions,
        end,
        streams["everyday"],
        rng["rendering"],
        feeds.suffix_of("transactions", file_format),
        lambda share: progress("transactions", round(0.05 + 0.8 * share, 4)),
    )
    summary.files |= files
    del pool, planted
    progress("consent events", 0.85)
    events, plain, stories = signals.consent_events(rng["consent"], people, end)
    put("consent_events", events, plain)
    summary.entities["consent_events"].oddities.update(stories)
    del events, plain
    progress("incidents, audits, complaints and requests", 0.92)
    put("incidents", aftermath.incidents(rng["incidents"], profile, people, behaviour, end))
    put("audit_outcomes", aftermath.audit_outcomes(rng["audits"], people, behaviour, end))
    put("privacy_requests", signals.privacy_requests(rng["requests"], people, end))
    put("complaints", aftermath.complaints(rng["complaints"], people, end))
    put("survey_feedback", aftermath.survey_feedback(rng["surveys"], people, end))
    progress("web events", 0.96)
    put("web_events", visits.web_events(rng["visits"], profile, people, end, file_format == "parquet"))
    put("campaign_outcomes", aftermath.campaign_outcomes(rng["campaigns"], people, end))
    text = writing.mapping_text(profile, end, feeds.mapped_feeds(file_format))
    (folder / "mapping.yml").write_text(text, encoding="utf-8")
    progress("done", 1.0)
    return summary


def _customer_oddities(table: pa.Table) -> dict[str, int]:
    """What the customers file bears besides changed rows, in rows of the file."""
    names = table["full_name"]
    return {
        "country_spelled_out": int(pc.sum(pc.greater(pc.utf8_length(table["country"]), 2)).as_py() or 0),
        "country_missing": table["country"].null_count,
        "birth_date_missing": table["birth_date"].null_count,
        "name_with_quote_and_semicolon": int(pc.sum(pc.equal(names, QUOTED_NAME)).as_py()),
        "name_like_a_formula": int(pc.sum(pc.equal(names, FORMULA_NAME)).as_py()),
    }


def _refuse_foreign(out: Path) -> None:
    """Only an earlier sample may be replaced, never what somebody else keeps there."""
    if not out.exists():
        return
    if not out.is_dir():
        raise FileExistsError(f"{out} is not a folder")
    mapping = out / "mapping.yml"
    ours = mapping.is_file() and re.search(r"^name: \S+-sample$", mapping.read_text(encoding="utf-8"), re.MULTILINE)
    if not ours and any(out.iterdir()):
        raise FileExistsError(f"{out} holds files that are no sample: name another folder, or empty this one")


def _sweep(out: Path) -> None:
    """Remove what a killed process left half written beside `out`: it holds identifiers."""
    marked = re.compile(re.escape(f".{out.name}.partial-") + r"(\d+)(-earlier)?")
    if not out.parent.is_dir():
        return
    for left in out.parent.iterdir():
        found = marked.fullmatch(left.name)
        if found and not _is_running(int(found[1])):
            shutil.rmtree(left, ignore_errors=True)


def _is_running(process: int) -> bool:
    """Whether another process of that number lives."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _put_in_place(partial: Path, out: Path) -> None:
    """Rename the finished folder; an earlier sample gives way only then."""
    earlier = out.parent / f".{out.name}.partial-{os.getpid()}-earlier"
    if out.exists():
        out.rename(earlier)
    partial.rename(out)
    shutil.rmtree(earlier, ignore_errors=True)
