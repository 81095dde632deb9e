"""From a request to a plan: taking it in, having its maker verified, deciding what the law keeps, shredding at once.

A verified deletion is planned on the spot. Of whom nothing is kept, the person is put on the suppression list and the key
destroyed before the call returns: from then on no copy of the identifiers can be read. The rows follow with the next
`erasure.apply`, for all requests at once.

Belongs here: how requests come in, by command or feed. Does not belong here: erasing rows and bytes (`erasure`).
"""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from datetime import datetime
from typing import Any

import pyarrow as pa

from orchestration.identity.errors import IdentityError
from orchestration.identity.keys import MasterKeys
from orchestration.identity.pseudonyms import hmac_sha256
from orchestration.identity.sealing import unseal
from orchestration.identity.vault import PERSONS, attached_vault
from orchestration.lake import table_exists
from orchestration.ledger.names import names_in_ledger
from orchestration.rights.certificate import sign, store
from orchestration.rights.duties import DutyState, duty_of, state_of
from orchestration.rights.engines import attached_lake, one_engine
from orchestration.rights.requests import Request, RightsLog, Subject, has_log, now, open_log
from orchestration.rights.retention import persons_sql
from orchestration.rights.retention_policy import kept_after_end, load_rules
from orchestration.rights.suppression import OWN_FEED, suppress
from orchestration.rights.upkeep import shred
from orchestration.settings import Settings

FULL, RESTRICTED = "full", "restricted"
_FEED_KINDS = ("deletion", "access", "correction", "portability")
_VERIFIED_IN_FEED = ("verified", "completed")


def profile_of(settings: Settings) -> str:
    """The tenant profile that the home's data were landed for; the settings' where nothing was landed.

    Not the settings' alone: a command run with the wrong profile would erase what another profile's law keeps.
    """
    if settings.catalog.exists():
        with attached_lake(settings, read_only=True) as connection:
            if table_exists(connection, "ops", "deliveries"):
                row = connection.execute("select max_by(profile, landed_at) from lake.ops.deliveries").fetchone()
                if row and row[0]:
                    return str(row[0])
    return settings.profile


def receive(
    settings: Settings,
    keys: MasterKeys,
    customer: str,
    kind: str,
    source: str = "command line",
    verified_by: str | None = None,
    received_at: datetime | None = None,
) -> Request:
    """Record a request of a customer, or join it to the open one; verified and planned at once if somebody vouches.

    Raises `RightsError` for a blank customer or an unknown kind.
    """
    with one_engine(settings), open_log(settings) as log:
        request = log.open(kind, Subject.of(keys, customer), keys, source, received_at)
        if verified_by and request.state == "received":
            confirm(settings, keys, log, [request], verified_by)
        return log.get(request.request_id)


def confirm(settings: Settings, keys: MasterKeys, log: RightsLog, requests: Iterable[Request], verified_by: str) -> None:
    """The makers of these requests are who they say: plan what follows, shred what can be."""
    chosen = list(requests)
    with log.transaction():
        for request in chosen:
            log.advance(request, "verified", {"by": verified_by})
    plan(settings, keys, log, [request for request in chosen if request.kind == "deletion"])


def close_opt_outs(settings: Settings) -> list[str]:
    """Close the opt-out requests that the log of applications shows in force; returns their ids."""
    if not has_log(settings) or not settings.catalog.exists():
        return []
    with open_log(settings) as log:
        waiting = [request for request in log.open_requests("opt_out") if request.state != "received" and not request.is_paused]
        if not waiting:
            return []
        with attached_lake(settings, read_only=True) as connection:
            if not table_exists(connection, "ops", "opt_out_applications"):
                return []
            rows = connection.execute("select request_id from lake.ops.opt_out_applications").fetchall()
        in_force = {row[0] for row in rows}
        closed = [request for request in waiting if request.request_id in in_force]
        with log.transaction():
            for request in closed:
                for state in ("planned", "applied", "propagated", "proven"):
                    log.advance(request, state, {"on_record_in": "ops.opt_out_applications"})
    return [request.request_id for request in closed]


def plan(settings: Settings, keys: MasterKeys, log: RightsLog, requests: list[Request]) -> None:
    """Decide for verified deletions: refused by a hold, restricted by a duty, or full. Safe to repeat."""
    if not requests:
        return
    subjects = {request.request_id: log.subject(request, keys) for request in requests}
    states = _duty_states(settings, list(subjects.values()))
    gone: dict[str, str] = {}
    with log.transaction():
        for request in requests:
            subject = subjects[request.request_id]
            held = log.hold_on(subject.hash, now())
            if held:
                refuse(settings, keys, log, request, f"legal hold: {held[0]}", held[1] and held[1][:10], "legal hold")
                continue
            state = states[subject.hash]
            detail: dict[str, Any] = {"scope": FULL}
            if state:
                refused = {"duty": state.duty.duty, "statement": state.statement(), "until": state.until, "decided_at": now()}
                detail = {"scope": RESTRICTED, "refused": refused}
            suppress(log, subject, state.duty.duty if state else None, request.request_id)
            log.advance(request, "planned", detail)
            if not state:
                gone[request.request_id] = subject.tokens["raw"]
    shred(settings, gone.values())
    with log.transaction():
        for request_id in gone:
            log.note(request_id, "key_destroyed")


def refuse(
    settings: Settings, keys: MasterKeys, log: RightsLog, request: Request, reason: str, until: str | None, by: str
) -> None:
    """Refuse a request as a whole, with reason, date and a signed statement."""
    detail = {"reason": reason, "until": until, "by": by, "refused_at": now().isoformat()}
    document = {
        "version": 1,
        "request_id": request.request_id,
        "kind": request.kind,
        "subject": request.subject_hash,
        "received_at": request.received_at,
        "outcome": "refused",
        "refused": detail,
    }
    store(settings, sign(keys, document))
    log.advance(request, "refused", detail)


def _duty_states(settings: Settings, subjects: list[Subject]) -> dict[str, DutyState | None]:
    """How the profile's duty to keep stands for each person, by hash."""
    profile = profile_of(settings)
    duty = duty_of(profile)
    if duty is None:
        return {subject.hash: None for subject in subjects}
    periods = kept_after_end(load_rules(profile), duty.purpose)
    known: dict[str, tuple[str | None, datetime | None]] = {}
    if settings.catalog.exists():
        with attached_lake(settings, read_only=True) as connection:
            if table_exists(connection, "raw", "customers"):
                connection.register("asked", pa.table({"token": [subject.tokens["raw"] for subject in subjects]}))
                asked = "subject_token in (select token from asked)"
                rows = connection.execute(f"select * from ({persons_sql(connection, asked)}) where {asked}").fetchall()
                known = {token: (tier, ended_at) for token, tier, ended_at in rows}
    today = now().date()
    states = {}
    for subject in subjects:
        tier, ended_at = known.get(subject.tokens["raw"], (None, None))
        states[subject.hash] = state_of(duty, ended_at, periods.get(tier or "*", periods["*"]), today)
    return states


def open_from_feed(settings: Settings, keys: MasterKeys, log: RightsLog) -> list[Request]:
    """Open a life cycle for every request of the feed that has none; one that the feed calls verified is confirmed.

    Opt-outs are left to the consent gate, which reads them from the same rows.
    """
    rows = _feed_rows(settings)
    if not rows:
        return []
    known = _sources(log.all())
    fresh = [row for row in rows if known.isdisjoint(_sources_of(keys, row))]
    customers = _customers(settings, keys, {row["subject_token"] for row in fresh})
    in_ledger = _names_in_ledger(settings, keys, [row["subject_token"] for row in fresh])
    opened, verified = [], []
    with log.transaction():
        for row in fresh:
            customer = customers.get(row["subject_token"], "")
            zones = {"raw": "subject_token", "risk": "risk_subject_token", "audience": "audience_subject_token"}
            tokens = {zone: row[column] for zone, column in zones.items() if row[column]}
            tokens["ledger"] = in_ledger[tokens["raw"]]
            subject = Subject.of(keys, customer) if customer else Subject("", tokens)
            request = log.open(row["request_type"], subject, keys, _source(keys, row), row["received_at"])
            opened.append(request)
            if row["status"] in _VERIFIED_IN_FEED and request.state == "received":
                verified.append(request)
    confirm(settings, keys, log, {request.request_id: request for request in verified}.values(), "the feed")
    return opened


def _names_in_ledger(settings: Settings, keys: MasterKeys, tokens: list[str]) -> dict[str, str]:
    """The pseudonym by which the ledger knows each of them: after a re-keying not the one that today's keys make."""
    with attached_lake(settings, read_only=True) as connection:
        return dict(zip(tokens, names_in_ledger(connection, keys, tokens), strict=True))


def waiting_deletions(settings: Settings, keys: MasterKeys) -> int:
    """How many deletions wait for the next pass: verified ones, and those that the feed has brought since the last."""
    known: set[str] = set()
    waiting = 0
    if has_log(settings):
        with open_log(settings) as log:
            requests = log.all()
        known = _sources(requests)
        waiting = sum(
            request.kind == "deletion" and request.is_open and request.state != "received" and not request.is_paused
            for request in requests
        )
    fresh = [row for row in _feed_rows(settings) if known.isdisjoint(_sources_of(keys, row))]
    return waiting + sum(row["request_type"] == "deletion" and row["status"] in _VERIFIED_IN_FEED for row in fresh)


def _sources(requests: Iterable[Request]) -> set[str]:
    """Where the requests came from, joined ones included."""
    return {
        detail["source"]
        for request in requests
        for _, state, detail in request.events
        if state in ("received", "duplicate_joined")
    }


def _sources_of(keys: MasterKeys, row: dict[str, Any]) -> set[str]:
    """The same under every key of before: the log of requests is never written anew."""
    return {_source(generation, row) for generation in keys.generations}


def _source(keys: MasterKeys, row: dict[str, Any]) -> str:
    """Where a request came from. Its number there is kept as a keyed hash: some tenants write the customer into it."""
    number = hmac_sha256(keys.pseudonym, [str(row["request_id"]).encode()], b"request number", 12).hex()
    return f"feed {row['feed']}: {number}"


def _feed_rows(settings: Settings) -> list[dict[str, Any]]:
    if not settings.catalog.exists():
        return []
    with attached_lake(settings, read_only=True) as connection:
        if not table_exists(connection, "raw", "privacy_requests"):
            return []
        cursor = connection.execute(
            "select requests.request_id, requests.feed, requests.request_type, requests.received_at, requests.status, "
            "requests.subject_token, customers.risk_subject_token, customers.audience_subject_token "
            "from lake.raw.privacy_requests as requests left join lake.raw.customers as customers using (subject_token) "
            "where requests.request_type in (select unnest(?)) and coalesce(requests.status, 'received') <> 'refused' "
            "and requests.feed <> ? order by requests.received_at, requests.request_id",
            [list(_FEED_KINDS), OWN_FEED],
        )
        names = [column[0] for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _customers(settings: Settings, keys: MasterKeys, tokens: set[str]) -> dict[str, str]:
    """The customer identifiers of those pseudonyms whose vault entry can be opened."""
    if not tokens or not settings.vault_catalog.exists() or not settings.key_store.exists():
        return {}
    with closing(sqlite3.connect(settings.key_store, timeout=30)) as store_:
        held = {
            token: store_.execute("select nonce, wrapped_key from subject_keys where subject_token = ?", [token]).fetchone()
            for token in tokens
        }
    with attached_lake(settings, read_only=True) as connection, attached_vault(connection, settings, read_only=True) as vault:
        vault.register("asked", pa.table({"token": sorted(tokens)}))
        rows = vault.execute(
            f"select subject_token, customer_id from {PERSONS} where subject_token in (select token from asked)"
        ).fetchall()
    found = {}
    for token, sealed in rows:
        if held[token] is not None:
            try:
                found[token] = unseal(keys, token, *held[token], ["customer_id"], [sealed])["customer_id"]
            except (IdentityError, KeyError):
                continue
    return found


