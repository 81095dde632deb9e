"""OpenLineage events: valid in form, complete in content, delivered to a file and to an endpoint, and without any value."""

import importlib
import json
import pkgutil
import threading
from datetime import datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from uuid import UUID

import jsonschema
import pytest

from orchestration.ingestion.contracts import load_contracts
from orchestration.lineage.openlineage import DeliveryError, RunFacts, run_events, send_events, write_events
from orchestration.lineage.project import load_policy, read_project
from orchestration.lineage.proof import prove
from orchestration.lineage.reporting import job_spans
from tests.unit.lineage.tiny_project import EVIDENCE, manifest, node

RUN_ID = "691e45a1-ec0e-4e0d-b1e2-821a02b2b742"
RAN = (datetime(2026, 11, 1, 12), datetime(2026, 11, 1, 12, 9))
BUILT = (datetime(2026, 11, 1, 12, 3), datetime(2026, 11, 1, 12, 4))
# What OpenLineage 2-0-2 requires of the parts that we write, in our own words: the client ships no schema file.
FACETS = {"type": "object", "additionalProperties": {"type": "object", "required": ["_producer", "_schemaURL"], "properties": {
    "_producer": {"type": "string", "pattern": "^[a-z]+:"}, "_schemaURL": {"type": "string", "pattern": r"^https://openlineage\.io/spec/"}}}}
FIELD = {"type": "object", "required": ["namespace", "name", "field"], "properties": {"transformations": {"type": "array", "items": {
    "type": "object", "required": ["type"], "properties": {"type": {"enum": ["DIRECT", "INDIRECT"]}, "subtype": {"type": "string"},
                                                           "masking": {"type": "boolean"}}}}}}
DATASET = {
    "type": "object", "required": ["namespace", "name"],
    "properties": {
        "namespace": {"type": "string"}, "name": {"type": "string"}, "outputFacets": FACETS,
        "facets": {"allOf": [FACETS, {"properties": {
            "columnLineage": {"required": ["fields"], "properties": {"dataset": {"type": "array", "items": FIELD}, "fields": {
                "type": "object", "additionalProperties": {"required": ["inputFields"], "properties": {
                    "inputFields": {"type": "array", "items": FIELD}}}}}},
            "schema": {"properties": {"fields": {"type": "array", "items": {"required": ["name"]}}}}}}]},
    },
}  # fmt: skip
EVENT = {
    "type": "object", "required": ["eventTime", "producer", "schemaURL", "run", "job"],
    "properties": {
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "eventTime": {"type": "string", "format": "date-time"},
        "producer": {"type": "string", "format": "uri"},
        "schemaURL": {"const": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"},
        "run": {"required": ["runId"], "properties": {"runId": {"type": "string", "format": "uuid"}, "facets": FACETS}},
        "job": {"required": ["namespace", "name"], "properties": {"facets": FACETS}},
        "inputs": {"type": "array", "items": DATASET}, "outputs": {"type": "array", "items": DATASET},
    },
}  # fmt: skip

# What the facets' own published schemas require (the version is in each facet's `_schemaURL`), in our own words too.
TEXT, NAMED = {"type": "string"}, {"type": "object", "required": ["namespace", "name"], "properties": {"namespace": {"type": "string"}, "name": {"type": "string"}}}
FACET_FORMS = {
    "ParentRunFacet": {"required": ["run", "job"], "properties": {"job": NAMED, "run": {
        "required": ["runId"], "properties": {"runId": {"type": "string", "format": "uuid"}}}}},
    "JobTypeJobFacet": {"required": ["processingType", "integration"], "properties": {
        "processingType": {"enum": ["BATCH", "STREAMING", "SERVICE"]}, "integration": TEXT, "jobType": TEXT}},
    "DocumentationJobFacet": {"required": ["description"], "properties": {"description": TEXT, "contentType": TEXT}},
    "SQLJobFacet": {"required": ["query"], "properties": {"query": TEXT, "dialect": TEXT}},
    "SchemaDatasetFacet": {"required": ["fields"], "properties": {"fields": {"type": "array", "items": {
        "required": ["name"], "properties": {"name": TEXT, "type": TEXT, "description": TEXT}}}}},
    "ColumnLineageDatasetFacet": {"required": ["fields"], "properties": {
        "dataset": {"type": "array", "items": FIELD},
        "fields": {"type": "object", "additionalProperties": {"required": ["inputFields"], "properties": {
            "inputFields": {"type": "array", "items": FIELD}}}}}},
    "OutputStatisticsOutputDatasetFacet": {"required": ["rowCount"], "properties": {"rowCount": {"type": "integer", "minimum": 0}}},
}  # fmt: skip


def facets_of(document: dict) -> list[dict]:
    """Every facet of an event, wherever it hangs."""
    held = [document["run"], document["job"], *document["inputs"], *document["outputs"]]
    groups = [one.get(name) or {} for one in held for name in ("facets", "inputFacets", "outputFacets")]
    return [facet for group in groups for facet in group.values()]


GATED = f"""select g.audience_subject_token as subject_token, {EVIDENCE}, sum(t.amount) as total
    from lake.consent.gate as g inner join lake.staging.transactions as t on g.subject_token = t.subject_token
    where g.purpose_role = 'audience' and g.gate_outcome = 'ALLOW' group by all"""


@pytest.fixture(scope="module")
def events():
    nodes = [node("candidate", "spenders", GATED, "audience")]
    project = read_project(manifest(nodes), load_contracts(), load_policy(), "fintech")
    facts = RunFacts(
        RUN_ID, RAN, {"candidate.spenders": BUILT}, {("candidate", "spenders"): {"total": "DOUBLE"}}, {("published", "spenders"): 7}
    )
    return run_events(project, prove(project), facts)


@pytest.fixture(scope="module")
def documents(events, tmp_path_factory):
    path = tmp_path_factory.mktemp("events") / "openlineage.ndjson"
    assert write_events(events, path) == len(events)
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_event_has_the_form_that_the_specification_asks_for(documents):
    formats = jsonschema.FormatChecker()
    assert {"date-time", "uri", "uuid"} <= set(formats.checkers)  # one that it does not know it lets pass
    validator = jsonschema.Draft202012Validator(EVENT, format_checker=formats)
    assert len(documents) > 10
    for document in documents:
        assert [error.message for error in validator.iter_errors(document)] == []
        UUID(document["run"]["runId"])
        datetime.fromisoformat(document["eventTime"])
    with pytest.raises(jsonschema.ValidationError):
        validator.validate({name: value for name, value in documents[0].items() if name != "job"})


def test_every_facet_has_the_form_of_its_own_published_schema(documents):
    """A facet whose schema is not among those that are checked fails too; and each form refuses what lacks a part."""
    seen = {}
    for document in documents:
        for facet in facets_of(document):
            name = facet["_schemaURL"].rpartition("/")[2]
            checker = jsonschema.Draft202012Validator(FACET_FORMS[name], format_checker=jsonschema.FormatChecker())
            assert [error.message for error in checker.iter_errors(facet)] == [], name
            seen[name] = facet
    assert set(seen) == set(FACET_FORMS)
    for name, facet in seen.items():
        for part in FACET_FORMS[name]["required"]:
            broken = {key: value for key, value in facet.items() if key != part}
            assert not jsonschema.Draft202012Validator(FACET_FORMS[name]).is_valid(broken), (name, part)


def test_our_words_ask_for_what_the_published_schemas_ask_for():
    """OpenLineage's own client has a class for each facet that is generated from its published schema: the parts that a class
    cannot be made without are those that the schema requires."""
    import attr
    from openlineage.client import generated

    made = {}
    for module in pkgutil.iter_modules(generated.__path__):
        found = importlib.import_module(f"{generated.__name__}.{module.name}")
        made |= {name: one for name, one in vars(found).items() if isinstance(one, type) and attr.has(one) and one.__module__ == found.__name__}
    required = {
        name: {one.name for one in attr.fields(made[name]) if one.default is attr.NOTHING and one.init and not one.name.startswith("_")}
        for name in FACET_FORMS
    }
    assert all(required[name] <= set(form["required"]) for name, form in FACET_FORMS.items())
    # Optional there, and what we write these facets for.
    ours = {name: set(form["required"]) - required[name] for name, form in FACET_FORMS.items()}
    assert {name: parts for name, parts in ours.items() if parts} == {
        "SchemaDatasetFacet": {"fields"}, "OutputStatisticsOutputDatasetFacet": {"rowCount"}
    }  # fmt: skip
    for name, form in (("InputField", FIELD), ("Transformation", FIELD["properties"]["transformations"]["items"])):
        fields = attr.fields(made[name])
        assert set(form["required"]) == {one.name for one in fields if one.default is attr.NOTHING}
        assert set(form["properties"]) <= {one.name for one in fields}


def test_a_run_starts_and_ends_and_every_job_within_it_names_it_as_its_parent(documents):
    """The specification asks for one START and one end of each run of a job; a collector pairs them by the run's id."""
    assert [document["eventType"] for document in (documents[0], documents[-1])] == ["START", "COMPLETE"]
    assert documents[0]["run"]["runId"] == documents[-1]["run"]["runId"] == RUN_ID
    jobs = documents[1:-1]
    assert {job["run"]["facets"]["parent"]["run"]["runId"] for job in jobs} == {RUN_ID}
    starts, ends = jobs[::2], jobs[1::2]
    assert {start["eventType"] for start in starts} == {"START"} and {end["eventType"] for end in ends} == {"COMPLETE"}
    assert [(one["run"]["runId"], one["job"]["name"]) for one in starts] == [(one["run"]["runId"], one["job"]["name"]) for one in ends]
    assert len({start["run"]["runId"] for start in starts}) == len(starts)


def test_the_times_are_those_of_the_job_where_they_are_known_else_of_the_run(documents):
    def times(name: str) -> tuple[datetime, ...]:
        told = [document["eventTime"] for document in documents if document["job"]["name"] == name]
        return tuple(datetime.fromisoformat(time).replace(tzinfo=None) for time in told)

    assert times("candidate.spenders") == BUILT
    assert times("publish_segments") == times("landing.customers") == RAN


def test_a_model_ran_when_dbt_says_and_everything_else_when_its_step_did():
    project = read_project(manifest([node("candidate", "spenders", GATED, "audience"), node("staging", "late", "select 1 as one")]),
                           load_contracts(), load_policy(), "fintech")  # fmt: skip
    steps = {"landing": (1, 2), "transformation": (2, 5), "publication": (6, 7), "somebody_elses": (0, 9)}
    spans = job_spans(project, steps, {"spenders": (3, 4)})
    assert spans["landing.customers"] == (1, 2) and spans["published.spenders"] == (6, 7)
    assert spans["candidate.spenders"] == (3, 4) and spans["staging.late"] == (2, 5)
    assert not job_spans(project, {}, {})


def step(documents, job: str) -> dict:
    return next(document for document in documents if document["job"]["name"] == job and document["eventType"] == "COMPLETE")


def test_a_models_event_tells_values_and_what_joined_filtered_and_grouped(documents):
    """Column lineage elsewhere sees the values alone; the gate is in the indirect part."""
    found = step(documents, "candidate.spenders")
    assert [one["name"] for one in found["inputs"]] == ["consent.gate", "staging.transactions"]
    lineage = found["outputs"][0]["facets"]["columnLineage"]
    total = lineage["fields"]["total"]["inputFields"]
    assert [(one["name"], one["field"], one["transformations"][0]["subtype"]) for one in total] == [("staging.transactions", "amount", "AGGREGATION")]
    indirect = {(one["name"], one["field"], one["transformations"][0]["subtype"]) for one in lineage["dataset"]}
    assert {("consent.gate", "gate_outcome", "FILTER"), ("consent.gate", "subject_token", "JOIN")} <= indirect
    assert found["job"]["facets"]["sql"]["query"]


def test_the_chain_goes_from_the_tenants_files_to_the_publication(documents):
    produced = {output["name"]: [one["name"] for one in document["inputs"]] for document in documents for output in document["outputs"]}
    assert produced["raw.transactions"] == ["transactions"]
    assert produced["staging.transactions"] == ["raw.transactions"]
    assert {"raw.customers", "raw.consent_events", "policy.purposes"} <= set(produced["consent.gate"])
    assert produced["published.spenders"] == ["candidate.spenders"]
    published = step(documents, "published.spenders")["outputs"][0]
    assert published["outputFacets"]["outputStatistics"]["rowCount"] == 7


def test_pseudonyms_are_marked_as_masked(documents):
    landed = step(documents, "landing.customers")["outputs"][0]["facets"]["columnLineage"]["fields"]
    assert landed["subject_token"]["inputFields"][0]["transformations"][0]["masking"] is True
    assert landed["status"]["inputFields"][0]["transformations"][0]["masking"] is False


class Endpoint(BaseHTTPRequestHandler):
    """A collector on the loopback interface that keeps what it is sent."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.taken.append((self.path, json.loads(body)))
        self.send_response(self.server.answer)
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def endpoint():
    server = HTTPServer(("127.0.0.1", 0), Endpoint)
    server.taken, server.answer = [], 201
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def test_an_endpoint_takes_every_event_in_order(endpoint, events, documents):
    assert send_events(events, f"http://127.0.0.1:{endpoint.server_port}") == len(events)
    assert [document for _, document in endpoint.taken] == documents
    assert {path for path, _ in endpoint.taken} == {"/api/v1/lineage"}


def test_an_endpoint_that_refuses_or_is_gone_is_an_error_that_tells_no_value(endpoint, events):
    endpoint.answer = 400
    with pytest.raises(DeliveryError, match="0 events"):
        send_events(events, f"http://127.0.0.1:{endpoint.server_port}")
    with pytest.raises(DeliveryError):
        send_events(events[:1], "http://127.0.0.1:9")
