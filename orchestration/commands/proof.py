"""The commands that prove: `verify`, `replay`, and `ledger` with its exports, proofs, key and readers.

Belongs here: their arguments and what they print. Does not belong here: work. Each of them reads the ledger, and says so in
its log of readings before it shows anything.
"""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from orchestration.commands.drawing import bar, output, print_rows
from orchestration.commands.options import EXIT_FAILED, Failure, FormatOption, OutputFormat, ProfileOption, settings_of

ledger_app = typer.Typer(no_args_is_help=True, help="Take proofs of decisions away: exports, single rows, the public key.")

CustomerArgument = Annotated[str, typer.Argument(help="The customer's identifier as your source system writes it.")]
FamilyOption = Annotated[str, typer.Option("--family", help="risk, engagement, or another segment family.")]
PublicKeyOption = Annotated[
    Path | None, typer.Option("--public-key", help="Verifier key, as `segline ledger key` prints it; default: your own key's.")
]


def verify(
    export: Annotated[Path | None, typer.Option("--export", help="Verify this export with the outsider's verifier.")] = None,
    public_key: PublicKeyOption = None,
    anchor: Annotated[
        list[Path] | None, typer.Option("--anchor", help="A checkpoint that was kept elsewhere; may be given more than once.")
    ] = None,
    file_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Verify the decision ledger: every row, the tree, every signature, the totals, and the heads that were anchored.

    Names each changed, missing, moved or added row. Exit code 1 if anything is found. Heads in `SEGLINE_ANCHOR_FOLDER` are
    compared too; without any head kept elsewhere, a ledger cut short or written anew with its key looks whole.
    """
    from orchestration.settings import PROJECT_ROOT

    anchors = anchor or []
    if export is not None:
        if public_key is None:
            raise Failure("an export is verified with a key from elsewhere: give --public-key FILE", 2)
        script = PROJECT_ROOT / "tools" / "segline_verify.py"
        given = [part for path in anchors for part in ("--anchor", str(path))]
        raise typer.Exit(subprocess.call([sys.executable, str(script), str(export), "--public-key", str(public_key), *given]))
    from orchestration.lake import open_lake
    from orchestration.ledger.anchoring import held_anchors
    from orchestration.ledger.checkpoint import parse_verifier_key
    from orchestration.ledger.reading_log import log_reading
    from orchestration.ledger.signing_key import verifier_key
    from orchestration.ledger.verification import verify as verify_store
    from orchestration.querying import write_document

    settings = settings_of()
    with bar("verifying the ledger"), open_lake(settings, read_only=True) as connection:
        key = parse_verifier_key(public_key.read_text(encoding="utf-8")) if public_key else verifier_key(connection, settings)
        held = held_anchors(settings) + [(str(path), path.read_text(encoding="utf-8")) for path in anchors]
        report = verify_store(connection, key, held)
        log_reading(settings, "verify", leaf_count=report.checked.get("leaves", 0))
    if file_format is OutputFormat.JSON:
        write_document({"good": report.is_good, "checked": report.checked, "findings": report.findings})
    else:
        print_rows(["checked", ""], list(report.checked.items()), "Ledger")
        if not held:
            output.print(
                "No head kept elsewhere was compared: a ledger cut short, or written anew with its key, would look like this.",
                highlight=False,
            )
    if not report.is_good:
        raise Failure("The ledger does not verify:\n" + "\n".join(f"- {text}" for text in report.findings), EXIT_FAILED)
    if file_format is not OutputFormat.JSON:
        output.print("Good: every row is as it was signed.", highlight=False)


def replay(
    customer: CustomerArgument,
    as_of: Annotated[str, typer.Option("--as-of", help="The instant that the decision was for (ISO 8601, UTC).")],
    known_at: Annotated[
        str | None, typer.Option("--known-at", help="Only what had been decided by then; default: all that is known now.")
    ] = None,
    file_format: FormatOption = OutputFormat.TABLE,
    profile: ProfileOption = None,
) -> None:
    """Make a past decision again from its stored inputs, rules, policy and reference data, and compare.

    Data that came late made a new decision: `--known-at` asks for what stood before. Exit code 1 if anything differs. Needs
    the pseudonym key, so it is for compliance and privacy officers.
    """
    from orchestration.lake import open_lake
    from orchestration.ledger.reading_log import log_reading
    from orchestration.ledger.replay import as_text, decisions_standing
    from orchestration.ledger.replay import replay as replay_decisions
    from orchestration.querying import write_document

    settings = settings_of(profile)
    with open_lake(settings, read_only=True) as connection:
        token = _token(connection, settings, customer)
        known = known_at and _instant(known_at, "--known-at")
        run_id, decisions = decisions_standing(connection, token, _instant(as_of, "--as-of"), known)
        if not decisions:
            raise Failure(f"nothing was on record about that customer after the run {run_id}: not in the book, or erased")
        log_reading(settings, "replay", [decision.leaf_index for decision in decisions])
        rebuilt = replay_decisions(connection, decisions)
    if file_format is OutputFormat.JSON:
        write_document({"customer": customer, "standing_after_run": run_id, "decisions": [_described(one) for one in rebuilt]})
    else:
        output.print(f"Standing after run {run_id}", highlight=False)
        for one in rebuilt:
            decision, made = one.decision, one.rebuilt or {}
            rows = [
                (name, as_text(value), as_text(made.get(name)), "" if value == made.get(name) else "DIFFERS")
                for name, value in decision.decided.items()
            ]
            title = (
                f"{decision.family}: leaf {decision.leaf_index}, decided for {decision.as_of} at {decision.decided_at} UTC "
                f"by run {decision.run_id}"
            )
            print_rows(["", "on record", "replayed", ""], rows, title)
    differing = [one for one in rebuilt if one.differences]
    if differing:
        raise Failure("Replay differs from the record: " + "; ".join(_difference(one) for one in differing), EXIT_FAILED)
    if file_format is not OutputFormat.JSON:
        output.print("Equal: replay gives what is on record.", highlight=False)


@ledger_app.command("export")
def ledger_export(out: Annotated[Path, typer.Option("--out", help="A new or empty folder.")]) -> None:
    """Write the ledger as files for an auditor, who verifies them with `tools/segline_verify.py` and the public key."""
    from orchestration.lake import open_lake
    from orchestration.ledger.export import export_ledger
    from orchestration.ledger.reading_log import log_reading
    from orchestration.ledger.store import newest_head

    settings = settings_of()
    with open_lake(settings, read_only=True) as connection:
        head = newest_head(connection)
        log_reading(settings, "export", leaf_count=head.checkpoint.size if head else 0)
        leaves = export_ledger(connection, out)
    output.print(f"{leaves:,} leaves in {out}. It holds pseudonymous decisions: hand it over as such.", highlight=False)
    output.print(f"Verify: python3 tools/segline_verify.py {out} --public-key FILE", highlight=False)


@ledger_app.command("prove")
def ledger_prove(
    customer: CustomerArgument,
    family: FamilyOption = "risk",
    as_of: Annotated[str | None, typer.Option("--as-of", help="The instant that the decision was for; default: now.")] = None,
    profile: ProfileOption = None,
) -> None:
    """Print the proof (JSON) that a customer's decision stands in the signed ledger."""
    from orchestration.lake import open_lake
    from orchestration.ledger.export import inclusion_proof
    from orchestration.ledger.reading_log import log_reading
    from orchestration.ledger.replay import decisions_standing
    from orchestration.querying import write_document

    settings = settings_of(profile)
    instant = _instant(as_of, "--as-of") if as_of else datetime.max
    with open_lake(settings, read_only=True) as connection:
        _, decisions = decisions_standing(connection, _token(connection, settings, customer), instant)
        leaves = [decision.leaf_index for decision in decisions if decision.family == family]
        if not leaves:
            raise Failure(f"no decision of the family {family!r} is on record about that customer")
        log_reading(settings, "prove", leaves)
        proof = inclusion_proof(connection, leaves[0])
    write_document(proof)


@ledger_app.command("consistency")
def ledger_consistency(
    old: Annotated[Path, typer.Argument(help="A checkpoint that was kept: a file of the anchor folder, or of a mail.")],
) -> None:
    """Print the proof (JSON) that today's ledger begins with the one of an older checkpoint."""
    from orchestration.lake import open_lake
    from orchestration.ledger.export import consistency_proof
    from orchestration.ledger.reading_log import log_reading
    from orchestration.querying import write_document

    settings = settings_of()
    with open_lake(settings, read_only=True) as connection:
        log_reading(settings, "consistency")
        proof = consistency_proof(connection, old.read_text(encoding="utf-8"))
    write_document(proof)


@ledger_app.command("key")
def ledger_key() -> None:
    """Print the public key in the form that verifiers take; give it to auditors by another way than the exports."""
    from orchestration.lake import open_lake
    from orchestration.ledger.signing_key import verifier_key

    settings = settings_of()
    with open_lake(settings, read_only=True) as connection:
        text = verifier_key(connection, settings).text()
    sys.stdout.write(text + "\n")


@ledger_app.command("anchors")
def ledger_anchors() -> None:
    """Say where checkpoints were anchored and what is overdue; exit code 1 if anything is."""
    from orchestration.lake import open_lake, table_exists
    from orchestration.ledger.anchoring import overdue

    settings = settings_of()
    with open_lake(settings, read_only=True) as connection:
        rows = []
        if table_exists(connection, "ops", "ledger_anchors"):
            rows = connection.execute(
                "select target, max(anchored_at), max(tree_size), count(*) from lake.ops.ledger_anchors group by 1 order by 1"
            ).fetchall()
        late = overdue(connection, settings)
    print_rows(["target", "last (UTC)", "leaves", "anchored"], rows, "Anchors")
    if late:
        raise Failure("\n".join(late), EXIT_FAILED)


def _token(connection: Any, settings: Any, customer: str) -> str:
    from orchestration.identity.keys import load_keys
    from orchestration.identity.pseudonyms import token
    from orchestration.ledger.names import names_in_ledger

    keys = load_keys(settings)
    try:
        return names_in_ledger(connection, keys, [token(keys, "raw", customer)])[0]
    except ValueError as error:
        raise Failure(str(error), 2) from None


def _instant(text: str, option: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("write it like 2026-11-01T00:00:00", param_hint=option) from None
    return (moment.astimezone(UTC) if moment.tzinfo else moment).replace(tzinfo=None)


def _described(one: Any) -> dict[str, Any]:
    decision = one.decision
    return {
        "leaf_index": decision.leaf_index,
        "family": decision.family,
        "as_of": decision.as_of,
        "decided_at": decision.decided_at,
        "run_id": decision.run_id,
        "on_record": dict(decision.decided),
        "replayed": one.rebuilt and dict(one.rebuilt),
        "equal": not one.differences,
    }


def _difference(one: Any) -> str:
    return f"leaf {one.decision.leaf_index} in {', '.join(one.differences)}"
