"""Consent in this run: what stood on record, what the gate answered, why people are in the default segment.

Belongs here: the page as text. Does not belong here: deciding (dbt's models).
"""

from orchestration.documentation import charts
from orchestration.documentation.facts import Facts
from orchestration.documentation.writing import chart, figure, table

STATES = ("granted", "denied", "withdrawn", "expired", "unknown", "not_applicable")


def page(facts: Facts) -> str:
    """States, answers, causes."""
    opt_outs = facts.table("opt_outs")
    longest = opt_outs.value("longest_seconds") if opt_outs.rows else None
    slowest = f", the slowest within {figure(longest, 'opt_outs')} seconds of its arrival" if longest is not None else ""
    names = ("consent_states", "gate", "defaults", "excluded")
    states, gate, defaults, excluded = (facts.table(name).rows for name in names)
    return f"""# Consent

One row of the gate per customer and purpose says what may be done, and why. Customers with several purposes are counted once
for each. The figures are those of the gate as the last run built it, for the people who stand published.

## What stood on record

{states_chart(facts)}
{table(("purpose", "state", "customers"), states, "consent_states", "States per purpose")}

*not_applicable*: the purpose rests on law or legitimate interest and reads no signal. *unknown*: nothing counts as said, so there
is no grant.

## What the gate answered

{table(("purpose", "outcome", "cause", "legal basis", "customers"), gate, "gate", "Answers of the gate")}

## Why people are in the default segment

{defaults_chart(facts)}
{table(("family", "cause", "customers"), defaults, "defaults", "Causes of the default segment")}
{table(("zone", "purpose", "cause", "people"), excluded, "excluded", "Blocked people, counted, in no published relation")}

## Opt-outs between runs

{figure(opt_outs.value("opt_outs") or 0, "opt_outs")} were put into force so far{slowest}. How fast each was:
`segline records opt-out-times`.
"""


def states_chart(facts: Facts) -> str:
    """People by state, one bar per purpose."""
    rows = facts.table("consent_states").dicts()
    if not rows:
        return ""
    present = [state for state in STATES if any(row["consent_status"] == state for row in rows)]
    present += sorted({row["consent_status"] for row in rows} - set(present))
    bars = [{"name": row["purpose"], "part": row["consent_status"], "value": row["customers"]} for row in rows]
    caption = "State of consent per purpose"
    return chart(charts.stacked(bars, present, "customers", caption), "consent_states", caption)


def defaults_chart(facts: Facts) -> str:
    """Causes of the default segment, by family and cause."""
    rows = facts.table("defaults").dicts()
    if not rows:
        return ""
    caption = "Causes of the default segment"
    bars = [(f"{row['segment_family']}: {row['gate_reason']}", row["customers"]) for row in rows]
    return chart(charts.bars(bars, "customers", caption), "defaults", caption)
