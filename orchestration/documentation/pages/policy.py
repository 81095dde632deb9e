"""The consent policy as it decided: purposes, packs, versions, and one decision table per purpose.

Belongs here: the page as text. Does not belong here: the policy (dbt's seeds).
"""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from orchestration.documentation.facts import Facts
from orchestration.documentation.writing import Html, cell, figure, folded, table, text

SIGNALS = ("granted", "granted+gpc_on", "parental", "parental+disclosure", "unknown", "denied", "withdrawn", "expired", "gpc_on")
AGES = ("<13", "13-15", "16-17", "18+", "unknown")
LETTERS = {"H": "high", "M": "medium", "L": "low"}
PURPOSES = ("purpose", "role", "mode", "legal basis", "reads signals", "reads GPC", "explicit grant", "reference", "note")
VERSIONS = ("version", "valid from", "signed by", "change", "fingerprint")
IN_FORCE = "Laws in force for the profile: a cell allows nothing unless one of them answers for it"
Place = tuple[str, str]
Cells = dict[Place, dict[str, Mapping[str, Any]]]


def page(facts: Facts) -> str:
    """Who may use what for what."""
    purposes, versions = facts.table("purposes"), facts.table("policy_versions")
    return f"""# Policy tables

Which use of whose data is allowed is decided by a table, not by a program: jurisdiction, age band, purpose and signal in, outcome
out. {_signed(facts)}

- **ALLOW**: the purpose may be pursued. **DEFAULT**: the default segment. **HUMAN**: no solely automated decision.
  **BLOCK**: neither hold nor process. **COND**, **STATE**: depends on something that the platform does not know, and so allows
  nothing.
- **strict**: opt-in everywhere, minors protected up to 18. **statutory**: what the cited law is believed to allow. Where the two
  differ, a cell shows both, strict first.

## Purposes of the profile

{table(PURPOSES, purposes.rows, "purposes", "Purposes")}
{table(("law", "in force", "note"), facts.table("packs").rows, "packs", IN_FORCE)}
{table(VERSIONS, versions.rows, "policy_versions", "Versions of the policy")}

## Decision tables

{_decisions(facts)}
"""


def _signed(facts: Facts) -> str:
    versions = facts.table("policy_versions").dicts()
    unsigned = [one for one in versions if not one["signed_by"]]
    if not unsigned:
        return "Every version is signed."
    counted = f"{figure(len(unsigned), 'policy_versions')} of {figure(len(versions), 'policy_versions')}"
    warning = "The policy that ships is engineering material: a lawyer signs it before use."
    return f"**{counted} versions are signed by nobody.** {warning}"


def _decisions(facts: Facts) -> str:
    purposes: dict[str, Cells] = defaultdict(lambda: defaultdict(dict))
    for row in facts.table("policy").dicts():
        purposes[row["purpose"]][(row["jurisdiction"], row["age_band"])][row["signal"]] = row
    modes = {row["purpose"]: row["mode"] for row in facts.table("purposes").dicts()}
    parts = []
    for purpose, cells in sorted(purposes.items()):
        places = sorted(cells, key=_order)
        outcomes = [(*place, *(_outcome(cells[place].get(signal)) for signal in SIGNALS)) for place in places]
        laws = [(*place, _law(cells[place])) for place in places]
        parts += [
            f"\n### {text(purpose)}\n\nDecided by the mode **{text(modes.get(purpose, 'unknown'))}**.\n",
            table(("jurisdiction", "age", *SIGNALS), outcomes, "policy", f"What each signal leads to for {purpose}"),
            folded(
                "The law behind the cells, and how confident the reading is",
                table(("jurisdiction", "age", "reference and confidence"), laws, "policy", f"References for {purpose}"),
            ),
        ]
    return "".join(parts) or "No decision table is on record."


def _order(place: Place) -> tuple[str, int]:
    return place[0], AGES.index(place[1]) if place[1] in AGES else len(AGES)


def _outcome(row: Mapping[str, Any] | None) -> Html:
    if row is None:
        return cell(None)
    both = [row["strict"]] if row["strict"] == row["statutory"] else [row["strict"], row["statutory"]]
    return Html(" / ".join(f'<span class="outcome {cell(one).lower()}">{cell(one)}</span>' for one in both))


def _law(row: Mapping[str, Mapping[str, Any]]) -> str:
    said = dict.fromkeys((one["reference"], one["confidence"]) for one in row.values())
    return "; ".join(f"{reference} ({LETTERS.get(confidence, confidence)})" for reference, confidence in said)
