"""Where every figure comes from: the queries, and what is read from files and from Dagster's record.

Belongs here: the list of sources by name. Does not belong here: reading them (`gathering`).
"""

from orchestration.documentation.facts import Source
from orchestration.documentation.queries import QUERIES

OTHERS = (
    Source(
        "checks",
        "Results of the checks of the run that published, as Dagster recorded them when they ran.",
        "segline ui          # Runs, then this run, then its checks",
        "record",
    ),
    Source(
        "rule_history",
        "Every version of a rule that ever decided: read from the SQL that the ledger keeps for each run (its bundles).",
        "select statement from ops.ledger_statements where kind = 'run';  -- names the bundle of each run\n"
        "select document from ops.ledger_bundles;                         -- names the SQL of risk.risk_ratings\n"
        "select content from ops.ledger_parts;                            -- the SQL itself",
        "ledger",
    ),
    Source(
        "data_map",
        "The record of processing (GDPR art. 30), made from contracts, models, policy and the lineage of the SQL that ran.",
        "segline records data-map --format json",
        "command",
    ),
    Source(
        "passports",
        "What the lineage proof found for each published relation, from the SQL that the run executed.",
        "segline lineage passport RELATION\nsegline lineage prove",
        "command",
    ),
    Source("cards", "Cards of the registered models, as they were made with the model.", "segline model list", "command"),
    Source(
        "controls",
        "Controls and the articles that ask for them: an engineer's reading, which a lawyer has to confirm.",
        "orchestration/documentation/controls.yml",
        "file",
    ),
    Source("glossary", "The words of the platform.", "orchestration/documentation/glossary.yml", "file"),
)


def all_sources() -> dict[str, Source]:
    """Every source by name."""
    queries = [Source(query.name, query.what, query.sql) for query in QUERIES]
    return {source.name: source for source in (*queries, *OTHERS)}
