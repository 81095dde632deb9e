"""The history of the rules out of the SQL of past runs."""

from orchestration.documentation.facts import LedgerRun
from orchestration.documentation.rule_history import history, rules_in


def sql(predicate: str = "is_pep", day: str = "2026-11-01", points: int = 10, until: str = "") -> str:
    today = f"cast(cast('{day} 00:00:00' as timestamp) as date)"
    end = f"\n        and {today} < cast('{until}' as date)" if until else ""
    return f"""select
        -- R102 version 1: Politically exposed person
        coalesce(
            {predicate}, false
        )
        and {today} >= cast('1990-01-01' as date){end}
            as r102_v1,
        -- R103 version 2: Not screened
        coalesce(
            coalesce(a, b) is null
            or c in ('x', 'y'), false
        )
        and {today} >= cast('2027-01-01' as date)
            as r103_v2
    from features
    select case when r102_v1 then {points} else 0 end, greatest(0, 0, case when r103_v2 then 3 end)"""


def run(day: str, as_of: str = "2026-11-01 00:00") -> LedgerRun:
    return LedgerRun(f"run of {day}", as_of, day, "fintech", 1, 1, "ff", {})


def test_condition_points_and_floor_are_read():
    first, second = rules_in(sql())
    assert (first.rule_id, first.version, first.name, first.predicate) == ("R102", 1, "Politically exposed person", "is_pep")
    assert (first.points, first.floor_rank) == (10, None)
    assert second.predicate == "coalesce(a, b) is null or c in ('x', 'y')"
    assert (second.points, second.floor_rank) == (None, 3)


def test_other_sql_has_no_history():
    assert rules_in("select 1 -- R102 version 1: a name without a condition\n") == []


def test_an_unchanged_rule_is_one_row_from_its_first_run_to_its_last():
    found = history([(run("2026-11-02"), sql(day="2026-11-01")), (run("2026-11-03"), sql(day="2026-11-02"))])
    assert [(one.first_decided, one.last_decided, one.runs) for one in found if one.rule_id == "R102"] == [
        ("2026-11-02", "2026-11-03", 2)
    ]


def test_a_change_under_one_version_shows_as_two_rows():
    for changed in (sql(predicate="is_pep or x"), sql(points=11)):
        found = [one for one in history([(run("2026-11-02"), sql()), (run("2026-11-03"), changed)]) if one.rule_id == "R102"]
        assert [(one.first_decided, one.runs) for one in found] == [("2026-11-02", 1), ("2026-11-03", 1)]


def test_a_version_that_was_never_in_force_decided_nothing():
    (future,) = [one for one in history([(run("2026-11-02"), sql())]) if one.rule_id == "R103"]
    assert (future.first_decided, future.last_decided, future.runs) == (None, None, 0)


def test_a_rule_ends_on_the_day_before_its_end():
    on_last, on_end = (
        next(one for one in history([(run("x", as_of), sql(until="2026-11-02"))]) if one.rule_id == "R102")
        for as_of in ("2026-11-01 00:00", "2026-11-02 00:00")
    )
    assert (on_last.runs, on_end.runs) == (1, 0)
