"""The proof over the real project, in both profiles, and that it would notice if the project went wrong."""

import copy
import json

import pytest

from orchestration.ingestion.contracts import load_contracts
from orchestration.lineage.compiling import compiled_manifest
from orchestration.lineage.passport import UnknownSegment, passport
from orchestration.lineage.project import PythonStep, load_policy, read_project
from orchestration.lineage.proof import Proof, prove
from orchestration.lineage.reporting import checks_of, purposes_of
from orchestration.lineage.waivers import load_waivers
from tests.effort import parsed_home

PROFILES = ["fintech", "childrens_retail"]


@pytest.fixture(scope="module")
def manifests(tmp_path_factory) -> dict[str, dict]:
    with pytest.MonkeyPatch.context() as patch:
        found = {}
        for profile in PROFILES:
            settings = parsed_home(tmp_path_factory, profile)
            patch.setenv("SEGLINE_HOME", str(settings.root))
            found[profile] = compiled_manifest(settings)
    return found


# What Dagster makes outside dbt, as its graph says (tests/integration reads the graph itself).
TRAINED_ON = tuple(f"raw.{entity}" for entity in ("transactions", "customers", "incidents", "audit_outcomes", "complaints"))
STEPS = {
    "risk.trained_model": PythonStep(TRAINED_ON, ("points",)),
    "audience.clustering": PythonStep(("features.audience_cluster_inputs",), ("document",)),
    "audience.cluster_model": PythonStep(("audience.clustering",), ("status", "reason", "document", "names")),
    "risk.clustering": PythonStep(("features.risk_cluster_inputs",), ("document",)),
    "risk.cluster_model": PythonStep(("risk.clustering",), ("status", "reason", "document", "names")),
    "risk.score_model": PythonStep(("risk.trained_model",), ("status", "reason", "document")),
}


def project_of(manifest: dict, profile: str):
    return read_project(manifest, load_contracts(), load_policy(), profile, STEPS)


def proof_of(manifest: dict, profile: str) -> Proof:
    return prove(project_of(manifest, profile), load_waivers())


@pytest.mark.parametrize("profile", PROFILES)
def test_every_path_of_the_project_passes_the_gate(manifests, profile):
    """No blanket exemption: every model of the proven zones is read, and nothing is refused on the way."""
    proof = proof_of(manifests[profile], profile)
    assert [str(one) for one in proof.violations] == []
    assert {"candidate.risk_segments", "candidate.audience_segments", "risk.risk_ratings", "audience.audience_members"} <= set(proof.proven)
    # What cannot be read: what is made outside dbt (the waivers say why that is borne), and the append-only history of
    # consent, which no segment may rest on: one that did would be a violation above.
    history = {"consent.consent_changes", "consent.consent_history"}
    assert {".".join(name) for side in proof.sides.values() for name in side.refused} <= {*STEPS, *history}


BREAKS = {
    "audience_features": [
        ("and gate_outcome = 'ALLOW'", "", "gate"),
        ("purpose_role = 'audience'", "purpose_role = 'risk'", "gate"),
    ],
    "risk_subjects": [
        ("and gate_outcome = 'ALLOW'", "", "gate"),
        ("inner join allowed\n        on customers.subject_token = allowed.subject_token\n    where trim", "where trim", "gate"),
    ],
    "audience_segments": [("gate.gate_reason", "'consent_granted' as gate_reason", "evidence")],
}


@pytest.mark.parametrize(
    ("model", "old", "new", "rule"),
    [(model, *broken) for model, breaks in BREAKS.items() for broken in breaks],
)
def test_the_project_with_one_line_broken_is_refused(manifests, model, old, new, rule):
    """The gate of the real models, taken out line by line."""
    manifest = copy.deepcopy(manifests["fintech"])
    node = next(node for node in manifest["nodes"].values() if node["name"] == model)
    assert old in node["compiled_code"], "the model was rewritten: break it anew"
    node["compiled_code"] = node["compiled_code"].replace(old, new)
    proof = proof_of(manifest, "fintech")
    assert rule in {one.rule for one in proof.violations}
    side = "candidate.risk_segments" if model.startswith("risk") else "candidate.audience_segments"
    assert side in {one.relation for one in proof.violations}, "what is published must be accused, not only the model"


def test_a_rating_in_the_audience_is_refused(manifests):
    manifest = copy.deepcopy(manifests["childrens_retail"])
    node = next(node for node in manifest["nodes"].values() if node["name"] == "audience_segments")
    node["compiled_code"] = (
        f"select s.* from ({node['compiled_code']}) as s inner join lake.consent.gate as g on s.subject_token = g.audience_subject_token "
        "inner join lake.risk.risk_ratings as r on r.risk_subject_token = g.risk_subject_token where r.tier <> 'high'"
    )
    found = [one for one in proof_of(manifest, "childrens_retail").violations if one.rule == "wall"]
    assert any(one.path[0] == "risk.risk_ratings" and one.relation == "candidate.audience_segments" for one in found)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_passport_says_where_a_publication_comes_from(manifests, profile):
    project = project_of(manifests[profile], profile)
    document = passport(project, proof_of(manifests[profile], profile), "audience_segments", purposes_of(profile))
    assert document["verdict"] == "proven"
    assert json.loads(json.dumps(document)) == document
    assert {"raw.transactions", "raw.web_events", "raw.survey_feedback"} <= {source["relation"] for source in document["sources"]}
    assert {"raw.consent_events", "raw.customers", "raw.privacy_requests"} <= set(document["gate_rests_on"])
    own = ["audience.audience_members"] if profile == "childrens_retail" else []  # behavioural segments ask for their own purpose
    assert document["gate"]["read_by"] == [*own, "candidate.audience_segments", "features.audience_features"]
    assert [purpose["purpose"] for purpose in document["purposes"]] == ["personalisation"]
    columns = {column["name"]: column["from"] for column in document["columns"]}
    assert columns["consent_event_id"] == ["consent.gate.consent_event_id"]
    assert "raw.transactions.amount" in columns["segment"]
    assert ("consent.gate", "gate_outcome", "filter") in {tuple(row.values()) for row in document["rows_depend_on"]}
    assert not any("incident" in relation for relation in document["way"])


def test_a_segment_has_a_passport_with_its_definition_and_an_unknown_one_says_what_there_is(manifests):
    project = project_of(manifests["fintech"], "fintech")
    proof = proof_of(manifests["fintech"], "fintech")
    document = passport(project, proof, "loyal")
    assert document["relation"] == "published.audience_segments"
    assert document["segment"]["predicate"]
    with pytest.raises(UnknownSegment, match="risk_segments"):
        passport(project, proof, "nobody")


def test_the_passport_names_the_checks_that_guard_the_relation(manifests):
    checks = checks_of(manifests["fintech"], "candidate.audience_segments")
    assert len(checks) > 3


def test_an_unproven_publication_says_so_in_its_passport(manifests):
    manifest = copy.deepcopy(manifests["fintech"])
    node = next(node for node in manifest["nodes"].values() if node["name"] == "audience_features")
    node["compiled_code"] = node["compiled_code"].replace("and gate_outcome = 'ALLOW'", "")
    project = project_of(manifest, "fintech")
    proof = prove(project)
    assert passport(project, proof, "audience_segments")["verdict"] == "not proven"
    assert passport(project, proof, "risk_segments")["verdict"] == "proven"
