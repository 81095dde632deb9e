"""Clusters: each with its size and what stands out, or why there are none.

Belongs here: the page as text. Does not belong here: fitting, naming (`orchestration.clustering`).
"""

from orchestration.documentation.facts import Facts
from orchestration.documentation.writing import code, source_link, table, text

HEADINGS = ("cluster", "approved name", "what stands out", "people at the fit", "people now", "far from the centre")
COLUMNS = ("cluster_id", "cluster_name", "profile", "fitted_count", "subject_count", "outlier_count")


def page(facts: Facts) -> str:
    """State and clusters."""
    found = facts.table("clusters").dicts()
    first = found[0] if found else {}
    said = f"State of the clustering: {text(first.get('state') or 'unknown')} {source_link('clusters')}."
    if first.get("state_reason"):
        said += f" {text(first['state_reason'])}."
    if first.get("state") != "current":
        return f"# Clusters\n\n{said}\n\nNobody is in a cluster. A fit is made with `segline clusters fit`.\n"
    rows = [tuple(row[name] for name in COLUMNS) for row in found]
    return f"""# Clusters

{said} Version {code(first["clustering_version"])}, fitted as of {text(first["fitted_as_of"])} UTC.

Groups of alike customers, made of marketing data of people whom the gate allows. Nothing of the compliance side is in them. A
name is approved by a second person; a count below ten is left out.

{table(HEADINGS, rows, "clusters", "Marketing clusters")}
"""
