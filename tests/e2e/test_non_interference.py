"""The whole pipeline against its promise: what ungated people's data say changes nothing for anybody.

The static proof reads SQL. This covers what no reading sees: Python steps, fitted models, thresholds, quantiles. Every
row of every ungated person is changed, a fifth removed, a fifth added; whatever consent itself rests on stays. Then
everything runs again, under the same pseudonym keys, and every published byte of everybody else has to be the same
(non-interference: Goguen and Meseguer, «Security Policies and Security Models», 1982).
"""

import csv
import io
import json
import random
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestration.identity.keys import load_keys
from orchestration.identity.pseudonyms import token
from orchestration.ingestion.contracts import Contract, load_contracts
from orchestration.lineage.project import load_policy, read_project
from orchestration.settings import Settings
from tests.e2e.conftest import Cli, Published

pytestmark = [pytest.mark.slow, pytest.mark.nightly]
# What the gate rests on stays as it is: will, requests, place and age.
CONSENT = ("consent_events", "privacy_requests")
KEPT = ("customer_type", "country", "region", "question_type", "updated_at", "selection_probability")


@dataclass
class Perturbed:
    """Sources in which the rows of some people are others: how many people, and how many rows were touched."""

    folder: Path
    people: set[str]
    rows: Counter


def changed(contract: Contract, row: dict, pools: dict[str, list], seed: int) -> dict:
    """The row with other values of the same kinds; equal rows change equally, so that a duplicate stays one."""
    other = dict(row)
    for column in contract.columns:
        name = column.name
        if name not in row or name in KEPT or column.identifier or column.subject or name in (contract.key, contract.event_time):
            continue
        dice = random.Random(f"{seed}:{row[contract.key]}:{name}")
        if column.type == "enum":
            other[name] = dice.choice(column.values)
        elif column.type == "boolean":
            other[name] = dice.choice(["true", "false"]) if isinstance(row[name], str) else dice.random() < 0.5
        elif column.type == "decimal":
            other[name] = f"{dice.uniform(1, 20000):.2f}"
        elif name == "score":
            other[name] = dice.choice(pools[f"score of {row['question_type']}"])
        elif column.type == "integer":
            other[name] = str(dice.randrange(6))
        elif column.type == "string":
            other[name] = dice.choice(pools[name])
    return other


def read(path: Path) -> list[dict]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ndjson":
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    return list(csv.DictReader(io.StringIO(text, newline="")))


def write(path: Path, rows: list[dict], columns: list[str]) -> None:
    if path.suffix == ".ndjson":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def perturb(sources: Path, folder: Path, people: set[str], seed: int = 1) -> Perturbed:
    """Copy a delivery with the rows of these people changed, removed and added; the consent feeds stay as they are."""
    shutil.copytree(sources, folder)
    touched: Counter = Counter()
    for entity, contract in load_contracts().items():
        if entity in CONSENT:
            continue
        for path in sorted([*folder.glob(f"{entity}*.csv"), *folder.glob(f"{entity}*.ndjson")]):
            rows = read(path)
            columns = list(rows[0]) if rows else []
            pools: dict[str, list] = {}
            for row in rows:
                for name, value in row.items():
                    if value not in (None, "") and len(str(value)) < 40:
                        pools.setdefault(name, []).append(value)
                if "score" in row:
                    pools.setdefault(f"score of {row.get('question_type')}", []).append(row["score"])
            kept = []
            for row in rows:
                if row["customer_id"] not in people:
                    kept.append(row)
                    continue
                touched[entity] += 1
                dice = random.Random(f"{seed}:{row[contract.key]}").random()
                if entity == "customers":
                    kept.append(changed(contract, row, pools, seed))
                elif dice > 0.2:
                    kept.append(changed(contract, row, pools, seed))
                    if dice > 0.8:
                        more = {**row, contract.key: f"{row[contract.key]}P"}
                        kept.append(changed(contract, more, pools, seed))
            write(path, kept, columns)
    return Perturbed(folder, people, touched)


def outcomes(published: Published) -> dict[str, dict[str, str]]:
    """Per source identifier of a customer: role to outcome at the gate."""
    settings = Settings(home=published.cli.home, profile=published.cli.profile)
    keys = load_keys(settings)
    customers = {row["customer_id"] for row in read(published.sources / "customers.csv")}
    names = {token(keys, "raw", customer): customer for customer in customers if customer}
    found: dict[str, dict[str, str]] = {}
    for row in published.cli.rows("select subject_token, purpose_role, gate_outcome from consent.gate where purpose_role <> 'none'"):
        if row["subject_token"] in names:
            found.setdefault(names[row["subject_token"]], {})[row["purpose_role"]] = row["gate_outcome"]
    return found


def tables_of(published: Published, roles: set[str]) -> list[str]:
    """Published relations of these roles, as the manifest of the run declares them."""
    run_id = published.cli.rows("select run_id from published.publication")[0]["run_id"]
    manifest = json.loads((published.cli.home / "dbt" / "runs" / run_id / "manifest.json").read_text(encoding="utf-8"))
    project = read_project(manifest, load_contracts(), load_policy(), published.cli.profile)
    return sorted(name for (zone, name), node in project.nodes.items() if zone == "candidate" and node.role in roles)


def bytes_of(cli: Cli, table: str) -> list[str]:
    """The published rows as text, in an order of their own; one header line first."""
    return cli("query", f"select * from published.{table} order by all", "--format", "csv").stdout.splitlines()


def run_again(published: Published, perturbed: Perturbed, home: Path) -> Cli:
    """A run of the perturbed delivery from nothing but the pseudonym keys of the first."""
    shutil.copytree(published.cli.home / "keys", home / "keys")
    cli = Cli(home, published.cli.profile)
    cli("run", "--sources", str(perturbed.folder))
    return cli


@pytest.mark.parametrize("profile", ["fintech", "retail"])
def test_nobody_elses_published_rows_notice_what_ungated_people_do(request, tmp_path, profile):
    """Every role that lets somebody not pass is compared: marketing always; ratings only where a profile gates them.

    Both profiles that ship rate everybody, by legal obligation or legitimate interest: there nobody is ungated for the risk
    role, and who is perturbed may rightly be rated otherwise.
    """
    published: Published = request.getfixturevalue(profile)
    gate = outcomes(published)
    roles = {role for answers in gate.values() for role, outcome in answers.items() if outcome != "ALLOW"}
    assert "audience" in roles
    ungated = {customer for customer, answers in gate.items() if all(answers.get(role) != "ALLOW" for role in roles)}
    perturbed = perturb(published.sources, tmp_path / "sources", ungated)
    assert len(ungated) > 20 and perturbed.rows["transactions"] > 100, "nothing was perturbed: the test proves nothing"
    again = run_again(published, perturbed, tmp_path / "home")
    keys = load_keys(Settings(home=published.cli.home, profile=published.cli.profile))
    own = {token(keys, role, customer) for role in roles for customer in ungated}
    tables = tables_of(published, {*roles, "none"})
    assert {f"{role}_segments" for role in roles} <= set(tables)
    compared = 0
    for table in tables:
        before, after = bytes_of(published.cli, table), bytes_of(again, table)
        others = [[line for line in lines if not any(token in own for token in line.split(","))] for lines in (before, after)]
        assert others[0] == others[1], f"published.{table}: other people's rows have changed"
        compared += len(others[0]) - 1
        assert before == after, f"published.{table}: the default segment says more than its cause"
    changed_raw = published.cli.rows("select sum(amount) as s from raw.transactions") != again.rows("select sum(amount) as s from raw.transactions")
    assert changed_raw, "the perturbed rows were not taken in"
    print(f"{profile}: {len(ungated)} of {len(gate)} people perturbed, rows {dict(perturbed.rows)}; {compared} rows of others equal in {tables}")


def test_the_same_perturbation_of_gated_people_is_noticed(fintech, tmp_path):
    """The control: were the comparison blind, the test above would pass for any pipeline."""
    gated = {customer for customer, answers in outcomes(fintech).items() if answers.get("audience") == "ALLOW"}
    again = run_again(fintech, perturb(fintech.sources, tmp_path / "sources", gated), tmp_path / "home")
    before, after = bytes_of(fintech.cli, "audience_segments"), bytes_of(again, "audience_segments")
    assert len(set(before) - set(after)) > 5
