"""The first page: what stands published, in numbers.

Belongs here: the page as text. Does not belong here: reading the store (`gathering`).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from orchestration.documentation import charts
from orchestration.documentation.controls import HELD, SHOWN, controls, verdict
from orchestration.documentation.facts import Facts
from orchestration.documentation.writing import chart, figure, share, table, text

SEGMENTS = ("segment", "cause at the gate", "customers", "share")
FEEDS = ("feed", "entity", "in file", "excluded", "kept", "duplicates", "quarantined")
BEFORE = ("run", "profile", "as of", "published (UTC)", "rows")


def page(facts: Facts) -> str:
    """Publication, segments, delivery."""
    what = facts.publication
    subjects = facts.table("subjects").value() or 0
    tiers = facts.table("tiers").dicts()
    rated = [(row["segment"], row["gate_reason"], row["customers"], share(row["customers"], subjects)) for row in tiers]
    return f"""# What is published

{figure(subjects, "subjects")} customers stand published for the profile **{text(what["profile"])}**, as of
{figure(f"{what['as_of']:%Y-%m-%d %H:%M}", "publication")} UTC. The run {figure(what["run_id"], "publication")} published them at
{figure(f"{what['published_at']:%Y-%m-%d %H:%M}", "publication")} UTC. {_checked(facts)}

Every number on these pages has a small link to the place that it comes from; there stands the question that was asked, so that
anybody with access may ask it again. No page names a person, and none holds a pseudonym.

## Risk segments

{_bars(tiers, "tiers", "Customers per risk segment")}
{table(SEGMENTS, rated, "tiers", "Risk segments")}

What the segments mean and which rules lead to them: [Rule register](rules.md).

## Audience segments

{_audiences(facts)}

What *default* means: [the lesson on it](lesson_5_default_segment.md). On what consent the others rest: [Consent](consent.md).

## What was delivered, and what became of it

Rows in the files = excluded + kept + duplicates + quarantined; nothing is lost between.

{table(FEEDS, facts.table("reconciliation").rows, "reconciliation", "Reconciliation of the delivery")}
{table(("feed", "cause", "rows"), facts.table("quarantine").rows, "quarantine", "Quarantine by cause")}

## Publications

{table(BEFORE, facts.table("publications").rows, "publications", "The last publications, this one first")}
{table(("relation", "rows"), facts.table("relations").rows, "relations", "Relations of the publication that stands")}
"""


def _checked(facts: Facts) -> str:
    """What the checks and controls say, in a sentence each."""
    verdicts = [verdict(control, facts.checks) for control in controls()]
    held = sum(one in (HELD, SHOWN) for one in verdicts)
    all_of_them = figure(len(verdicts), "controls")
    governed = f"Of {all_of_them} [controls](controls.md) {figure(held, 'controls')} hold or are shown by a command."
    if not facts.checks:
        return f"The results of its checks could not be read; see [Check results](checks.md). {governed}"
    failed = sum(not check.passed for check in facts.checks)
    return (
        f"{figure(len(facts.checks), 'checks')} checks ran with it, and {figure(failed, 'checks')} of them did not pass; "
        f"see [Check results](checks.md). {governed}"
    )


def _bars(rows: Iterable[Mapping[str, Any]], source: str, caption: str) -> str:
    total: Counter[str] = Counter()
    for row in rows:
        total[row["segment"]] += row["customers"]
    return chart(charts.bars(total.most_common(), "customers", caption), source, caption) if total else ""


def _audiences(facts: Facts) -> str:
    answer = facts.table("audiences")
    rows = answer.dicts()
    parts = []
    for family in sorted({row["segment_family"] for row in rows}):
        own = [row for row in rows if row["segment_family"] == family]
        parts.append(_bars(own, "audiences", f"Customers per audience segment, family {family}"))
    parts.append(table(("family", "segment", "cause at the gate", "customers"), answer.rows, "audiences", "Audience segments"))
    return "".join(parts)
