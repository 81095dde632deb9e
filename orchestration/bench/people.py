"""What opt-outs and deletions cost on a home as it is: measured on a copy, which is removed afterwards.

One deletion beside a batch of a thousand is the figure that matters: everything that a pass does once (rewriting the tables,
reading every file under the home) should cost the same for both. What the home's feed has asked for already is carried out
first and not measured, so that a batch of one is one.

Belongs here: the copy, whom to choose, deletions, the report. Does not belong here: a measurement of opt-outs (`opt_outs`).
"""

import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from orchestration import progress
from orchestration.bench.measure import BenchError
from orchestration.bench.opt_outs import build_book, customer, measure
from orchestration.identity.key_store import open_key_store
from orchestration.identity.keys import load_keys
from orchestration.identity.sealing import unseal
from orchestration.identity.vault import PERSONS, attached_vault
from orchestration.lake import open_lake, table_exists
from orchestration.rights.engines import attached_lake, one_engine
from orchestration.rights.erasure import apply
from orchestration.rights.published_sql import published_models
from orchestration.rights.receiving import confirm, profile_of
from orchestration.rights.requests import Subject, open_log
from orchestration.settings import Settings


def measure_people(
    home: Path, opt_outs: Sequence[int], deletions: Sequence[int], repetitions: int = 3, book: int | None = None
) -> dict[str, Any]:
    """Seconds, wall-clock and processor, of opt-outs and of deletions in batches of those sizes. Raises `BenchError`.

    `home` is read and never written; nothing may be writing it meanwhile. With `book`, opt-outs are measured in a book of so
    many made customers that takes the home's place in the copy; the vault knows none of them, so there are no deletions then.
    """
    if book is not None and deletions:
        raise BenchError("a made book has no vault: measure deletions on the home's own customers")
    with tempfile.TemporaryDirectory(prefix="segline-bench-people-") as folder:
        progress.report("copying the home")
        settings = _copied(home, Path(folder) / "home")
        size = sum(path.stat().st_size for path in settings.root.rglob("*") if path.is_file())
        asked = sum(deletions) + repetitions * sum(opt_outs)
        names = _made(settings, book) if book is not None else _customers(settings, asked)
        figures: dict[str, Any] = {"customers": book or _count(settings), "home_mb": round(size / 1e6)}
        at = 0
        figures["opt_outs"] = []
        for count in opt_outs:
            progress.report(f"{count} opt-outs at once")
            figures["opt_outs"].append(asdict(measure(settings, names[at:], count, repetitions)))
            at += count * repetitions
        if deletions:
            progress.report("deletions that the feed had asked for")
            _erase(settings, [])
            figures["deletions"] = []
        for count in deletions:
            progress.report(f"{count} deletions at once")
            figures["deletions"].append(_erase(settings, names[at : at + count]))
            at += count
    if len(deletions) > 1:
        first, last = figures["deletions"][0], figures["deletions"][-1]
        figures["cpu_ratio_of_last_batch_to_first"] = round(last["cpu_seconds"] / first["cpu_seconds"], 2)
    return figures


def _copied(home: Path, place: Path) -> Settings:
    if not (home / "lake" / "catalog.sqlite").exists():
        raise BenchError(f"{home} is no home in which anything was landed: `segline run` makes one")
    shutil.copytree(home, place)
    return Settings(home=place, profile=profile_of(Settings(home=place)))


def _count(settings: Settings) -> int:
    with open_lake(settings, read_only=True) as connection:
        return int(connection.execute("select count(*) from lake.raw.customers").fetchone()[0])


def _customers(settings: Settings, count: int) -> list[str]:
    """The identifiers of so many customers whom the gate allows personalisation; always the same ones of a home."""
    keys, names = load_keys(settings), []
    with attached_lake(settings, read_only=True) as lake:
        if not table_exists(lake, "consent", "gate"):
            raise BenchError("nothing was published in this home: there is no gate")
        query = "select subject_token from lake.consent.gate where purpose = 'personalisation' and gate_outcome = 'ALLOW' "
        rows = lake.execute(f"{query} group by subject_token order by hash(subject_token) limit ?", [2 * count]).fetchall()
        tokens = [token for (token,) in rows]
        with attached_vault(lake, settings, read_only=True) as vault:
            query = f"select subject_token, customer_id from {PERSONS} where subject_token in (select unnest(?))"
            sealed = dict(vault.execute(query, [tokens]).fetchall())
    with closing(open_key_store(settings, keys)) as store:
        for token in tokens:
            key = store.execute("select nonce, wrapped_key from subject_keys where subject_token = ?", [token]).fetchone()
            if key and token in sealed and len(names) < count:
                names.append(unseal(keys, token, *key, ["customer_id"], [sealed[token]])["customer_id"])
    if len(names) < count:
        raise BenchError(f"{count} customers are needed and {len(names)} are there whom the gate allows personalisation")
    return names


def _made(settings: Settings, count: int) -> list[str]:
    with open_lake(settings, read_only=True) as lake:
        models = published_models(lake)
        (as_of,) = lake.execute("select as_of from lake.published.publication limit 1").fetchone()
    build_book(settings, models, count, as_of)
    return [customer(number) for number in range(count)]


def _erase(settings: Settings, names: Sequence[str]) -> dict[str, Any]:
    """Ask for and carry out the deletion of these customers; every one must come out proven."""
    keys = load_keys(settings)
    wall, processor = time.perf_counter(), time.process_time()
    with one_engine(settings), open_log(settings) as log:
        requests = [log.open("deletion", Subject.of(keys, name), keys, "bench") for name in names]
        confirm(settings, keys, log, requests, "bench")
    applied = apply(settings, keys)
    seconds, cpu = time.perf_counter() - wall, time.process_time() - processor
    with open_log(settings) as log:
        states = [log.get(request.request_id).state for request in requests]
    if states.count("proven") != len(names):
        raise BenchError(f"{states.count('proven')} of {len(names)} deletions were proven: the figure would mean nothing")
    scan = next((verdict.scan for verdict in applied.verdicts.values()), None)
    searched = scan.bytes_searched if scan else 0
    return {
        "deletions": len(names), "seconds": round(seconds, 2), "cpu_seconds": round(cpu, 2), "mb_searched": round(searched / 1e6),
    }
