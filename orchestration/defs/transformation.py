"""The dbt project as assets and checks.

Belongs here: the translator and the one dbt step. Does not belong here: model names; whatever Dagster shows of a model
comes from the model's own YAML. `@dbt_assets` rather than the YAML component: the component runs from a copy of the
project, and a stale copy may run.
https://docs.dagster.io/integrations/libraries/dbt
"""

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtCliResource, DbtProject, dbt_assets

from orchestration import progress
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.deliveries import newest_delivery
from orchestration.lake import open_lake, relation_columns, row_counts
from orchestration.lineage.columns import LineageError, column_sources
from orchestration.settings import DBT_PROJECT_DIR, Settings
from orchestration.transformation import (
    build_target_path,
    dbt_variables,
    end_process,
    keys_withheld,
    prepare,
    project_manifest,
    run_manifest,
    target_path,
)

STAGE = "rating with dbt: consent gate, features, rules"


class ZoneTranslator(DagsterDbtTranslator):
    """Names, groups and tags of dbt's nodes in Dagster: the schema is the zone, the zone is the group."""

    def get_asset_spec(self, manifest: Mapping[str, Any], unique_id: str, project: DbtProject | None) -> dg.AssetSpec:
        """The default spec with key = relation, group = zone and the model's governance as metadata."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        props = self.get_resource_props(manifest, unique_id)
        if props["resource_type"] == "source":
            return spec
        zone = props["schema"]
        return spec.replace_attributes(
            key=dg.AssetKey([zone, props["name"]]), group_name=zone, owners=spec.owners or ["team:data-platform"]
        ).merge_attributes(metadata=_governance(props), tags={"zone": zone}, kinds={"dbt", "duckdb"})


def _governance(props: Mapping[str, Any]) -> dict[str, Any]:
    """What a model's YAML says about law and rules, so that an auditor reads it beside the lineage."""
    meta = props.get("config", {}).get("meta", {})
    governance = {f"governance/{key}": value for key, value in meta.get("governance", {}).items()}
    if "rules" in meta:
        governance["rules"] = dg.MetadataValue.json(meta["rules"])
    return governance


def relation_metadata(settings: Settings, manifest: Mapping[str, Any]) -> dict[dg.AssetKey, dict[str, Any]]:
    """Row count, columns and column lineage of each relation that dbt built, read from the lake and the compiled SQL.

    dagster-dbt's own fetchers are not used: they open the profile's file, which dbt holds, and poll for its release with
    a whole core; a run then hung or took twice as long.
    """
    with open_lake(settings, read_only=True) as connection:
        columns, counts = relation_columns(connection), row_counts(connection)
    described = {(node["schema"], node["name"]): node for node in manifest["nodes"].values() if "compiled_code" in node}
    metadata = {}
    for relation, types in columns.items():
        found: dict[str, Any] = {}
        node = described.get(relation)
        texts = node["columns"] if node else {}
        found["dagster/column_schema"] = dg.TableSchema(
            columns=[
                dg.TableColumn(name, type=kind, description=texts.get(name, {}).get("description"))
                for name, kind in types.items()
            ]
        )
        if relation in counts:
            found["dagster/row_count"] = counts[relation]
        if node and node.get("compiled_code"):
            with contextlib.suppress(LineageError):  # a test asserts that every published column has lineage
                sources = column_sources(node["compiled_code"], columns)
                found["dagster/column_lineage"] = dg.TableColumnLineage(
                    {
                        name: [dg.TableColumnDep(dg.AssetKey([zone, table]), column) for zone, table, column in sorted(deps)]
                        for name, deps in sources.items()
                    }
                )
        metadata[dg.AssetKey(list(relation))] = found
    return metadata


def _with_metadata(events: list[Any], context: dg.AssetExecutionContext, settings: Settings) -> Iterator[Any]:
    compiled = run_manifest(settings, context.run_id)
    metadata = relation_metadata(settings, compiled) if compiled else {}
    for event in events:
        if isinstance(event, dg.Output):
            key = context.asset_key_for_output(event.output_name)
            event = event.with_metadata({**event.metadata, **metadata.get(key, {})})
        yield event


@dg.definitions
def defs() -> dg.Definitions:
    """Staging, consent, features, ratings and candidates: one dbt invocation, tests included."""
    settings = Settings()
    manifest = prepare(settings)
    nodes = project_manifest(settings)["nodes"].values()
    expected = sum(node["resource_type"] in ("model", "seed", "test") for node in nodes) or 1
    project = DbtProject(project_dir=DBT_PROJECT_DIR, profiles_dir=DBT_PROJECT_DIR, target_path=target_path(settings))

    @dbt_assets(
        manifest=manifest,
        project=project,
        name="transformation",
        exclude="resource_type:unit_test",
        pool=LAKE_POOL,
        dagster_dbt_translator=ZoneTranslator(
            settings=DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True)
        ),
    )
    def transformation(context: dg.AssetExecutionContext, platform: Platform, dbt: DbtCliResource) -> Iterator[Any]:
        settings = platform.settings()
        with open_lake(settings, read_only=True) as connection:
            delivery = newest_delivery(connection, settings)
        variables = json.dumps(dbt_variables(settings, delivery.as_of))
        progress.report(STAGE)
        arguments = ["build", "--exclude-resource-type", "unit_test", "--exclude", "tag:policy", "--vars", variables]
        with keys_withheld():
            invocation = dbt.cli(arguments, context=context, target_path=build_target_path(settings, context.run_id))
        events: list[Any] = []
        failure: Exception | None = None
        try:
            for event in invocation.stream():
                events.append(event)
                progress.report(STAGE, min(0.99, len(events) / expected))
        except Exception as error:
            failure = error  # what dbt did build is reported first
        finally:
            end_process(invocation.process)
        yield from _with_metadata(events, context, settings)
        if failure:
            raise failure

    return dg.Definitions(assets=[transformation])
