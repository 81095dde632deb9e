"""What a home holds after a fault: what readers see, what stands decided, whether the ledger verifies, what was left lying.

Belongs here: looking, without the command that is under test where there is another way. Does not belong here: judging
(`harness`).
"""

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

from orchestration.lake import identifier, open_lake, relation_columns
from orchestration.ledger.leaves import DECIDED
from orchestration.settings import Settings
from tests.faults.driving import call

OF_THE_RUN = ("run_id", "published_at")  # what differs between two runs over the same sources


def published(home: Path) -> dict[str, str]:
    """Relation of the zone `published`: hash over all its rows, run ids and times left out."""
    with open_lake(Settings(home=home), read_only=True) as connection:
        columns = relation_columns(connection)
        found = {}
        for schema, name in sorted(columns):
            if schema == "published":
                kept = ", ".join(identifier(column) for column in columns[schema, name] if column not in OF_THE_RUN)
                rows = connection.execute(f"select {kept} from lake.published.{identifier(name)}").fetchall()
                found[name] = hashlib.sha256("\n".join(sorted(map(repr, rows))).encode()).hexdigest()
    return found


def standing(home: Path) -> str:
    """Hash over the decisions that stand, one per subject and family; leaves, nonces, runs, times and who left are left out."""
    with open_lake(Settings(home=home), read_only=True) as connection:
        rows = connection.execute(
            f"select subject_token, family, {', '.join(DECIDED)} from lake.ops.decision_payloads as rows where not exists "
            "(select 1 from lake.ops.decision_payloads as later where later.previous_leaf = rows.leaf_index) "
            "and segment <> 'departed'"
        ).fetchall()
    return hashlib.sha256("\n".join(sorted(map(repr, rows))).encode()).hexdigest()


def verdict(home: Path) -> str:
    """What `segline verify` says: `good`, or the names that it gives."""
    ran = call(home, "verify", "--format", "json")
    assert "Traceback" not in ran.said, ran.said[-3000:]
    if ran.code == 0:
        return "good"
    lines = [line.removeprefix("- ").strip() for line in ran.said.splitlines() if line.strip() and not line.startswith("verifying")]
    return "; ".join(line for line in lines if not line.startswith("The ledger does not verify"))[:600]


def leftovers(home: Path) -> list[str]:
    """What a later, undisturbed run should have cleared: spill files, scratch databases, runs without an end, lost files."""
    found = [f"tmp/{path.name}" for path in (home / "tmp").rglob("*") if path.is_file()]
    with closing(sqlite3.connect(f"file:{home / 'dagster/history/runs.db'}?mode=ro", uri=True)) as db:
        found += [f"run {status}" for (status,) in db.execute("select status from runs") if status not in ("SUCCESS", "FAILURE", "CANCELED")]
    with open_lake(Settings(home=home)) as connection:
        orphans = connection.execute("call ducklake_delete_orphaned_files('lake', cleanup_all => true, dry_run => true)").fetchall()
    return found + [f"orphan {Path(row[0]).parent.name}" for row in orphans]


def steps(home: Path) -> list[str]:
    """Steps of the last run in the order in which they began."""
    newest = max((home / "dagster/history/runs").glob("*-*.db"), key=lambda path: path.stat().st_mtime)
    with closing(sqlite3.connect(f"file:{newest}?mode=ro", uri=True)) as db:
        query = "select step_key from event_logs where dagster_event_type = 'STEP_START' order by id"
        return [key for (key,) in db.execute(query)]


