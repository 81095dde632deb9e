"""A home with keys, and deliveries of customers for a real vault."""

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from orchestration.identity import keys as keys_module
from orchestration.identity.keys import MasterKeys, load_keys
from orchestration.identity.split import SplitResult, split_customers
from orchestration.ingestion.contracts import SQL_TYPES, Contract, load_contracts
from orchestration.lake import attach, engine, ensure_zones, prepare_catalog
from orchestration.settings import Settings

AS_OF = datetime(2026, 11, 1)
PERSON = {
    "customer_type": "individual",
    "full_name": "Ada Planted-Surname",
    "email": "ada.planted@example.org",
    "phone": "+420777123456",
    "tax_id": "TAX-PLANTED-77",
    "street_address": 'Planted Street 12; "rear" O\'Hara',
    "postal_code": "11742",
    "birth_date": date(1987, 6, 5),
    "country": "Germany",
}


def person(customer_id: str | None, **changes: object) -> dict[str, object]:
    """One customer row; whatever is not given is a fixed value."""
    return {"customer_id": customer_id, **PERSON, **changes}


@dataclass
class Desk:
    """Takes deliveries: each is split on the one connection of the test."""

    settings: Settings
    keys: MasterKeys
    connection: duckdb.DuckDBPyConnection
    contract: Contract = field(default_factory=lambda: load_contracts()["customers"])

    def table(self, rows: list[dict[str, object]], contract: Contract | None = None) -> str:
        """A temporary table of typed rows as landing leaves them; returns its name."""
        columns = (contract or self.contract).columns
        select = ", ".join(
            f"cast({column.name} as {SQL_TYPES[column.type]}) as {column.name}" for column in columns
        )
        data = {
            column.name: pa.array(
                [None if row.get(column.name) is None else str(row[column.name]) for row in rows], pa.string()
            )
            for column in columns
        }
        self.connection.register("given", pa.table(data))
        self.connection.execute(
            f"create or replace temp table delivery as select {select}, 'crm_customers' as feed from given"
        )
        self.connection.unregister("given")
        return "delivery"

    def deliver(
        self, *rows: dict[str, object], load_id: str = "load", as_of: datetime = AS_OF
    ) -> SplitResult:
        """Split one delivery."""
        return split_customers(
            self.connection, self.contract, self.table(list(rows)), self.keys, self.settings, as_of, load_id
        )

    def rows(self, query: str) -> list[tuple]:
        """Rows of a query."""
        return self.connection.execute(query).fetchall()


@pytest.fixture(autouse=True)
def no_keys_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own keys must not reach a test."""
    monkeypatch.delenv(keys_module.VARIABLE, raising=False)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """An empty home."""
    return Settings(home=tmp_path / "home", memory_limit_mb=1000)


@pytest.fixture
def keys(settings: Settings) -> MasterKeys:
    """Fresh keys of that home."""
    return load_keys(settings)


@pytest.fixture(scope="session")
def shared_engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    """One engine for all tests: loading the extensions takes longer than most of them."""
    with engine(Settings(home=tmp_path_factory.mktemp("engine"), memory_limit_mb=1000)) as connection:
        yield connection


@pytest.fixture
def desk(settings: Settings, keys: MasterKeys, shared_engine: duckdb.DuckDBPyConnection) -> Iterator[Desk]:
    """Takes deliveries on a connection, and so with temporary tables, of its own."""
    with closing(shared_engine.cursor()) as connection:
        yield Desk(settings, keys, connection)


@pytest.fixture
def lake_desk(desk: Desk) -> Iterator[Desk]:
    """The same with an empty lake attached."""
    prepare_catalog(desk.settings.catalog, desk.settings.lake_data)
    attach(desk.connection, "lake", desk.settings.catalog, desk.settings.lake_data)
    desk.connection.execute("use lake")
    ensure_zones(desk.connection)
    desk.connection.execute(desk.contract.raw_ddl())
    yield desk
    desk.connection.execute("use memory")
    desk.connection.execute("detach lake")


@pytest.fixture
def make_person() -> Callable[..., dict[str, object]]:
    """One customer row; whatever is not given is a fixed value."""
    return person
