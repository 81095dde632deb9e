"""The roles' bundles after each publication: who was given a role sees what stands now.

Belongs here: its place in the graph. Does not belong here: writing them (`orchestration.access`).
It comes after the publication, and nothing waits for it: a bundle that cannot be written undoes nothing; the check says why,
and the holder keeps the older bundle.
"""


import dagster as dg

from orchestration import progress
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.defs.publication import after_publication, candidate_models
from orchestration.settings import Settings
from orchestration.transformation import project_manifest

BUNDLES_KEY = dg.AssetKey(["ops", "role_bundles"])
CURRENT = "role_bundles_are_current"
CURRENT_TEXT = "Every holder of a role has a bundle of this publication. Where one could not be written, the older one stands."


@dg.definitions
def defs() -> dg.Definitions:
    """One asset behind the publication, with a check that stops nothing."""
    manifest = project_manifest(Settings())
    published = [dg.AssetKey(["published", name]) for name in sorted(candidate_models(manifest))]

    @dg.asset(
        key=BUNDLES_KEY,
        deps=published,
        check_specs=[dg.AssetCheckSpec(CURRENT, asset=BUNDLES_KEY, description=CURRENT_TEXT)],
        group_name="ops",
        description="One encrypted file per person with a role, holding what that role opens; written where the grant says.",
        owners=["team:compliance"],
        kinds={"duckdb", "python"},
        tags={"zone": "ops"},
        pool=LAKE_POOL,
    )
    def role_bundles(platform: Platform) -> dg.MaterializeResult:
        from orchestration.access.bundles import write_bundles

        progress.report("writing bundles of roles")

        def write() -> dict[str, object]:
            return {"dagster/row_count": sum(sum(one.rows.values()) for one in write_bundles(platform.settings()))}

        return after_publication(CURRENT, write)

    return dg.Definitions(assets=[role_bundles])
