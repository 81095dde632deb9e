"""Clusters through the real command line: fitted, named by a second person, published, replayed, opted out of, erased."""

import json
from pathlib import Path

import pytest

from orchestration.identity.keys import load_keys
from orchestration.identity.pseudonyms import token
from orchestration.sample.generate import generate_sample
from orchestration.settings import Settings
from tests.e2e.conftest import Cli, Published
from tests.e2e.test_non_interference import bytes_of, outcomes, perturb

pytestmark = [pytest.mark.slow, pytest.mark.nightly]


@pytest.fixture(scope="module")
def clustered(tmp_path_factory) -> Published:
    """A retailer of 2,500 customers whose clusters were fitted by one person and named by another."""
    folder = tmp_path_factory.mktemp("clustered")
    summary = generate_sample(folder / "sources", "childrens_retail", customers=2_500, transactions=50_000)
    cli = Cli(folder / "home", "childrens_retail")
    cli("run", "--sources", str(folder / "sources"))
    [state] = cli.rows("select state from published.cluster_profiles")
    assert state["state"] == "no_clustering" and not cli.rows("select * from published.clusters")
    assert cli.rows("select count(*) as n from ops.decisions where family = 'cluster'")[0]["n"] == "0"
    cli("clusters", "fit", "--by", "Alice")
    cli("clusters", "name", "A1", "Quiet households", "--by", "alice", "--reason", "mine", expect=1)
    cli("clusters", "name", "A1", "Quiet households", "--by", "Bob", "--reason", "seen the profile")
    printed = cli("run", "--sources", str(folder / "sources")).stdout
    return Published(cli, folder / "sources", summary, printed)


def test_clusters_are_published_with_evidence_and_are_decisions_on_record(clustered):
    cli = clustered.cli
    profiles = cli.rows("select * from published.cluster_profiles")
    assert len(profiles) > 1 and {row["state"] for row in profiles} == {"current"}
    assert {row["cluster_id"]: row["cluster_name"] for row in profiles}["A1"] == "Quiet households"
    counts = cli.rows("select cluster_id, gate_outcome, count(*) as n, count(distinct subject_token) as people from published.clusters group by all")
    assert all(row["n"] == row["people"] for row in counts)
    assert {row["gate_outcome"] for row in counts if row["cluster_id"] != "default"} == {"ALLOW"}
    [differing] = cli.rows(
        "select count(*) as n from published.clusters as one full join (select * from published.audience_segments where segment_family = 'cluster') "
        "as other using (subject_token) where one.cluster_id is distinct from other.segment"
    )
    assert differing["n"] == "0"
    family = cli.rows("select segment, count(*) as n from ops.decisions where family = 'cluster' group by segment")
    assert {row["segment"] for row in family} >= {row["cluster_id"] for row in counts}
    assert cli.json("replay", member(clustered), "--as-of", "2026-11-01")
    cli("verify")
    cli("lineage", "prove")


def test_a_second_fit_keeps_identifiers_and_names(clustered, tmp_path):
    cli = clustered.cli.copy(tmp_path / "home")
    before = {row["cluster_id"] for row in cli.rows("select cluster_id from published.cluster_profiles")}
    cli("clusters", "fit", "--by", "Carol")
    assert before == {line.split()[0] for line in cli("clusters", "list").stdout.splitlines() if line.startswith("A") and line[1].isdigit()}
    assert "Quiet households" in cli("clusters", "list").stdout


def member(published: Published) -> str:
    """A customer who is in a cluster."""
    settings = Settings(home=published.cli.home, profile=published.cli.profile)
    keys = load_keys(settings)
    tokens = {row["subject_token"] for row in published.cli.rows("select subject_token from published.clusters where cluster_id = 'A1'")}
    names = outcomes(published)
    return next(customer for customer in sorted(names) if token(keys, "audience", customer) in tokens)


def test_an_opt_out_and_a_deletion_reach_the_clusters(clustered, tmp_path):
    cli = clustered.cli.copy(tmp_path / "home")
    customer = member(clustered)
    name = token(load_keys(Settings(home=cli.home)), "audience", customer)
    cli("rights", "request", customer, "--kind", "opt_out")
    [row] = cli.rows(f"select cluster_id, cluster_name, distance, gate_reason from published.clusters where subject_token = '{name}'")
    assert (row["cluster_id"], row["cluster_name"], row["distance"], row["gate_reason"]) == ("default", "", "", "privacy_request_opt_out")
    cli("clusters", "fit", "--by", "Dora")
    [fits] = cli.rows("select max(people) - min(people) as fewer from ops.clusterings where side = 'audience'")
    assert fits["fewer"] == "1", "whoever opted out between two runs must not be read by the next fit"
    cli("rights", "request", customer, "--kind", "deletion", "--verified-by", "Bob")
    cli("rights", "apply")
    assert not cli.rows(f"select * from published.clusters where subject_token = '{name}'")
    cli("rights", "verify", "--identifier", customer)


def fitted_again(published: Published, sources: Path, home: Path) -> Cli:
    """Run, fit, run from nothing but the pseudonym keys of the first."""
    import shutil

    shutil.copytree(published.cli.home / "keys", home / "keys")
    cli = Cli(home, published.cli.profile)
    cli("run", "--sources", str(sources))
    cli("clusters", "fit", "--by", "Alice")
    cli("clusters", "name", "A1", "Quiet households", "--by", "Bob", "--reason", "seen the profile")
    cli("run", "--sources", str(sources))
    return cli


def test_no_cluster_notices_what_ungated_people_do(clustered, tmp_path):
    """Fitting included: the centres are the same to the bit, and so is every published row about a cluster."""
    ungated = {customer for customer, answers in outcomes(clustered).items() if answers.get("audience") != "ALLOW"}
    perturbed = perturb(clustered.sources, tmp_path / "sources", ungated)
    assert perturbed.rows["transactions"] > 100
    again = fitted_again(clustered, perturbed.folder, tmp_path / "home")
    for table in ("clusters", "cluster_profiles"):
        assert bytes_of(clustered.cli, table) == bytes_of(again, table)
    documents = [cli.rows("select document from ops.clusterings")[0]["document"] for cli in (clustered.cli, again)]
    assert documents[0] == documents[1] and json.loads(documents[0])["centres"]
