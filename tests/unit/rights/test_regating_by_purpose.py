"""A family that rests on a purpose of its own loses its named segment with that purpose, and with no other."""

from datetime import datetime

import duckdb
import pytest

from orchestration.rights.regating import GATE, Model, Regated, bring_into_line

AS_OF, INSTANT = datetime(2026, 11, 1), datetime(2026, 11, 2)
COLUMNS = "subject_token, segment_family, segment, purpose, consent_event_id, gate_outcome, gate_reason"
DEFAULTS = """
    select audience_subject_token as subject_token, 'engagement' as segment_family, 'default' as segment, purpose, consent_event_id,
        gate_outcome, gate_reason from lake.consent.gate where purpose_role = 'audience' and gate_outcome not in ('ALLOW', 'BLOCK')
    union all
    select audience_subject_token, 'behavioural', 'default', purpose, consent_event_id, gate_outcome, gate_reason
    from lake.consent.gate where purpose_role = 'audience' and gate_outcome not in ('ALLOW', 'BLOCK')
"""


@pytest.fixture
def lake():
    with duckdb.connect() as connection:
        connection.execute("attach ':memory:' as lake; use lake; create schema lake.published; create schema lake.consent")
        connection.execute("create table lake.consent.gate (subject_token varchar)")
        columns = ", ".join(f"{name} varchar" for name in COLUMNS.split(", "))
        connection.execute(f"create table lake.published.audience_segments ({columns})")
        connection.execute(
            "insert into lake.published.audience_segments values ('a1', 'engagement', 'loyal', 'personal', 'e1', 'ALLOW', 'granted'), "
            "('a1', 'behavioural', 'wishing', 'ads', 'e2', 'ALLOW', 'granted'), "
            "('a2', 'engagement', 'loyal', 'personal', 'f1', 'ALLOW', 'granted'), ('a2', 'behavioural', 'wishing', 'ads', 'f2', 'ALLOW', 'granted')"
        )
        yield connection


def regated(connection, personal, ads):
    """What is published of a1 once the gate answers so for the audience purpose and for the family's own; a2 was not asked about."""
    connection.execute(
        "create or replace temp table fresh as select * from (values "
        f"('s1', 'r1', 'a1', 'personal', 'audience', '{personal}', 'why_personal', 'n1', 'granted'), "
        f"('s1', 'r1', 'a1', 'ads', 'none', '{ads}', 'why_ads', 'n2', 'granted')) as t (subject_token, risk_subject_token, "
        "audience_subject_token, purpose, purpose_role, gate_outcome, gate_reason, consent_event_id, consent_status)"
    )
    gate = Model(*GATE, "model", "lake.consent.gate", "table", "", (), None)
    segments = Model("candidate", "audience_segments", "model", "lake.candidate.audience_segments", "table", DEFAULTS, (gate.relation,), "subject_token")
    bring_into_line(connection, [gate, segments], Regated({gate.relation: "fresh"}, {}), AS_OF, INSTANT)
    return connection.execute(f"select {COLUMNS} from lake.published.audience_segments where subject_token = 'a1' order by 2 desc").fetchall()


def test_the_own_purpose_lost_takes_its_segment_alone(lake):
    assert regated(lake, "ALLOW", "DEFAULT") == [
        ("a1", "engagement", "loyal", "personal", "n1", "ALLOW", "why_personal"),
        ("a1", "behavioural", "default", "ads", "n2", "DEFAULT", "why_ads"),
    ]


def test_the_audience_purpose_lost_takes_every_segment(lake):
    assert {row[2] for row in regated(lake, "DEFAULT", "ALLOW")} == {"default"}


def test_what_is_still_allowed_stays_with_fresh_evidence_of_its_own_purpose(lake):
    assert regated(lake, "ALLOW", "ALLOW") == [
        ("a1", "engagement", "loyal", "personal", "n1", "ALLOW", "why_personal"),
        ("a1", "behavioural", "wishing", "ads", "n2", "ALLOW", "why_ads"),
    ]


def test_nobody_else_is_touched(lake):
    regated(lake, "DEFAULT", "DEFAULT")
    assert lake.execute("select count(*) from lake.published.audience_segments where subject_token = 'a2' and segment <> 'default'").fetchone() == (2,)


def test_a_default_of_the_own_purpose_stays_one_until_the_next_run(lake):
    """Nobody moves from the default into a named segment between two runs."""
    lake.execute("update lake.published.audience_segments set segment = 'default', gate_outcome = 'DEFAULT' where segment_family = 'behavioural'")
    assert regated(lake, "ALLOW", "ALLOW")[1][2] == "default"
