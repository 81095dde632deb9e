"""One fault from beginning to end: disturb, look, mend, run again, look again.

The ground is a home with a publication of one delivery, a second delivery that changes it, and a twin in which nothing went
wrong. After the fault a reader must see the first publication or the second, whole; the ledger must verify or say what is
damaged; and the next run must publish byte for byte what the twin did, and decide what it decided.

Belongs here: the order of work, the judgement, the table. Does not belong here: the faults (`fault_list`).
"""

import contextlib
import csv
import json
import os
import pickle
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

from orchestration.sample.generate import generate_sample
from tests.faults.driving import Ran, call
from tests.faults.injecting import BACKUP, MEGABYTE, Disturbance
from tests.faults.looking import leftovers, published, standing, steps, verdict

OLD, NEW, EITHER, UNREADABLE = "the old", "the new", "the old or the new", "unreadable"
CUSTOMERS, TRANSACTIONS = 80, 800


@dataclass(frozen=True)
class Fault:
    """What goes wrong, and what must come of it.

    `code`: the disturbed run's exit code (negative: a signal); None where it may end well or not. `says`: words of its
    message. `sees`: what readers see then. `verifies`: what `segline verify` names, None if it finds all good. `mend`: what
    the message tells the operator to do before the next run.
    """

    name: str
    disturb: Disturbance
    code: int | None = -9
    says: tuple[str, ...] = ()
    sees: str = OLD
    verifies: str | None = None
    mend: Callable[[Path], None] | None = None
    own_volume: bool = False
    needs: str = ""  # a program that must be there


@dataclass(frozen=True)
class Ground:
    """The home with the first publication, the two deliveries, and what the twin saw."""

    base: Path
    first: Path
    second: Path
    old: dict[str, str]
    new: dict[str, str]
    decided: str
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """A row of the table. `problems` is empty if all is as it must be."""

    fault: str
    ended: str
    readers_see: str
    ledger: str
    next_run: str
    problems: tuple[str, ...]
    seconds: float


def lay_ground(folder: Path) -> Ground:
    """Two deliveries, a home with the first one published, and the twin's results. Two runs, or none if all lies there."""
    kept = folder / "ground.pickle"
    if kept.exists():
        return pickle.loads(kept.read_bytes())
    first, second, base, twin = (folder / name for name in ("first", "second", "base", "twin"))
    generate_sample(first, "fintech", customers=CUSTOMERS, transactions=TRANSACTIONS)
    shutil.copytree(first, second)
    change_delivery(second)
    for home, sources in ((base, first), (twin, second)):
        if home == twin:
            shutil.copytree(base, twin)
        ran = call(home, "run", "--sources", str(sources))
        assert ran.code == 0, ran.said[-3000:]
    ground = Ground(base, first, second, published(base), published(twin), standing(twin), tuple(steps(twin)))
    assert ground.old != ground.new and set(ground.old) == set(ground.new)
    kept.write_bytes(pickle.dumps(ground))
    return ground


def change_delivery(folder: Path) -> None:
    """Four more customers, and everybody who consented to personalisation withdraws it: both sides change."""
    path = folder / "customers.csv"
    with path.open(encoding="utf-8", newline="") as stream:
        header = next(csv.reader(stream))
    with path.open("a", encoding="utf-8", newline="") as stream:
        for number in range(4):
            values = {"customer_id": f"LATECOMER-{number}", "customer_type": "individual", "country": "DE", "is_pep": "true"}
            csv.writer(stream, quoting=csv.QUOTE_ALL).writerow([values.get(name, "") for name in header])
    path = folder / "consent_events.ndjson"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
    with path.open("a", encoding="utf-8") as stream:
        for number, event in enumerate(lines):
            if event["purpose"] == "personalisation" and event["action"] == "granted":
                times = {"effective_at": "2026-10-30T00:00:00Z", "received_at": "2026-10-30T00:00:01Z", "expires_at": None}
                stream.write(json.dumps(event | times | {"event_id": f"W-{number}", "action": "withdrawn"}) + "\n")


@contextlib.contextmanager
def place(fault: Fault, scratch: Path) -> Iterator[Path]:
    """A folder for the home, on a volume of its own if the fault is about that."""
    with tempfile.TemporaryDirectory(prefix="fault-", dir=scratch, ignore_cleanup_errors=True) as folder:
        if not fault.own_volume:
            yield Path(folder)
            return
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={500 * MEGABYTE}", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def undergo(fault: Fault, ground: Ground, scratch: Path) -> Outcome:
    """Do it, and judge."""
    began = time.monotonic()
    problems: list[str] = []
    with place(fault, scratch) as folder:
        home = folder / "home"
        shutil.copytree(ground.base, home)
        shutil.copytree(ground.base, folder / BACKUP)
        ran = fault.disturb(home, ground.second)
        problems += judge_end(fault, ran)
        seen = what_is_seen(home, ground)
        if seen != fault.sees and not (fault.sees == EITHER and seen in (OLD, NEW)):
            problems.append(f"readers see {seen}, not {fault.sees}")
        found = verdict(home)
        if (fault.verifies is None) != (found == "good") or (fault.verifies or "") not in found:
            problems.append(f"verify: {found}, not {fault.verifies or 'good'}")
        if fault.mend:
            fault.mend(home)
        after = call(home, "run", "--sources", str(ground.second))
        if after.code:
            problems.append(f"the next run ended with {after.code}: {after.said[-900:]}")
        else:
            problems += judge_twin(home, ground)
    return Outcome(
        fault.name, how_it_ended(ran), seen, found, "as undisturbed" if not after.code and not problems else "see problems",
        tuple(problems), round(time.monotonic() - began, 1),
    )  # fmt: skip


def judge_end(fault: Fault, ran: Ran) -> list[str]:
    """Exit code and message of the disturbed run."""
    problems = []
    if fault.code is not None and ran.code != fault.code:
        problems.append(f"ended with {ran.code}, not {fault.code}: {ran.said[-900:]}")
    problems += [f"did not say {words!r}: {ran.said[-900:]}" for words in fault.says if words not in ran.said]
    if "Traceback" in ran.said:
        problems.append(f"a traceback: {ran.said[-1500:]}")
    return problems


def judge_twin(home: Path, ground: Ground) -> list[str]:
    """Whether an undisturbed run afterwards came to what the twin has."""
    problems = []
    now = published(home)
    differing = sorted(name for name in {*now, *ground.new} if now.get(name) != ground.new.get(name))
    if differing:
        problems.append(f"published otherwise than the twin: {', '.join(differing)}")
    if standing(home) != ground.decided:
        problems.append("other decisions stand than the twin's")
    found = verdict(home)
    if found != "good":
        problems.append(f"verify after the next run: {found}")
    left = leftovers(home)
    if left:
        problems.append(f"left lying: {', '.join(sorted(set(left)))[:400]}")
    return problems


def what_is_seen(home: Path, ground: Ground) -> str:
    """The publication as a reader finds it: the old one, the new one, a mix, or none that can be read."""
    try:
        seen = published(home)
    except (duckdb.Error, FileNotFoundError):
        return UNREADABLE
    if seen == ground.old:
        return OLD
    return NEW if seen == ground.new else "a mix"


def how_it_ended(ran: Ran) -> str:
    """For the table: killed, or the exit code with the first line of the message."""
    if ran.code < 0:
        return f"killed by signal {-ran.code}"
    said = [line for line in ran.said.splitlines() if line.strip() and not line.rstrip().endswith("…")]
    return f"exit {ran.code}" + (f": {said[0][:160]}" if said and ran.code else "")


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    """The table for people."""
    lines = ["| fault | the disturbed run | readers see | ledger | next run |", "|---|---|---|---|---|"]
    for one in outcomes:
        cells = (one.fault, one.ended, one.readers_see, one.ledger, one.next_run if not one.problems else "; ".join(one.problems))
        lines.append("| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def note(outcome: Outcome, path: Path) -> None:
    """Add a row to a file of JSON lines; several workers may write to it."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as stream:
        stream.write(json.dumps(asdict(outcome)) + "\n")
