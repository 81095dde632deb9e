"""The floor: the pipeline's result from bare DuckDB statements in one process.

It contains, with the pipeline's memory limit and all cores, into a plain unencrypted DuckDB file with DuckDB's
own compression, in the newest storage version (a tenth faster here than the default one):
1. the seeds, by `read_csv` with the types that the dbt project declares;
2. the raw tables, one `create table … as` straight from each entity's files: the values by the platform's own
   expressions, rows that break their contract left out, customers known by a join, equal repeats of a key but
   one deleted and contradictory ones deleted altogether, pseudonyms as the beginning of a plain SHA-256;
3. every dbt model, its compiled SQL as `create table` or `create view`, in the order of dependence.

It contains no Dagster, no dbt process, no vault and no keyed pseudonym, no encryption, no checks, no
expectations and no data tests, no record of what was left out and why, no reconciliation, no hashes of the
files, no lineage, no row counts, no transaction around the whole, no order of rows, and no copy from
`candidate` to `published`: its result are the candidates.

Belongs here: executing the statements. Does not belong here: making them (`statements`), which is not timed,
since a person would have written them beforehand. Started as `python -m orchestration.bench.floor PLAN`;
imports nothing heavy, so that the process costs little more than the statements.
"""

import json
import sys
import time
from pathlib import Path

import duckdb

CLOSE = {"stage": "close", "name": "write to disk", "sql": "use memory; detach lake"}


def execute(plan: dict) -> list[dict]:
    """Execute a plan's statements; returns stage, name and seconds of each, the last being the write to disk."""
    timed = []
    with duckdb.connect() as connection:
        for statement in [*plan["statements"], CLOSE]:
            started = time.perf_counter()
            connection.execute(statement["sql"])
            seconds = time.perf_counter() - started
            timed.append({"stage": statement["stage"], "name": statement["name"], "seconds": seconds})
    return timed


def main(path: str) -> None:
    """Execute the plan in that JSON file; the timings go into the file that the plan names."""
    plan = json.loads(Path(path).read_text(encoding="utf-8"))
    Path(plan["timings"]).write_text(json.dumps(execute(plan)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
