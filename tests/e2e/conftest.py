"""Whole runs through the real command line, in homes of their own.

One published home serves every test that only looks; a test that changes something works on a copy.
"""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestration.sample.generate import SampleSummary, generate_sample

CUSTOMERS, TRANSACTIONS = 600, 9_000


@dataclass
class Cli:
    """The command `segline` with a home of its own."""

    home: Path
    profile: str = "fintech"

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SEGLINE_", "DAGSTER_", "DBT_"))}
        return kept | {"SEGLINE_HOME": str(self.home), "SEGLINE_PROFILE": self.profile, "COLUMNS": "200"}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "orchestration.cli", *arguments]

    def __call__(self, *arguments: str, expect: int = 0) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(self.command(*arguments), env=self.environment(), capture_output=True, text=True, check=False)
        assert done.returncode == expect, f"exit {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        assert "Traceback" not in done.stderr
        return done

    def rows(self, sql: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(self("query", sql, "--format", "csv").stdout)))

    def json(self, *arguments: str) -> object:
        return json.loads(self(*arguments, "--format", "json").stdout)

    def copy(self, home: Path) -> "Cli":
        shutil.copytree(self.home, home)
        return Cli(home, self.profile)


@dataclass
class Published:
    """A published home, the sample behind it, and what the run printed."""

    cli: Cli
    sources: Path
    summary: SampleSummary
    printed: str


def publish(folder: Path, profile: str) -> Published:
    sources = folder / "sources"
    summary = generate_sample(sources, profile, customers=CUSTOMERS, transactions=TRANSACTIONS)
    cli = Cli(folder / "home", profile)
    printed = cli("run", "--sources", str(sources))
    return Published(cli, sources, summary, printed.stdout)


@pytest.fixture(scope="session")
def fintech(tmp_path_factory) -> Published:
    return publish(tmp_path_factory.mktemp("fintech"), "fintech")


@pytest.fixture(scope="session")
def retail(tmp_path_factory) -> Published:
    return publish(tmp_path_factory.mktemp("retail"), "childrens_retail")
