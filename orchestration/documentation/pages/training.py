"""The privacy training: short lessons with the run's own figures as worked examples.

The text of a lesson is Markdown in `lessons`, for people who teach and not for programmers; `{{ name }}` stands for a figure of
the run, with its source. Persons in a lesson are invented, always.

Belongs here: the figures and how they enter a lesson. Does not belong here: the lessons' words.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from orchestration.documentation.facts import Facts
from orchestration.documentation.pages.consent import defaults_chart
from orchestration.documentation.writing import figure, share, source_link, table, text

LESSONS = Path(__file__).parent.parent / "lessons"
PURPOSE = ("purpose", "legal_basis", "reads_signals", "legal_reference")
BY_CHILD = ("self_grant_without_capacity", "minor_protected", "parental_consent_missing", "parental_scope_insufficient")
_PLACE = re.compile(r"\{\{ (\w+) \}\}")


class UnknownFigure(KeyError):
    """A lesson names a figure that there is none of."""


def lessons() -> list[Path]:
    """The lessons in their order."""
    return sorted(LESSONS.glob("*.md"))


def lesson(path: Path, facts: Facts) -> str:
    """One lesson with its figures. Raises `UnknownFigure` for a name that means nothing."""
    return filled(path.read_text(encoding="utf-8"), facts)


def filled(words: str, facts: Facts) -> str:
    """A text with its figures."""

    def replaced(match: re.Match[str]) -> str:
        if match[1] not in FIGURES:
            raise UnknownFigure(match[1])
        return str(FIGURES[match[1]](facts))

    return _PLACE.sub(replaced, words)


def _gate_total(facts: Facts, matches: Callable[[dict[str, Any]], bool]) -> str:
    return figure(sum(row["customers"] for row in facts.table("gate").dicts() if matches(row)), "gate")


def _check(facts: Facts, key: str) -> str:
    found = [check for check in facts.checks if check.key == key]
    said = "not evaluated in this run" if not found else "passed" if found[0].passed else "FAILED"
    return figure(said, "checks")


def _verdict(facts: Facts) -> str:
    found = [one["verdict"] for one in facts.passports if one["relation"] == "published.risk_segments"]
    return figure(found[0] if found else "not on record", "passports")


def _default_share(facts: Facts) -> str:
    rows = facts.table("audiences").dicts()
    everybody = sum(row["customers"] for row in rows)
    return figure(share(sum(row["customers"] for row in rows if row["segment"] == "default"), everybody), "audiences")


def _top_rule(facts: Facts) -> dict[str, Any]:
    """The rule that is most often a reason, with its hits; a stand-in where no rule is."""
    hits = dict(facts.table("rule_hits").rows)
    rules = {rule["rule_id"]: rule for rule in facts.table("rules").dicts() if rule["is_in_force"]}
    known = [(count, name) for name, count in hits.items() if name in rules]
    if not known:
        nothing = dict.fromkeys(("name", "rule_text", "legal_reference"), "nothing is on record")
        return nothing | {"rule_id": "none", "points": None, "floor_tier": None, "hits": 0}
    count, name = max(known, key=lambda pair: (pair[0], pair[1]))
    return rules[name] | {"hits": count}


def _effect(facts: Facts) -> str:
    rule = _top_rule(facts)
    parts = [figure(f"{rule['points']} points", "rules")] if rule["points"] is not None else []
    parts += [f"the floor {figure(rule['floor_tier'], 'rules')}"] if rule["floor_tier"] else []
    return " and ".join(parts) or "neither points nor a floor"


def _tier_alone(facts: Facts) -> str:
    """The tier of somebody whose one reason is the top rule: by points, then lifted to its floor."""
    rule = _top_rule(facts)
    scale = facts.table("risk_tiers").dicts()
    order = [row["tier"] for row in scale]
    by_points = [row["tier"] for row in scale if row["min_points"] is not None and row["min_points"] <= (rule["points"] or 0)]
    reached = [order.index(tier) for tier in (*by_points[-1:], rule["floor_tier"]) if tier in order]
    return text(order[max(reached)] if reached else "unknown")


def _of_consent(row: dict[str, Any]) -> bool:
    return row["legal_basis"] == "consent"


FIGURES: dict[str, Callable[[Facts], str]] = {
    "profile": lambda facts: text(facts.publication["profile"]),
    "subjects": lambda facts: figure(facts.table("subjects").value() or 0, "subjects"),
    "verdict": _verdict,
    "reconciliation": lambda facts: table(
        ("feed", "entity", "in file", "excluded", "kept", "duplicates", "quarantined"),
        facts.table("reconciliation").rows, "reconciliation", "From the file to the store",
    ),
    "purposes": lambda facts: table(
        ("purpose", "legal basis", "reads signals", "reference"),
        [tuple(row[name] for name in PURPOSE) for row in facts.table("purposes").dicts()],
        "purposes", "Purposes of the profile",
    ),
    "gate": lambda facts: table(
        ("purpose", "outcome", "cause", "legal basis", "customers"), facts.table("gate").rows, "gate", "Answers of the gate"
    ),
    "consent_allowed": lambda facts: _gate_total(facts, lambda row: _of_consent(row) and row["gate_outcome"] == "ALLOW"),
    "consent_silent": lambda facts: _gate_total(
        facts, lambda row: _of_consent(row) and row["gate_reason"] == "no_consent_on_record"
    ),
    "ages": lambda facts: table(("jurisdiction", "age band", "customers"), facts.table("ages").rows, "ages", "Age bands"),
    "child_refusals": lambda facts: _gate_total(facts, lambda row: row["gate_reason"] in BY_CHILD),
    "minor_check": lambda facts: _check(facts, "consent.gate: no_minor_is_sold_or_shared"),
    "gpc": lambda facts: _gate_total(facts, lambda row: row["gate_reason"] == "gpc_signal"),
    "requests": lambda facts: _gate_total(facts, lambda row: str(row["gate_reason"]).startswith("privacy_request")),
    "opt_outs": lambda facts: figure(facts.table("opt_outs").value() or 0, "opt_outs"),
    "canary": lambda facts: _check(facts, "candidate.audience_segments: opted_out_canary_is_in_no_named_segment"),
    "retention": lambda facts: table(
        ("relation", "rules", "rows", "due", "held", "removed"), facts.table("retention").rows, "retention", "Retention"
    ),
    "defaults_chart": defaults_chart,
    "defaults": lambda facts: table(
        ("family", "cause", "customers"), facts.table("defaults").rows, "defaults", "Causes of the default segment"
    ),
    "default_share": _default_share,
    "tiers": lambda facts: table(
        ("tier", "from points", "reviewed after months"), facts.table("risk_tiers").rows, "risk_tiers", "From points to a tier"
    ),
    "top_rule": lambda facts: figure(_top_rule(facts)["rule_id"], "rule_hits"),
    "top_rule_name": lambda facts: text(_top_rule(facts)["name"]),
    "top_rule_hits": lambda facts: figure(_top_rule(facts)["hits"], "rule_hits"),
    "top_rule_share": lambda facts: figure(share(_top_rule(facts)["hits"], facts.table("rated").value() or 0), "rule_hits"),
    "top_rule_effect": _effect,
    "top_rule_tier": _tier_alone,
    "top_rule_text": lambda facts: f"{text(_top_rule(facts)['rule_text'])} {source_link('rules')}",
    "top_rule_reference": lambda facts: text(_top_rule(facts)["legal_reference"]),
}  # fmt: skip
