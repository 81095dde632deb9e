"""How a person's rows are found: which columns of the lake lead to a person, and what no plan reaches.

Belongs here: the rule by which a column is a key, and the check that fails the build when personal data lies where no
store's erasure comes. Does not belong here: erasing (`stores`).
The idea of failing on unreachable personal data is that of DELF (USENIX Security 2020): annotations are checked, not trusted.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import duckdb

from orchestration.ingestion.contracts import Contract
from orchestration.lake import identifier, table_columns

# The person whom a row is about. Any other pseudonym in a row (`counterparty_token`) is a mention of somebody.
_OWNER = re.compile(r"(^|_)subject_token$|^ledger_token$")
_MENTION = re.compile(r"_token$")
# Keys that stand for a person within one zone, and where they are turned into a pseudonym.
DERIVED_KEYS = {"subject_number": ("features", "risk_subjects", "subject_token")}
# A leaf of the ledger holds hashes under a salt that lies in the payload: erasing the payload is what makes it mute.
LEAVES = {("ops", "decisions")}
# fideslang categories of which a column is an identifier, or a pseudonym.
IDENTIFYING = (
    "user.unique_id", "user.name", "user.contact", "user.government_id", "user.demographic.date_of_birth", "user.device",
)  # fmt: skip
_PERSONAL = "user."


@dataclass(frozen=True)
class Relation:
    """A table of the lake and the columns by which persons are found in it."""

    schema: str
    name: str
    owners: tuple[str, ...]
    mentions: tuple[str, ...]
    derived: tuple[str, ...]

    @property
    def sql(self) -> str:
        """Its quoted name."""
        return f"lake.{identifier(self.schema)}.{identifier(self.name)}"

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


def key_columns(columns: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """Columns that say whom a row is about, that mention somebody, and that are derived keys."""
    names = list(columns)
    owners = tuple(name for name in names if _OWNER.search(name))
    mentions = tuple(name for name in names if _MENTION.search(name) and name not in owners)
    return owners, mentions, tuple(name for name in names if name in DERIVED_KEYS)


def relations(connection: duckdb.DuckDBPyConnection) -> list[Relation]:
    """Every table of the lake that leads to a person, in whatever schema it lies. Views store nothing."""
    made = [Relation(schema, name, *key_columns(columns)) for (schema, name), columns in table_columns(connection).items()]
    return [relation for relation in made if relation.owners or relation.mentions or relation.derived]


def unreachable_identifier_columns(
    manifest: Mapping[str, Any], contracts: Mapping[str, Contract], vault_columns: Iterable[str]
) -> list[str]:
    """Columns that hold an identifier or personal data and that no deletion reaches, each with why. Empty is what passes.

    `manifest` is dbt's, `vault_columns` are those of the vault's table: it is erased by row, so what is in it is reached.
    """
    return sorted([*_of_contracts(contracts, set(vault_columns)), *_of_models(manifest)])


def _of_contracts(contracts: Mapping[str, Contract], vault_columns: set[str]) -> Iterable[str]:
    for contract in contracts.values():
        subjects = [column.name for column in contract.columns if column.subject]
        owners, mentions, _ = key_columns(contract.raw_columns())
        if not subjects or not owners:
            yield f"{contract.entity}: no column says whom a row is about, so its rows cannot be found"
        for column in contract.columns:
            place = f"{contract.entity}.{column.name}"
            if column.identifier:
                if contract.entity != "customers":
                    yield f"{place}: an identifier outside customers is split off by nobody"
                elif column.name not in vault_columns:
                    yield f"{place}: an identifier that the vault has no column for"
            elif column.subject and contract.entity == "customers" and column.name not in vault_columns:
                yield f"{place}: the customer's identifier is not in the vault"
            elif column.counterparty and not mentions:
                yield f"{place}: no pseudonym stands for the other side"
            elif _is_identifying(column.category) and not (column.subject or column.counterparty):
                yield f"{place}: of category {column.category}, but would be stored as it is; mark it `identifier: true`"


def _of_models(manifest: Mapping[str, Any]) -> Iterable[str]:
    for node in manifest["nodes"].values():
        if node["resource_type"] not in ("model", "seed", "snapshot"):
            continue
        place = f"{node['schema']}.{node['name']}"
        owners, mentions, derived = key_columns(node["columns"])
        categories = {name: _category(column) for name, column in node["columns"].items()}
        for name, category in categories.items():
            if _is_identifying(category) and name not in (*owners, *mentions, *derived):
                yield f"{place}.{name}: of category {category}, but no rule knows it as a key"
        is_stored = (node.get("config") or {}).get("materialized") not in ("view", "ephemeral")
        personal = [name for name, category in categories.items() if category.startswith(_PERSONAL)]
        if is_stored and personal and not owners and not derived and not _is_aggregate(node):
            yield f"{place}.{personal[0]}: personal data in a table without a key; add one, or `meta: {{grain: aggregate}}`"


def _category(column: Mapping[str, Any]) -> str:
    meta = (column.get("config") or {}).get("meta") or column.get("meta") or {}
    return str(meta.get("category") or "")


def _is_identifying(category: str) -> bool:
    return any(category == known or category.startswith(f"{known}.") for known in IDENTIFYING)


def _is_aggregate(node: Mapping[str, Any]) -> bool:
    return (node.get("config") or {}).get("meta", {}).get("grain") == "aggregate"
