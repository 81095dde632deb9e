"""What a caller is told: one subject's decision with its reasons and its basis, one side of the wall at a time.

Belongs here: the form of an answer. Does not belong here: deciding (`service`, `evaluating`).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.online.evaluating import Evaluation, Row
from orchestration.online.generation import Generation

_BASIS = ("gate_outcome", "gate_reason", "consent_status", "consent_event_id", "legal_basis", "legal_reference", "policy_version")


def risk_answer(generation: Generation, evaluation: Evaluation | None, token: str) -> dict[str, Any] | None:
    """The risk side of one subject; `None` where no decision stands: unknown, or blocked by the policy."""
    rows = _standing(generation, evaluation, "risk_segments", token)
    if not rows:
        return None
    row = rows[0]
    scores = _standing(generation, evaluation, "risk_scores", token)
    score = scores[0] if scores else {}
    codes = [code for code in (row["reason_codes"] or "").split(",") if code]
    return {
        "segment": row["segment"],
        "tier": row["tier"],
        "rules_tier": row["rules_tier"],
        "points": row["points"],
        "reasons": [_reason(generation.published.rules, code) for code in codes],
        "score": _score(row, score),
        "rule_set_version": row["rule_set_version"],
        "review_due_date": row["review_due_date"],
        "basis": {name: row[name] for name in _BASIS},
        "as_of": row["as_of"],
    }


def audience_answer(generation: Generation, evaluation: Evaluation | None, token: str) -> list[dict[str, Any]] | None:
    """The audience side of one subject, one entry per family; `None` where nothing stands."""
    rows = _standing(generation, evaluation, "audience_segments", token)
    if not rows:
        return None
    return [
        {"family": row["segment_family"], "segment": row["segment"], "purpose": row["purpose"],
         "basis": {name: row[name] for name in _BASIS}, "as_of": row["as_of"]}
        for row in sorted(rows, key=lambda row: row["segment_family"])
    ]  # fmt: skip


def _standing(generation: Generation, evaluation: Evaluation | None, relation: str, token: str) -> Sequence[Row]:
    return evaluation.of(relation, token) if evaluation else generation.published.of(relation, token)


def _reason(rules: Mapping[str, Row], code: str) -> dict[str, Any]:
    rule = rules.get(code, {})
    own = {name: rule.get(name) for name in ("factor", "points", "floor_tier")}
    return {"code": code, **own, "text": rule.get("rule_text"), "reference": rule.get("legal_reference")}


def _score(row: Row, score: Row) -> dict[str, Any]:
    """What the model said, or why none did: the rules stand alone then."""
    families = {
        name.removesuffix("_points"): value for name, value in score.items() if name.endswith("_points") and name != "base_points"
    }
    return {
        "model_status": row["model_status"],
        "model_version": row["model_version"],
        "tier": row["score_tier"],
        "log_odds": score.get("score"),
        "probability": score.get("probability"),
        "base_points": score.get("base_points"),
        "family_points": families or None,
        "reasons": [name for name in (row["score_reasons"] or "").split(",") if name],
    }
