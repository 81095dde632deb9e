"""The ZEN engine on the same rules: what a portable decision engine does with them on this machine, in this process.

Each rule of the publication is one row of a decision table that collects what fires; its predicate is translated by its syntax,
so the table says what the SQL says. Its input is a person's features, ready made, which is what such an engine is given.

Belongs here: the translation and the measurement. Does not belong here: our own side (`online`).
https://docs.gorules.io/reference/zen-expression
"""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlglot
from sqlglot import exp

SECONDS = 3.0


def expression(predicate: str) -> str:
    """A rule's SQL predicate in ZEN's language. Raises `ValueError` for what it has no word for."""
    return _said(sqlglot.parse_one(predicate, read="duckdb"))


def _said(node: exp.Expression) -> str:
    signs: dict[type[exp.Expression], str] = {
        exp.And: "and", exp.Or: "or", exp.EQ: "==", exp.NEQ: "!=", exp.GT: ">", exp.GTE: ">=", exp.LT: "<", exp.LTE: "<=",
        exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/",
    }  # fmt: skip
    if type(node) in signs:
        left, right = _said(node.this), _said(node.expression)
        made = f"({left} {signs[type(node)]} {right})"
        # In SQL a comparison with nothing is not true; ZEN would count nothing as less than a number.
        unknown = {left, right} & {column.name for column in node.find_all(exp.Column)}
        ordered = isinstance(node, (exp.GT, exp.GTE, exp.LT, exp.LTE))
        return "(" + " and ".join([*(f"{name} != null" for name in sorted(unknown)), made]) + ")" if ordered else made
    match node:
        case exp.Column():
            return node.name
        case exp.Literal():
            return json.dumps(node.this) if node.is_string else node.this
        case exp.Paren():
            return _said(node.this)
        case exp.Is() if isinstance(node.expression, exp.Null):
            return f"({_said(node.this)} == null)"
        case exp.In():
            return f"({_said(node.this)} in [{', '.join(_said(one) for one in node.expressions)}])"
        case exp.Least():
            return f"min([{', '.join(_said(one) for one in (node.this, *node.expressions))}])"
    raise ValueError(f"no word for {type(node).__name__}")


def table_of(rules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A decision graph of one table: a row per rule, its code as the output, all that fire collected."""
    columns = {"inputs": [{"id": "holds", "name": "holds"}], "outputs": [{"id": "code", "name": "code", "field": "code"}]}
    rows = []
    for place, rule in enumerate(rules):
        said = expression(rule["predicate"])
        bare = sqlglot.parse_one(rule["predicate"], read="duckdb")
        said = f"{said} == true" if isinstance(bare, exp.Column) else said
        rows.append({"_id": str(place), "holds": said, "code": json.dumps(rule["rule_id"])})
    content = {"hitPolicy": "collect", **columns, "rules": rows}
    nodes = [
        {"id": "in", "type": "inputNode", "name": "in"},
        {"id": "rules", "type": "decisionTableNode", "name": "rules", "content": content},
        {"id": "out", "type": "outputNode", "name": "out"},
    ]
    edges = [{"id": "1", "sourceId": "in", "targetId": "rules"}, {"id": "2", "sourceId": "rules", "targetId": "out"}]
    return {"nodes": nodes, "edges": edges}


def measure_zen(
    rules: Sequence[Mapping[str, Any]], people: Sequence[tuple[Mapping[str, Any], frozenset[str]]], seconds: float = SECONDS
) -> dict[str, object]:
    """Decisions per second of one thread over these people (features, the codes that fired in the batch), and how many agree."""
    try:
        import zen
    except ImportError:
        return {"zen": "not installed: it comes with the test extra"}
    decision = zen.ZenEngine().create_decision(json.dumps(table_of(rules)))
    agreeing = 0
    for features, fired in people:
        found = decision.evaluate(dict(features))["result"]
        agreeing += {row["code"] for row in found or []} == fired
    wall, processor, count = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - wall < seconds:
        for features, _ in people:
            decision.evaluate(dict(features))
        count += len(people)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    return {
        "zen_rules": len(rules),
        "zen_people_who_agree": f"{agreeing} of {len(people)}",
        "zen_decisions_per_second": round(count / wall),
        "zen_decisions_per_cpu_second": round(count / processor),
    }
