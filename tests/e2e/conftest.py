"""Whole runs through the real command line, in homes of their own.

One published home serves every test that only looks; a test that changes something works on a copy.
"""

import csv
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestration.sample.generate import SampleSummary, generate_sample
from tests.effort import made_once

CUSTOMERS, TRANSACTIONS = 600, 9_000
EVENTS = "openlineage.ndjson"
# A credential in the environment of every run, and used: the checkpoint is to be mailed by a server that is not there.
# tests/e2e/test_secrets.py looks where it went.
PASSWORD = "planted-Smtp-Passw0rd-5d1f"


@dataclass
class Cli:
    """The command `segline` with a home of its own."""

    home: Path
    profile: str = "fintech"
    openlineage: Path | None = None

    def environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SEGLINE_", "DAGSTER_", "DBT_"))}
        events = {"SEGLINE_OPENLINEAGE": str(self.openlineage)} if self.openlineage else {}
        planted = {"SEGLINE_ANCHOR_SMTP": f"smtp://auditor:{PASSWORD}@127.0.0.1:9", "SEGLINE_ANCHOR_EMAIL": "auditor@example.invalid"}
        return kept | events | planted | {"SEGLINE_HOME": str(self.home), "SEGLINE_PROFILE": self.profile, "COLUMNS": "200"}

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


def publish(factory: pytest.TempPathFactory, profile: str) -> Published:
    """One run for all workers, for it is what costs most; each has a home of its own."""

    def make(folder: Path) -> None:
        sources = folder / "sources"
        summary = generate_sample(sources, profile, customers=CUSTOMERS, transactions=TRANSACTIONS)
        printed = Cli(folder / "home", profile, folder / EVENTS)("run", "--sources", str(sources)).stdout
        shutil.copytree(folder / "home", folder / "untouched")
        (folder / "published.pickle").write_bytes(pickle.dumps((summary, printed)))

    folder, is_ours = made_once(factory, profile, make)
    summary, printed = pickle.loads((folder / "published.pickle").read_bytes())
    home = folder / "home"
    if not is_ours:
        home = factory.mktemp(profile) / "home"
        shutil.copytree(folder / "untouched", home)
    return Published(Cli(home, profile), folder / "sources", summary, printed)


@pytest.fixture(scope="session")
def fintech(tmp_path_factory) -> Published:
    return publish(tmp_path_factory, "fintech")


@pytest.fixture(scope="session")
def retail(tmp_path_factory) -> Published:
    return publish(tmp_path_factory, "childrens_retail")
