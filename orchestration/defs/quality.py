"""Great Expectations suites as asset checks, one step per stage boundary.

Belongs here: how an outcome becomes a check result. Does not belong here: expectations (`expectations/*.json`),
validating (`quality`).
https://docs.dagster.io/guides/test/asset-checks
"""

from collections.abc import Iterator

import dagster as dg

from orchestration import progress
from orchestration.defs.platform import LAKE_POOL, Platform
from orchestration.lake import open_lake
from orchestration.quality.suites import BOUNDARIES, check_specs
from orchestration.quality.validation import check_boundary


def boundary_checks(boundary: str) -> dg.AssetChecksDefinition:
    """All expectations of one boundary; the critical ones block what lies downstream."""
    specs = [
        dg.AssetCheckSpec(
            spec.check, asset=dg.AssetKey(spec.relation.split(".")), blocking=spec.blocking, description=spec.description
        )
        for spec in check_specs(boundary)
    ]

    @dg.multi_asset_check(name=f"{boundary}_expectations", specs=specs, pool=LAKE_POOL)
    def checks(platform: Platform) -> Iterator[dg.AssetCheckResult]:
        progress.report(f"checking expectations: {boundary}")
        with open_lake(platform.settings(), read_only=True) as connection:
            outcomes = check_boundary(connection, boundary)
        broken = [outcome.check for outcome in outcomes if outcome.error]
        if broken:
            # An expectation that could not be evaluated proves nothing; a warning's check would not block by itself.
            raise dg.Failure(f"expectations that could not be evaluated: {', '.join(broken)}")
        for outcome in outcomes:
            yield dg.AssetCheckResult(
                check_name=outcome.check,
                asset_key=dg.AssetKey(outcome.relation.split(".")),
                passed=outcome.passed,
                severity=dg.AssetCheckSeverity.ERROR if outcome.severity == "critical" else dg.AssetCheckSeverity.WARN,
                metadata=outcome.metrics,
            )

    return checks


@dg.definitions
def defs() -> dg.Definitions:
    """One group of checks per suite file."""
    return dg.Definitions(asset_checks=[boundary_checks(boundary) for boundary in BOUNDARIES])
