"""The consent gate against everything that can be put before it: no way to a segment without a valid grant.

Each case is a book of made-up people; one execution of the compiled SQL answers for all of them at once. What a valid grant
is says `consent_oracle`, written from the law and not from the SQL.
"""

from datetime import datetime, timedelta
from itertools import product
from random import Random

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as trials
from hypothesis import strategies as st

from tests.dbt.consent_oracle import browser_signal, disclosure_stands, span, standing_grants
from tests.dbt.consent_rows import AS_OF, NOTICE, SIGNAL_PURPOSES, Store, table
from tests.effort import examples

TRIALS = trials(max_examples=examples(25), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
NO_SIGNAL = ("aml_legal_obligation", "fraud_security")
PURPOSES = ("personalisation", "ads_sale_share", "sensitive")
AGES = ("<13", "13-15", "16-17", "18+", "unknown", None)
PLACES = (("DE", None), ("GB", None), ("US", "CA"), ("US", "NY"), ("US", None), ("BR", None), (None, None))
ACTIONS = ("granted", "denied", "withdrawn", "gpc_on", None)
ACTORS = ("self", "parent", "agent", None)
METHODS = ("banner", "form", "api", "gpc_header", "paper", "verified_parental", "import", None)
SCOPES = ("collection_use", "disclosure", None)
# A week before the run, by a coarse clock, so that ties and the edges of days are common and not rare.
HOURS = st.integers(0, 7 * 24 // 3).map(lambda step: AS_OF - timedelta(days=6) + timedelta(hours=3 * step))
MIDNIGHTS = st.integers(0, 7).map(lambda step: AS_OF - timedelta(days=6 - step))
INSTANTS = st.one_of(HOURS, MIDNIGHTS)
NOTICES = [
    {"profile": "fintech", "purpose": "personalisation", "version": "n1", "valid_from": datetime(2020, 1, 1),
     "superseded_at": AS_OF - timedelta(days=3), "is_material": True, "notice_hash": None},
    {"profile": "fintech", "purpose": "personalisation", "version": "n2", "valid_from": AS_OF - timedelta(days=4),
     "superseded_at": AS_OF - timedelta(days=1), "is_material": False, "notice_hash": None},
    {"profile": "fintech", "purpose": "personalisation", "version": "n3", "valid_from": AS_OF - timedelta(days=1),
     "superseded_at": None, "is_material": None, "notice_hash": None},
    {"profile": "other", "purpose": "ads_sale_share", "version": "n9", "valid_from": datetime(2020, 1, 1),
     "superseded_at": None, "is_material": None, "notice_hash": None},
]  # fmt: skip


@st.composite
def an_event(draw):
    action = draw(st.sampled_from(("granted", "granted", "granted", *ACTIONS)))
    actor = draw(st.sampled_from(("self", "self", *ACTORS)))
    return {
        "purpose": draw(st.sampled_from(PURPOSES)),
        "action": action,
        "actor": actor,
        "method": draw(st.sampled_from(("form", "paper", *METHODS))),
        "parental_scope": draw(st.sampled_from(SCOPES)) if actor == "parent" else None,
        "effective_precision": draw(st.sampled_from((None, None, "instant", "day"))),
        "effective_at": draw(INSTANTS),
        "received_at": draw(st.one_of(st.none(), INSTANTS)),
        "expires_at": draw(st.one_of(st.none(), st.none(), INSTANTS)),
        "notice_version": draw(st.sampled_from(("n1", "n2", "n3", "n3", "n0", None))),
        "is_after_conflict_notice": draw(st.sampled_from((True, False, None))),
        "is_capable_at_collection": draw(st.sampled_from((True, True, True, False, None))),
    }


@st.composite
def a_request(draw):
    return {
        "request_type": draw(st.sampled_from(("opt_out", "deletion", "access"))),
        "status": draw(st.sampled_from(("received", "refused", None))),
        "received_at": draw(INSTANTS),
    }


@st.composite
def a_book(draw):
    """People, events and requests; who is who is in the names."""
    people, events, requests = [], [], []
    for number in range(draw(st.integers(1, 12))):
        country, region = draw(st.sampled_from(PLACES))
        name = f"p{number}"
        people.append(
            {"subject_token": name, "risk_subject_token": f"risk_{name}", "audience_subject_token": f"aud_{name}",
             "country_code": country, "region_code": region, "age_band": draw(st.sampled_from(AGES)),
             "is_self_consent_capable": draw(st.sampled_from((True, True, False, None)))}
        )  # fmt: skip
        for index, event in enumerate(draw(st.lists(an_event(), max_size=5))):
            events.append(event | {"subject_token": name, "consent_event_id": f"{name}-e{index}"})
        for index, request in enumerate(draw(st.lists(a_request(), max_size=1))):
            requests.append(request | {"subject_token": name, "request_id": f"{name}-r{index}"})
    return people, events, requests


def of(rows, person):
    return [row for row in rows if row["subject_token"] == person["subject_token"]]


@pytest.fixture(scope="module")
def store(consent_models):
    made = Store(consent_models)
    yield made
    made.connection.close()


def put_notices(store, notices):
    store.put("policy", "notices", table(NOTICE, notices))


def promises_kept(gate, people, events, requests, instant, notices=()):
    """Every promise of the gate in strict mode over one book; the row that breaks one is in the message."""
    for person in people:
        own, asked = of(events, person), of(requests, person)
        for purpose in (*SIGNAL_PURPOSES, *NO_SIGNAL):
            answer = gate[person["subject_token"], purpose]
            case = (answer, person, own, asked, instant)
            if purpose in NO_SIGNAL:
                assert (answer["gate_outcome"], answer["signal"], answer["consent_event_id"]) == ("ALLOW", "unknown", None), case
                continue
            standing = standing_grants(person, purpose, own, asked, instant, notices)
            assert (answer["consent_status"] == "granted") == bool(standing), case
            if answer["gate_outcome"] == "ALLOW":
                assert answer["consent_event_id"] in {event["consent_event_id"] for event in standing}, case
                assert answer["gate_reason"] in ("consent_granted", "parental_consent"), case
                assert answer["legal_reference"] and answer["policy_version"] and answer["legal_basis"] == "consent", case
            if answer["signal"] == "parental+disclosure" and not notices:
                assert disclosure_stands(purpose, person, own, asked, instant), case
            if purpose == "ads_sale_share" and answer["gate_outcome"] == "ALLOW":
                signalled = browser_signal(own, instant)
                assert person["age_band"] == "18+", case
                assert signalled is None or any(
                    event["is_after_conflict_notice"] and event["actor"] == "self" and span(event)[0] > signalled
                    for event in standing
                ), case
            if purpose == "sensitive" and answer["gate_outcome"] == "ALLOW":
                assert all(event["method"] in ("form", "paper", "verified_parental") for event in standing), case


@TRIALS
@given(book=a_book(), instant=INSTANTS, declared=st.booleans())
def test_nothing_is_allowed_without_a_valid_grant(store, book, instant, declared):
    """Above all: the gate's `granted` is exactly the oracle's, and an allowance cites one of the oracle's grants."""
    notices = NOTICES if declared else []
    put_notices(store, notices)
    store.put_people(*book)
    fitting = [notice for notice in notices if notice["profile"] == "fintech"]
    promises_kept(store.gate(instant), *book, instant, fitting)


def test_every_single_event_of_every_kind(store):
    """No random choice: all combinations of who, how, what, when and where with one event, in one execution."""
    put_notices(store, [])
    people, events, chance = [], [], Random(1)
    noon = AS_OF - timedelta(hours=12)
    times = (
        (noon, noon, None, None), (noon, None, AS_OF, None), (noon, AS_OF + timedelta(hours=1), None, None),
        (noon, noon - timedelta(minutes=6), None, None), (noon, None, AS_OF + timedelta(seconds=1), None),
        (noon, None, None, "day"), (AS_OF, None, None, "day"), (AS_OF, None, None, None),
    )  # fmt: skip
    for number, (action, actor, method, scope, when, capable, purpose) in enumerate(
        product(ACTIONS, ACTORS, METHODS, SCOPES, times, (True, False, None), PURPOSES)
    ):
        name = f"p{number}"
        country, region = chance.choice(PLACES)
        people.append(
            {"subject_token": name, "risk_subject_token": f"risk_{name}", "audience_subject_token": f"aud_{name}",
             "country_code": country, "region_code": region, "age_band": chance.choice(AGES), "is_self_consent_capable": True}
        )  # fmt: skip
        effective, received, expires, precision = when
        events.append(
            {"consent_event_id": f"{name}-e", "subject_token": name, "purpose": purpose, "action": action, "actor": actor,
             "method": method, "parental_scope": scope, "effective_at": effective, "received_at": received,
             "expires_at": expires, "effective_precision": precision, "is_capable_at_collection": capable,
             "is_after_conflict_notice": None}
        )  # fmt: skip
    store.put_people(people, events)
    gate = store.gate()
    assert len(gate) == 7 * len(people)
    by_person = {event["subject_token"]: event for event in events}
    allowed = 0
    for person in people:
        own = [by_person[person["subject_token"]]]
        allowed += gate[person["subject_token"], own[0]["purpose"]]["gate_outcome"] == "ALLOW"
        promises_kept(gate, [person], own, [], AS_OF)
    assert allowed > 20, "a gate that allows nothing would pass as well"


BREAKERS = (
    {"actor": None}, {"actor": "agent"}, {"method": None}, {"method": "gpc_header"}, {"is_capable_at_collection": None},
    {"is_capable_at_collection": False}, {"effective_at": None}, {"notice_version": None}, {"effective_precision": "day"},
    {"is_after_conflict_notice": None}, {"purpose": "telepathy"}, {"action": None}, {"action": "GRANTED"},
    {"received_at": datetime(2030, 1, 1)}, {"expires_at": datetime(2000, 1, 1)}, {"subject_token": None},
)  # fmt: skip


@TRIALS
@given(book=a_book(), instant=INSTANTS, breaker=st.sampled_from(BREAKERS), declared=st.booleans())
def test_damage_to_the_evidence_never_loosens(store, book, instant, breaker, declared):
    """Requirement 1: a field that is missing, malformed, stale or contradictory takes allowances away and gives none."""
    people, events, requests = book
    put_notices(store, NOTICES if declared else [])
    store.put_people(*book)
    before = {key for key, row in store.gate(instant).items() if row["gate_outcome"] == "ALLOW"}
    damaged = [event | breaker if event["action"] == "granted" else event for event in events]
    store.put_people(people, damaged, requests)
    after = {key for key, row in store.gate(instant).items() if row["gate_outcome"] == "ALLOW"}
    assert after <= before


@TRIALS
@given(book=a_book(), instant=INSTANTS, late=an_event(), request=a_request())
def test_a_further_refusal_never_loosens(store, book, instant, late, request):
    """Whatever is refused, signalled or requested on top, at whatever time and by whomever, opens nothing."""
    people, events, requests = book
    put_notices(store, [])
    store.put_people(*book)
    before = {key for key, row in store.gate(instant).items() if row["gate_outcome"] == "ALLOW"}
    for action in ("denied", "withdrawn", "gpc_on"):
        more = [
            late | {"action": action, "subject_token": person["subject_token"], "consent_event_id": f"more-{number}"}
            for number, person in enumerate(people)
        ]
        asked = [request | {"subject_token": person["subject_token"], "request_id": f"more-{n}"} for n, person in enumerate(people)]
        store.put_people(people, events + more, requests + asked)
        after = {key for key, row in store.gate(instant).items() if row["gate_outcome"] == "ALLOW"}
        assert after <= before


@pytest.fixture(scope="module")
def modes(consent_models):
    stores = {
        (profile, mode): Store(consent_models, profile, mode)
        for profile in ("fintech", "childrens_retail")
        for mode in ("strict", "statutory")
    }
    yield stores
    for made in stores.values():
        made.connection.close()


@TRIALS
@given(book=a_book(), instant=INSTANTS, profile=st.sampled_from(("fintech", "childrens_retail")))
def test_strict_is_never_looser_than_statutory(modes, book, instant, profile):
    """The two modes over the same people; in neither may a refused ad pass, or a child under 13 grant for itself."""
    gates = {}
    for mode in ("strict", "statutory"):
        modes[profile, mode].put_people(*book)
        gates[mode] = modes[profile, mode].gate(instant)
        for (_, purpose), row in gates[mode].items():
            if purpose == "ads_sale_share" and row["signal"] in ("denied", "withdrawn", "gpc_on", "granted+gpc_on"):
                assert row["gate_outcome"] != "ALLOW", row
            if row["age_band"] == "<13" and row["gate_reason"] == "consent_granted":
                assert row["gate_outcome"] != "ALLOW", row
    for key, row in gates["strict"].items():
        if row["gate_outcome"] == "ALLOW" and gates["statutory"][key]["gate_outcome"] != "ALLOW":
            # Only where the law's own answer hangs on a condition or a state, which no mode resolves by itself.
            assert gates["statutory"][key]["gate_reason"] == "policy_condition_open", (row, gates["statutory"][key])


@TRIALS
@given(book=a_book(), instants=st.lists(INSTANTS, min_size=1, max_size=6))
def test_state_as_of_any_instant_is_what_the_history_says(store, book, instants):
    """Requirement 4. One interval of the history holds each instant, and says what a run at that instant says."""
    put_notices(store, NOTICES)
    store.put_people(*book)
    store.empty_changes()
    store.append_changes(max(instants))
    for instant in instants:
        assert store.history_at(instant) == store.states_only(instant)


@TRIALS
@given(book=a_book(), more=a_book(), first=INSTANTS, second=INSTANTS, instants=st.lists(INSTANTS, max_size=4))
def test_history_is_only_added_to_and_later_knowledge_wins(store, book, more, first, second, instants):
    """Runs come one after the other, each with another delivery: what was recorded stays, what is said follows the newest."""
    put_notices(store, [])
    store.empty_changes()
    store.put_people(*book)
    store.append_changes(first)
    recorded = store.changes()
    people, events, requests = book
    names = {person["subject_token"] for person in people}
    added = [event | {"consent_event_id": f"x{n}"} for n, event in enumerate(more[1]) if event["subject_token"] in names]
    store.put_people(people, events + added, requests)
    store.append_changes(second)
    assert store.changes()[: len(recorded)] == recorded
    for instant in [*instants, second]:
        if instant <= second:
            assert store.history_at(instant) == store.states_only(instant)
    before = store.changes()
    store.append_changes(second)
    assert store.changes() == before, "the same knowledge adds nothing"


def test_a_purpose_outside_the_policy_gets_no_answer_but_the_default(store):
    """The seed is the closed list of purposes: one that it does not know never reaches the gate by an event."""
    person = {"subject_token": "p", "risk_subject_token": "risk_p", "audience_subject_token": "aud_p", "country_code": "DE",
              "age_band": "18+", "is_self_consent_capable": True}  # fmt: skip
    grant = {"consent_event_id": "e", "subject_token": "p", "purpose": "train_ai_system", "action": "granted", "actor": "self",
             "method": "form", "is_capable_at_collection": True, "effective_at": AS_OF - timedelta(days=1)}  # fmt: skip
    put_notices(store, [])
    store.put_people([person], [grant])
    assert {row["gate_outcome"] for (_, purpose), row in store.gate().items() if purpose in SIGNAL_PURPOSES} <= {"DEFAULT", "HUMAN"}
