"""Which decisions stand: those that no later one names as the one before.

Belongs here: finding them, of everybody or of a few, and counting them. Does not belong here: comparing and entering (`entry`).
"""

import duckdb

from orchestration.ledger.leaves import DEPARTED


def stands(rows: str) -> str:
    """SQL condition: the decision of the payloads' alias `rows` stands."""
    return f"not exists (select 1 from lake.ops.decision_payloads as later where later.previous_leaf = {rows}.leaf_index)"


def find_standing(connection: duckdb.DuckDBPyConnection, only_people: bool) -> None:
    """`ledger_standing`: a decision stands until another names it as the one before. Of everybody, or of `ledger_people`."""
    connection.execute(
        "create or replace temp table ledger_standing as select payloads.leaf_index, payloads.family, payloads.segment, "
        "payloads.subject_token, people.number from lake.ops.decision_payloads as payloads "
        "left join ledger_people as people on people.subject_token = payloads.subject_token "
        f"where {stands('payloads')}"
        + (" and payloads.subject_token in (select subject_token from ledger_people)" if only_people else "")
    )


def leave_those_who_stand(connection: duckdb.DuckDBPyConnection) -> int:
    """Leave in `ledger_people` who has a decision that stands, and in `ledger_standing` theirs; returns how many people."""
    connection.execute(f"delete from ledger_standing where segment = '{DEPARTED}'")
    connection.execute("delete from ledger_people where number not in (select number from ledger_standing)")
    return int(connection.execute("select count(*) from ledger_people").fetchone()[0])


def standing_segments(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str, int]]:
    """Family, segment and number of everybody's decisions that stand, after those that are being entered."""
    return connection.execute(
        "select family, segment, count(*) from lake.ops.decision_payloads as payloads "
        f"where segment <> '{DEPARTED}' and {stands('payloads')} group by all"
    ).fetchall()
