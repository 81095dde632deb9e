"""The dbt project as assets and checks.

Belongs here: the translator and the one dbt step. Does not belong here: model names; whatever Dagster shows of a model
comes from the model's own YAML. `@dbt_assets` rather than the YAML component: the component runs from a copy of the
project, and a stale copy may run.
https://docs.dagster.io/integrations/libraries/dbt
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, DbtCliResource, DbtProject, dbt_assets

from orchestration import progress
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.deliveries import newest_delivery
from orchestration.lake import open_lake
from orchestration.settings import DBT_PROJECT_DIR, Settings
from orchestration.transformation import dbt_variables, prepare, target_path


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


@dg.definitions
def defs() -> dg.Definitions:
    """Staging, consent, features, ratings and candidates: one dbt invocation, tests included."""
    settings = Settings()
    manifest = prepare(settings)
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
        variables = json.dumps(dbt_variables(settings, delivery.as_of, context.run_id))
        progress.report("rating with dbt: consent gate, features, rules")
        arguments = ["build", "--exclude-resource-type", "unit_test", "--exclude", "tag:policy", "--vars", variables]
        yield from dbt.cli(arguments, context=context).stream().fetch_row_counts().fetch_column_metadata()

    return dg.Definitions(assets=[transformation])
