"""The commands around the risk score's models: `segline model train|list|card|promote|rollback|export|evaluate`.

Belongs here: their arguments and what they print. Does not belong here: work (`orchestration.scoring`).
"""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestration.commands.drawing import bar, output, print_rows
from orchestration.commands.options import EXIT_LOCKED, Failure, settings_of

model_app = typer.Typer(
    no_args_is_help=True,
    help="Train, judge and put in charge the models behind the risk score.\n\n"
    "Training is a job of its own and changes nothing that is published. A model scores from the next `segline run` after a "
    "second person promoted it; the rules set the floor, the score can only raise a tier.",
)
ByOption = Annotated[str, typer.Option("--by", help="Who does this; on record.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; on record.")]
ModelArgument = Annotated[str, typer.Argument(help="Number, version or alias (champion, shadow) of `segline model list`.")]


def _plain(command: Callable[..., Any]) -> Callable[..., Any]:
    """Errors that a user can mend end as text."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from orchestration.run_lock import RunLocked
        from orchestration.scoring.errors import ScoringError

        try:
            return command(*args, **kwargs)
        except ScoringError as error:
            raise Failure(f"{type(error).__name__}: {error}") from None
        except RunLocked as error:
            raise Failure(str(error), EXIT_LOCKED) from None
        except ModuleNotFoundError as error:
            raise Failure(f"{error.name} is missing: install the project with its pinned dependencies") from None

    return wrapped


@model_app.command("train")
@_plain
def train(by: ByOption) -> None:
    """Fit the additive model on the newest delivery, judge it beside three others, register it with its card.

    The same delivery gives the same model to the bit. Nothing is put in charge.
    """
    from orchestration.scoring.lifecycle import train_and_register

    settings = settings_of()
    with bar("training"):
        entry, is_new, training = train_and_register(settings, by)
    _print_judgements(training.judgements, training.report["headline"])
    _print_findings(training.report["findings"])
    if not is_new:
        output.print(f"This is model {entry.number} again, to the bit; nothing was added.", highlight=False)
    output.print(
        f"Registered as model {entry.number} ({entry.version}). Next, by another person:\n"
        f"  segline model card {entry.number}\n"
        f"  segline model promote {entry.number} --by NAME --reason TEXT",
        highlight=False,
    )


@model_app.command("list")
@_plain
def list_models() -> None:
    """All registered models, newest first, and who put which in charge."""
    from orchestration.lake import open_lake
    from orchestration.scoring import registry
    from orchestration.scoring.deployment import history

    settings = settings_of()
    found = registry.versions(settings)
    rows = [
        (entry.number, entry.version, entry.algorithm, entry.trained_as_of, entry.trained_by, ", ".join(entry.aliases) or "-",
         entry.sha256[:12])
        for entry in found
    ]  # fmt: skip
    print_rows(["number", "version", "algorithm", "trained as of", "by", "alias", "sha256"], rows, "Models")
    if settings.catalog.exists():
        with open_lake(settings, read_only=True) as connection:
            past = history(connection)
        lines = [
            (f"{line.deployed_at:%Y-%m-%d %H:%M}", line.action, line.version, line.deployed_by, line.reason) for line in past
        ]
        print_rows(["when (UTC)", "action", "version", "by", "reason"], lines, "Put in charge")


@model_app.command("card")
@_plain
def show_card(
    model: ModelArgument, out: Annotated[Path | None, typer.Option(help="Write the card there instead.")] = None
) -> None:
    """The model card: data, figures with intervals, fairness, limits, and the whole points table for signature."""
    from orchestration.scoring import registry

    entry = registry.find(settings_of(), model)
    text = registry.read(entry, registry.CARD)
    if out:
        out.write_text(text, encoding="utf-8")
        plots = registry.plots(entry)
        for name, drawn in plots.items():
            (out.parent / name).write_text(drawn, encoding="utf-8")
        beside = f", with {', '.join(plots)} beside it" if plots else ""
        output.print(f"Written to {out}{beside}", highlight=False)
    else:
        output.print(text, highlight=False, markup=False, soft_wrap=True)


@model_app.command("promote")
@_plain
def promote(model: ModelArgument, by: ByOption, reason: ReasonOption) -> None:
    """Put a model in charge; whoever trained it cannot. It scores from the next `segline run` on."""
    from orchestration.scoring.deployment import promote

    line = promote(settings_of(), model, by, reason)
    output.print(f"{line.version} is in charge from the next run on. Take it back: segline model rollback", highlight=False)


@model_app.command("rollback")
@_plain
def rollback(by: ByOption, reason: ReasonOption) -> None:
    """Put the model before the present one back in charge."""
    from orchestration.scoring.deployment import rollback

    line = rollback(settings_of(), by, reason)
    output.print(f"{line.version} is in charge again from the next run on.", highlight=False)


@model_app.command("export")
@_plain
def export(
    model: ModelArgument, out: Annotated[Path, typer.Option(help="Folder to write; it must be empty or not there.")]
) -> None:
    """A promoted model as an MLflow model folder: the points table and one file of code, for SageMaker, Azure ML or any MLflow.

    It needs nothing of this project and no pickle; docs/scores.md says how to deploy it.
    """
    from orchestration.scoring.exporting import export

    entry = export(settings_of(), model, out)
    output.print(
        f"{entry.version} is in {out}. Try it where nothing of this project is installed:\n"
        f"  mlflow models predict -m {out} -i {out}/input_example.json -t json --env-manager local",
        highlight=False,
    )


@model_app.command("evaluate")
@_plain
def evaluate(model: Annotated[str, typer.Argument(help="Number, version or alias.")] = "champion") -> None:
    """A registered model on the newest delivery: figures, what it is held to, audits with their choice undone, groups, who may
    be trained on, drift of the book, and beside the champion as its shadow.

    Exit code 1 if the score drifted beyond chance.
    """
    from orchestration.scoring.lifecycle import evaluate

    with bar("evaluating"):
        found = evaluate(settings_of(), model)
    _print_judgements({found["version"]: found["measures"]}, {})
    if not found["is_out_of_time"]:
        output.print(
            "Not all of these windows are later than what the model knew: read calibration and figures as those of a fit.",
            highlight=False,
        )
    _print_findings(found["findings"])
    _print_audits(found["verification"])
    _print_groups(found["fairness"])
    _print_sample(found["sample_bias"])
    drifted = [
        (row["name"], f"{row['psi']:.4f}", f"{row['alarm_from']:.4f}", "drifted") for row in found["drift"] if row["drifted"]
    ]
    print_rows(["what", "PSI", "alarm from", ""], drifted, "Drift of the book against the training rows")
    if found.get("shadow"):
        shadow = found["shadow"]
        output.print(
            f"As a shadow of {found['champion']}: {shadow['flagged_overlap']:.0%} of the 5 % flagged are the same, "
            f"{shadow['same_first_reason']:.0%} of the riskiest tenth have the same first reason, "
            f"score PSI {shadow['score_psi']:.3f}.",
            highlight=False,
        )
        print_rows(["champion -> this", "subjects"], list(shadow["moves"].items()), "Tiers that the scores ask for")
        rows = [(name, _interval(value)) for name, value in found["compared"].items()]
        print_rows(["measure", "this less champion (90 %)"], rows)
    if any(row[0] == "score" for row in drifted):
        raise Failure("the score drifted: look at the features above, and train again")


def _print_judgements(judgements: dict[str, dict[str, dict[str, float]]], headline: dict[str, Any]) -> None:
    if not judgements:
        return
    names = list(next(iter(judgements.values())))
    rows = [(model, *(_interval(values[name]) for name in names)) for model, values in judgements.items()]
    for chunk in (names[:4], names[4:]):
        places = [names.index(name) + 1 for name in chunk]
        print_rows(["model", *chunk], [(row[0], *(row[place] for place in places)) for row in rows])
    if headline:
        shares = [
            (model, _interval(value) if value else "no audited issue", int(value["issues"]) if value else 0)
            for model, value in headline.items()
        ]
        print_rows(["model", "share captured", "issues"], shares, "Audited issues among the 5 % flagged")


def _interval(value: dict[str, float]) -> str:
    return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"


def _print_findings(findings: list[dict[str, Any]]) -> None:
    rows = [
        (one["name"], "passed" if one["passed"] else "BLOCKS" if one["blocks"] else "warns", one["said"]) for one in findings
    ]
    print_rows(["held to", "", "found"], rows)


def _print_audits(verification: dict[str, Any] | None) -> None:
    if verification is None:
        return
    rows = [
        (name, f"{value['naive']:.3f}", _interval(value | {"value": value["weighted"]}))
        for name, value in verification["figures"].items()
    ]
    title = f"{verification['audits']} audits, worth {verification['effective']:.0f} drawn evenly"
    print_rows(["figure", "as audited", "choice of audits undone"], rows, title)


def _print_groups(groups: dict[str, list[dict[str, Any]]]) -> None:
    rows = [
        (f"{attribute}: {row['group']}", f"{row['rows']:,}", _share(row, "flagged"), _share(row, "good_flagged"),
         _interval({"value": row["ratio"], "low": row["ratio_low"], "high": row["ratio_high"]}) if "ratio" in row else "-",
         "unequal" if row.get("unequal") else "")
        for attribute, found in groups.items() for row in found
    ]  # fmt: skip
    print_rows(["group", "rows", "flagged", "good flagged", "ratio to others", ""], rows, "Groups; under fifty pooled")


def _print_sample(bias: dict[str, Any]) -> None:
    rows = [("whole book", f"{bias['book']:,}", _interval(bias | {"value": bias["share"]}))]
    rows += [
        (f"{attribute}: {row['group']}", f"{row['book']:,}", _interval(row | {"value": row["trainable_share"]}))
        for attribute, found in bias["groups"].items() for row in found
    ]  # fmt: skip
    print_rows(["group", "customers", "may be trained on"], rows, f"Who may be trained on ({bias['purpose']})")


def _share(row: dict[str, Any], name: str) -> str:
    if row.get(f"{name}_share") is None:
        return "too few"
    return _interval({"value": row[f"{name}_share"], "low": row[f"{name}_low"], "high": row[f"{name}_high"]})
