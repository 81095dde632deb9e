"""Copies for the person: everything that is held on them, or what they provided, as JSON and as a page to read.

A copy never tells whether somebody is looked at under the rules on money laundering (tipping-off, Directive (EU) 2015/849
art. 39): what those rules keep back is in nobody's copy, and the sentence that says so stands in everybody's.

Belongs here: gathering and writing copies. Does not belong here: what is withheld (`duties.yml`), the life of the request.
GDPR art. 15 and 20; Civ 1798.110, 1798.130(a)(3).
"""

import hashlib
import html
import json
import os
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from orchestration.identity.errors import PersonNotFoundError
from orchestration.identity.keys import MasterKeys
from orchestration.identity.vault import read_person
from orchestration.lake import identifier
from orchestration.ledger.reading_log import log_reading, reads_ledger
from orchestration.rights.duties import Duty, duty_of
from orchestration.rights.engines import attached_lake, one_engine
from orchestration.rights.errors import RightsError
from orchestration.rights.reach import DERIVED_KEYS, Relation, relations
from orchestration.rights.receiving import profile_of
from orchestration.rights.requests import Request, Subject, now, open_log
from orchestration.settings import Settings

NEUTRAL = (
    "Categories of data to which the law allows no access, if any such are held on anybody, are part of no copy. This sentence "
    "stands in every copy and says nothing about you."
)
# What a person gave or caused by using the service (portability); everything else is inferred or made by others.
PROVIDED = ("customers", "transactions", "consent_events", "survey_feedback", "complaints", "web_events", "privacy_requests")
_INFERRED = ("age_band", "is_self_consent_capable", "is_pep", "has_sanctions_match")
_INTERNAL = ("load_id", *DERIVED_KEYS)


def gather(settings: Settings, keys: MasterKeys, customer: str, kind: str = "access") -> dict[str, Any]:
    """The copy as plain values: `identity` from the vault, and the person's rows by relation."""
    subject = Subject.of(keys, customer)
    with one_engine(settings) as connection:
        try:
            identity = read_person(settings, keys, subject.tokens["raw"], connection)
        except PersonNotFoundError:
            identity = {}
        held = _rows(settings, subject, duty_of(profile_of(settings)), kind)
    return {"identity": identity, "data": held, "statement": NEUTRAL}


def _rows(settings: Settings, subject: Subject, duty: Duty | None, kind: str) -> dict[str, list[dict[str, Any]]]:
    if not settings.catalog.exists():
        return {}
    found: dict[str, list[dict[str, Any]]] = {}
    with attached_lake(settings, read_only=True) as connection:
        connection.register("asked", pa.table({"token": sorted(subject.tokens.values())}))
        for relation in relations(connection):
            is_provided = relation.schema == "raw" and relation.name in PROVIDED
            if not (relation.owners or relation.derived) or (kind == "portability" and not is_provided):
                continue
            if duty and duty.is_withheld(relation.schema, relation.name):
                continue
            condition = _condition(relation, {str(other) for other in relations(connection)})
            if duty and str(relation) in duty.withholds.rows:
                condition += f" and ({duty.withholds.rows[str(relation)]})"
            cursor = connection.execute(f"select * from {relation.sql} where {condition} order by all")
            names = [column[0] for column in cursor.description]
            hidden = {name for name in names if name.endswith("_token") or name in _INTERNAL}
            hidden |= set(duty.withholds.columns) if duty else set()
            hidden |= set(_INFERRED) if kind == "portability" else set()
            rows = [
                {name: value for name, value in zip(names, row, strict=True) if name not in hidden}
                for row in cursor.fetchall()
            ]
            if rows:
                found[str(relation)] = rows
    return found


def _condition(relation: Relation, known: set[str]) -> str:
    parts = [f"{identifier(column)} in (select token from asked)" for column in relation.owners]
    for key in relation.derived:
        schema, name, column = DERIVED_KEYS[key]
        if f"{schema}.{name}" in known:
            source = f"select {key} from lake.{schema}.{name} where {column} in (select token from asked)"
            parts.append(f"{identifier(key)} in ({source})")
    return f"({' or '.join(parts) or 'false'})"


def export(settings: Settings, keys: MasterKeys, customer: str, file_format: str, out: Path) -> list[Path]:
    """Write the copies that the customer's verified access and portability requests ask for, and close those.

    Raises `RightsError` if there is no such request, or `out` lies under the home, which never holds plain identifiers.
    """
    folder = out.expanduser().resolve()
    if folder.is_relative_to(settings.root):
        raise RightsError(f"{out} lies under the home, which never holds plain identifiers: choose a folder elsewhere")
    subject = Subject.of(keys, customer)
    written = []
    with one_engine(settings), open_log(settings) as log:
        asked = [
            request
            for request in log.of_subject(*subject.hashes)
            if request.kind in ("access", "portability") and request.is_open and not request.is_paused
        ]
        ready = [request for request in asked if request.state != "received"]
        if not ready:
            raise RightsError(
                "there is no verified request for a copy of that customer's data: record one with `segline rights request "
                "CUSTOMER --kind access --verified-by NAME`"
            )
        folder.mkdir(parents=True, exist_ok=True)
        for request in ready:
            log.advance(request, "planned", {"format": file_format})
            path = folder / f"{request.request_id}.{file_format}"
            copy = gather(settings, keys, customer, request.kind)
            decisions = sum(len(rows) for relation, rows in copy["data"].items() if reads_ledger(relation))
            if decisions:
                log_reading(settings, f"copy:{request.request_id}", leaf_count=decisions)
            text = _write(path, request, copy, file_format)
            log.advance(request, "applied", {"sha256": hashlib.sha256(text).hexdigest()})
            log.advance(request, "propagated")
            log.advance(request, "proven")
            written.append(path)
        log.compact()
    return written


def _write(path: Path, request: Request, copy: dict[str, Any], file_format: str) -> bytes:
    document = {"request_id": request.request_id, "kind": request.kind, "made_at": now(), **copy}
    if file_format == "json":
        text = (json.dumps(document, indent=2, ensure_ascii=False, default=_plain) + "\n").encode()
    else:
        text = page(document).encode()
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(text)
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal):
        return float(value)
    return str(value)


_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;margin:.5rem 0 2rem;display:block;overflow-x:auto}"
    "th,td{border:1px solid #bbb;padding:.25rem .6rem;text-align:left}th{background:#eee}"
)


def page(document: dict[str, Any]) -> str:
    """The copy as one page: no script, nothing loaded from elsewhere."""
    parts = [f"<h1>Your data</h1><p>Request {_cell(document['request_id'])}, made {_cell(document['made_at'])} UTC.</p>"]
    parts.append("<h2>Who you are</h2>" + _table([{"attribute": k, "value": v} for k, v in document["identity"].items()]))
    for relation, rows in document["data"].items():
        parts.append(f"<h2>{_cell(relation.split('.')[-1].replace('_', ' '))}</h2><p>{_cell(relation)}</p>" + _table(rows))
    parts.append(f"<p>{_cell(document['statement'])}</p>")
    body = "".join(parts)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Your data</title>'
        f"<style>{_STYLE}</style></head><body>{body}</body></html>\n"
    )


def _table(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "<p>Nothing is held.</p>"
    head = "".join(f'<th scope="col">{_cell(name.replace("_", " "))}</th>' for name in rows[0])
    body = "".join("<tr>" + "".join(f"<td>{_cell(value)}</td>" for value in row.values()) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(value: Any) -> str:
    return html.escape("" if value is None else str(_plain(value)))
