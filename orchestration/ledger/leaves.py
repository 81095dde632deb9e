"""What a leaf of the ledger is, byte for byte. `docs/ledger.md` says the same for outsiders.

A leaf's hash is SHA-256(0x00 || nonce || text): 16 random bytes and a JSON object in UTF-8 without blanks, its keys in
alphabetical order, none missing, absent values null. Two kinds of leaf: a *decision* about one subject, whose columns lie in
`ops.decision_payloads` and whose text is built from them here, in SQL; a *statement* about a run, an erasure or a change of the
signing key, which names nobody and lies as text in `ops.ledger_statements`. Whole numbers are numbers; scores are decimal text,
times are text like 2026-11-01T00:00:00.000000Z, so that no two engines write them differently.

Belongs here: columns, text, bytes. Does not belong here: which decisions there are (`entry`), hashing them (`hashing`).
"""

FORM = 1
STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"  # how times are written, in Python and in SQL
NONCE_BYTES = 16
DECISION, RUN, ERASURE, KEY = "decision", "run", "erasure", "key"
DEPARTED = "departed"  # the segment of a subject that is in the book no more
EXCLUDED = "excluded"  # the segment of a subject whom the gate blocks

# Column and type in `ops.decision_payloads`, in the order of the leaf's text. A new column needs a new form.
DECISION_COLUMNS = {
    "as_of": "timestamp",
    "bundle_sha256": "varchar",
    "consent_event_id": "varchar",
    "consent_status": "varchar",
    "decided_at": "timestamp",
    "family": "varchar",
    "gate_outcome": "varchar",
    "gate_reason": "varchar",
    "input_sha256": "varchar",
    "leaf_index": "bigint",
    "legal_basis": "varchar",
    "legal_reference": "varchar",
    "model_version": "varchar",
    "points": "integer",
    "policy_version": "varchar",
    "previous_leaf": "bigint",
    "previous_segment": "varchar",
    "profile": "varchar",
    "reason_codes": "varchar",
    "rule_set_version": "varchar",
    "run_id": "varchar",
    "score": "decimal(18, 6)",
    "segment": "varchar",
    "subject_token": "varchar",
}
# What the gate says for itself, of whom it lets through and whom not.
EVIDENCE = (
    "consent_event_id",
    "consent_status",
    "legal_basis",
    "legal_reference",
    "policy_version",
    "gate_outcome",
    "gate_reason",
)
# What makes a decision another one. Not the inputs: a tenure grows by a day every day, and decides nothing by itself.
DECIDED = (
    "segment",
    "points",
    "score",
    "reason_codes",
    "rule_set_version",
    "model_version",
    *EVIDENCE,
    "profile",
)


def decision_text(relation: str) -> str:
    """SQL expression for the text of a decision's leaf, over a relation with `DECISION_COLUMNS`.

    Written field by field: a function of one column is computed once per word of a stored column's dictionary, which makes
    this half as much work as an object of all of them. By `concat`, since `||` copies what stands to its left at each step.
    """
    fields: dict[str, str] = {"form": f"'{FORM}'", "kind": f"'\"{DECISION}\"'"}
    for name, kind in DECISION_COLUMNS.items():
        column = f"{relation}.{name}"
        if kind == "timestamp":
            column = f"strftime({column}, '{STAMP}')"
        elif kind.startswith("decimal"):
            column = f"cast({column} as varchar)"
        fields[name] = f"coalesce(cast(to_json({column}) as varchar), 'null')"
    pairs = ", ',', ".join(f"""'"{name}":', {fields[name]}""" for name in sorted(fields))
    return f"concat('{{', {pairs}, '}}')"


def leaf_bytes(nonce: str, text: str) -> str:
    """SQL expression for what is hashed of a leaf (blob), from expressions for its nonce (blob) and text; null without a nonce.

    `||`, not `concat`: DuckDB's `concat` of blobs is text, in which a zero byte is four characters.
    """
    return f"'\\x00'::blob || {nonce} || encode({text})"


def delta_of(relation: str) -> str:
    """SQL expression: what a decision does to the number of subjects standing: 1 comes, 0 stays, -1 goes."""
    return (
        f"case when {relation}.segment = '{DEPARTED}' then -1 "
        f"when {relation}.previous_leaf is null or {relation}.previous_segment = '{DEPARTED}' then 1 else 0 end"
    )
