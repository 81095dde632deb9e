"""The command that keeps things going: `schedule`.

Belongs here: starting Dagster's daemon in the home's environment, and saying what it will do. Does not belong here: when
things run (`defs`), what they do.
"""

import subprocess
import sys
from pathlib import Path

import typer

from orchestration.commands.drawing import output, print_rows
from orchestration.commands.options import DataOption, ProfileOption, SourcesOption, settings_of


def schedule(profile: ProfileOption = None, sources: SourcesOption = None, data: DataOption = None) -> None:
    """Run all schedules and sensors until you end it: publication daily and on new files, opt-outs within a minute, deletions,
    retention, the ledger's anchors and checks, and pulls from the consent platforms that are set up.

    One per home. Run it as a service, with the variables that your settings need; `segline ui` shows beside it what ran, and with
    --writable lets you switch off what you do not want. Example: segline schedule --sources mappings/bank --data /srv/deliveries
    """
    from orchestration.running import export_settings, prepare_dagster_home
    from orchestration.settings import PROJECT_ROOT

    settings = settings_of(profile, sources, data)
    export_settings(settings)
    prepare_dagster_home(settings)
    print_rows(["what", "when", "starts"], times(), "Schedules and sensors (times in UTC)")
    output.print("Running; end with Ctrl-C.", highlight=False)
    command = [str(Path(sys.executable).with_name("dagster-daemon")), "run", "-w", str(PROJECT_ROOT / "workspace.yaml")]
    try:
        code = subprocess.call(command)
    except KeyboardInterrupt:
        code = 0
    raise typer.Exit(code)


def times() -> list[tuple[str, str, str]]:
    """Every schedule and sensor: its name, when it acts, and the job that it starts."""
    from orchestration.definitions import defs

    definitions = defs()
    found = [(one.name, str(one.cron_schedule), one.job_name) for one in definitions.schedules or []]
    found += [(one.name, f"every {one.minimum_interval_seconds} s", one.job_name) for one in definitions.sensors or []]
    return sorted(found)
