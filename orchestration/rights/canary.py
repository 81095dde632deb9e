"""The canary: a synthetic person who opted out goes through every run, and must come out in no named segment.

Two twins are placed beside each delivery. Both bought the same things and gave the same consent; one of them opted out
afterwards. The one who opted out proves that the gate works today, in this store, on this code; the other, the positive
control, proves that the first would have been in a named segment otherwise: a check that nobody can fail is none.

Nothing in the tables marks them. Their identifiers come from the master key, they carry the feed of a real customer, so no
SQL can treat them apart; whoever holds the key finds them again, and publication removes them before it counts.

Belongs here: making, judging and removing the twins. Does not belong here: the checks' place in the graph (`defs`).
Why at landing: docs/decisions/0007-canary.md. The failure it would have caught on its first day: an opt-out that did
nothing for forty days (California Privacy Protection Agency, Todd Snyder, 2025).
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import duckdb
import pyarrow as pa

from orchestration.identity.keys import MasterKeys
from orchestration.identity.pseudonyms import tokens_by_zone
from orchestration.ingestion.contracts import load_contracts
from orchestration.lake import identifier, table_exists, transaction
from orchestration.rights.published_sql import Model

Twin = Literal["opted_out", "control"]
TWINS: tuple[Twin, ...] = ("opted_out", "control")
PURCHASES, PURCHASE_EUR = 14, "120.00"  # enough for the topmost segment of either profile


@dataclass(frozen=True)
class CanaryOutcome:
    """How the twins fared in one candidate relation.

    `consent_rows`: rows of the relation that rest on consent. `escaped`: rows of the opted-out twin that are not the
    default segment. `named`: rows of the control that are not.
    """

    relation: str
    consent_rows: int
    escaped: int
    named: int

    @property
    def passed(self) -> bool:
        """No escape, and the control in a named segment wherever anything rests on consent."""
        return self.escaped == 0 and (self.consent_rows == 0 or self.named > 0)


def _secret(keys: MasterKeys, what: str) -> str:
    return hmac.digest(keys.pseudonym, f"canary\0{what}".encode(), "sha256").hex()[:20]


def canary_tokens(keys: MasterKeys) -> dict[Twin, tuple[str, str, str]]:
    """Each twin's tokens in the zones raw, risk and audience."""
    names = pa.array([_secret(keys, twin) for twin in TWINS], pa.string())
    columns = [column.to_pylist() for column in tokens_by_zone(keys, ["raw", "risk", "audience"], names)]
    return {twin: tuple(column[place] for column in columns) for place, twin in enumerate(TWINS)}


def place_canaries(connection: duckdb.DuckDBPyConnection, keys: MasterKeys, as_of: datetime, run_id: str) -> None:
    """Put the twins into the raw tables, in one transaction, as if they had been delivered.

    Nothing is placed beside an empty delivery: there is no feed to take after and nobody to protect.
    """
    feed = connection.execute("select max(feed) from lake.raw.customers").fetchone()[0]
    if feed is None:
        return
    with transaction(connection):
        for entity, rows in _rows(keys, as_of).items():
            table = f"lake.raw.{identifier(entity)}"
            taken = connection.execute(f"select max(feed) from {table}").fetchone()[0] or feed
            stamped = [{**row, "feed": taken, "load_id": run_id} for row in rows]
            connection.register("arriving_canaries", pa.Table.from_pylist(stamped))
            connection.execute(f"insert into {table} by name select * from arriving_canaries")
            connection.unregister("arriving_canaries")


def _rows(keys: MasterKeys, as_of: datetime) -> dict[str, list[dict[str, object]]]:
    """The twins' rows by entity; equal but for the opt-out."""
    purposes = load_contracts()["consent_events"].column("purpose").values
    rows: dict[str, list[dict[str, object]]] = {
        "customers": [], "consent_events": [], "transactions": [], "privacy_requests": []
    }  # fmt: skip
    for twin, (raw, risk, audience) in canary_tokens(keys).items():
        rows["customers"].append(
            {
                "subject_token": raw,
                "risk_subject_token": risk,
                "audience_subject_token": audience,
                "customer_type": "individual",
                "age_band": "18+",
                "is_self_consent_capable": True,
                "country": "DE",
                "is_pep": False,
                "has_sanctions_match": False,
                "onboarding_channel": "online",
                "customer_since": (as_of - timedelta(days=1500)).date(),
                "status": "active",
                "updated_at": as_of - timedelta(days=20),
            }
        )
        for purpose in purposes:
            rows["consent_events"].append(
                {
                    "event_id": _secret(keys, f"{twin}\0{purpose}"),
                    "subject_token": raw,
                    "purpose": purpose,
                    "action": "granted",
                    "effective_at": as_of - timedelta(days=40),
                    "received_at": as_of - timedelta(days=40),
                    "method": "form",
                    "actor": "self",
                    "is_capable_at_collection": True,
                }
            )
        for place in range(PURCHASES):
            rows["transactions"].append(
                {
                    "transaction_id": _secret(keys, f"{twin}\0purchase {place}"),
                    "subject_token": raw,
                    "booked_at": as_of - timedelta(days=3 + 20 * place),
                    "direction": "debit",
                    "amount": PURCHASE_EUR,
                    "currency": "EUR",
                    "payment_method": "card",
                    "channel": "pos",
                }
            )
    rows["privacy_requests"].append(
        {
            "request_id": _secret(keys, "request"),
            "subject_token": canary_tokens(keys)["opted_out"][0],
            "request_type": "opt_out",
            "received_at": as_of - timedelta(days=2),
            "status": "received",
        }
    )
    return rows


def judge_canaries(
    connection: duckdb.DuckDBPyConnection, keys: MasterKeys, names: Iterable[str], zone: str = "candidate"
) -> list[CanaryOutcome]:
    """How the twins fared in each relation of the zone that is keyed by a pseudonym and says on what consent it rests.

    Rows whose purpose reads no signal (`consent_status` not_applicable: an AML rating) are not judged: an opt-out does
    not reach them.
    """
    tokens = canary_tokens(keys)
    outcomes = []
    for name in sorted(names):
        if not table_exists(connection, zone, name):
            continue
        relation = f"lake.{zone}.{identifier(name)}"
        columns = [column[0] for column in connection.execute(f"select * from {relation} limit 0").description]
        if not {"subject_token", "consent_status"} <= set(columns):
            continue
        named = "gate_outcome = 'ALLOW'" if "gate_outcome" in columns else "true"
        if "segment" in columns:
            named += " or segment is distinct from 'default'"
        row = connection.execute(
            f"select count(*), count(*) filter (where subject_token in $opted_out and ({named})), "
            f"count(*) filter (where subject_token in $control and ({named})) "
            f"from {relation} where consent_status <> 'not_applicable'",
            {twin: list(tokens[twin]) for twin in TWINS},
        ).fetchone()
        outcomes.append(CanaryOutcome(f"{zone}.{name}", *row))
    return outcomes


def remove_canaries(connection: duckdb.DuckDBPyConnection, keys: MasterKeys, models: Iterable[Model]) -> None:
    """Remove the twins from what is being published, inside the publication's transaction."""
    tokens = [token for twin in canary_tokens(keys).values() for token in twin]
    for model in models:
        if model.zone == "candidate" and model.token_column:
            connection.execute(
                f"delete from lake.published.{identifier(model.name)} where {identifier(model.token_column)} in $tokens",
                {"tokens": tokens},
            )
