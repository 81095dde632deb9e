"""The rule register: every rule with its text, reference and hits, and the versions that ever decided.

Belongs here: the page as text. Does not belong here: reading the history (`rule_history`).
"""

from collections.abc import Mapping
from typing import Any

from orchestration.documentation import charts
from orchestration.documentation.facts import Facts, RuleVersion
from orchestration.documentation.writing import Html, chart, code, figure, share, table, text

SHOWN_RULES = 15
REGISTER = ("rule", "version", "text", "points", "floor", "hits", "rate", "reference")
DETAILS = ("rule", "version", "condition", "why", "owner", "approved by", "valid from", "valid to")
VERSIONS = ("rule", "version", "name", "condition", "points", "floor", "first decided (UTC)", "last decided (UTC)", "runs")


def page(facts: Facts) -> str:
    """Register, hits, tiers, history."""
    rated = facts.table("rated").value() or 0
    hits = dict(facts.table("rule_hits").rows)
    rules = facts.table("rules").dicts()
    in_force = [rule for rule in rules if rule["is_in_force"]]
    sets = ", ".join(sorted({rule["rule_set_version"] for rule in rules})) or "none"
    silent = [rule["rule_id"] for rule in in_force if not hits.get(rule["rule_id"])]
    tiers = facts.table("risk_tiers")
    return f"""# Rule register

{figure(len(in_force), "rules")} rules were in force when the run rated {figure(rated, "rated")} customers; rule set {text(sets)}.
Each rule is data beside the SQL that ran: the condition below is the very text that decided. A rule adds points or sets a
floor below which the tier cannot fall. {figure(len(silent), "rule_hits")} rules in force are nobody's reason{_named(silent)}.

{_chart(hits, in_force)}
{table(REGISTER, [_row(rule, hits, rated) for rule in rules], "rules", "Rules, with hits among those rated")}

The hits are counted from the published reasons ({figure(sum(hits.values()), "rule_hits")} in all). A rate is hits over the
{figure(rated, "rated")} customers who were rated. A version that was not in force on the day of the publication has no hits.

## From points to a tier

{table(("tier", "from points", "reviewed after months"), tiers.rows, "risk_tiers", "Tiers")}

A floor lifts above the points; *prohibited* is reached by a floor alone. The score, where there is one, may raise a tier and
never lowers it: [Models](models.md).

## Conditions, owners, approval

{table(DETAILS, [_detail(rule) for rule in rules], "rules", "What the SQL asks, and who answers for it")}

## History

Every version that ever decided, with the first and the last run that it decided in. It is read from the SQL that the ledger
keeps under its signature, so it cannot be tidied up afterwards. A condition or points that changed under one version show as
two rows; a version that was in force in no run has no times.

{table(VERSIONS, _history(facts), "rule_history", "Versions of the rules")}
"""


def _named(rules: list[str]) -> str:
    return f" ({text(', '.join(rules))})" if rules else ""


def _chart(hits: Mapping[str, int], rules: list[dict[str, Any]]) -> str:
    names = {rule["rule_id"]: f"{rule['rule_id']} {rule['name']}" for rule in rules}
    most = sorted(hits.items(), key=lambda item: (-item[1], item[0]))[:SHOWN_RULES]
    if not most:
        return ""
    caption = "The rules that are most often a reason"
    drawn = charts.bars([(names.get(rule, rule), count) for rule, count in most], "customers", caption)
    return chart(drawn, "rule_hits", caption)


def _row(rule: Mapping[str, Any], hits: Mapping[str, int], rated: int) -> tuple[Any, ...]:
    count = hits.get(rule["rule_id"], 0)
    head = Html(f"{code(rule['rule_id'])}<br>{text(rule['name'])}")
    seen = (count, share(count, rated)) if rule["is_in_force"] else ("not in force", None)
    return (head, rule["version"], rule["rule_text"], rule["points"], rule["floor_tier"], *seen, rule["legal_reference"])


def _detail(rule: Mapping[str, Any]) -> tuple[Any, ...]:
    plain = ("rationale", "owner", "approved_by", "valid_from", "valid_to")
    return (code(rule["rule_id"]), rule["version"], code(rule["predicate"]), *(rule[name] for name in plain))


def _history(facts: Facts) -> list[tuple[Any, ...]]:
    tiers = [row["tier"] for row in facts.table("risk_tiers").dicts()]
    return [_version(one, tiers) for one in facts.rule_history]


def _version(one: RuleVersion, tiers: list[str]) -> tuple[Any, ...]:
    rank = one.floor_rank
    floor = tiers[rank - 1] if rank and rank <= len(tiers) else rank
    what = (code(one.rule_id), one.version, one.name, code(one.predicate), one.points, floor)
    return (*what, one.first_decided, one.last_decided, one.runs)
