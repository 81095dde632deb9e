"""The documentation after each publication: pages about exactly what was published.

Belongs here: its place in the graph. Does not belong here: making it (`orchestration.documentation`).
It comes after the publication, and nothing waits for it: pages that cannot be made undo nothing. The check says why.
"""

from functools import partial

import dagster as dg

from orchestration import progress
from orchestration.defs.ledger import ANCHORS_KEY
from orchestration.defs.lineage import EVENTS_KEY
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.defs.publication import after_publication, candidate_models
from orchestration.settings import Settings
from orchestration.transformation import project_manifest

DOCUMENTATION_KEY = dg.AssetKey(["ops", "documentation"])
BUILT = "documentation_is_built"
BUILT_TEXT = "The pages about this publication were made. Where they were not, the publication stands without them."


@dg.definitions
def defs() -> dg.Definitions:
    """One asset behind all that a publication writes, with a check that stops nothing."""
    manifest = project_manifest(Settings())
    published = [dg.AssetKey(["published", name]) for name in sorted(candidate_models(manifest))]

    @dg.asset(
        key=DOCUMENTATION_KEY,
        deps=[*published, ANCHORS_KEY, EVENTS_KEY],
        # Last of all steps that are ready, so that the pages show the checks of the anchors, on which nothing depends.
        op_tags={"dagster/priority": "-1"},
        check_specs=[dg.AssetCheckSpec(BUILT, asset=DOCUMENTATION_KEY, description=BUILT_TEXT)],
        group_name="ops",
        description="The living documentation of the publication: a static site for people, in the home's documentation folder.",
        owners=["team:compliance"],
        kinds={"python"},
        tags={"zone": "ops"},
        pool=LAKE_POOL,
    )
    def documentation(context: dg.AssetExecutionContext, platform: Platform) -> dg.MaterializeResult:
        from orchestration.check_results import check_results
        from orchestration.documentation.building import build_documentation

        progress.report("writing the documentation")

        def build() -> dict[str, object]:
            site = build_documentation(platform.settings(), read_checks=partial(check_results, context.instance))
            return {
                "dagster/row_count": site.pages,
                "bytes": site.bytes,
                "seconds": round(site.seconds, 1),
                "open": dg.MetadataValue.path(str(site.index)),
            }

        return after_publication(BUILT, build)

    return dg.Definitions(assets=[documentation])
