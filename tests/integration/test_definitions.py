"""What an auditor sees in Dagster: every asset owned and described, publication behind every blocking check."""

import dagster as dg
import pytest

from orchestration.running import export_settings, prepare_dagster_home
from orchestration.settings import Settings
from tests.effort import parsed_home


@pytest.fixture(scope="module")
def definitions(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    settings = parsed_home(tmp_path_factory, "fintech")
    patch.setenv("SEGLINE_HOME", str(settings.root))
    export_settings(settings)
    prepare_dagster_home(settings)
    from orchestration.definitions import defs

    yield defs()
    patch.undo()


@pytest.fixture(scope="module")
def graph(definitions):
    return definitions.resolve_asset_graph()


def names(keys) -> set[str]:
    return {key.to_user_string() for key in keys}


def test_the_definitions_load(definitions):
    dg.Definitions.validate_loadable(definitions)


def test_every_asset_says_what_it_is_and_who_answers_for_it(graph):
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.owners, key
        assert node.description and len(node.description) > 20, key
        assert node.kinds, key
        assert node.group_name == key.path[0], key
        assert node.tags.get("zone") or node.group_name == "sources", key


def test_every_published_segment_can_be_walked_back_to_its_sources(graph):
    """Source, raw table, consent gate, features, candidate: each is on the way of both segment tables."""
    for name, features in (("risk_segments", "risk_features"), ("audience_segments", "audience_features")):
        upstream, edge = set(), {dg.AssetKey(["published", name])}
        while edge:
            edge = {parent for key in edge for parent in graph.get(key).parent_keys} - upstream
            upstream |= edge
        assert {
            "sources/customers",
            "sources/consent_events",
            "raw/customers",
            "raw/consent_events",
            "policy/consent_decision_table",
            "consent/gate",
            f"features/{features}",
            f"candidate/{name}",
        } <= names(upstream)


def test_publication_waits_for_every_blocking_expectation(graph):
    """A blocking check holds back only what lies downstream of its asset, so publication has to lie there."""
    downstream = {
        key: names(graph.get(key).parent_keys) for key in graph.get_all_asset_keys() if key.path[0] == "published"
    }
    assert downstream
    written_by_publication = dg.AssetKey(["ops", "decisions"])  # its check holds back the anchors, not the publication
    for check in graph.asset_check_keys:
        node = graph.get(check)
        if check.asset_key == written_by_publication:
            continue
        if node.blocking and check.asset_key.path[0] in ("raw", "ops", "consent", "features", "candidate"):
            for key in downstream:
                ancestors, edge = set(), {key}
                while edge:
                    edge = {parent for one in edge for parent in graph.get(one).parent_keys} - ancestors
                    ancestors |= edge
                assert check.asset_key in ancestors, f"{key.to_user_string()} does not wait for {check}"
    assert all("consent/gate" in parents for parents in downstream.values())


def test_raw_tables_and_publications_go_stale_visibly(graph):
    for key in graph.get_all_asset_keys():
        if key.path[0] in ("raw", "published"):
            assert graph.get(key).freshness_policy, key


def test_what_is_made_outside_dbt_is_what_the_proof_is_tested_with(graph):
    """The proof takes these steps from the graph; its tests over the manifest take them from here."""
    from orchestration.lineage.graph import python_steps
    from tests.dbt.test_lineage_proof import STEPS

    assert {name: set(step.inputs) for name, step in python_steps(graph).items() if name in STEPS} == {
        name: set(step.inputs) for name, step in STEPS.items()
    }


def test_job_schedule_and_sensor_are_there(definitions):
    repository = definitions.get_repository_def()
    assert repository.has_job("publish_segments")
    schedules = {schedule.name for schedule in repository.schedule_defs}
    assert {"publish_segments_daily", "enforce_retention_daily"} <= schedules
    assert {"anchor_ledger_hourly", "verify_ledger_weekly"} <= schedules
    assert {"new_delivery", "new_opt_outs"} <= {sensor.name for sensor in repository.sensor_defs}


def test_the_opt_out_job_waits_for_no_run(definitions):
    """It is in no pool and takes no lock, or an opt-out that arrives during a run would wait for its end."""
    job = definitions.get_repository_def().get_job("apply_opt_outs")
    assert [node.definition.pool for node in job.nodes] == [None]
    assert "platform" not in job.resource_defs or not job.nodes[0].definition.required_resource_keys
    sensor = next(one for one in definitions.get_repository_def().sensor_defs if one.name == "new_opt_outs")
    assert sensor.minimum_interval_seconds <= 15


def test_the_opt_out_sensor_fires_on_arrival_and_only_then(definitions, tmp_path, monkeypatch):
    from orchestration.rights.intake import intake_folder, record_opt_out

    monkeypatch.setenv("SEGLINE_HOME", str(tmp_path / "home"))
    settings = Settings()
    sensor = next(one for one in definitions.get_repository_def().sensor_defs if one.name == "new_opt_outs")

    def evaluate(cursor):
        return sensor.evaluate_tick(dg.build_sensor_context(cursor=cursor, definitions=definitions))

    assert evaluate(None).skip_message
    record_opt_out(settings, "ann")
    first = evaluate(None)
    assert len(first.run_requests) == 1
    folder = intake_folder(settings)
    folder.mkdir(parents=True)
    (folder / "a.csv").write_text("customer_id\nbob\n")
    assert len(evaluate(first.cursor).run_requests) == 1


def test_the_sensor_fires_on_a_new_file_and_only_then(definitions, tmp_path, monkeypatch):
    (tmp_path / "mapping.yml").write_text("version: 1\nname: t\nfeeds:\n  - {name: crm, entity: customers, files: '*.csv'}\n")
    monkeypatch.setenv("SEGLINE_SOURCES", str(tmp_path))
    sensor = next(sensor for sensor in definitions.get_repository_def().sensor_defs if sensor.name == "new_delivery")
    (tmp_path / "a.csv").write_text("customer_id,customer_type\n")

    def evaluate(cursor):
        return sensor.evaluate_tick(dg.build_sensor_context(cursor=cursor, definitions=definitions))

    first = evaluate(None)
    assert len(first.run_requests) == 1
    assert evaluate(first.cursor).run_requests == []
    (tmp_path / "b.csv").write_text("customer_id,customer_type\n")
    assert len(evaluate(first.cursor).run_requests) == 1
    (tmp_path / "mapping.yml").unlink()
    assert evaluate(first.cursor).skip_message


def test_rules_and_governance_are_shown_beside_the_lineage(graph):
    ratings = graph.get(dg.AssetKey(["risk", "risk_ratings"]))
    rules = ratings.metadata["rules"]
    rules = rules.value if hasattr(rules, "value") else rules
    assert len(rules) >= 15
