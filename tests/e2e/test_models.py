"""A model through the real command line: trained, held to thresholds, promoted by a second person, scoring, watched, exported."""

import json

import pytest

from orchestration.sample.generate import generate_sample
from tests.e2e.conftest import Cli

pytestmark = [pytest.mark.slow, pytest.mark.nightly]


@pytest.fixture(scope="module")
def scored(tmp_path_factory) -> Cli:
    """A bank of the default size whose model was trained by one person and promoted by another."""
    folder = tmp_path_factory.mktemp("scored")
    generate_sample(folder / "sources", "fintech")
    cli = Cli(folder / "home", "fintech")
    cli("run", "--sources", str(folder / "sources"))
    printed = cli("model", "train", "--by", "Alice").stdout
    assert "scores_are_calibrated" in printed and "training_sample_is_like_the_book" in printed
    cli("model", "promote", "1", "--by", "alice", "--reason", "mine", expect=1)
    cli("model", "export", "1", "--out", str(folder / "early"), expect=1)
    cli("model", "promote", "1", "--by", "Bob", "--reason", "seen the card")
    cli("run", "--sources", str(folder / "sources"))
    return cli


def test_everybody_who_is_rated_is_scored_with_reasons_that_add_up(scored):
    families = ["activity", "cash", "virtual_assets", "geography", "network", "flow", "profile", "service"]
    total = " + ".join(["base_points", *(f"{name}_points" for name in families)])
    [row] = scored.rows(f"select count(*) as n, max(abs(score - ({total}))) as worst from published.risk_scores")
    [rated] = scored.rows("select count(*) as n from published.risk_segments where tier is not null")
    assert row["n"] == rated["n"] != "0" and float(row["worst"]) <= 1e-12
    [lowered] = scored.rows("select count(*) as n from published.risk_segments where model_status <> 'current' and tier is not null")
    assert lowered["n"] == "0"


def test_the_card_comes_with_its_plots_and_they_stand_in_the_documentation(scored, tmp_path):
    scored("model", "card", "1", "--out", str(tmp_path / "card.md"))
    text = (tmp_path / "card.md").read_text(encoding="utf-8")
    for name in ("calibration.svg", "capture.svg", "fairness.svg"):
        assert f"]({name})" in text and (tmp_path / name).read_text(encoding="utf-8").startswith("<svg xmlns")
    page = (scored.home / "documentation" / "site" / "models.html").read_text(encoding="utf-8")
    assert page.count("<figure><svg") >= 3 and "xmlns" not in page


def test_an_evaluation_says_what_it_holds_the_model_to_and_an_export_loads(scored, tmp_path):
    done = scored("model", "evaluate", "1")
    assert "held to" in done.stdout and "drawn evenly" in done.stdout and "may be trained on" in done.stdout
    scored("model", "export", "champion", "--out", str(tmp_path / "model"))
    example = json.loads((tmp_path / "model" / "input_example.json").read_text(encoding="utf-8"))
    assert len(example["data"]) == 2 and not [path for path in (tmp_path / "model").rglob("*.pkl")]


def test_compliance_clusters_are_published_on_their_own_side_alone(scored, tmp_path):
    cli = scored.copy(tmp_path / "home")
    cli("clusters", "fit", "--side", "risk", "--by", "Alice")
    cli("run", "--sources", str(scored.home.parent / "sources"))
    profiles = cli.rows("select state, count(*) as n from published.risk_cluster_profiles group by 1")
    assert len(profiles) == 1 and profiles[0]["state"] in ("current", "no_stable_clustering")
    [members] = cli.rows("select count(*) as n, count(distinct gate_outcome) as outcomes from published.risk_clusters")
    [rated] = cli.rows("select count(*) as n from published.risk_segments where tier is not null")
    assert members["n"] == rated["n"] and members["outcomes"] == "1"
    assert not cli.rows("select * from published.clusters"), "the marketing side has no fit and must have no cluster"
    cli("lineage", "prove")
