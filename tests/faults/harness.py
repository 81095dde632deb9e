"""A chain of faults in one home, from the first to an undisturbed run: disturb, look, mend, go on.

The ground is a home with a publication of one delivery, a second delivery that changes it, and a twin in which nothing went
wrong. Each disturbed run takes the delivery that does not stand published. A reader must then see the publication of before
or the run's own, whole; the ledger must verify or say what is damaged. After the last fault an undisturbed run must publish
byte for byte what the twin did, decide what it decided, and leave nothing lying. A chain of one fault is the strict case; in
longer ones every fault meets what those before it left behind.

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
from orchestration.store_faults import StoreFault
from tests.faults.driving import Missed, Ran, call
from tests.faults.injecting import BACKUP, MEGABYTE, Disturbance
from tests.faults.looking import leftovers, published, standing, steps, verdict

BEFORE, OWN, EITHER, UNREADABLE = "what stood", "the run's own", "what stood or the run's own", "unreadable"
# On a disk without a byte left SQLite cannot make the file by which readers share the log: they may be refused, never misled.
BEFORE_OR_REFUSED = "what stood, or nobody reads"
_ALSO = {EITHER: (BEFORE, OWN), BEFORE_OR_REFUSED: (BEFORE, UNREADABLE)}
FIRST, SECOND = "first", "second"
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
    sees: str = BEFORE
    verifies: str | None = None
    mend: Callable[[Path], None] | None = None
    own_volume: bool = False
    needs: str = ""  # a program that must be there


@dataclass(frozen=True)
class Ground:
    """The home with the first publication, the two deliveries, and what the twin saw."""

    base: Path
    deliveries: dict[str, Path]
    published: dict[str, dict[str, str]]  # by delivery: hash of each relation
    decided: dict[str, str]
    steps: tuple[str, ...]

    @property
    def relations(self) -> set[str]:
        return set(self.published[FIRST])


@dataclass(frozen=True)
class Outcome:
    """A row of the table. `problems` is empty if all is as it must be."""

    fault: str
    ended: str
    readers_see: str
    ledger: str
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
    ground = Ground(
        base,
        {FIRST: first, SECOND: second},
        {FIRST: published(base), SECOND: published(twin)},
        {FIRST: standing(base), SECOND: standing(twin)},
        tuple(steps(twin)),
    )
    assert ground.published[FIRST] != ground.published[SECOND] and set(ground.published[SECOND]) == ground.relations
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
            csv.writer(stream).writerow([values.get(name, "") for name in header])
    path = folder / "consent_events.ndjson"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
    with path.open("a", encoding="utf-8") as stream:
        for number, event in enumerate(lines):
            if event["purpose"] == "personalisation" and event["action"] == "granted":
                times = {"effective_at": "2026-10-30T00:00:00Z", "received_at": "2026-10-30T00:00:01Z", "expires_at": None}
                stream.write(json.dumps(event | times | {"event_id": f"W-{number}", "action": "withdrawn"}) + "\n")


@contextlib.contextmanager
def place(own_volume: bool, scratch: Path) -> Iterator[Path]:
    """A folder for the home, on a volume of its own if the fault is about that."""
    with tempfile.TemporaryDirectory(prefix="fault-", dir=scratch, ignore_cleanup_errors=True) as folder:
        if not own_volume:
            yield Path(folder)
            return
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={500 * MEGABYTE}", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)


def undergo(chain: Sequence[Fault], ground: Ground, scratch: Path, told: Callable[[Outcome], None] = print) -> list[Outcome]:
    """One fault after another in one home, then an undisturbed run; a row for each, `told` as soon as it is known."""
    outcomes = []
    with place(any(fault.own_volume for fault in chain), scratch) as folder:
        home = folder / "home"
        shutil.copytree(ground.base, home)
        stands = FIRST
        for fault in chain:
            outcome, stands = disturb(fault, ground, home, stands)
            outcomes.append(outcome)
            told(outcome)
        began = time.monotonic()
        delivery = other(stands)
        ran = call(home, "run", "--sources", str(ground.deliveries[delivery]))
        problems = judge_twin(home, ground, delivery) if ran.code == 0 else [f"ended with {ran.code}: {ran.said[-900:]}"]
        name = f"nothing: the next run after {len(chain)} fault{'s' * (len(chain) > 1)}"
        seen = "as the twin's" if not problems else "see problems"
        last = Outcome(name, how_it_ended(ran), seen, verdict(home), tuple(problems), round(time.monotonic() - began, 1))
        outcomes.append(last)
        told(last)
    return outcomes


def other(delivery: str) -> str:
    """The delivery that is not this one."""
    return SECOND if delivery == FIRST else FIRST


def disturb(fault: Fault, ground: Ground, home: Path, stands: str) -> tuple[Outcome, str]:
    """One fault; its outcome, and whose publication stands after the mend."""
    began = time.monotonic()
    backup = home.parent / BACKUP
    shutil.rmtree(backup, ignore_errors=True)
    if fault.mend and not fault.own_volume:
        shutil.copytree(home, backup)
    own = other(stands)
    try:
        ran = fault.disturb(home, ground.deliveries[own])
        problems = judge_end(fault, ran)
    except Missed as missed:
        ran, problems = Ran(0, ""), [f"the fault did not happen: {missed}"]
    seen = {stands: BEFORE, own: OWN}.get(whose(home, ground), whose(home, ground))
    if seen not in _ALSO.get(fault.sees, (fault.sees,)):
        problems.append(f"readers see {seen}, not {fault.sees}")
    found = verdict(home)
    if (fault.verifies is None) != (found == "good") or (fault.verifies or "") not in found:
        problems.append(f"verify: {found}, not {fault.verifies or 'good'}")
    if fault.mend:
        fault.mend(home)
    after = whose(home, ground)
    if after not in (stands, own):
        problems.append(f"after the mend, readers see {after}")
        after = stands
    return Outcome(fault.name, how_it_ended(ran), seen, found, tuple(problems), round(time.monotonic() - began, 1)), after


def judge_end(fault: Fault, ran: Ran) -> list[str]:
    """Exit code and message of the disturbed run."""
    problems = []
    if fault.code is not None and ran.code != fault.code:
        problems.append(f"ended with {ran.code}, not {fault.code}: {ran.said[-900:]}")
    problems += [f"did not say {words!r}: {ran.said[-900:]}" for words in fault.says if words not in ran.said]
    if "Traceback" in ran.said:
        problems.append(f"a traceback: {ran.said[-1500:]}")
    return problems


def judge_twin(home: Path, ground: Ground, delivery: str) -> list[str]:
    """Whether an undisturbed run came to what the twin has."""
    problems = []
    now, twin = published(home), ground.published[delivery]
    differing = sorted(name for name in {*now, *twin} if now.get(name) != twin.get(name))
    if differing:
        problems.append(f"published otherwise than the twin: {', '.join(differing)}")
    if standing(home) != ground.decided[delivery]:
        problems.append("other decisions stand than the twin's")
    found = verdict(home)
    if found != "good":
        problems.append(f"verify: {found}")
    left = leftovers(home)
    if left:
        problems.append(f"left lying: {', '.join(sorted(set(left)))[:400]}")
    return problems


def whose(home: Path, ground: Ground) -> str:
    """Whose publication a reader finds: the first delivery's, the second's, a mix, or none that can be read."""
    try:
        seen = published(home)
    except (duckdb.Error, StoreFault):
        return UNREADABLE
    return next((name for name, hashes in ground.published.items() if hashes == seen), "a mix")


def how_it_ended(ran: Ran) -> str:
    """For the table: killed, or the exit code with the first line of the message."""
    if ran.code < 0:
        return f"killed by signal {-ran.code}"
    said = [line for line in ran.said.splitlines() if line.strip() and not line.rstrip().endswith("…")]
    return f"exit {ran.code}" + (f": {said[0][:160]}" if said and ran.code else "")


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    """The table for people."""
    lines = ["| what went wrong | the run | readers see | the ledger |", "|---|---|---|---|"]
    for one in outcomes:
        cells = [one.fault, one.ended, one.readers_see, one.ledger]
        if one.problems:
            cells[1] = "**PROBLEM** " + "; ".join(one.problems)
        lines.append("| " + " | ".join(cell.replace("|", "/").replace("\n", " ") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def note(outcome: Outcome, path: Path) -> None:
    """Add a row to a file of JSON lines; several workers may write to it."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "w") as stream:
        stream.write(json.dumps(asdict(outcome)) + "\n")
