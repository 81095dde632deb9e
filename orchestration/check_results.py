"""Results of the checks of one run, as the instance recorded them.

Belongs here: reading them out of Dagster's event log. Does not belong here: what they mean, how they are shown
(`orchestration.documentation`).
"""

from typing import Any

from orchestration.documentation.facts import Check

MOST = 5_000
# Numbers of a check that say how much it saw and what failed; all else in a result is about the run of the check.
TOLD = ("rows_checked", "rows_failing", "share_failing", "combinations_checked", "combinations_failing", "observed",
        "rows_kept", "relations_proven", "past_decisions_replayed", "entries", "dagster_dbt/failed_row_count",
        "rows_of_the_last_entry", "rows_that_rest_on_consent", "rows_older_than_policy")  # fmt: skip


def check_results(instance: Any, run_id: str) -> list[Check]:
    """The last result of each check in the run, by relation and name. `instance` is Dagster's."""
    import dagster as dg

    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION, limit=MOST).records
    found: dict[tuple[str, str], Check] = {}
    for record in records:
        result = record.event_log_entry.dagster_event.event_specific_data
        relation = ".".join(result.asset_key.path)
        numbers = ((name, getattr(result.metadata.get(name), "value", None)) for name in TOLD)
        figures = ", ".join(f"{_words(name)} {_shown(value)}" for name, value in numbers if _is_number(value))
        found[relation, result.check_name] = Check(
            relation, result.check_name, result.passed, result.severity.value, result.blocking, figures
        )
    return [found[key] for key in sorted(found)]


def recorded_results(run_id: str) -> list[Check]:
    """The same from the instance of `DAGSTER_HOME`, for a command that runs outside Dagster."""
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        return check_results(instance, run_id)


def _shown(value: int | float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:,.4g}"


def _words(name: str) -> str:
    return name.rpartition("/")[2].replace("_", " ")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
