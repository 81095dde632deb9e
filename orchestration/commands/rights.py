"""The commands of the privacy officer: `segline rights …`.

Belongs here: their arguments and what they print. Does not belong here: work (`orchestration.rights`).
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestration.commands.drawing import bar, output, print_rows
from orchestration.commands.options import EXIT_FAILED, EXIT_LOCKED, Failure, FormatOption, OutputFormat, settings_of

rights_app = typer.Typer(
    no_args_is_help=True,
    help="Honour what people ask about their own data: deletion, access, correction, portability, opt-out.\n\n"
    "A deletion: `segline rights request CUSTOMER --kind deletion --verified-by NAME` destroys the person's key at once; "
    "`segline rights apply` erases rows and bytes of all verified requests together and proves it; `segline rights "
    "certificate REQUEST` shows the signed result. Look at any time with `segline rights verify --identifier CUSTOMER`.",
)


class Kind(StrEnum):
    """What can be asked for."""

    DELETION = "deletion"
    ACCESS = "access"
    CORRECTION = "correction"
    PORTABILITY = "portability"
    OPT_OUT = "opt_out"


class CopyFormat(StrEnum):
    """How a copy is written."""

    JSON = "json"
    HTML = "html"


CustomerArgument = Annotated[str, typer.Argument(help="The customer's identifier as your source system writes it.")]
RequestArgument = Annotated[str, typer.Argument(help="Number of the request, as `segline rights status` shows it.")]


@contextmanager
def _told() -> Iterator[None]:
    """Errors of the concept packages as messages; none of them holds a value."""
    from orchestration.identity.errors import IdentityError
    from orchestration.rights.errors import RightsError
    from orchestration.run_lock import RunLocked

    try:
        yield
    except RunLocked as error:
        raise Failure(str(error), EXIT_LOCKED) from None
    except (RightsError, IdentityError) as error:
        raise Failure(str(error)) from None


def _keys(settings):
    from orchestration.identity.keys import load_keys

    return load_keys(settings)


@rights_app.command()
def request(
    customer: CustomerArgument,
    kind: Annotated[Kind, typer.Option(help="What is asked for.")],
    verified_by: Annotated[
        str | None, typer.Option("--verified-by", help="Who made sure that the request is the person's own; starts it.")
    ] = None,
    received_at: Annotated[
        datetime | None, typer.Option("--received-at", help="When it arrived (UTC); default: now. The clocks run from here.")
    ] = None,
    values: Annotated[
        list[str] | None, typer.Option("--set", help="For a correction: attribute=value; may be repeated.")
    ] = None,
) -> None:
    """Record a request. A second one of the same kind joins the first; give --verified-by then to verify it.

    A verified deletion is planned at once: what the law keeps is refused with reason and date, and of whom nothing is kept
    the key is destroyed before this command returns. An opt-out needs no verification.
    """
    from orchestration import run_lock
    from orchestration.rights.receiving import receive

    settings = settings_of()
    if kind is Kind.CORRECTION and verified_by and not values:
        raise Failure("say what is right: --set email=new@example.org", 2)
    if values and (kind is not Kind.CORRECTION or not verified_by):
        raise Failure("--set goes with --kind correction and --verified-by", 2)
    with _told():
        by = verified_by or ("nobody needs to" if kind is Kind.OPT_OUT else None)
        made = receive(settings, _keys(settings), customer, kind.value, "command line", by, received_at)
        output.print(f"{made.request_id}: {made.kind}, {made.state}", highlight=False)
        refused = made.detail("planned").get("refused")
        if made.state == "refused":
            detail = made.detail("refused")
            output.print(f"Refused: {detail['reason']}, until {detail['until'] or 'it is lifted'}", highlight=False)
        elif refused:
            output.print(f"Refused in part: {refused['statement']}", highlight=False)
        if kind is Kind.CORRECTION and values:
            from orchestration.rights.correction import correct

            with run_lock.run_lock(settings):
                told = correct(settings, _keys(settings), made, customer, dict(_pair(text) for text in values))
            output.print(f"Overridden here; have the source correct as well: {', '.join(told)}", highlight=False)
        elif kind is Kind.OPT_OUT:
            _opt_out(settings, customer, made)
        elif made.kind == "deletion" and made.state == "planned":
            output.print("Next: segline rights apply", highlight=False)
        elif made.state == "received":
            output.print("Next: verify the person, then the same command with --verified-by NAME", highlight=False)


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise Failure(f"--set wants attribute=value, not {name!r} alone", 2)
    return name.strip(), value


def _opt_out(settings, customer: str, made) -> None:
    from orchestration.rights.intake import record_opt_out

    record_opt_out(settings, customer, "command line", made.request_id, made.received_at)
    try:
        from orchestration.rights.opt_out import apply_opt_outs
    except ImportError:
        raise Failure("the opt-out is recorded, but this installation has no opt-out job to put it into force") from None
    from orchestration.access.bundles import refresh_bundles
    from orchestration.rights.receiving import close_opt_outs

    result = apply_opt_outs(settings)
    close_opt_outs(settings)
    stale = refresh_bundles(settings) if result.applied else None
    if stale:
        output.print(f"A role's bundle still holds what was published before: {stale}", highlight=False)
    if made.request_id in result.pending:
        output.print("On record; it is in force from the next publication that knows this customer.", highlight=False)
    else:
        output.print("In force in everything that is published.", highlight=False)


@rights_app.command()
def status(
    number: Annotated[str | None, typer.Argument(help="One request with its whole log; default: all requests.")] = None,
    file_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Show requests with their clocks: own (48 h, stands still while paused) and the law's, with the marks 50, 75, 90 %.

    100 means that the deadline has passed.
    """
    from orchestration.rights.requests import has_log, now, open_log

    settings = settings_of()
    if not has_log(settings):
        output.print("Nobody has asked for anything yet.")
        return
    with _told(), open_log(settings) as log:
        found = [log.get(number)] if number else log.all()
    moment = now()
    rows = []
    for one in found:
        own, law = one.clocks(moment)
        state = f"{one.state} (paused)" if one.is_paused else one.state
        if one.state == "planned" and one.detail("planned").get("refused"):
            state = "planned (in part)"
        marks = [f"{clock.due:%Y-%m-%d %H:%M} ({clock.alert})" if one.is_open else "" for clock in (own, law)]
        rows.append([one.request_id, one.kind, state, f"{one.received_at:%Y-%m-%d %H:%M}", *marks, one.source])
    columns = ["request", "kind", "state", "received", "own due (alert %)", "law due (alert %)", "source"]
    if file_format is OutputFormat.JSON:
        documents = [
            dict(zip(("request_id", "kind", "state", "received", "own_due", "law_due", "source"), row, strict=True))
            | {"events": [{"at": at.isoformat(), "state": state, **detail} for at, state, detail in one.events]}
            for row, one in zip(rows, found, strict=True)
        ]
        print(json.dumps(documents, indent=2, default=str))
    elif file_format is OutputFormat.CSV:
        from orchestration.querying import write_csv

        write_csv(columns, [tuple(row) for row in rows])
    else:
        print_rows(columns, rows, "Requests")
        if number:
            events = [(f"{at:%Y-%m-%d %H:%M:%S}", state, json.dumps(detail)) for at, state, detail in found[0].events]
            print_rows(["at (UTC)", "event", "detail"], events, "Log")


@rights_app.command()
def apply(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be erased and kept, store by store.")] = False,
) -> None:
    """Erase everybody whose deletion is verified, search every file for them, and certify it.

    Takes up what a killed pass left. Exit code 1 if some request could not be proven; `segline rights status REQUEST` says why.
    """
    from orchestration.rights import erasure
    from orchestration.run_lock import run_lock

    settings = settings_of()
    with _told():
        if dry_run:
            requests, outcomes = erasure.survey(settings, _keys(settings))
            output.print(f"{len(requests)} deletions would be applied.", highlight=False)
            _print_outcomes(outcomes, "would be erased")
            return
        with run_lock(settings), bar("erasing"):
            applied = erasure.apply(settings, _keys(settings))
    if applied.repeated:
        _print_outcomes(applied.repeated, "erased again after a restore")
    if not applied.requests:
        output.print("No verified deletion is waiting.")
        return
    _print_outcomes(applied.outcomes, "erased")
    unproven = []
    for one in applied.requests:
        output.print(f"{one.request_id}: {one.state}", highlight=False)
        if one.state != "proven":
            unproven.append(f"{one.request_id}: {applied.verdicts[one.request_id].reason}")
    if unproven:
        raise Failure("Erased, but not proven:\n" + "\n".join(unproven))


def _print_outcomes(outcomes, heading: str) -> None:
    rows = [
        (outcome.store, outcome.place, f"{outcome.erased:,}", f"{outcome.kept:,}", outcome.note)
        for outcome in outcomes
        if outcome.erased or outcome.kept
    ]
    print_rows(["store", "place", heading, "kept by law", "note"], rows)


@rights_app.command()
def verify(
    identifiers: Annotated[list[str], typer.Option("--identifier", help="An identifier of the person; may be repeated.")],
    control: Annotated[
        str | None, typer.Option("--control", help="A customer who is in the store; default: one is chosen.")
    ] = None,
    file_format: FormatOption = OutputFormat.TABLE,
) -> None:
    """Search every file under the home for a person, in every encoding, with every key there is.

    Exit code 0 only if nothing was found, every file could be opened, and the control was found. Values are never printed.
    """
    from orchestration.rights.engines import one_engine
    from orchestration.rights.requests import Subject
    from orchestration.rights.scanner import CLEAR, any_control
    from orchestration.rights.scanner import verify as search

    settings = settings_of()
    with _told(), one_engine(settings), bar("searching every file"):
        keys = _keys(settings)
        besides = {token for value in identifiers if value.strip() for token in Subject.of(keys, value).tokens.values()}
        found = search(settings, keys, identifiers, control or any_control(settings, keys, besides))
    report = {
        "verdict": found.verdict,
        "reason": found.reason,
        "files": found.scan.files,
        "bytes": found.scan.bytes_searched,
        "opened_as": found.scan.opened,
        "files_left_shut": found.scan.shut,
        "found": [{"file": hit.file, "place": hit.place, "form": hit.form} for hit in found.person],
        "control_hits": len(found.control),
    }
    if file_format is OutputFormat.JSON:
        print(json.dumps(report, indent=2))
    else:
        print_rows(["file", "where", "form"], [(hit.file, hit.place, hit.form) for hit in found.person], "Found")
        ways = ", ".join(f"{count} {way}" for way, count in sorted(found.scan.opened.items()))
        output.print(f"{found.scan.files} files searched ({ways}); control found in {len(found.control)} places", highlight=False)
        output.print(f"{found.verdict}: {found.reason}", highlight=False)
    if found.verdict != CLEAR:
        raise typer.Exit(EXIT_FAILED)  # the verdict has been printed, as the result that it is


@rights_app.command()
def certificate(
    number: Annotated[str | None, typer.Argument(help="Number of the request.")] = None,
    check: Annotated[Path | None, typer.Option("--check", help="Check the signature of a certificate in a file.")] = None,
    public_key: Annotated[bool, typer.Option("--public-key", help="Print the key by which certificates are checked.")] = False,
) -> None:
    """Show a deletion's signed certificate, after checking its signature. It names the person by a keyed hash only."""
    from orchestration.rights import certificate as certificates
    from orchestration.rights.errors import CertificateError

    settings = settings_of()
    with _told():
        trusted = certificates.public_keys(_keys(settings))
        if public_key:
            print("\n".join(trusted))
        elif check:
            try:
                document = json.loads(check.read_text(encoding="utf-8"))
            except ValueError:
                raise CertificateError(f"{check} is no JSON document") from None
            certificates.check(document, trusted)
            output.print(f"The signature is good: {document.get('request_id')}, {document.get('outcome')}", highlight=False)
        elif number:
            document = certificates.read(settings, number)
            certificates.check(document, trusted)
            print(json.dumps(document, indent=2, ensure_ascii=False))
        else:
            raise Failure("give the number of a request, --check FILE or --public-key", 2)


@rights_app.command()
def export(
    customer: CustomerArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder for the copy, outside the home.")],
    file_format: Annotated[CopyFormat, typer.Option("--format", help="json, or html to read.")] = CopyFormat.JSON,
) -> None:
    """Write the copy that a verified access or portability request asks for, and close the request.

    Everything held on the person, from every zone; for portability what they provided.
    """
    from orchestration.rights.access import export as write

    settings = settings_of()
    with _told():
        for path in write(settings, _keys(settings), customer, file_format.value, out):
            output.print(str(path), highlight=False, soft_wrap=True)


@rights_app.command()
def pause(number: RequestArgument, reason: Annotated[str, typer.Option(help="Why; without personal data.")]) -> None:
    """Let a request stand still, for example until the person has shown who they are. Our own clock stops, the law's runs."""
    from orchestration.rights.requests import open_log

    with _told(), open_log(settings_of()) as log:
        log.pause(number, reason)


@rights_app.command()
def resume(number: RequestArgument) -> None:
    """Go on with a paused request."""
    from orchestration.rights.requests import open_log

    with _told(), open_log(settings_of()) as log:
        log.resume(number)


@rights_app.command()
def refuse(
    number: RequestArgument,
    reason: Annotated[str, typer.Option(help="Why; it goes into the signed statement. Without personal data.")],
    by: Annotated[str, typer.Option(help="Who decides.")],
    until: Annotated[str | None, typer.Option(help="Until when, where the reason ends (ISO date).")] = None,
) -> None:
    """Refuse a request that nothing was done for yet, with a signed statement of reason and date."""
    from orchestration.rights.receiving import refuse as decide
    from orchestration.rights.requests import open_log

    settings = settings_of()
    with _told(), open_log(settings) as log:
        decide(settings, _keys(settings), log, log.get(number), reason, until, by)


@rights_app.command()
def hold(
    customer: CustomerArgument,
    reason: Annotated[str, typer.Option(help="Why the data must be kept; without personal data.")] = "",
    until: Annotated[datetime | None, typer.Option(help="Last day of the hold (ISO date).")] = None,
    by: Annotated[str, typer.Option(help="Who places it.")] = "",
    release: Annotated[bool, typer.Option("--release", help="End the hold.")] = False,
) -> None:
    """Place a legal hold: a deletion is refused until it ends. Or end one with --release."""
    from orchestration.rights.requests import Subject, open_log

    settings = settings_of()
    with _told(), open_log(settings) as log:
        subject = Subject.of(_keys(settings), customer)
        if release:
            if not log.release(subject.hash, by):
                raise Failure("there is no hold on that customer")
        elif not (reason and until and by):
            raise Failure("a hold needs --reason, --until and --by", 2)
        else:
            log.hold(subject.hash, reason, by, until)


@rights_app.command()
def suppressions(
    out: Annotated[Path | None, typer.Option("--out", help="Write a copy of the list; keep it apart from the home.")] = None,
    merge: Annotated[Path | None, typer.Option("--merge", help="Take in what a restored home's list has lost.")] = None,
) -> None:
    """Copy the suppression list to a safe place, or merge such a copy after the whole home was restored from a backup.

    The list holds keyed hashes only. The next run or `segline rights apply` erases whom the backup brought back.
    """
    from orchestration.rights.requests import open_log
    from orchestration.rights.suppression import merge_copy, write_copy

    with _told(), open_log(settings_of()) as log:
        if merge:
            output.print(f"{merge_copy(log, merge)} entries taken in", highlight=False)
        elif out:
            output.print(f"{write_copy(log, out)} entries written", highlight=False)
        else:
            raise Failure("give --out FILE or --merge FILE", 2)
