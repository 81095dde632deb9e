"""Contracts: what the platform takes in, one YAML file per source entity.

Belongs here: the typed form of those files and what follows from it (raw columns and their types).
Does not belong here: how a file is read (`reading`), how a value is checked (`checking`), what a tenant's own columns
are called (`mapping`).
"""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from orchestration.ingestion.strict_yaml import load_yaml

CONTRACTS_DIR = Path(__file__).parent / "contracts"
ColumnType = Literal["string", "enum", "integer", "decimal", "number", "boolean", "date", "timestamp", "currency"]
SQL_TYPES: dict[str, str] = {
    "string": "varchar",
    "enum": "varchar",
    "currency": "varchar",
    "integer": "bigint",
    "decimal": "decimal(18, 2)",
    "number": "double",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamp",
}
# What the identity split leaves of a customer's identifiers.
CUSTOMER_DERIVED = {
    "risk_subject_token": "varchar",
    "audience_subject_token": "varchar",
    "age_band": "varchar",
    "is_self_consent_capable": "boolean",
}
# Whether the subject could consent alone on the day of the event: the answer is stored, the birth date is not.
AGE_DERIVED = {"is_capable_at_collection": "boolean"}
PROVENANCE = {"feed": "varchar", "load_id": "varchar"}


class ContractColumn(BaseModel):
    """One column of a contract.

    `subject` marks the tenant's customer identifier, `counterparty` the other side's: both become keyed pseudonyms.
    `identifier` marks what only the vault may hold. `category` is a fideslang data category.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    type: ColumnType
    description: str
    category: str
    required: bool = False
    subject: bool = False
    counterparty: bool = False
    identifier: bool = False
    values: tuple[str, ...] = ()
    min: str | float | None = None
    max: str | float | None = None


class Contract(BaseModel):
    """One source entity: its grain, key, owner, and how many hours may pass between two deliveries.

    `age_checked`: each row records whether its subject was of the age of consent on the day of `event_time`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    entity: str
    description: str
    owner: str
    cadence_hours: int
    key: str
    event_time: str | None = None
    age_checked: bool = False
    columns: tuple[ContractColumn, ...]

    def column(self, name: str) -> ContractColumn:
        """The column of that name; `KeyError` if the contract has none."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def subject_column(self) -> ContractColumn:
        """The customer identifier."""
        return next(column for column in self.columns if column.subject)

    @property
    def identifiers(self) -> tuple[ContractColumn, ...]:
        """What goes to the vault and nowhere else."""
        return tuple(column for column in self.columns if column.identifier)

    def raw_columns(self) -> dict[str, str]:
        """Name and SQL type of each column of the `raw` table, in order."""
        columns: dict[str, str] = {}
        for column in self.columns:
            if column.subject:
                columns["subject_token"] = "varchar"
            elif column.counterparty:
                columns["counterparty_token"] = "varchar"
            elif not column.identifier:
                columns[column.name] = SQL_TYPES[column.type]
        if self.identifiers:
            columns |= CUSTOMER_DERIVED
        if self.age_checked:
            columns |= AGE_DERIVED
        return columns | PROVENANCE

    def raw_ddl(self) -> str:
        """`create table` of the raw table, empty."""
        body = ", ".join(f"{name} {sql_type}" for name, sql_type in self.raw_columns().items())
        return f"create table if not exists lake.raw.{self.entity} ({body})"


@cache
def load_contracts() -> dict[str, Contract]:
    """All contracts by entity, customers first: the others refer to them."""
    contracts = [
        Contract.model_validate(load_yaml(path)) for path in sorted(CONTRACTS_DIR.glob("*.yml"))
    ]
    contracts.sort(key=lambda contract: (contract.entity != "customers", contract.entity))
    return {contract.entity: contract for contract in contracts}
