"""`python -m tests.faults`: all faults, or those whose name has the given words, and the table of outcomes.

python -m tests.faults --out faults.md --workers 2 "catalogue"
"""

import argparse
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.faults.fault_list import FAULTS
from tests.faults.harness import Fault, Ground, Outcome, as_markdown, lay_ground, undergo


def attempt(fault: Fault, ground: Ground, scratch: Path) -> Outcome:
    """The outcome; a fault that could not be done is a problem, not an end."""
    try:
        outcome = undergo(fault, ground, scratch)
    except Exception as error:
        outcome = Outcome(fault.name, "", "", "", "", (f"{type(error).__name__}: {error}",), 0.0)
    print(f"{'ok     ' if not outcome.problems else 'PROBLEM'} {outcome.seconds:6.1f} s  {outcome.fault}", flush=True)
    for problem in outcome.problems:
        print(f"          {problem}", flush=True)
    return outcome


def main() -> int:
    """Do it; 1 if anything is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where to work; kept, and its ground used again")
    given = parser.parse_args()
    chosen = [fault for fault in FAULTS if not given.words or any(words in fault.name for words in given.words)]
    with tempfile.TemporaryDirectory(prefix="segline-faults-") as made:
        folder = given.folder or Path(made)
        folder.mkdir(parents=True, exist_ok=True)
        ground = lay_ground(folder)
        with ThreadPoolExecutor(given.workers) as pool:
            outcomes = list(pool.map(lambda fault: attempt(fault, ground, folder), chosen))
    table = as_markdown(outcomes)
    if given.out:
        given.out.write_text(table, encoding="utf-8")
    print(table)
    return 1 if any(outcome.problems for outcome in outcomes) else 0


if __name__ == "__main__":
    sys.exit(main())
