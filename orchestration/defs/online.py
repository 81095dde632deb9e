"""The online service in the graph: the check that online decides as the batch does, before anything is published.

Belongs here: the check's place. Does not belong here: the comparison, the service (`orchestration.online`).
"""

import dagster as dg

from orchestration import progress
from orchestration.defs.ledger import compiled_manifest
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.deliveries import newest_delivery
from orchestration.lake import open_lake
from orchestration.online.reconciling import reconcile_candidates


@dg.asset_check(
    asset=dg.AssetKey(["candidate", "risk_segments"]),
    additional_deps=[dg.AssetKey(["candidate", "risk_scores"]), dg.AssetKey(["candidate", "audience_segments"])],
    name="online_decides_as_the_batch",
    blocking=True,
    pool=LAKE_POOL,
    description="Random customers, decided one by one from their raw rows as the online service does, come out as in the batch.",
)
def online_decides_as_the_batch(context: dg.AssetCheckExecutionContext, platform: Platform) -> dg.AssetCheckResult:
    """A service that answers from this publication must not decide otherwise than it."""
    settings = platform.settings()
    progress.report("deciding a sample as the online service does")
    with open_lake(settings) as connection:
        delivery = newest_delivery(connection, settings)
        found = reconcile_candidates(connection, compiled_manifest(settings, context.run.run_id), delivery.as_of)
    return dg.AssetCheckResult(
        # Nothing to compare is the state of an empty book.
        passed=not found.differing,
        metadata={"decisions_compared": found.compared, "differing": dg.MetadataValue.json(dict(found.differing))},
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The check."""
    return dg.Definitions(asset_checks=[online_decides_as_the_batch])
