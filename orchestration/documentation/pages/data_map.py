"""The data map: every column with category, purposes, basis, recipients, period and use.

Belongs here: the page as text. Does not belong here: making the map (`orchestration.lineage.data_map`).
"""

from collections import defaultdict

from orchestration.documentation.facts import Facts
from orchestration.documentation.writing import Html, cell, code, figure, folded, table, text
from orchestration.lineage.data_map import Entry

HEADINGS = ("column", "category", "what it is", "source", "purposes", "basis", "recipients", "kept", "used in")


def page(facts: Facts) -> str:
    """One folded table per relation."""
    found = facts.data_map
    if found is None:
        return f"# Data map\n\nIt could not be made: {text(facts.missing.get('data_map', 'it was not gathered'))}.\n"
    relations: dict[str, list[Entry]] = defaultdict(list)
    for entry in found.entries:
        relations[entry.relation].append(entry)
    measures = "\n".join(f"- {text(name)}: {text(what)}" for name, what in found.controls.items())
    shown = "".join(
        folded(
            f"{relation} ({len(entries)} columns)",
            table(HEADINGS, [_row(entry) for entry in entries], "data_map", f"{relation}"),
        )
        for relation, entries in relations.items()
    )
    return f"""# Data map

The record of processing activities (GDPR art. 30) for the profile {text(found.profile)}:
{figure(len(found.entries), "data_map")} columns of {figure(len(relations), "data_map")} relations. Nothing is written down for
it a second time: it is made from the contracts, the models, the policy and the lineage of the SQL that ran, and a column
without an entry stops the publication.

{measures}

Purposes and their bases: [Policy tables](policy.md). Open a relation for its columns.

## Relations

{shown}
"""


def _row(entry: Entry) -> tuple:
    lists = (entry.source, entry.purposes, entry.bases, entry.recipients, entry.retention, entry.segments)
    return (code(entry.column), entry.category or "", entry.description, *(Html("<br>".join(map(cell, one))) for one in lists))
