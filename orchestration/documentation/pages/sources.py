"""Where every figure comes from: the target of all source links.

Belongs here: the page as text. Does not belong here: the list (`orchestration.documentation.sources`).
"""

from orchestration.documentation.facts import Facts
from orchestration.documentation.sources import all_sources
from orchestration.documentation.writing import block, cell, text


def page(facts: Facts) -> str:
    """One entry per source, with the question as it was asked."""
    entries = []
    for source in all_sources().values():
        answer = facts.tables.get(source.name)
        seen = f"<p>Rows in answer: {cell(len(answer.rows))}</p>" if answer else ""
        why = facts.missing.get(source.name)
        lost = f"<p><strong>Not read:</strong> {cell(why)}</p>" if why else ""
        head = f"<h2>{cell(source.name)}</h2><p>{cell(source.what)}</p>"
        entries.append(f'<section id="{source.name}" class="origin">{head}{block(source.how)}{seen}{lost}</section>')
    what = facts.publication
    return f"""# Sources

Each figure of this site leads here. A query can be asked again with `segline query "..."` while the publication of run
{text(what["run_id"])} stands; a command can be given again; a record can be looked up. Questions about the ledger are logged
when somebody asks them.

{"".join(chr(10) + chr(10) + entry + chr(10) for entry in entries)}
"""
