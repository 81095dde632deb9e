"""A model's life from the command line or a job: trained and registered, evaluated.

Belongs here: joining training set, training, card and registry. Does not belong here: each one's work.
"""

import json
from typing import Any

from orchestration import progress
from orchestration.lake import open_lake
from orchestration.scoring import evaluation, plots, registry, sample_bias, thresholds
from orchestration.scoring.card import card
from orchestration.scoring.deployment import history, person
from orchestration.scoring.training import Training, train
from orchestration.scoring.training_set import build
from orchestration.settings import Settings


def train_and_register(settings: Settings, by: str) -> tuple[registry.Registered, bool, Training]:
    """Train on the newest delivery and register the points table with card, plots, report and challenger; never deploys."""
    person(by)
    progress.report("features as of each window")
    training = train(build(settings))
    training.report["sample_bias"] = sample_bias.measured(settings, training.table)
    findings = thresholds.of_training(training.report, training.judgements["additive_ebm"])
    training.report["findings"] = [finding.as_dict() for finding in findings]
    files = {
        registry.CARD: card(training, by.strip()),
        registry.REPORT: json.dumps({"judgements": training.judgements, **training.report}, sort_keys=True, indent=1),
        "scorecard.json": training.scorecard.to_json(),
        registry.CHALLENGER: registry.dump_challenger(training.boosted.model),
        **plots.files(training.report),
    }
    figures = {name: f"{value['value']:.4f}" for name, value in training.judgements["additive_ebm"].items()}
    tags = {f"figure.{name.rstrip('%')}": text for name, text in figures.items()}
    tags[registry.BLOCKED] = "; ".join(thresholds.blocked(findings)) or registry.NOT_BLOCKED
    entry, is_new = registry.register(settings, training.table, by.strip(), files, tags)
    if is_new:
        registry.set_alias(settings, registry.SHADOW, entry.number)
    return entry, is_new, training


def evaluate(settings: Settings, wanted: str) -> dict[str, Any]:
    """Measures, groups, audits, drift and verdicts of a registered model on the newest delivery; beside the champion if it is
    another one."""
    entry = registry.find(settings, wanted)
    table = registry.load_table(entry)
    profile = json.loads(registry.read(entry, registry.REPORT))["profile"]
    progress.report("features as of each window")
    data, rows = build(settings), evaluation.book(settings)
    found = {"version": entry.version, **evaluation.evaluated(table, profile, data, rows)}
    found["sample_bias"] = sample_bias.measured(settings, table)
    found["findings"] = [one.as_dict() for one in thresholds.of_evaluation(found, found["measures"])]
    with open_lake(settings, read_only=True) as connection:
        past = history(connection)
    if past and past[-1].sha256 != entry.sha256:
        champion_entry = registry.find(settings, str(past[-1].number))
        champion = registry.load_table(champion_entry)
        found |= {
            "champion": champion_entry.version,
            "shadow": evaluation.shadow(champion, table, rows),
            "compared": evaluation.compared(champion, table, data),
        }
    return found
