"""Small samples of both profiles, made once, and their files as tables of text."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from orchestration.ingestion.contracts import load_contracts
from orchestration.sample.feeds import FEEDS, suffix_of
from orchestration.sample.generate import SampleSummary, generate_sample

END = datetime(2026, 11, 1)


@dataclass
class Sample:
    """A generated sample: every entity is a view whose columns are text, with `file` beside them."""

    folder: Path
    summary: SampleSummary
    engine: duckdb.DuckDBPyConnection

    def value(self, query: str) -> object:
        """The one value of a query."""
        return self.engine.execute(query).fetchone()[0]


def open_sample(folder: Path, summary: SampleSummary, file_format: str) -> Sample:
    engine = duckdb.connect()
    for entity, _, stem in FEEDS:
        suffix = suffix_of(entity, file_format)
        files = f"{folder}/{stem}.{suffix}"
        names = [column.name for column in load_contracts()[entity].columns]
        if suffix == "csv":
            source = f"read_csv('{files}', all_varchar = true, header = true, delim = ',', filename = 'file')"
        elif suffix == "ndjson":
            columns = ", ".join(f"{name}: 'varchar'" for name in names)
            source = f"read_json('{files}', format = 'newline_delimited', columns = {{{columns}}}, filename = 'file')"
        else:
            source = f"read_parquet('{files}', filename = 'file')"
        texts = ", ".join(f"cast({name} as varchar) as {name}" for name in names)
        engine.execute(f"create table {entity} as select {texts}, file from {source}")
    return Sample(folder, summary, engine)


@pytest.fixture(scope="session")
def fintech(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A bank's sample with every file as text."""
    folder = tmp_path_factory.mktemp("sample") / "fintech"
    return open_sample(folder, generate_sample(folder, "fintech", 6_000, 90_000, end=END), "csv")


@pytest.fixture(scope="session")
def retail(tmp_path_factory: pytest.TempPathFactory) -> Sample:
    """A children's shop's sample with the large files typed."""
    folder = tmp_path_factory.mktemp("sample") / "retail"
    summary = generate_sample(folder, "childrens_retail", 5_000, 40_000, end=END, file_format="parquet")
    return open_sample(folder, summary, "parquet")


@pytest.fixture(params=["fintech", "retail"])
def either(request: pytest.FixtureRequest) -> Sample:
    """Both samples, one after the other."""
    return request.getfixturevalue(request.param)
