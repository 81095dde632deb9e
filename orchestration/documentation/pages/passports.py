"""Lineage passports: per published relation, whence it comes, by what right, and what was proven of it.

Belongs here: the page as text. Does not belong here: proving (`orchestration.lineage`).
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from orchestration.documentation.facts import Facts
from orchestration.documentation.writing import Html, cell, code, figure, folded, source_link, table, text

MOST_SOURCES = 12
ARROW = " \N{RIGHTWARDS ARROW} "


def page(facts: Facts) -> str:
    """One section per published relation."""
    if not facts.passports:
        why = facts.missing.get("passports", "the run kept none")
        return f"# Lineage passports\n\nThere are none: {text(why)}. {source_link('passports')}\n"
    proven = sum(one["verdict"] == "proven" for one in facts.passports)
    return f"""# Lineage passports

{figure(proven, "passports")} of {figure(len(facts.passports), "passports")} published relations are proven: no row and no
value of them depends on a person whom the gate did not let through for the purpose. The proof reads the SQL that the run
executed, not the data.

{"".join(map(_section, facts.passports))}
"""


def _section(one: Mapping[str, Any]) -> str:
    gate = one["gate"]
    violations = "".join(f"\n- {text(violation)}" for violation in one["violations"]) or " none"
    waivers = [(row["violation"], row["reviewer"], row["reason"], row["expires"]) for row in one["waivers"]]
    purposes = [(row["purpose"], row["mode"], row["legal_basis"], row["legal_reference"]) for row in one["purposes"]]
    deciding: dict[str, list[str]] = defaultdict(list)
    for origin in one["rows_depend_on"]:
        deciding[origin["relation"]].append(f"{origin['column']} ({origin['how']})")
    parts = [
        f"\n## {text(one['relation'])}\n\n**{text(one['verdict'])}** {source_link('passports')} {text(one['description'])}\n\n"
        f"- Gate: {code(gate['relation'])}; {text(gate['condition'])}\n"
        f"- Passed at: {text(', '.join(gate['read_by']) or 'nowhere, no person is in it')}\n"
        f"- The gate rests on: {text(', '.join(one['gate_rests_on']))}\n"
        f"- Way: {text(ARROW.join(one['way']))}\n"
        f"- Checks on it: {text(', '.join(one['checks']) or 'none of its own')}\n\nViolations:{violations}\n",
        table(("violation", "reviewer", "reason", "expires"), waivers, "passports", "Waivers") if waivers else "",
        table(("purpose", "mode", "legal basis", "reference"), purposes, "passports", "Purposes"),
        table(("relation", "kind", "what it holds"), [tuple(row.values()) for row in one["sources"]], "passports", "Sources"),
        folded("Columns, and the source columns that their values are made of", _columns(one)),
        folded(
            "What decides which rows there are",
            table(("relation", "columns"), [(code(k), ", ".join(v)) for k, v in sorted(deciding.items())], "passports", "Rows"),
        ),
    ]
    return "".join(parts)


def _columns(one: Mapping[str, Any]) -> str:
    rows = [(code(column["name"]), column["category"], _from(column["from"])) for column in one["columns"]]
    return table(("column", "category", "made of"), rows, "passports", "Columns")


def _from(names: list[str]) -> Html:
    more = len(names) - MOST_SOURCES
    kept = [*names[:MOST_SOURCES], f"and {more} more"] if more > 0 else names
    return Html("<br>".join(map(cell, kept)))
