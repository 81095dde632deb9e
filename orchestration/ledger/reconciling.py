"""Whether the ledger adds up: each run's rows and totals, and the chains of decisions that replace one another.

Totals are counted again from the rows, in their order; of erased rows the erasure statements say enough to count them still.

Belongs here: arithmetic over payloads and statements. Does not belong here: hashes and signatures (`verification`).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb

from orchestration.ledger.leaves import DEPARTED, ERASURE, RUN, STAMP, delta_of
from orchestration.ledger.report import Report

_CLAIM = "rows.run_id, rows.bundle_sha256, rows.profile, rows.as_of, rows.decided_at"


def _ends(bounds: Sequence[int]) -> str:
    return "unnest([" + ", ".join(map(str, bounds)) + "])"


def check_runs(
    connection: duckdb.DuckDBPyConnection,
    report: Report,
    statements: dict[str, list[dict[str, Any]]],
    notes: Sequence[tuple[str, int, str]],
) -> None:
    """Each run's rows are those that its statement claims, and its totals follow from the rows before and in it."""
    runs = statements[RUN]
    signed = {size: run_id for _, size, run_id in notes}
    claimed = {}
    all_follow = True
    ended = sorted(statement["leaf_index"] for kind in statements.values() for statement in kind)
    for run in runs:
        leaf, due = run["leaf_index"], max((end + 1 for end in ended if end < run["leaf_index"]), default=0)
        follows = run["first_leaf"] == due and due + run["decisions"] == leaf
        all_follow = all_follow and follows
        if not follows or signed.get(leaf + 1) != run["run_id"]:
            report.findings.append(f"run {run['run_id']} at leaf {leaf}: its rows or its checkpoint do not follow on")
        claimed[run["leaf_index"]] = (run["run_id"], run["bundle_sha256"], run["profile"], run["as_of"], run["decided_at"])
    bounds = sorted(claimed)
    if not bounds:
        report.findings += ["there are leaves and no run's statement"] if report.checked["leaves"] else []
        return
    place = _places(connection, runs, claimed) if all_follow else None
    if place is None:
        found = connection.execute(
            f"select ends.leaf, {_CLAIM}, min(rows.leaf_index) from lake.ops.decision_payloads as rows "
            f"asof join (select {_ends(bounds)} as leaf) as ends on rows.leaf_index <= ends.leaf group by all"
        ).fetchall()
        for leaf, *said, at in found:
            if _claim(said) != claimed[leaf]:
                report.findings.append(f"leaf {at}: it does not belong to the run stated at leaf {leaf}")
    _check_totals(connection, report, runs, statements[ERASURE], place)


def _places(
    connection: duckdb.DuckDBPyConnection, runs: list[dict[str, Any]], claimed: Mapping[int, tuple[str, ...]]
) -> dict[str, int] | None:
    """Leaf of the statement by run, if every row lies within the run that it names; None if one does not.

    One grouping tells it, at a seventh of what it costs to look up the run of each row.
    """
    by_claim = {claim: leaf for leaf, claim in claimed.items()}
    first = {run["leaf_index"]: run["first_leaf"] for run in runs}
    for *said, low, high in connection.execute(
        f"select {_CLAIM}, min(rows.leaf_index), max(rows.leaf_index) from lake.ops.decision_payloads as rows group by all"
    ).fetchall():
        leaf = by_claim.get(_claim(said))
        if leaf is None or not first[leaf] <= low <= high <= leaf:
            return None
    place = {claim[0]: leaf for leaf, claim in claimed.items()}
    return place if len(place) == len(runs) else None


def _claim(said: Sequence[Any]) -> tuple[str, ...]:
    """What a row says of its run, as the run's statement says it."""
    *names, as_of, decided_at = said
    return (*names, *(value.strftime(STAMP) if value is not None else "" for value in (as_of, decided_at)))


def _check_totals(
    connection: duckdb.DuckDBPyConnection,
    report: Report,
    runs: list[dict[str, Any]],
    erasures: list[dict[str, Any]],
    place_of_run: Mapping[str, int] | None,
) -> None:
    """`place_of_run`: the statement's leaf by run, where each row is known to lie in its own run; else it is looked up."""
    moves: dict[tuple[int, str], list[int]] = defaultdict(lambda: [0, 0, 0])  # new, changed, departed
    holding: dict[tuple[int, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    bounds = [run["leaf_index"] for run in runs]
    if place_of_run is None:
        where = f"asof join (select {_ends(bounds)} as leaf) as ends on rows.leaf_index <= ends.leaf"
        run_column = "ends.leaf"
    else:
        where, run_column = "", "rows.run_id"
    place = {1: 0, 0: 1, -1: 2}
    for run_of, family, delta, segment, previous, count in connection.execute(
        f"select {run_column}, rows.family, {delta_of('rows')}, rows.segment, rows.previous_segment, count(*) "
        f"from lake.ops.decision_payloads as rows {where} group by all"
    ).fetchall():
        leaf = run_of if place_of_run is None else place_of_run[run_of]
        moves[leaf, family][place[delta]] += count
        holding[leaf, family][segment] += count
        if previous is not None:
            holding[leaf, family][previous] -= count
    erased_standing: list[tuple[int, str]] = []
    hidden: dict[tuple[int, str], int] = defaultdict(int)
    for erasure in erasures:
        for leaf, family, delta, stood in erasure["rows"]:
            end = next((bound for bound in bounds if leaf <= bound), None)
            if end is None or delta not in place:
                report.findings.append(f"erasure at leaf {erasure['leaf_index']}: leaf {leaf} is no decision of a run")
                continue
            moves[end, family][place[delta]] += 1
            hidden[end, family] += delta
            if stood:
                erased_standing.append((erasure["leaf_index"], family))
    standing: dict[str, int] = defaultdict(int)
    seen: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    unseen: dict[str, int] = defaultdict(int)
    done = 0
    erased_standing.sort()
    for run in runs:
        end = run["leaf_index"]
        while done < len(erased_standing) and erased_standing[done][0] < end:
            standing[erased_standing[done][1]] -= 1
            unseen[erased_standing[done][1]] -= 1
            done += 1
        families = {family for leaf, family in moves if leaf == end} | set(run["families"])
        for family in sorted(families):
            said = run["families"].get(family, {"new": 0, "changed": 0, "unchanged": 0, "departed": 0, "segments": {}})
            new, changed, departed = moves[end, family]
            unchanged = standing[family] - changed - departed
            standing[family] += new - departed
            unseen[family] += hidden[end, family]
            for segment, count in holding[end, family].items():
                seen[family][segment] += count
            where = f"run {run['run_id']} at leaf {end}, {family}"
            found = {"new": new, "changed": changed, "unchanged": unchanged, "departed": departed}
            report.findings += [
                f"{where}: {said[word]} {word} stated, {count} found" for word, count in found.items() if said[word] != count
            ]
            over = {
                segment: said["segments"].get(segment, 0) - seen[family].get(segment, 0)
                for segment in {*said["segments"], *seen[family]} - {DEPARTED}
            }
            if sum(over.values()) != unseen[family] or (not unseen[family] and any(over.values())):
                report.findings.append(f"{where}: segments do not add up to what stands")
            present = sum(said["segments"].values())
            if said["segments"] and not present == run["book"] == standing[family]:
                report.findings.append(
                    f"{where}: {run['book']} in the book, {present} stated, {standing[family]} stand"
                )


def check_chains(connection: duckdb.DuckDBPyConnection, report: Report) -> None:
    """A decision that replaces one names the subject's own last one, and no two replace the same."""
    broken = connection.execute(
        "select rows.leaf_index from lake.ops.decision_payloads as rows "
        "inner join lake.ops.decision_payloads as before on before.leaf_index = rows.previous_leaf "
        "where rows.previous_leaf >= rows.leaf_index or before.subject_token <> rows.subject_token "
        "or before.family <> rows.family or before.segment is distinct from rows.previous_segment "
        "union all select max(leaf_index) from lake.ops.decision_payloads where previous_leaf is not null "
        "group by previous_leaf having count(*) > 1 order by 1"
    ).fetchall()
    report.name_all("leaf {}: it does not follow the decision that it says it replaces", [row[0] for row in broken])
