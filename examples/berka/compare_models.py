"""The models of the risk score on the Berka loans, out of time: fitted on those of 1993 and 1994, judged on 1997 and 1998.

Run after `segline run --sources examples/berka --data FOLDER`, in the same home:
  python examples/berka/compare_models.py FOLDER
A loan that ended unpaid (B) or runs in debt (D) counts as bad. Features are risk_features as of the first day of the loan's
month, by the SQL of that run; the loans' own terms are no feature, for the platform's contracts do not know them. Loans of
1995 and 1996 are left out: the public copies of the movements end in 1994 and hold of later years only those before a loan
of 1997 or 1998.
"""

import csv
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd

from orchestration.commands.drawing import print_rows
from orchestration.identity.keys import load_keys
from orchestration.identity.pseudonyms import token
from orchestration.lake import identifier
from orchestration.scoring import metrics, models
from orchestration.scoring.features import FEATURES
from orchestration.scoring.scorecard import fit_scorecard
from orchestration.scoring.training import SEED, probabilities
from orchestration.scoring.training_set import build_features, coerced, run_of_record
from orchestration.settings import Settings

TRAIN, TEST = ("93", "94"), ("97", "98")


def loans(folder: Path, settings: Settings) -> pd.DataFrame:
    """Subject token, month and outcome of each loan."""
    keys = load_keys(settings)
    with (folder / "disp.asc").open(encoding="utf-8") as stream:
        owners = {row["account_id"]: row["client_id"] for row in csv.DictReader(stream, delimiter=";") if row["type"] == "OWNER"}
    with (folder / "loan.asc").open(encoding="utf-8") as stream:
        rows = [
            {
                "subject": token(keys, "risk", owners[row["account_id"]]),
                "month": datetime.strptime(row["date"][:4], "%y%m"),
                "split": "train" if row["date"][:2] in TRAIN else "test",
                "label": int(row["status"] in ("B", "D")),
            }
            for row in csv.DictReader(stream, delimiter=";")
            if row["date"][:2] in (*TRAIN, *TEST)
        ]
    return pd.DataFrame(rows)


def with_features(found: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """The features of each loan's owner as of the month's first day."""
    columns = ", ".join(identifier(feature.name) for feature in FEATURES)
    frames = []
    with run_of_record(settings) as (connection, delivery, sql):
        for month, group in found.groupby("month"):
            relation = build_features(connection, sql, delivery.as_of, month)
            connection.register("wanted", group[["subject"]])
            query = f"select risk_subject_token as subject, {columns} from {relation} where risk_subject_token in (from wanted)"
            frames.append(group.merge(connection.execute(query).df(), on="subject"))
    return coerced(pd.concat(frames).sort_values(["month", "subject"], ignore_index=True))


def main(folder: Path) -> None:
    """Fit the four models on the same loans and print their figures on the same later loans."""
    rows = with_features(loans(folder, Settings()), Settings())
    train, test = rows[rows["split"] == "train"], rows[rows["split"] == "test"]
    labels, outcomes = train["label"].to_numpy(dtype=float), test["label"].to_numpy(dtype=float)
    features = models.usable_features(train)
    additive = models.fit_additive(train, labels, features, SEED)
    card = fit_scorecard(
        train, labels, features, SEED, (0.05, 0.01), version="berka", trained_as_of="1995-01-01 00:00:00", valid_days=1
    )
    predicted = {
        "additive_ebm": probabilities(models.raw_scores(additive, test, features)),
        "logistic": models.fit_logistic(train, labels, features, SEED).predict(test),
        "woe_scorecard": probabilities(card.score_columns(test)[0]),
        "boosted_trees": models.fit_boosted(train, labels, features, SEED).predict(test),
    }
    names = ["auc", "pr_auc", "capture_5%", "capture_10%", "brier", "observed_to_expected"]
    table = []
    for name, values in predicted.items():
        figures = metrics.judged(outcomes, np.asarray(values))
        cells = [f"{figures[key]['value']:.3f} ({figures[key]['low']:.2f} to {figures[key]['high']:.2f})" for key in names]
        table.append((name, *cells))
    counts = f"{len(train)} loans ({int(labels.sum())} bad) to fit, {len(test)} ({int(outcomes.sum())} bad) to judge"
    print_rows(["model", *names], table, counts)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
