"""The history of the rules: every version that ever decided, out of the SQL that the ledger keeps of each run.

The register that is published says what stands today. The ledger keeps, for good and under its signature, the SQL of every
run, and the rating's macro (`risk_rule_columns`) writes identifier, version and name of each rule above its condition: so the
history needs no second record. A condition or points that changed under an unchanged version show as two rows.

Belongs here: reading versions out of that SQL. Does not belong here: the ledger's form (`orchestration.ledger.bundles`).
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

import duckdb

from orchestration.documentation.facts import LedgerRun, RuleText, RuleVersion

RATING = "risk.risk_ratings"
_DAY = r"cast\([^\n]*? as date\)"
_RULE = re.compile(
    r"-- (?P<rule>\S+) version (?P<version>\d+): (?P<name>[^\n]*)\n\s*coalesce\(\s*(?P<predicate>.*?),\s*false\s*\)"
    rf"\s*and {_DAY} >= cast\('(?P<since>[\d-]+)' as date\)"
    rf"(?:\s*and {_DAY} < cast\('(?P<until>[\d-]+)' as date\))?\s*as (?P<column>\w+)",
    re.DOTALL,
)
_POINTS = re.compile(r"case when (\w+_v\d+) then (\d+) else 0 end")
_FLOOR = re.compile(r"case when (\w+_v\d+) then (\d+) end")


@dataclass(frozen=True)
class WrittenRule(RuleText):
    """A rule as the SQL of one run has it."""

    since: str
    until: str | None

    def is_in_force(self, day: str) -> bool:
        """Whether it counted on a day (ISO 8601); the last day is the one before `until`."""
        return self.since <= day and (self.until is None or day < self.until)


def rules_in(sql: str) -> list[WrittenRule]:
    """The rules of the rating's SQL. Of SQL in another form none: a history with a gap is better than a wrong one."""
    points = {column: int(value) for column, value in _POINTS.findall(sql)}
    floors = {column: int(value) for column, value in _FLOOR.findall(sql)}
    return [
        WrittenRule(
            found["rule"],
            int(found["version"]),
            found["name"].strip(),
            " ".join(found["predicate"].split()),
            points.get(found["column"]),
            floors.get(found["column"]),
            found["since"],
            found["until"],
        )
        for found in _RULE.finditer(sql)
    ]


def history(runs: Iterable[tuple[LedgerRun, str]]) -> list[RuleVersion]:
    """Versions with their first and last run, from (run, SQL of its rating) in the order in which they ran."""
    spans: dict[tuple, tuple[str | None, str | None, int]] = {}
    known: dict[str, list[WrittenRule]] = {}
    for run, sql in runs:
        if sql not in known:
            known[sql] = rules_in(sql)
        for rule in known[sql]:
            what = (rule.rule_id, rule.version, rule.name, rule.predicate, rule.points, rule.floor_rank)
            first, last, count = spans.get(what, (None, None, 0))
            if rule.is_in_force(run.as_of[:10]):
                first, last, count = first or run.decided_at, run.decided_at, count + 1
            spans[what] = (first, last, count)
    found = [RuleVersion(*what, *span) for what, span in spans.items()]
    return sorted(found, key=lambda one: (one.rule_id, one.version, one.first_decided or ""))


def rule_versions(connection: duckdb.DuckDBPyConnection, runs: Iterable[LedgerRun]) -> list[RuleVersion]:
    """The history from the bundles of the lake; nothing where no ledger is kept. A bundle that is gone is passed over."""
    runs = list(runs)
    if not runs:
        return []
    ratings: dict[str, str] = {}
    for bundle, document in connection.execute("select bundle_sha256, document from lake.ops.ledger_bundles").fetchall():
        found = dict(json.loads(document)["models"])
        if RATING in found:
            ratings[bundle] = found[RATING]
    wanted = sorted(set(ratings.values()))
    parts = dict(
        connection.execute(
            "select part_sha256, content from lake.ops.ledger_parts where list_contains(?, part_sha256)", [wanted]
        ).fetchall()
    )
    return history((run, parts[ratings[run.bundle]]) for run in runs if ratings.get(run.bundle) in parts)
