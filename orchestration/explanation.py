"""Why a customer is where he is: what an auditor asks first.

Belongs here: gathering one subject's published decision, the rules behind it, consent and sources. Does not belong here:
deciding anything; every line is read from what the publication and its run recorded.
"""

from datetime import datetime
from typing import Any

import duckdb
from rich.console import Console
from rich.table import Table
from rich.text import Text

from orchestration.identity.keys import load_keys
from orchestration.identity.pseudonyms import token
from orchestration.ingestion.errors import SourceError
from orchestration.lake import literal, open_lake, table_exists
from orchestration.publication import last_publication
from orchestration.settings import Settings


def explain_customer(settings: Settings, customer: str) -> dict[str, Any]:
    """Everything that stands behind one customer's published segments, as plain values.

    Raises `SourceError` if nothing is published or the customer is not in the book.
    """
    with open_lake(settings, read_only=True) as connection:
        publication = last_publication(connection)
        if publication is None:
            raise SourceError("nothing_published", "there is no publication yet", "run `segline run` first")
        keys = load_keys(settings)
        raw, risk, audience = (token(keys, zone, customer) for zone in ("raw", "risk", "audience"))
        known = _rows(connection, f"select feed, load_id from lake.raw.customers where subject_token = {literal(raw)}")
        if not known:
            raise SourceError(
                "unknown_customer",
                "no customer of that identifier was taken in",
                "write it as the source system does; look into ops.quarantine if it was delivered",
            )
        segment = _rows(connection, f"select * from lake.published.risk_segments where subject_token = {literal(risk)}")
        codes = [code for code in (segment[0]["reason_codes"] or "").split(",") if code] if segment else []
        return {
            "customer": customer,
            "publication": dict(zip(("run_id", "profile", "as_of", "published_at"), publication, strict=True)),
            "risk_segment": segment[0] if segment else None,
            "risk_score": _score(connection, risk),
            "rules_fired": _rules(connection, codes, publication[2]),
            "audience_segments": _rows(
                connection,
                f"select * from lake.published.audience_segments where subject_token = {literal(audience)} order by 2",
            ),
            "gate": _rows(
                connection,
                "select purpose, gate_outcome, gate_reason, consent_status, consent_event_id, legal_basis, legal_reference, "
                f"policy_version from lake.consent.gate where subject_token = {literal(raw)} order by purpose",
            ),
            "sources": _sources(connection, known[0]["load_id"]),
        }


def _rules(connection: duckdb.DuckDBPyConnection, codes: list[str], as_of: datetime) -> list[dict[str, Any]]:
    """The rules as they were in force: a rule has one version per point in time."""
    if not codes:
        return []
    wanted = ", ".join(literal(code) for code in codes)
    day = f"date {literal(as_of.date())}"
    return _rows(
        connection,
        f"select * from lake.published.risk_rules where rule_id in ({wanted}) and valid_from <= {day} "
        f"and (valid_to is null or valid_to > {day}) order by rule_id",
    )


def _score(connection: duckdb.DuckDBPyConnection, subject: str) -> dict[str, Any] | None:
    """The published score with its points by family, if a model scored."""
    if not table_exists(connection, "published", "risk_scores"):
        return None
    found = _rows(connection, f"select * from lake.published.risk_scores where subject_token = {literal(subject)}")
    return found[0] if found else None


def _sources(connection: duckdb.DuckDBPyConnection, load_id: str) -> list[dict[str, Any]]:
    if not table_exists(connection, "ops", "loads"):
        return []
    return _rows(
        connection,
        "select entity, feed, file, sha256, modified_at, loaded_at from lake.ops.loads "
        f"where run_id = {literal(load_id)} order by entity, feed, file",
    )


def _rows(connection: duckdb.DuckDBPyConnection, sql: str) -> list[dict[str, Any]]:
    cursor = connection.execute(sql)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def write_text(explanation: dict[str, Any], console: Console) -> None:
    """The explanation for people."""
    publication, segment = explanation["publication"], explanation["risk_segment"]
    console.print(
        f"Published {publication['published_at']:%Y-%m-%d %H:%M} UTC for profile {publication['profile']}, "
        f"as of {publication['as_of']:%Y-%m-%d %H:%M} UTC (run {publication['run_id']})",
        highlight=False,
    )
    if segment is None:
        console.print("\nRisk: in no published segment; the policy forbids to hold this subject's data (see the gate).")
    elif segment["tier"] is None:
        console.print(f"\nRisk: default segment. Cause: {segment['gate_reason']}.", highlight=False)
    else:
        console.print(
            f"\nRisk tier: {segment['tier']} with {segment['points']} points; rule set {segment['rule_set_version']}; "
            f"review due {segment['review_due_date']}",
            highlight=False,
        )
        console.print(f"Basis: {segment['legal_basis']} ({segment['legal_reference']})", highlight=False)
        _write_score(console, segment, explanation["risk_score"])
    _table(
        console,
        "Rules that fired",
        explanation["rules_fired"],
        ["rule_id", "version", "factor", "points", "floor_tier", "rule_text", "legal_reference"],
    )
    if segment is not None and segment["tier"] is not None and not explanation["rules_fired"]:
        console.print("No rule fired.\n")
    _table(
        console,
        "Consent gate",
        explanation["gate"],
        ["purpose", "gate_outcome", "gate_reason", "consent_status", "consent_event_id", "legal_basis"],
    )
    console.print(f"Policy: {', '.join(sorted({row['policy_version'] for row in explanation['gate']}))}", highlight=False)
    _table(console, "Audience segments", explanation["audience_segments"], ["segment_family", "segment", "gate_reason"])
    _table(console, "Sources", explanation["sources"], ["entity", "feed", "file", "loaded_at", "sha256"])


def _write_score(console: Console, segment: dict[str, Any], score: dict[str, Any] | None) -> None:
    """What the model said, and whether it raised the tier; or why no model spoke."""
    if score is None:
        console.print(f"Score: none; model status: {segment.get('model_status')}. The rules stand alone.", highlight=False)
        return
    raised = f"raised the rules' tier {segment['rules_tier']}" if segment["tier"] != segment["rules_tier"] else "raised nothing"
    families = {name[:-7]: value for name, value in score.items() if name.endswith("_points") and name != "base_points"}
    parts = ", ".join(f"{name} {value:+.2f}" for name, value in sorted(families.items(), key=lambda item: -item[1]))
    console.print(
        f"Score: {score['score']:+.2f} log-odds (probability {score['probability']:.2%}), asks for {score['score_tier']}, "
        f"{raised}; model {score['model_version']}\n       = base {score['base_points']:+.2f}, {parts}",
        highlight=False,
    )


def _table(console: Console, title: str, rows: list[dict[str, Any]], columns: list[str]) -> None:
    if not rows:
        return
    table = Table(title=title, title_justify="left", show_edge=False, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        cells = {column: "" if row[column] is None else str(row[column]) for column in columns}
        table.add_row(*(Text(cell[:12] + "…" if column == "sha256" else cell) for column, cell in cells.items()))
    console.print()
    console.print(table)
