"""The data map's checks: a column without an entry, or out of every deletion's reach, blocks publication.

Belongs here: the checks' place in the graph. Does not belong here: the map (`orchestration.lineage.data_map`), what a deletion
reaches (`orchestration.rights.reach`).
https://docs.dagster.io/guides/test/asset-checks
"""


import dagster as dg

from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.identity.vault import PERSONS, attached_vault
from orchestration.ingestion.contracts import load_contracts
from orchestration.lake import open_lake, relation_columns
from orchestration.lineage.data_map import build_data_map, missing_entries, unmapped_relations
from orchestration.rights.reach import unreachable_identifier_columns
from orchestration.transformation import project_manifest

SHOWN = 20
DELETION_CHECK = "every_identifier_is_within_a_deletions_reach"


@dg.definitions
def defs() -> dg.Definitions:
    """Three checks on the gate, which every attribute that is used passes."""
    gate = dg.AssetKey(["consent", "gate"])

    @dg.multi_asset_check(
        name="data_map",
        specs=[
            dg.AssetCheckSpec(
                "every_column_is_in_the_data_map",
                asset=gate,
                blocking=True,
                description="Each column of contracts and models has category, purpose, basis and retention (GDPR art. 30).",
            ),
            dg.AssetCheckSpec(
                "every_column_of_the_store_is_known",
                asset=gate,
                description="The store holds no table or column that the data map does not know.",
            ),
            dg.AssetCheckSpec(
                DELETION_CHECK,
                asset=gate,
                blocking=True,
                description="No identifier and no personal data lies in a column that a deletion would not find (GDPR art. 17).",
            ),
        ],
        pool=LAKE_POOL,
    )
    def data_map(platform: Platform):
        settings = platform.settings()
        manifest = project_manifest(settings)
        found = build_data_map(manifest, settings.profile)
        with open_lake(settings, read_only=True) as connection:
            strangers = unmapped_relations(found, relation_columns(connection))
            with attached_vault(connection, settings, read_only=True) as vault:
                vault_columns = [column[0] for column in vault.execute(f"select * from {PERSONS} limit 0").description]
        out_of_reach = unreachable_identifier_columns(manifest, load_contracts(), vault_columns)
        for name, missing, severity in (
            ("every_column_is_in_the_data_map", missing_entries(found), dg.AssetCheckSeverity.ERROR),
            ("every_column_of_the_store_is_known", strangers, dg.AssetCheckSeverity.WARN),
            (DELETION_CHECK, out_of_reach, dg.AssetCheckSeverity.ERROR),
        ):
            yield dg.AssetCheckResult(
                check_name=name,
                asset_key=gate,
                passed=not missing,
                severity=severity,
                metadata={"entries": len(found.entries), "missing": [str(one) for one in missing[:SHOWN]]},
            )

    return dg.Definitions(asset_checks=[data_map])
