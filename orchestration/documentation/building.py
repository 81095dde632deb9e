"""The whole way: facts, pages, site. What the command and the step of a run share.

Belongs here: putting the parts together. Does not belong here: any of them.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from orchestration.check_results import recorded_results
from orchestration.documentation.facts import Check
from orchestration.documentation.gathering import gather
from orchestration.documentation.site import Site, build_site, require_free
from orchestration.settings import Settings

Report = Callable[[str], None]


def build_documentation(
    settings: Settings,
    folder: Path | None = None,
    report: Report = lambda _: None,
    read_checks: Callable[[str], Iterable[Check]] | None = None,
    note_reading: Callable[[], None] = lambda: None,
) -> Site:
    """Document the standing publication in `folder`, by default in the home. `read_checks` gives a run's results.

    `note_reading` is called when the ledger was read and before anything of it is shown.
    Raises `NothingPublished` before the first publication, `DocumentationError` if the site cannot be made there.
    """
    started = time.perf_counter()
    folder = folder or settings.documentation_dir / "site"
    require_free(folder)
    report("reading the publication")
    facts = gather(settings)
    note_reading()
    report("reading the results of its checks")
    try:
        checks = tuple((read_checks or _recorded(settings))(facts.publication["run_id"]))
        facts = replace(facts, checks=checks)
    except Exception as error:  # the instance may be gone or another's; the pages then say that results are missing
        facts = replace(facts, missing={**facts.missing, "checks": f"{type(error).__name__}: {error}"})
    report("writing the pages")
    site = build_site(facts, folder)
    return replace(site, seconds=time.perf_counter() - started)


def _recorded(settings: Settings) -> Callable[[str], Iterable[Check]]:
    from orchestration.running import prepare_dagster_home

    prepare_dagster_home(settings)
    return recorded_results
