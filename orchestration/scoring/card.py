"""The model card: what a reviewer and a regulator read, generated from one training, never written by hand.

Belongs here: words and tables around figures that `training` measured. Does not belong here: any figure of its own.
After Mitchell et al. 2019, «Model Cards for Model Reporting».
"""

from typing import Any

from orchestration.scoring.features import FORBIDDEN
from orchestration.scoring.metrics import FEWEST_TEST_POSITIVES, MOST_AUC
from orchestration.scoring.plots import beside, of_report
from orchestration.scoring.points import PointsTable
from orchestration.scoring.thresholds import CONFIDENT_FROM, FAR, NAMES
from orchestration.scoring.training import FOLDS_NOTE, HIGH_SHARE, MEDIUM_SHARE, Training


def card(training: Training, trained_by: str) -> str:
    """The card of one training as Markdown; the same training gives the same text."""
    table, report = training.table, training.report
    record = table.record
    bad = sum(window["bad"] for window in report["windows"] if window["split"] == "test")
    parts = [
        f"# Model card: {table.version}",
        _purpose(table, bad),
        "## Data",
        _facts(
            [
                ("Delivery", f"run {record['lineage']['delivery_run_id']}, profile {record['lineage']['profile']}"),
                ("Feature SQL (SHA-256)", record["lineage"]["feature_sql_sha256"]),
                ("Rows (SHA-256)", record["data_sha256"]),
                ("Code (SHA-256)", record["code_sha256"]),
                ("Purpose at the gate for training", record["lineage"]["training_purpose"]),
                ("Label", f"a confirmed incident within {record['windows']['label_days']} days after the window's start"),
                ("Left out", "known confirmed incidents before the window; customers that were none yet; rows whose only "
                 "incident is still open; whoever the gate does not allow for training"),
                ("Never looked at", "columns holding: " + ", ".join(FORBIDDEN)),
                ("Trained by", trained_by),
                ("Libraries", ", ".join(f"{name} {version}" for name, version in sorted(record["libraries"].items()))),
            ]
        ),
        _rows(["split", "window_start", "rows", "bad"], report["windows"]),
        "## Held to",
        "What blocks keeps the model from being promoted; all else warns. `scores_are_calibrated` blocks where its interval "
        f"lies wholly outside {FAR[0]:g} to {FAR[1]:g}.",
        _rows(["check", "verdict", "found"], [_finding(finding) for finding in report.get("findings", [])]),
        "## Headline: audited issues among the 5 % flagged",
        "Audits of the test windows, each weighted by one over its probability of selection; 90 % interval.",
        _rows(["model", "share", "issues", "audits"], [_headline(*entry) for entry in report["headline"].items()]),
        *_picture(report, "capture"),
        "## Audits with the choice undone",
        *_audits(report.get("verification")),
        "## Figures on the test windows",
        "Forward prediction on subjects not known before, later than every training label; 90 % bootstrap intervals. "
        + FOLDS_NOTE,
        _rows(["model", *next(iter(training.judgements.values()))], [_figures(*entry) for entry in training.judgements.items()]),
        "AUC of the additive model less that of the other on the same rows, 90 % interval:",
        _rows(
            ["against", "difference"],
            [{"against": name, "difference": _interval(value)} for name, value in report["differences"].items()],
        ),
        *_picture(report, "calibration"),
        "## Stability across segments",
        *(_rows(["segment", "rows", "bad", "auc", "observed_to_expected"], rows) for rows in report["segments"].values()),
        "## Reasons across refits",
        f"On the riskiest tenth, {report['agreement']['top_family_riskiest_decile']:.0%} keep their first family of reasons "
        f"when the model is fitted to other parts of the data, and {report['agreement']['reasons_overlap_riskiest_decile']:.0%} "
        f"of the families that are shown as reasons are the same; {report['agreement']['flagged_overlap']:.0%} of the 5 % "
        "flagged stay flagged.",
        "## Fairness",
        "Flagged: asks for medium or more. Groups under fifty are pooled; no figure rests on fewer than ten bad rows. The ratio "
        "is the group's share of the good flagged over that of all others, with an interval that covers all groups together "
        f"(90 %). {_scored_by(table, report)}",
        *(f"**{attribute}**\n\n" + _rows(_FAIR, [_group(row) for row in rows]) for attribute, rows in report["fairness"].items()),
        *_picture(report, "fairness"),
        "## Who may be trained on",
        *_sample_bias(report.get("sample_bias")),
        "## Points",
        points(table),
        "## Limits",
        _limits(bad),
    ]
    return "\n\n".join(parts) + "\n"


_FAIR = ["group", "rows", "bad", "flagged", "good flagged", "bad caught", "ratio to others", "unequal", "mean_probability",
         "observed_rate"]  # fmt: skip


def _picture(report: dict[str, Any], name: str) -> list[str]:
    """The plot of that name as a picture beside the card, if the report's figures allow one."""
    return [beside(name)] if name in of_report(report) else []


def _finding(finding: dict[str, Any]) -> dict[str, Any]:
    verdict = "passed" if finding["passed"] else "**blocks**" if finding["blocks"] else "warns"
    return {"check": finding["name"], "verdict": verdict, "found": f"{NAMES[finding['name']]} Found: {finding['said']}."}


def _audits(verification: dict[str, Any] | None) -> list[str]:
    if verification is None:
        return ["No audited issue lies in the test windows: what the score overlooks is not known."]
    said = (
        f"{verification['audits']} audits, {verification['issues']} issues. Who is audited is chosen; a random part makes the "
        "choice known, and weights of one over the probability of selection undo it. They are worth "
        f"{verification['effective']:.0f} audits drawn evenly."
    )
    rows = [
        {"figure": name, "as audited": value["naive"], "choice undone": _interval(value | {"value": value["weighted"]})}
        for name, value in verification["figures"].items()
    ]
    return [said, _rows(["figure", "as audited", "choice undone"], rows)]


def _scored_by(table: PointsTable, report: dict[str, Any]) -> str:
    """Which of the attributes the table itself looks at, if any."""
    scored = [name for name in report["fairness"] if name in table.features]
    never = [name for name in report["fairness"] if name not in table.features]
    said = f"Never scored by: {', '.join(never)}." if never else ""
    return said + (f" Scored by, and audited all the same: {', '.join(scored)}." if scored else "")


def _group(row: dict[str, Any]) -> dict[str, Any]:
    shares = {
        said: _interval({"value": row[f"{name}_share"], "low": row[f"{name}_low"], "high": row[f"{name}_high"]})
        for said, name in (("flagged", "flagged"), ("good flagged", "good_flagged"), ("bad caught", "bad_caught"))
        if row.get(f"{name}_share") is not None
    }
    if "ratio" in row:
        shares["ratio to others"] = _interval({"value": row["ratio"], "low": row["ratio_low"], "high": row["ratio_high"]})
        shares["unequal"] = "**yes**" if row["unequal"] else "no"
    return {**row, **shares}


def _sample_bias(bias: dict[str, Any] | None) -> list[str]:
    if bias is None:
        return ["Not measured."]
    said = (
        f"{bias['trainable']:,} of the {bias['book']:,} customers who are rated may be trained on under {bias['purpose']} "
        f"({bias['share']:.1%}, {bias['low']:.1%} to {bias['high']:.1%}); the others are scored by a model that did not see "
        "them."
    )
    rows = [
        {"attribute": name, "group": row["group"], "customers": row["book"],
         "may be trained on": _interval({"value": row["trainable_share"], "low": row["low"], "high": row["high"]})}
        for name, groups in bias["groups"].items() for row in groups
    ]  # fmt: skip
    parts = [said, _rows(["attribute", "group", "customers", "may be trained on"], rows)]
    if not bias["features"]:
        return [*parts, "Fewer than fifty may not be trained on: their features are not compared."]
    differing = [row for row in bias["features"] if row["drifted"]]
    if not differing:
        return [*parts, "In no feature and not in the score do they differ from the others beyond chance (PSI)."]
    return [*parts, "They differ from the others in:", _rows(["name", "psi", "alarm_from"], differing)]


def _purpose(table: PointsTable, bad: int) -> str:
    low = (
        f" **Low confidence: {bad} confirmed incidents in the test windows, {CONFIDENT_FROM} are wanted.**"
        if bad < CONFIDENT_FROM
        else ""
    )
    return (
        f"Points table (SHA-256 {table.sha256}) of an additive model. Intended use: raise the tier of a customer above the "
        "rules' for a person to look at; a score never lowers a tier, never makes anybody prohibited, and closes nothing by "
        "itself. Prohibited: marketing, credit, employment, any solely automated adverse decision. "
        f"Trained as of {table.trained_as_of} UTC; not used after {table.valid_days} days.{low}\n\n"
        f"Asks for medium from {table.medium_from:+.3f} (the {MEDIUM_SHARE:.0%} highest of the training rows) and for high from "
        f"{table.high_from:+.3f} ({HIGH_SHARE:.0%}); probability = 1 / (1 + exp(-score))."
    )


def _limits(bad: int) -> str:
    return "\n".join(
        [
            "- Attributes of the customer master (type, line of business, onboarding channel) are as delivered last, not as of "
            "the window; transactions, counterparties and complaints are as of the window.",
            "- Which incident is confirmed is known as of the delivery; a training label may have been confirmed after a test "
            "window began.",
            "- Incidents come to light by chance and by review: who is not looked at has no label. The weighted audits above "
            "are the one figure that corrects for it.",
            f"- {bad} bad rows in the test windows; below {FEWEST_TEST_POSITIVES} nothing is judged. "
            f"An AUC above {MOST_AUC} stops a training as suspected leakage.",
            "- Bins are bounds between many customers; no row, identifier or token of a subject is in this card or in the table.",
        ]
    )


def points(table: PointsTable) -> str:
    """The points table for signature: every bin, the missing and unseen ones included, at full precision."""
    lines = [f"Everybody starts at {table.intercept!r}."]
    for term in table.terms:
        direction = {1: ", only rising", -1: ", only falling", 0: ""}[term.monotone]
        lines.append(f"\n**{term.feature}** ({term.family}{direction})\n")
        lines += ["| bin | points |", "|---|---:|"]
        for row in table.rows():
            if row["feature"] == term.feature:
                lines.append(f"| {_bin(row)} | {row['points']!r} |")
    return "\n".join(lines)


def _bin(row: dict[str, Any]) -> str:
    if row["bin_kind"] == "category":
        return _cell(row["category"])
    if row["bin_kind"] != "range":
        return f"({row['bin_kind']})"
    lower, upper = row["lower"], row["upper"]
    if lower is None and upper is None:
        return "any value"
    if lower is None:
        return f"below {upper!r}"
    return f"{lower!r} and more" if upper is None else f"{lower!r} to below {upper!r}"


def _headline(name: str, value: dict[str, float] | None) -> dict[str, Any]:
    if value is None:
        return {"model": name, "share": "no audited issue", "issues": 0, "audits": 0}
    return {"model": name, "share": _interval(value), "issues": int(value["issues"]), "audits": int(value["audits"])}


def _figures(name: str, judgement: dict[str, dict[str, float]]) -> dict[str, Any]:
    return {"model": name, **{measure: _interval(value) for measure, value in judgement.items()}}


def _interval(value: dict[str, float]) -> str:
    return f"{value['value']:.4g} ({value['low']:.3g} to {value['high']:.3g})"


def _facts(facts: list[tuple[str, Any]]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts)


def _rows(columns: list[str], rows: list[dict[str, Any]]) -> str:
    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(_cell(row.get(column)) for column in columns) + " |" for row in rows]
    return "\n".join(lines)


def _cell(value: Any) -> str:
    if value is None:
        return "too few"
    return (f"{value:.4g}" if isinstance(value, float) else str(value)).replace("|", "\\|")
