"""Erasure: all verified deletions of a home in one pass, in an order that a crash cannot turn against the person.

Suppression list, keys (both at the plan already, see `receiving`), live rows of every store, bytes of every store, then the
search. Each request advances only when every store has reported; whatever was interrupted is done again by the next call,
and what is done already is found done. A batch of a thousand costs about what one does: the stores work on sets.

Belongs here: the order, the proof, the certificate, and erasing again after a restore. Does not belong here: how a store
erases (`stores`, `databases`), who is searched for and how (`needles`, `scanner`).
"""

import secrets
import sqlite3
from contextlib import closing
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from orchestration import progress
from orchestration.identity.keys import MasterKeys
from orchestration.identity.vault import PERSONS, attached_vault
from orchestration.lake import identifier, literal
from orchestration.rights import certificate
from orchestration.rights.databases import KeyStore, LakeStore, VaultStore
from orchestration.rights.duties import Duty, duties
from orchestration.rights.engines import attached_lake, one_engine
from orchestration.rights.errors import ErasureError
from orchestration.rights.needles import identifier_forms, needles_of, token_forms
from orchestration.rights.reach import relations
from orchestration.rights.receiving import FULL, RESTRICTED, open_from_feed, plan
from orchestration.rights.requests import STEPS, Request, RightsLog, Subject, now, open_log
from orchestration.rights.scanner import CLEAR, CONTROL, Hit, Scan, Scanner, Verdict, any_control, judge
from orchestration.rights.stores import Batch, FileStore, Outcome, Store, stores
from orchestration.rights.suppression import entries, hash_sql, suppress
from orchestration.settings import Settings

# Where a duty may keep a person's data; anywhere else a hit counts against the proof.
_DUTY_PLACES = ("lake/", "vault/")


@dataclass
class Applied:
    """What one pass did: the batch's name, requests by outcome, what the stores reported, what the search said."""

    batch_id: str
    requests: list[Request] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    verdicts: dict[str, Verdict] = field(default_factory=dict)
    repeated: list[Outcome] = field(default_factory=list)


def pending_deletions(log: RightsLog) -> list[Request]:
    """Deletions that wait for `apply`: verified, not paused, not closed."""
    return [request for request in log.open_requests("deletion") if request.state != "received" and not request.is_paused]


def batch_of(requests: list[Request], subjects: dict[str, Subject]) -> Batch:
    """The requests' persons as one batch."""
    tokens: dict[str, set[str]] = {FULL: set(), RESTRICTED: set()}
    texts: set[bytes] = set()
    duty: Duty | None = None
    known = {entry.duty: entry for entry in duties()}
    for request in requests:
        subject, planned = subjects[request.request_id], request.detail("planned")
        tokens[planned["scope"]] |= set(subject.tokens.values())
        if planned["scope"] == RESTRICTED:
            duty = known[planned["refused"]["duty"]]
        texts |= {token.encode() for token in subject.tokens.values()}
        texts |= {subject.customer.encode(), subject.customer.strip().encode()} - {b""}
    # Of whom one request erases all, nothing is kept for another's sake.
    return Batch(frozenset(tokens[FULL]), frozenset(tokens[RESTRICTED] - tokens[FULL]), duty, tuple(sorted(texts)))


def survey(settings: Settings, keys: MasterKeys) -> tuple[list[Request], list[Outcome]]:
    """What `apply` would do now, store by store; nothing is changed but that verified requests are planned."""
    with one_engine(settings), open_log(settings) as log:
        open_from_feed(settings, keys, log)
        requests = _planned(settings, keys, log)
        if not requests:
            return [], []
        subjects = {request.request_id: log.subject(request, keys) for request in requests}
    batch = batch_of(requests, subjects)
    return requests, [outcome for store in stores(settings) for outcome in store.survey(batch)]


def apply(settings: Settings, keys: MasterKeys) -> Applied:
    """Erase everybody whose deletion is verified, prove it, certify it. The caller holds the home's lock.

    Raises `ErasureError` if a store cannot erase; the requests stay where they are, and the next call goes on.
    """
    applied = Applied(f"B-{now():%Y%m%d}-{secrets.token_hex(4)}")
    with one_engine(settings), open_log(settings) as log:
        open_from_feed(settings, keys, log)
        applied.repeated = repeat(settings, log, thorough=True)
        applied.requests = requests = _planned(settings, keys, log)
        if not requests:
            return applied
        subjects = {request.request_id: log.subject(request, keys) for request in requests}
        batch = batch_of(requests, subjects)
        with log.transaction():
            for request in requests:
                duty = request.detail("planned").get("refused", {}).get("duty")
                suppress(log, subjects[request.request_id], duty, request.request_id)
        log.note_batch(applied.batch_id, "members", {"requests": [request.request_id for request in requests]})
        all_stores = stores(settings)
        control = _control(settings, keys, log, applied.batch_id, batch)
        for step, store in enumerate(all_stores):
            progress.report(f"erasing rows: {store.name}", step / len(all_stores) / 3)
            applied.outcomes += store.forget(batch)
        log.note_batch(applied.batch_id, "applied", {"outcomes": [asdict(outcome) for outcome in applied.outcomes]})
        _advance(log, requests, "applied", {"batch": applied.batch_id})
        purged: list[Outcome] = []
        for step, store in enumerate(all_stores):
            progress.report(f"erasing bytes: {store.name}", (1 + step / len(all_stores)) / 3)
            purged += store.purge(batch)
        log.note_batch(applied.batch_id, "propagated", {"outcomes": [asdict(outcome) for outcome in purged]})
        applied.outcomes += purged
        _advance(log, requests, "propagated", {"batch": applied.batch_id})
        _prove(settings, keys, log, applied, all_stores, batch, subjects, control)
        log.compact()
        _mark(settings, log)
    return applied


def _planned(settings: Settings, keys: MasterKeys, log: RightsLog) -> list[Request]:
    waiting = pending_deletions(log)
    plan(settings, keys, log, [request for request in waiting if request.state == "verified"])
    return [request for request in pending_deletions(log) if request.state != "verified"]


def _advance(log: RightsLog, requests: list[Request], state: str, detail: dict[str, Any]) -> None:
    with log.transaction():
        for request in requests:
            if STEPS.index(request.state) < STEPS.index(state):
                log.advance(request, state, detail)


@dataclass(frozen=True)
class _Control:
    """Somebody who stays: what is searched for, and whose vault entry is opened for it."""

    forms: dict[bytes, str]
    token: str


def _control(settings: Settings, keys: MasterKeys, log: RightsLog, batch_id: str, batch: Batch) -> _Control:
    """Somebody who stays, found by the search before anything is erased; nothing is searched for if there is nobody."""
    customer = any_control(settings, keys, set(batch.full | batch.restricted))
    forms = needles_of(keys, customer) if customer else {}
    control = _Control(forms, Subject.of(keys, customer).tokens["raw"] if customer else "")
    customers = settings.lake_data / "raw" / "customers"
    files = [*settings.vault_data.rglob("*.parquet"), *customers.rglob("*.parquet")]
    tokens = token_forms(("raw", token) for token in batch.full | batch.restricted)
    scan = Scanner(settings, keys, {CONTROL: forms, "persons": tokens}, [control.token]).run(files)
    found = bool(scan.of(CONTROL))
    log.note_batch(batch_id, "before", {"control_found": found, "persons_found": bool(scan.of("persons")), "files": scan.files})
    return control


def _prove(
    settings: Settings,
    keys: MasterKeys,
    log: RightsLog,
    applied: Applied,
    all_stores: list[Store],
    batch: Batch,
    subjects: dict[str, Subject],
    control: _Control,
) -> None:
    """Ask every store, search every file, and close what is proven."""
    progress.report("searching every file", 0.7)
    # Files are searched below; the databases are asked as well, for a number in a table is no text.
    databases = [store for store in all_stores if not isinstance(store, FileStore)]
    left = [outcome for store in databases for outcome in store.survey(batch) if outcome.erased]
    wanted = {
        request.request_id: {
            **(identifier_forms(subject.customer) if subject.customer.strip() else {}),
            **token_forms(subject.tokens.items()),
        }
        for request, subject in ((request, subjects[request.request_id]) for request in applied.requests)
    }
    everybody = {needle for needles in wanted.values() for needle in needles}
    others = {needle: form for needle, form in control.forms.items() if needle not in everybody}
    # Of the vault's entries the control's are opened, and the persons' own, should a key of theirs be left.
    opened = {control.token, *(subject.tokens["raw"] for subject in subjects.values())}
    scan = Scanner(settings, keys, {**wanted, CONTROL: others}, opened).run()
    before = log.batch(applied.batch_id).get("before", {})
    for request in applied.requests:
        is_restricted = request.detail("planned")["scope"] == RESTRICTED
        verdict = judge(scan, request.request_id, _kept_places if is_restricted else _nowhere)
        applied.verdicts[request.request_id] = verdict
        if left or verdict.verdict != CLEAR or not before.get("control_found"):
            rows = f"; {sum(outcome.erased for outcome in left)} rows remain in {left[0].place}" if left else ""
            missed = "" if before.get("control_found") else "; the control was not found before"
            log.note(request.request_id, "unproven", {"verdict": verdict.verdict, "reason": f"{verdict.reason}{rows}{missed}"})
            continue
        document = _document(settings, log, request, applied, all_stores, verdict, scan, len(wanted[request.request_id]), before)
        certificate.store(settings, certificate.sign(keys, document))
        log.advance(request, "proven", {"batch": applied.batch_id, "certificate": f"{request.request_id}.json"})


def _nowhere(hit: Hit) -> bool:
    return False


def _kept_places(hit: Hit) -> bool:
    """Whether a duty may keep data there; that only the rows it names are left is what the lake's own survey says."""
    return hit.file.startswith(_DUTY_PLACES)


def _document(
    settings: Settings,
    log: RightsLog,
    request: Request,
    applied: Applied,
    all_stores: list[Store],
    verdict: Verdict,
    scan: Scan,
    forms: int,
    before: dict[str, Any],
) -> dict[str, Any]:
    """The certificate's content. Rows are those of the batch, which says how many persons it had."""
    reported: dict[str, list[dict[str, Any]]] = {}
    for outcome in applied.outcomes:
        place = {"place": outcome.place, "result": outcome.result, "erased": outcome.erased, "kept": outcome.kept}
        reported.setdefault(outcome.store, []).append(place | ({"note": outcome.note} if outcome.note else {}))
    planned = request.detail("planned")
    return {
        "version": 1,
        "request_id": request.request_id,
        "kind": request.kind,
        "subject": request.subject_hash,
        "outcome": "erased" if planned["scope"] == FULL else "erased but for what the law keeps",
        "scope": planned["scope"],
        "refused": planned.get("refused"),
        "received_at": request.received_at,
        "verified": request.detail("verified"),
        # Before the pass that the stores below speak of, which therefore finds no key of the person.
        "key_destroyed_at": request.instant_of("key_destroyed"),
        "proven_at": now(),
        "batch": {"batch_id": applied.batch_id, "requests": len(applied.requests)},
        "stores": [
            {"store": store.name, "holds": store.holds, "places": reported.get(store.name, [])} for store in all_stores
        ],
        "proof": {
            "verdict": verdict.verdict,
            "reason": verdict.reason,
            "files_searched": scan.files,
            "bytes_searched": scan.bytes_searched,
            "opened_as": scan.opened,
            "forms_searched": forms,
            "found": len(verdict.person),
            "control_found_before": bool(before.get("control_found")),
            "control_found_after": bool(verdict.control),
            "files_left_shut": scan.shut,
            "vault_entries_opened": "the control's, and the persons' own where a key is left; `rights verify` opens everybody's",
        },
        "suppression": "the person is on the suppression list: no delivery and no restored backup brings the data back",
        "limits": (
            "covers the files under this home; backups kept elsewhere hold sealed values without their key, and the "
            "suppression list is applied to them when they are restored"
        ),
    }


# after a restore


def repeat(settings: Settings, log: RightsLog, thorough: bool = False) -> list[Outcome]:
    """Erase again whom a restored backup has brought back; nothing is done, and little looked at, if nobody was.

    A restore shows in snapshots that went backwards; then, or if `thorough`, every table is looked through. Else only the
    places that hold one row per person are.
    """
    waiting = {request.request_id for request in log.open_requests("deletion")}
    rows = log.store.execute("select token_hash, zone, duty, request_id from suppressions").fetchall()
    listed = [row[:3] for row in rows if row[3] not in waiting]
    if not listed:
        return []
    everything = thorough or _went_backwards(settings, log)
    full, restricted, duty = _brought_back(settings, listed, everything)
    batch = Batch(frozenset(full), frozenset(restricted), duty, tuple(token.encode() for token in sorted(full | restricted)))
    if batch.is_empty:
        return []
    outcomes: list[Outcome] = []
    found: list[Store] = [KeyStore(settings), VaultStore(settings), LakeStore(settings)]
    for store in found:
        outcomes += store.forget(batch)
    for store in found:
        outcomes += store.purge(batch)
    left = sum(outcome.erased for store in found for outcome in store.survey(batch))
    if left:
        raise ErasureError(f"{left} rows of erased persons came back with a backup and could not be erased again")
    batch_id = f"R-{now():%Y%m%d}-{secrets.token_hex(4)}"
    log.note_batch(batch_id, "repeated", {"persons": len(full), "outcomes": [asdict(outcome) for outcome in outcomes]})
    _mark(settings, log)
    return [outcome for outcome in outcomes if outcome.erased]


def repeat_at_start(settings: Settings) -> list[Outcome]:
    """`repeat` as a run begins; the caller holds the home's lock."""
    if not entries(settings):
        return []
    with one_engine(settings), open_log(settings) as log:
        return repeat(settings, log)


def _brought_back(
    settings: Settings, listed: list[tuple[str, str, str | None]], everything: bool
) -> tuple[set[str], set[str], Duty | None]:
    """Pseudonyms that are on the list and yet in a store, in the scope of what was erased."""
    known = {entry.duty: entry for entry in duties()}
    duty = next((known[name] for _, _, name in listed if name), None)
    full: set[str] = set()
    restricted: set[str] = set()
    if not settings.catalog.exists():
        return full, restricted, duty
    with attached_lake(settings, read_only=True) as connection:
        columns = {"token_hash": [row[0] for row in listed], "is_full": [row[2] is None for row in listed]}
        connection.register("listed", pa.table(columns))

        def tokens(source: str, column: str, is_full: bool, where: str = "true") -> set[str]:
            chosen = "is_full" if is_full else "not is_full"
            rows = connection.execute(
                f"select token from (select distinct {identifier(column)} as token from {source} where {where}) "
                f"where {hash_sql('token')} in (select token_hash from listed where {chosen})"
            ).fetchall()
            return {row[0] for row in rows}

        for relation in relations(connection):
            if not everything and str(relation) != "raw.customers":
                continue
            for column in (*relation.owners, *relation.mentions):
                full |= tokens(relation.sql, column, True)
            kept = duty.kept(relation.schema, relation.name) if duty else True
            if kept is not True:
                where = "true" if kept is False else f"not coalesce({kept}, false)"
                for column in relation.owners:
                    restricted |= tokens(relation.sql, column, False, where)
        if settings.vault_catalog.exists():
            with attached_vault(connection, settings, read_only=True) as vault:
                tables = vault.execute("select table_name from duckdb_tables() where database_name = 'vault'").fetchall()
                if ("persons",) in tables:
                    persons = vault.execute(f"select subject_token as token from {PERSONS}").to_arrow_table()
                    connection.register("vault_persons", persons)
                    full |= tokens("vault_persons", "token", True)
                    connection.unregister("vault_persons")
        if settings.key_store.exists():
            connection.execute(f"attach {literal(settings.key_store)} as key_store (type sqlite, read_only)")
            full |= tokens("key_store.subject_keys", "subject_token", True)
            connection.execute("detach key_store")
    return full, restricted - full, duty


def _newest_snapshots(settings: Settings) -> dict[str, int]:
    newest = {}
    for name, path in (("lake", settings.catalog), ("vault", settings.vault_catalog)):
        if path.exists():
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as db:
                newest[name] = int(db.execute("select max(snapshot_id) from ducklake_snapshot").fetchone()[0] or 0)
    return newest


def _mark(settings: Settings, log: RightsLog) -> None:
    """Note how far lake and vault have come."""
    log.store.executemany("insert or replace into marks values (?, ?)", _newest_snapshots(settings).items())


def _went_backwards(settings: Settings, log: RightsLog) -> bool:
    marks = dict(log.store.execute("select name, value from marks").fetchall())
    newest = _newest_snapshots(settings)
    return any(newest.get(name, -1) < value for name, value in marks.items())
