"""The canary's checks: one per candidate relation that is keyed by a pseudonym, each blocks publication.

Belongs here: which relations, and how an outcome becomes a check result. Does not belong here: the twins
(`orchestration.rights.canary`).
https://docs.dagster.io/guides/test/asset-checks
"""

from collections.abc import Iterator

import dagster as dg

from orchestration import progress
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.defs.publication import candidate_models
from orchestration.identity.keys import load_keys
from orchestration.lake import open_lake
from orchestration.rights.canary import judge_canaries
from orchestration.settings import Settings
from orchestration.transformation import project_manifest

CHECK = "opted_out_canary_is_in_no_named_segment"


def judged_relations(manifest: dict) -> list[str]:
    """Names of the candidates that carry a pseudonym and the consent that they rest on."""
    return sorted(
        name for name, node in candidate_models(manifest).items() if {"subject_token", "consent_status"} <= set(node["columns"])
    )


@dg.definitions
def defs() -> dg.Definitions:
    """One step with one blocking check per relation."""
    relations = judged_relations(project_manifest(Settings()))
    specs = [
        dg.AssetCheckSpec(
            CHECK,
            asset=dg.AssetKey(["candidate", name]),
            blocking=True,
            description="A synthetic person who opted out is in the default segment, while the twin who did not is in a "
            "named one: so the opt-out works, and the check could have failed.",
        )
        for name in relations
    ]

    @dg.multi_asset_check(name="canary", specs=specs, pool=LAKE_POOL)
    def canary(platform: Platform) -> Iterator[dg.AssetCheckResult]:
        progress.report("checking the opted-out canary")
        settings = platform.settings()
        keys = load_keys(settings)
        with open_lake(settings, read_only=True) as connection:
            outcomes = judge_canaries(connection, keys, relations)
            customers = connection.execute("select count(*) from lake.raw.customers").fetchone()[0]
        for outcome in outcomes:
            yield dg.AssetCheckResult(
                check_name=CHECK,
                asset_key=dg.AssetKey(outcome.relation.split(".")),
                # A delivery without any customer has no twins either.
                passed=outcome.passed or not customers,
                severity=dg.AssetCheckSeverity.ERROR,
                metadata={
                    "rows_that_rest_on_consent": outcome.consent_rows,
                    "named_rows_of_the_opted_out": outcome.escaped,
                    "named_rows_of_the_control": outcome.named,
                },
            )

    return dg.Definitions(asset_checks=[canary])
