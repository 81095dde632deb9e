"""`python -m tests.faults`: all chains of faults, or those named, and the table of outcomes.

python -m tests.faults --out faults.md --workers 2 "inside commits" "wrong clocks"
python -m tests.faults --alone "the catalogue"      # every fault with these words in its name, in a home of its own
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.fault_list import CHAINS
from tests.faults.harness import Fault, Ground, Outcome, as_markdown, lay_ground, undergo


def show(outcome: Outcome) -> None:
    """One row as soon as it is known."""
    print(f"{'PROBLEM' if outcome.problems else 'ok     '} {outcome.seconds:6.1f} s  {outcome.fault} [{outcome.ended}]", flush=True)
    for problem in outcome.problems:
        print(f"          {problem}", flush=True)


def attempt(chain: Sequence[Fault], ground: Ground, scratch: Path) -> list[Outcome]:
    """The outcomes so far and, of a fault that could not be done, that it could not."""
    rows: list[Outcome] = []

    def told(outcome: Outcome) -> None:
        rows.append(outcome)
        show(outcome)

    try:
        undergo(chain, ground, scratch, told)
    except Exception as error:
        name = chain[len(rows)].name if len(rows) < len(chain) else "the next run"
        told(Outcome(name, "", "", "", (f"{type(error).__name__}: {error}",), 0.0))
    return rows


def main() -> int:
    """Do it; 1 if anything is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--alone", action="store_true", help="each fault in a home of its own, with its own undisturbed run")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to work; kept, and its ground used again")
    given = parser.parse_args()
    if given.alone:
        faults = [fault for chain in CHAINS.values() for fault in chain]
        chains = [(fault,) for fault in faults if not given.words or any(words in fault.name for words in given.words)]
    else:
        chains = [chain for name, chain in CHAINS.items() if not given.words or any(words in name for words in given.words)]
    with tempfile.TemporaryDirectory(prefix="segline-faults-") as made:
        folder = given.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        ground = lay_ground(folder)
        with ThreadPoolExecutor(given.workers) as pool:
            outcomes = [row for rows in pool.map(lambda chain: attempt(chain, ground, folder), chains) for row in rows]
    table = as_markdown(outcomes)
    if given.out:
        given.out.write_text(table, encoding="utf-8")
    print(table)
    return 1 if any(outcome.problems for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
