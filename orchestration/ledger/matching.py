"""Whether the rows of the ledger are those that its leaves stand for, and the inputs those of its decisions.

Belongs here: rows against hashes. Does not belong here: the tree, signatures, statements (`verification`), sums (`reconciling`).
"""

import duckdb

from orchestration.ledger.hashing import hashed
from orchestration.ledger.leaves import decision_text, leaf_bytes
from orchestration.ledger.report import NAMED, Report

HASHED_AT_ONCE = 4_000_000  # leaves; their hashes are in memory, 160 MB of them


def rows_said(condition: str) -> str:
    """SQL: leaf_index, and what is hashed of it, of whatever payloads and statements say, of the leaves of the condition."""
    decided = leaf_bytes("decided.nonce", decision_text("decided"))
    stated = leaf_bytes("stated.nonce", "stated.statement")
    return (
        f"select leaf_index, {decided} from lake.ops.decision_payloads as decided where {condition} union all "
        f"select leaf_index, {stated} from lake.ops.ledger_statements as stated where {condition}"
    )


def unlike(condition: str, said: str) -> str:
    """SQL: leaf, said, hash where the leaves of the condition and the relation `said` (leaf_index, hash) of its rows differ."""
    return (
        "select leaves.leaf_index as leaf, said.leaf_index as said, said.hash "
        f"from (select * from lake.ops.ledger_leaves where {condition}) as leaves full join {said} as said "
        "on said.leaf_index = leaves.leaf_index where leaves.leaf_hash is distinct from said.hash"
    )


def _spans(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """SQL conditions, each of so many leaves, which together hold of every row, wherever it says that it stands."""
    (last,) = connection.execute("select coalesce(max(leaf_index), 0) from lake.ops.ledger_leaves").fetchone()
    starts = range(HASHED_AT_ONCE, last + 1, HASHED_AT_ONCE)
    if not starts:
        return ["true"]
    between = [f"leaf_index >= {start} and leaf_index < {start + HASHED_AT_ONCE}" for start in starts[:-1]]
    return [f"leaf_index < {starts[0]}", *between, f"(leaf_index >= {starts[-1]} or leaf_index is null)"]


def check_rows(connection: duckdb.DuckDBPyConnection, report: Report) -> None:
    """`verify_bad`: leaves without what they stand for, what stands for no leaf, and what does not fit its leaf."""
    connection.execute("create or replace temp table verify_bad (leaf bigint, said bigint, hash blob)")
    for span in _spans(connection):
        with hashed(connection, rows_said(span)) as said:
            connection.execute(f"insert into verify_bad {unlike(span, said)}")
    decisions, statements = connection.execute(
        "select (select count(*) from lake.ops.decision_payloads), (select count(*) from lake.ops.ledger_statements)"
    ).fetchone()
    report.checked["decisions"], report.checked["statements"] = decisions, statements
    changed = connection.execute(
        "select leaf, (select min(leaves.leaf_index) from lake.ops.ledger_leaves as leaves where leaves.leaf_hash = bad.hash) "
        f"from verify_bad as bad where leaf is not null and said is not null order by leaf limit {NAMED}"
    ).fetchall()
    total = connection.execute("select count(*) from verify_bad where leaf is not null and said is not null").fetchone()[0]
    report.name_all("leaf {}: the row was changed", [leaf for leaf, elsewhere in changed if elsewhere is None], total)
    for leaf, elsewhere in changed:
        if elsewhere is not None:
            report.findings.append(f"leaf {leaf}: the row was moved, its hash stands at leaf {elsewhere}")
    added = [row[0] for row in connection.execute("select said from verify_bad where leaf is null order by 1").fetchall()]
    report.name_all("row {} was added: the ledger has no such leaf", added)
    without = connection.execute("select count(*) from verify_bad where said is null and leaf is not null").fetchone()[0]
    matched = decisions + statements - len(added)
    if matched != report.checked["leaves"] - without:  # else each leaf that has a row has one
        doubled = connection.execute(
            "select leaf_index from (select leaf_index from lake.ops.decision_payloads union all "
            "select leaf_index from lake.ops.ledger_statements) group by 1 having count(*) > 1 order by 1"
        ).fetchall()
        report.name_all("leaf {} has more than one row", [row[0] for row in doubled])


def check_inputs(connection: duckdb.DuckDBPyConnection, report: Report) -> None:
    """Inputs without a decision, decisions whose input is gone, inputs that are not those that were hashed."""
    wrong: list[tuple[int, bool, bool]] = []
    for span in _spans(connection):
        with hashed(connection, f"select leaf_index, input from lake.ops.decision_inputs where {span}") as inputs:
            wrong += connection.execute(
                "select coalesce(rows.leaf_index, inputs.leaf_index), rows.leaf_index is null, inputs.leaf_index is null from ("
                f"select leaf_index, try(unhex(input_sha256)) as print from lake.ops.decision_payloads where {span}) as rows "
                f"full join {inputs} as inputs on inputs.leaf_index = rows.leaf_index "
                "where inputs.hash is distinct from rows.print order by 1"
            ).fetchall()
    report.name_all("leaf {}: an input without a decision", [leaf for leaf, alone, _ in wrong if alone])
    report.name_all("leaf {}: its input is missing", [leaf for leaf, _, gone in wrong if gone])
    report.name_all("leaf {}: its input was changed", [leaf for leaf, alone, gone in wrong if not alone and not gone])
