"""What is asked of a model and of its scores, each with its threshold: a sentence and a verdict for people and for Dagster.

A finding that blocks keeps a model from being promoted; all others warn. None stops a publication: a model that is in doubt is
taken back by a person, and meanwhile the rules stand below it.

Belongs here: thresholds and verdicts. Does not belong here: measuring, Dagster (`defs.scoring`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# Observed to expected: within the first nobody minds, beyond the second the probabilities say nothing.
NEAR, FAR = (0.8, 1.25), (0.5, 2.0)
CONFIDENT_FROM = 50
LEAST_REASONS = 0.70  # share of the riskiest tenth with the same first family of reasons after a refit
LEAST_TRAINABLE = 0.90  # share of the book, and of every group in it, that may be trained on
CHANCE = 0.05  # of the issues, what flagging 5 % at random would catch

NAMES = {
    "scores_are_calibrated": "As many incidents come as the score announces (observed to expected, 90 % interval).",
    "scores_tell_good_from_bad": "The area under the curve is above one half beyond chance.",
    "enough_incidents_to_judge": f"At least {CONFIDENT_FROM} confirmed incidents stand behind the figures.",
    "flags_catch_audited_issues": "The 5 % flagged hold more of the audited issues than chance would, each audit weighted by one "
    "over its probability of selection.",
    "groups_are_flagged_alike": "No group's good customers are flagged beyond four fifths of, or five fourths as often as, the "
    "others', beyond chance.",
    "reasons_hold_across_refits": f"At least {LEAST_REASONS:.0%} of the riskiest tenth keep their first family of reasons when "
    "the model is fitted to other parts of the data.",
    "training_sample_is_like_the_book": f"At least {LEAST_TRAINABLE:.0%} of the book and of every group may be trained on, or "
    "those who may not be are like the rest.",
    "features_have_not_drifted": "Features lie where those of the training rows lay, as far as chance goes at this size (PSI).",
    "scores_have_not_drifted": "Scores lie where those of the training rows lay, as far as chance goes at this size (PSI).",
}
# What a training is asked, what an evaluation on a later delivery, and what the scores of every run.
OF_TRAINING = (
    "scores_are_calibrated", "scores_tell_good_from_bad", "enough_incidents_to_judge", "flags_catch_audited_issues",
    "groups_are_flagged_alike", "reasons_hold_across_refits", "training_sample_is_like_the_book",
)  # fmt: skip
OF_EVALUATION = (
    "scores_are_calibrated", "scores_tell_good_from_bad", "enough_incidents_to_judge", "flags_catch_audited_issues",
    "groups_are_flagged_alike", "training_sample_is_like_the_book", "features_have_not_drifted", "scores_have_not_drifted",
)  # fmt: skip
OF_EVERY_RUN = ("scores_have_not_drifted", "features_have_not_drifted", "groups_are_flagged_alike")


@dataclass(frozen=True)
class Finding:
    """One verdict: `said` is what was found, in a sentence; `blocks` whether it keeps a model from promotion."""

    name: str
    passed: bool
    said: str
    blocks: bool = False
    figures: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


def calibrated(ratio: Mapping[str, float]) -> Finding:
    """Observed to expected with its interval: a warning where it lies wholly outside 0.8 to 1.25, a block where it lies wholly
    outside 0.5 to 2."""
    beyond = ratio["low"] > NEAR[1] or ratio["high"] < NEAR[0]
    far = ratio["low"] > FAR[1] or ratio["high"] < FAR[0]
    said = f"{ratio['value']:.2f} incidents came for each announced ({ratio['low']:.2f} to {ratio['high']:.2f})"
    return Finding("scores_are_calibrated", not beyond, said, far, dict(ratio))


def separating(auc: Mapping[str, float]) -> Finding:
    """The interval of the AUC lies above one half."""
    said = f"AUC {auc['value']:.3f} ({auc['low']:.3f} to {auc['high']:.3f})"
    return Finding("scores_tell_good_from_bad", auc["low"] > 0.5, said, figures=dict(auc))


def enough(bad: int) -> Finding:
    """Incidents in the test windows."""
    said = f"{bad} confirmed incidents in the test windows, {CONFIDENT_FROM} are wanted"
    return Finding("enough_incidents_to_judge", bad >= CONFIDENT_FROM, said, figures={"bad": bad})


def catching(verification: Mapping[str, Any] | None) -> Finding:
    """Weighted share of audited issues among the flagged: a failure where even its upper end is no better than chance, or
    nothing was audited that could tell."""
    name = "flags_catch_audited_issues"
    captured = (verification or {}).get("figures", {}).get("captured")
    if not captured:
        return Finding(name, False, "no audited issue lies in the test windows: what the score overlooks is not known")
    said = (
        f"{captured['weighted']:.1%} of the issues are among the 5 % flagged ({captured['low']:.1%} to {captured['high']:.1%}); "
        f"unweighted it would be {captured['naive']:.1%}"
    )
    return Finding(name, captured["high"] > CHANCE, said, figures=dict(captured))


def alike(groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> Finding:
    """No group that is unequal beyond chance."""
    every = [(attribute, row) for attribute, rows in groups.items() for row in rows]
    unequal = [f"{attribute} {row['group']} (ratio {row['ratio']:.2f})" for attribute, row in every if row.get("unequal")]
    compared = sum("ratio" in row for _, row in every)
    if not compared:
        return Finding("groups_are_flagged_alike", False, "no attribute has two groups of fifty to be compared")
    said = f"{compared} groups compared; unequal: {', '.join(unequal) if unequal else 'none'}"
    return Finding("groups_are_flagged_alike", not unequal, said, figures={"groups": compared, "unequal": len(unequal)})


def steady(agreement: Mapping[str, float]) -> Finding:
    """Agreement of reasons across refits."""
    share = agreement["top_family_riskiest_decile"]
    stay = agreement["flagged_overlap"]
    said = f"{share:.0%} of the riskiest tenth keep their first family of reasons, {stay:.0%} of the flagged stay"
    return Finding("reasons_hold_across_refits", share >= LEAST_REASONS, said, figures=dict(agreement))


def representative(bias: Mapping[str, Any] | None) -> Finding:
    """Nearly everybody may be trained on; or those who may not be do not differ."""
    name = "training_sample_is_like_the_book"
    if not bias:
        return Finding(name, False, "who may not be trained on was not measured")
    groups = [(attribute, row) for attribute, rows in bias["groups"].items() for row in rows]
    few = [
        f"{attribute} {row['group']} {row['trainable_share']:.0%}" for attribute, row in groups if row["high"] < LEAST_TRAINABLE
    ]
    differing = [row["name"] for row in bias["features"] if row["drifted"]]
    passed = (bias["share"] >= LEAST_TRAINABLE and not few) or (bool(bias["features"]) and not differing)
    said = f"{bias['share']:.1%} of the book may be trained on under {bias['purpose']}"
    said += f"; fewer of {', '.join(few)}" if few else ""
    said += f"; the others differ in {', '.join(differing)}" if differing else ""
    return Finding(name, passed, said, figures={"share": bias["share"], "differing": len(differing)})


def undrifted(name: str, rows: Iterable[Mapping[str, Any]]) -> Finding:
    """No PSI beyond what chance gives at that size and beyond 0.10."""
    rows = list(rows)
    drifted = sorted((row for row in rows if row["drifted"]), key=lambda row: -row["psi"])
    named = ", ".join(f"{row['name']} {row['psi']:.2f} (alarm from {row['alarm_from']:.2f})" for row in drifted)
    largest = max(rows, key=lambda row: row["psi"])
    said = f"drifted: {named}" if drifted else f"none drifted; the largest PSI is {largest['psi']:.3f} ({largest['name']})"
    return Finding(name, not drifted, said, figures={"drifted": len(drifted), "compared": len(rows)})


def of_training(report: Mapping[str, Any], judgement: Mapping[str, Mapping[str, float]]) -> list[Finding]:
    """Every verdict about a training, in the order of `OF_TRAINING`."""
    found = {finding.name: finding for finding in (*_of_figures(report, judgement), steady(report["agreement"]))}
    return [found[name] for name in OF_TRAINING]


def of_evaluation(report: Mapping[str, Any], judgement: Mapping[str, Mapping[str, float]]) -> list[Finding]:
    """Every verdict about a model on a later delivery, in the order of `OF_EVALUATION`."""
    drifts = [row for row in report["drift"] if row["name"] != "score"]
    scores = [row for row in report["drift"] if row["name"] == "score"]
    found = {finding.name: finding for finding in _of_figures(report, judgement)}
    found["features_have_not_drifted"] = undrifted("features_have_not_drifted", drifts)
    found["scores_have_not_drifted"] = undrifted("scores_have_not_drifted", scores)
    return [found[name] for name in OF_EVALUATION]


def _of_figures(report: Mapping[str, Any], judgement: Mapping[str, Mapping[str, float]]) -> list[Finding]:
    bad = sum(window["bad"] for window in report["windows"] if window["split"] == "test")
    return [
        calibrated(judgement["observed_to_expected"]),
        separating(judgement["auc"]),
        enough(bad),
        catching(report.get("verification")),
        alike(report["fairness"]),
        representative(report.get("sample_bias")),
    ]


def blocked(findings: Iterable[Finding]) -> list[str]:
    """What keeps a model from promotion, in sentences."""
    return [f"{finding.name}: {finding.said}" for finding in findings if finding.blocks and not finding.passed]
