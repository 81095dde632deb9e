"""`segline consent state`: a published home's own answer, at its point in time and at others."""

import json
from datetime import datetime, timedelta


def _story(published):
    """A customer whose grant was withdrawn later, with both events."""
    path = next(published.sources.glob("consent_events.*"))
    told: dict[str, list[dict]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event.get("purpose") == "personalisation":
            told.setdefault(event["customer_id"], []).append(event)
    known = {row["state_reason"] for row in published.cli.rows("select distinct state_reason from consent.consent_states")}
    assert "consent_withdrawn" in known
    for customer, events in told.items():
        events.sort(key=lambda event: event["effective_at"])
        if [event["action"] for event in events] == ["granted", "withdrawn"] and events[0]["effective_at"] < events[1]["effective_at"]:
            yield customer, *events


def _personalisation(published, customer, *options):
    answer = published.cli.json("consent", "state", customer, *options)
    return next(row for row in answer["purposes"] if row["purpose"] == "personalisation")


def test_the_state_at_any_instant_follows_the_events(fintech):
    for customer, grant, withdrawal in _story(fintech):
        withdrawn_at = datetime.fromisoformat(withdrawal["effective_at"])
        now = _personalisation(fintech, customer, "--as-of", withdrawal["effective_at"])
        if now["state_reason"] != "consent_withdrawn":
            continue  # another rule decides about this one: a request, an age, a browser
        just_before = (withdrawn_at - timedelta(seconds=1)).isoformat()
        before = _personalisation(fintech, customer, "--as-of", just_before)
        assert (now["consent_event_id"], now["gate_outcome"]) == (withdrawal["event_id"], "DEFAULT")
        assert (before["state_reason"], before["consent_event_id"]) == ("consent_granted", grant["event_id"])
        long_ago = _personalisation(fintech, customer, "--as-of", "2001-01-01")
        assert long_ago["state_reason"] == "no_consent_on_record"
        unheard = _personalisation(fintech, customer, "--as-of", withdrawal["effective_at"], "--known-at", just_before)
        assert unheard["state_reason"] == "consent_granted", "what had not been received was not known"
        return
    raise AssertionError("the sample tells no such story")


def test_the_state_at_the_runs_own_instant_is_the_gates(fintech):
    customer, *_ = next(_story(fintech))
    published = fintech.cli.json("explain", customer)
    answer = fintech.cli.json("consent", "state", customer, "--as-of", published["publication"]["as_of"])
    evaluated = {row["purpose"]: (row["gate_outcome"], row["gate_reason"], row["policy_version"]) for row in answer["purposes"]}
    stored = {row["purpose"]: (row["gate_outcome"], row["gate_reason"], row["policy_version"]) for row in published["gate"]}
    assert evaluated == stored


def test_mistakes_are_answered_and_not_traced(fintech):
    assert "no customer of that identifier" in fintech.cli("consent", "state", "nobody", "--as-of", "2026-01-01", expect=3).stderr
    assert "is no point in time" in fintech.cli("consent", "state", "nobody", "--as-of", "yesterday", expect=2).stderr
    fintech.cli("consent", "state", "nobody", expect=2)


def test_only_the_allowed_are_known_to_marketing(fintech, retail):
    """Requirement 2: of whoever is not allowed, the marketing zone holds no row, and the default segment no feature."""
    for published in (fintech, retail):
        leaked = published.cli.rows(
            "select count(*) as people from audience.audience_members as members left join consent.gate as gate "
            "on members.audience_subject_token = gate.audience_subject_token and gate.purpose_role = 'audience' "
            "where coalesce(gate.gate_outcome, 'none') <> 'ALLOW'"
        )
        assert leaked == [{"people": "0"}]
        default = published.cli.rows("select * from published.audience_segments where segment = 'default'")
        assert default
        told = {"subject_token", "segment_family", "segment", "purpose", "as_of", "gate_outcome", "gate_reason", "consent_status",
                "consent_event_id", "legal_basis", "legal_reference", "policy_version"}  # fmt: skip
        assert set(default[0]) <= told, "a column that could carry a feature, a score or where someone came from"
