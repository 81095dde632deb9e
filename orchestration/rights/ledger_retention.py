"""How long the ledger keeps what it says of a person: while they are in the book, and the policy's period from then on.

Payloads and inputs of decisions go with the customer whom retention removes, and with whoever left the book longer ago than
the policy says (clock `departure`: the source named them no more). Hashes, totals and the ledger's own word for each erasure
stay, so that every other proof stands too.

Belongs here: whose decisions are due. Does not belong here: how the ledger erases (`ledger.erasure`), the other relations'
periods and the report (`retention`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import duckdb

from orchestration.identity.keys import load_keys
from orchestration.lake import literal
from orchestration.ledger.erasure import erase_within
from orchestration.ledger.leaves import DEPARTED
from orchestration.ledger.names import names_in_ledger
from orchestration.ledger.standing import stands
from orchestration.ledger.store import is_kept
from orchestration.settings import Settings

REASON = "retention"
_DUE = "retention_departed"


@dataclass(frozen=True)
class LedgerDue:
    """Rows of a relation: all, those that are due, and those that are due but kept because a hold may mean them."""

    relation: str
    total: int
    due: int
    held: int


def judge_departed(connection: duckdb.DuckDBPyConnection, departed_before: datetime, may_be_held: bool) -> list[LedgerDue]:
    """What is due of those who left the book before that instant; empty where no ledger is kept.

    The register of holds knows a person by the raw pseudonym, which nobody can make of the ledger's. So where it names
    somebody who is not in the book (`may_be_held`), nothing goes of anybody who left it.
    """
    if not is_kept(connection):
        return []
    left = f"segment = '{DEPARTED}' and decided_at < timestamp {literal(departed_before)}"
    connection.execute(
        f"create or replace temp table {_DUE} as select subject_token from lake.ops.decision_payloads as standing "
        f"where subject_token in (select subject_token from lake.ops.decision_payloads where {left}) and {stands('standing')} "
        f"group by 1 having bool_and({left})"
    )
    payloads = f"lake.ops.decision_payloads where subject_token in (from {_DUE})"
    conditions = {
        "ops.decision_payloads": f"subject_token in (from {_DUE})",
        "ops.decision_inputs": f"leaf_index in (select leaf_index from {payloads})",
    }
    found = []
    for relation, condition in conditions.items():
        total, due = connection.execute(f"select count(*), count(*) filter (where {condition}) from lake.{relation}").fetchone()
        found.append(LedgerDue(relation, total, 0 if may_be_held else due, due if may_be_held else 0))
    if may_be_held:
        connection.execute(f"delete from {_DUE}")
    return found


def forget_in_ledger(connection: duckdb.DuckDBPyConnection, settings: Settings, gone: Iterable[str]) -> int:
    """Erase the decisions about customers whom retention removed (raw pseudonyms), and about those whom `judge_departed` found.

    Inside the caller's transaction, who holds the home's lock. Returns how many decisions.
    """
    if not is_kept(connection):
        return 0
    gone = sorted(gone)
    tokens = names_in_ledger(connection, load_keys(settings), gone) if gone else []
    known = connection.execute("select count(*) from duckdb_tables() where temporary and table_name = ?", [_DUE]).fetchone()
    if known[0]:
        tokens += [row[0] for row in connection.execute(f"from {_DUE}").fetchall()]
        connection.execute(f"drop table temp.{_DUE}")
    return erase_within(connection, settings, tokens, REASON)
