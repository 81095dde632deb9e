"""The data map: complete over the real project, and silent about nothing."""

import copy
import html.parser
import json

import pytest

from orchestration.ingestion.contracts import load_contracts
from orchestration.lineage.categories import FIDESLANG, is_category
from orchestration.lineage.data_map import (
    build_data_map,
    document,
    load_purposes,
    missing_entries,
    to_html,
    unmapped_relations,
)
from orchestration.transformation import target_path
from tests.effort import parsed_home

PROFILES = ("fintech", "childrens_retail")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> dict:
    """The real project, as dbt parses it."""
    return json.loads((target_path(parsed_home(tmp_path_factory, "fintech")) / "manifest.json").read_text(encoding="utf-8"))


def model(manifest: dict, name: str) -> dict:
    return next(node for node in manifest["nodes"].values() if node["name"] == name)


@pytest.mark.parametrize("profile", PROFILES)
def test_no_column_of_the_project_lacks_an_entry(manifest, profile):
    """The build's own check: category, purpose, basis and retention of every column of contracts and models."""
    assert [str(one) for one in missing_entries(build_data_map(manifest, profile))] == []


@pytest.mark.parametrize("profile", PROFILES)
def test_every_attribute_that_a_tenant_delivers_is_in_the_map(manifest, profile):
    entries = {(entry.relation, entry.column) for entry in build_data_map(manifest, profile).entries}
    for entity, contract in load_contracts().items():
        for column in contract.raw_columns():
            assert (f"raw.{entity}", column) in entries
        for column in contract.identifiers:
            assert ("vault.persons", column.name) in entries


def test_a_new_column_without_a_category_is_missing(manifest):
    spoiled = copy.deepcopy(manifest)
    model(spoiled, "audience_members")["columns"]["favourite_toy"] = {"name": "favourite_toy", "description": "A toy."}
    (found,) = missing_entries(build_data_map(spoiled, "fintech"))
    assert (found.relation, found.column) == ("audience.audience_members", "favourite_toy")
    assert "category" in found.what


def test_a_category_that_the_taxonomy_does_not_know_is_missing(manifest):
    """The library's own model takes an unknown key without a word."""
    spoiled = copy.deepcopy(manifest)
    column = model(spoiled, "audience_members")["columns"]["segment"]
    column["config"]["meta"]["category"] = "user.favorite_toy"
    assert [found.column for found in missing_entries(build_data_map(spoiled, "fintech"))] == ["segment"]


def test_data_that_nothing_published_is_built_on_has_no_purpose(manifest):
    """Minimisation: what serves no declared purpose is not to be held."""
    spoiled = copy.deepcopy(manifest)
    model(spoiled, "stg_compliance__audit_outcomes")["config"]["meta"].pop("roles")
    found = missing_entries(build_data_map(spoiled, "fintech"))
    assert {one.relation for one in found} == {"staging.stg_compliance__audit_outcomes", "raw.audit_outcomes"}
    assert all("no purpose" in one.what for one in found)


def test_purposes_follow_the_profile(manifest):
    """A retailer is no obliged entity: the anti-money-laundering purpose must not appear in its record."""
    bank, shop = ({entry.relation: entry for entry in build_data_map(manifest, name).entries} for name in PROFILES)
    assert bank["published.risk_segments"].purposes == ("aml_legal_obligation",)
    assert shop["published.risk_segments"].purposes == ("fraud_security",)
    assert bank["published.audience_segments"].purposes == shop["published.audience_segments"].purposes == ("personalisation",)
    assert any("legal_obligation" in basis for basis in bank["published.risk_segments"].bases)


def test_recipients_come_from_the_exposures(manifest):
    entries = {entry.relation: entry for entry in build_data_map(manifest, "fintech").entries}
    assert "Marketing audiences" in entries["published.audience_segments"].recipients
    assert "Marketing audiences" not in entries["published.risk_segments"].recipients


def test_a_table_that_nobody_declared_is_found_in_the_store(manifest):
    data_map = build_data_map(manifest, "fintech")
    known = {("raw", "customers"): {"subject_token": "varchar"}, ("ops", "loads"): {"file": "varchar"}}
    assert unmapped_relations(data_map, known) == []
    strange = {("raw", "customers"): {"email": "varchar"}, ("audience", "shadow_copy"): {"x": "varchar"}}
    assert [(one.relation, one.column) for one in unmapped_relations(data_map, strange)] == [
        ("audience.shadow_copy", "x"),
        ("raw.customers", "email"),
    ]


def test_the_uses_in_segments_come_from_the_compiled_sql(manifest):
    """Without compiled SQL the map says that it does not know, instead of naming none."""
    plain = build_data_map(manifest, "fintech")
    assert not plain.has_lineage and not document(plain)["segments_traced"]
    compiled = copy.deepcopy(manifest)
    for name in ("stg_feedback__survey_feedback", "audience_segments"):
        model(compiled, name).pop("compiled_code", None)
    model(compiled, "stg_feedback__survey_feedback")["compiled_code"] = "select score from lake.raw.survey_feedback"
    model(compiled, "audience_segments")["compiled_code"] = (
        "select 'x' || score as segment from lake.staging.stg_feedback__survey_feedback"
    )
    entries = {(entry.relation, entry.column): entry for entry in build_data_map(compiled, "fintech").entries}
    assert entries[("raw.survey_feedback", "score")].segments == ("published.audience_segments.segment",)
    assert entries[("raw.survey_feedback", "survey_id")].segments == ()


def test_the_page_loads_nothing_and_runs_nothing(manifest):
    class Reader(html.parser.HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.seen: set[str] = set()

        def handle_starttag(self, tag, attributes):
            self.seen.add(tag)
            assert not {name for name, _ in attributes} & {"src", "href", "onclick", "onload"}

    spoiled = copy.deepcopy(manifest)
    model(spoiled, "audience_members")["columns"]["segment"]["description"] = "<script>alert(1)</script>"
    page = to_html(build_data_map(spoiled, "fintech"))
    reader = Reader()
    reader.feed(page)
    assert "table" in reader.seen and not reader.seen & {"script", "link", "img", "iframe"}
    assert "&lt;script&gt;" in page


def test_the_document_is_plain_json(manifest):
    again = json.loads(json.dumps(document(build_data_map(manifest, "fintech"))))
    assert {row["purpose"] for row in again["purposes"]} == {row["purpose"] for row in load_purposes("fintech")}


def test_categories_are_keys_and_not_prefixes():
    assert is_category("user.contact.email") and not is_category("user.contact.") and not is_category(None)
    assert all(key == key.lower() and not key.endswith(".") for key in FIDESLANG)
