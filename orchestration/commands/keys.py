"""The commands of the keys: `keys status|rotate`.

Belongs here: their arguments and what they print. Does not belong here: work; any key's value.
"""

import os
from typing import Annotated

import typer

from orchestration.commands.drawing import bar, output, print_rows
from orchestration.commands.options import EXIT_LOCKED, Failure, FormatOption, OutputFormat, settings_of

keys_app = typer.Typer(no_args_is_help=True, help="The master keys and the ledger's signing key: state, rotation.")


@keys_app.command("status")
def status(file_format: FormatOption = OutputFormat.TABLE) -> None:
    """Show where the keys come from, their versions, and whether a rotation was interrupted. Never a key."""
    from orchestration.ledger.signing_key import next_key_file
    from orchestration.querying import write_document
    from orchestration.rights.rekeying import status as status_of

    found = status_of(settings_of())
    facts = {
        "origin": found.origin,
        "pseudonym_key_version": found.version,
        "pseudonyms_made_anew_at": found.in_use_from,
        "wrapping_key_version": found.kek_version,
        "retired_pseudonym_keys": list(found.retired),
        "persons_with_a_key": found.persons,
        "wrapped_under_another_version": found.under_older_wrapping,
        "rotation_unfinished": found.is_unfinished,
        "ledger_key_rotation_unfinished": os.path.lexists(next_key_file(settings_of())),
    }
    if file_format is OutputFormat.JSON:
        write_document(facts)
    else:
        print_rows(["", ""], [(name.replace("_", " "), str(value)) for name, value in facts.items()], "Master keys")
    if found.is_unfinished:
        raise Failure("a rotation was interrupted: complete it with `segline keys rotate`")
    if facts["ledger_key_rotation_unfinished"]:
        raise Failure("a rotation was interrupted: complete it with `segline keys rotate --ledger`")


@keys_app.command("rotate")
def rotate(
    pseudonyms: Annotated[
        bool, typer.Option("--pseudonyms", help="Make all pseudonyms anew as well: lake, vault, requests; not the signed ledger.")
    ] = False,
    ledger: Annotated[bool, typer.Option("--ledger", help="The ledger's signing key, and nothing else.")] = False,
) -> None:
    """Replace the wrapping key of the persons' keys by a new one, and destroy the old. Completes an interrupted rotation.

    With --pseudonyms the keys of pseudonyms and fingerprints too. The ledger still verifies, each person's decisions of before
    and after stay linked, who was suppressed stays so. Back the new key file up afterwards, and destroy the old backups.

    With --ledger the key that signs checkpoints: the change becomes a statement in the ledger, signed by both keys, so that an
    auditor who holds the old public key goes on verifying. Give him the new one all the same.
    """
    if ledger and pseudonyms:
        raise Failure("--ledger and --pseudonyms are two rotations: one after the other", 2)
    if ledger:
        _rotate_signing_key()
        return
    from orchestration.access.bundles import write_bundles
    from orchestration.identity.errors import IdentityError
    from orchestration.ledger.reading_log import log_reading
    from orchestration.rights.errors import RightsError
    from orchestration.rights.rekeying import rotate as rotate_keys
    from orchestration.run_lock import RunLocked, run_lock
    from orchestration.turns import TurnTimeout, shared_turn

    settings = settings_of()
    try:
        with (
            run_lock(settings, output.print),
            shared_turn(settings.turn_file, settings.lock_wait_seconds),
            bar("rotating the keys"),
        ):
            log_reading(settings, "keys:rotate:pseudonyms" if pseudonyms else "keys:rotate")
            done = rotate_keys(settings, pseudonyms)
        if done.with_pseudonyms and settings.catalog.exists():
            write_bundles(settings)
    except (RunLocked, TurnTimeout) as error:
        raise Failure(str(error), EXIT_LOCKED) from None
    except (IdentityError, RightsError) as error:
        raise Failure(str(error)) from None
    what = f"pseudonym key version {done.version}, " if done.with_pseudonyms else ""
    output.print(f"Rotated: {what}wrapping key version {done.kek_version}, {done.persons:,} persons' keys", highlight=False)
    if done.keeps_old_pseudonym_key:
        output.print(
            "The old pseudonym key makes nothing new any more. It stays in the key file, to find what cannot be made anew: the "
            "signed ledger's rows, closed requests, and whoever was erased and must not come back.",
            highlight=False,
        )
    output.print(f"Back up {settings.key_file} now, and destroy the backups of the keys before.", highlight=False, soft_wrap=True)
    if done.with_pseudonyms:
        output.print(
            "Connectors' folders carry identifiers of the old key: pull into empty ones.", highlight=False
        )


def _rotate_signing_key() -> None:
    from orchestration.lake import open_lake
    from orchestration.ledger.anchoring import anchor_newest
    from orchestration.ledger.errors import LedgerError
    from orchestration.ledger.key_rotation import rotate_signing_key
    from orchestration.ledger.reading_log import log_reading
    from orchestration.run_lock import RunLocked, run_lock
    from orchestration.turns import TurnTimeout

    settings = settings_of()
    if not settings.catalog.exists():
        raise Failure("there is no ledger yet: it begins with the first publication, `segline run`")
    try:
        with run_lock(settings, output.print), bar("rotating the ledger's signing key"), open_lake(settings) as connection:
            log_reading(settings, "keys:rotate:ledger")
            key = rotate_signing_key(connection, settings)
            failed = [outcome for outcome in anchor_newest(connection, settings) if outcome.error]
    except (RunLocked, TurnTimeout) as error:
        raise Failure(str(error), EXIT_LOCKED) from None
    except LedgerError as error:
        raise Failure(str(error)) from None
    output.print(f"The ledger's new public key: {key.text()}", highlight=False, soft_wrap=True)
    output.print("Give it to your auditors by another way than exports. Any key of before still verifies.", highlight=False)
    output.print(
        f"Back up {settings.ledger_key_file} now, and destroy the backups of the key before.", highlight=False, soft_wrap=True
    )
    for outcome in failed:
        output.print(f"Not anchored yet: {outcome.target}: {outcome.error}", highlight=False)
