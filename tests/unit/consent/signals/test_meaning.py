"""What a signal is to the platform: who grants what, and that neither silence nor interest is ever a grant."""

import re
from datetime import UTC, datetime
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from orchestration.consent.signals.decoding import decode
from orchestration.consent.signals.meaning import PURPOSES, TCF_PURPOSES, consent_events, findings, months_later, states
from orchestration.consent.signals.results import Unknown
from orchestration.settings import PROJECT_ROOT
from tests.unit.consent.signals.encoder import LAST_DAY, NOW, US, gpp_string, publisher_bits, tc_string, us_section

ALL = tuple(range(1, 12))
# By hand, not from the module.
NEEDED = {"analytics": {1, 8, 9, 10}, "personalisation": {1, 5, 6}, "ads_sale_share": {1, 2, 3, 4, 7}}
CONSENT_SECTIONS = [key for key, (prefix, *_) in US.items() if prefix not in ("usca", "usut", "usia")]


def said(text: str, now=NOW) -> dict[str, str]:
    """The states other than unknown."""
    found = states(decode(text, now), now)
    assert set(found) == set(PURPOSES)
    return {purpose: state for purpose, (state, _) in found.items() if state != "unknown"}


def us(key, **changes) -> str:
    return gpp_string({key[0]: us_section(key, **changes)})


def test_the_purposes_are_the_contract_s():
    contract = yaml.safe_load(Path(PROJECT_ROOT / "orchestration/ingestion/contracts/consent_events.yml").read_text(encoding="utf-8"))
    columns = {column["name"]: column for column in contract["columns"]}
    assert list(PURPOSES) == columns["purpose"]["values"]
    events = [event for text in (tc_string(consents=(1, 5, 6)), "1", "1YYN") for event in consent_events(decode(text, NOW), NOW)]
    assert {event.action for event in events} == {"granted", "denied", "gpc_on"} <= set(columns["action"]["values"])
    assert {event.method for event in events} <= set(columns["method"]["values"])
    assert {event.actor for event in events} <= set(columns["actor"]["values"])


def test_all_tcf_purposes_grant_all_that_rests_on_them():
    assert said(tc_string(consents=ALL)) == dict.fromkeys(NEEDED, "granted")


@pytest.mark.parametrize("missing", ALL)
def test_one_missing_tcf_purpose_refuses_what_rests_on_it(missing):
    found = said(tc_string(consents=[number for number in ALL if number != missing]))
    assert found == {purpose: "denied" if missing in needed else "granted" for purpose, needed in NEEDED.items()}


def test_every_set_of_tcf_purposes_grants_what_it_covers():
    """All 2,048 of them."""
    for size in range(len(ALL) + 1):
        for consents in combinations(ALL, size):
            found = said(tc_string(consents=consents))
            assert found == {purpose: "granted" if needed <= set(consents) else "denied" for purpose, needed in NEEDED.items()}


def test_legitimate_interest_is_never_a_grant():
    assert said(tc_string(interests=(1, 2, 7, 8, 9, 10, 11))) == dict.fromkeys(NEEDED, "denied")


def test_vendors_and_special_features_grant_nothing():
    assert said(tc_string(features=(1, 2), publisher=publisher_bits(consents=ALL, custom=9, custom_consents=range(1, 10)))) == dict.fromkeys(
        NEEDED, "denied"
    )


def test_the_publisher_s_own_segment_restricts():
    """Consent for others without consent for the publisher's own purposes is none, and the other way about."""
    assert said(tc_string(consents=ALL, publisher=publisher_bits(consents=ALL))) == dict.fromkeys(NEEDED, "granted")
    assert said(tc_string(consents=ALL, publisher=publisher_bits(consents=(1, 5, 6)))) == {
        "analytics": "denied", "personalisation": "granted", "ads_sale_share": "denied",
    }
    assert set(said(tc_string(consents=(1, 5), publisher=publisher_bits(consents=ALL))).values()) == {"denied"}


def test_an_undisclosed_purpose_1_is_neither_granted_nor_refused():
    """PurposeOneTreatment: where the law asks no consent to device access, nobody was asked."""
    assert said(tc_string(consents=ALL[1:], one_treatment="1")) == {}
    assert said(tc_string(consents=(5, 6), one_treatment="1")) == {"analytics": "denied", "ads_sale_share": "denied"}


def test_a_grant_ends_after_thirteen_months():
    """At the very instant it is over; a refusal does not end."""
    text = tc_string(consents=(1, 5, 6))
    assert said(text, datetime(2027, 10, 31, 23, 59, 59, tzinfo=UTC))["personalisation"] == "granted"
    later = said(text, datetime(2027, 11, 1, tzinfo=UTC))
    assert later == {"personalisation": "expired", "analytics": "denied", "ads_sale_share": "denied"}


@pytest.mark.parametrize(("day", "then"), [
    ((2026, 1, 31), (2027, 2, 28)), ((2026, 12, 31), (2028, 1, 31)), ((2027, 1, 29), (2028, 2, 29)), ((2026, 11, 30), (2027, 12, 30)),
])
def test_thirteen_months_never_reach_beyond_the_month(day, then):
    assert months_later(datetime(*day, tzinfo=UTC), 13) == datetime(*then, tzinfo=UTC)


def test_us_privacy_only_ever_refuses():
    assert said("1YYN") == said("1-Y-") == {"ads_sale_share": "denied"}
    assert said("1YNN") == said("1NNY") == said("1---") == {}


def test_gpc_refuses_ads_and_a_site_s_statement_refuses_nobody():
    assert said("1") == {"ads_sale_share": "denied"}
    assert said('{"gpc": true}') == said('{"gpc": false}') == {}


@pytest.mark.parametrize("key", US, ids=lambda key: f"{US[key][0]}v{key[1]}")
def test_opt_outs_refuse_and_their_absence_grants_nothing(key):
    """2 is «did not opt out», easily taken for consent."""
    assert said(us(key)) == {}
    for name in ("sale", "ads", "sharing"):
        has_it = US[key][0] in ("usnat", "usca") if name == "sharing" else (name, US[key][0]) != ("ads", "usca")
        assert said(us(key, **{name: 1})) == ({"ads_sale_share": "denied"} if has_it else {})
        assert said(us(key, **{name: 0})) == {}


@pytest.mark.parametrize("key", [key for key in US if US[key][-1]], ids=lambda key: f"{US[key][0]}v{key[1]}")
def test_embedded_gpc_refuses_even_where_the_section_says_nobody_opted_out(key):
    assert said(us(key, sale=2, gpc="1")) == {"ads_sale_share": "denied"}
    assert said(us(key, sale=2, gpc="0")) == {}


@pytest.mark.parametrize("key", US, ids=lambda key: f"{US[key][0]}v{key[1]}")
def test_sensitive_data_needs_consent_to_every_category_where_it_is_a_consent(key):
    """In California, Utah and Iowa the same field is an opt-out: there 2 is no consent."""
    count = US[key][2]
    assert said(us(key, sensitive=2)) == ({"sensitive": "granted"} if key in CONSENT_SECTIONS else {})
    assert said(us(key, sensitive=0)) == {}
    assert said(us(key, sensitive=[2] * (count - 1) + [0])) == {}
    assert said(us(key, sensitive=[2] * (count - 1) + [1])) == {"sensitive": "denied"}


@pytest.mark.parametrize("key", US, ids=lambda key: f"{US[key][0]}v{key[1]}")
def test_a_known_child_grants_nothing_and_without_consent_refuses(key):
    """A child's own consent is void; a parent's needs proof that no string holds."""
    prefix, _, _, entries, *_ = US[key]
    assert said(us(key, child=2, sensitive=2)) == {}
    assert said(us(key, child=[0] * (entries - 1) + [2], sensitive=2)) == {}
    under_13 = {"usnat": 1, "usca": None}.get(prefix, 0)
    for entry in range(entries):
        found = said(us(key, child=[int(place == entry) for place in range(entries)], sensitive=2))
        refused = PURPOSES if entry == under_13 else ("ads_sale_share", "sensitive")
        assert found == dict.fromkeys(refused, "denied")


def test_a_refusal_beats_every_grant_of_the_same_string():
    granting = tc_string(consents=ALL)
    assert said(gpp_string({2: granting, 8: us_section((8, 1))})) == dict.fromkeys(NEEDED, "granted")
    for refusing in ({6: "1YYN"}, {8: us_section((8, 1), sale=1)}, {8: us_section((8, 1), gpc="1")}):
        assert said(gpp_string({2: granting, **refusing})) == {**dict.fromkeys(NEEDED, "granted"), "ads_sale_share": "denied"}
    assert said(gpp_string({2: granting, 7: us_section((7, 1), child=2)})) == {}
    for first, second in ((1, 2), (2, 1)):      # whichever section comes first
        both = gpp_string({7: us_section((7, 1), sensitive=first), 9: us_section((9, 1), sensitive=second)})
        assert said(both) == {"sensitive": "denied"}
        assert [event.action for event in consent_events(decode(both, NOW), NOW)] == ["denied"]


def test_events_carry_the_day_of_a_tc_string_and_the_receipt_of_the_rest():
    received = datetime(2026, 10, 20, 8, 30, tzinfo=UTC)
    text = gpp_string({2: tc_string(consents=ALL), 8: us_section((8, 1), sale=1, gpc="1")})
    events = consent_events(decode(text, NOW), received)
    assert [(event.purpose, event.action, event.effective_at, event.effective_precision, event.source) for event in events] == [
        ("analytics", "granted", LAST_DAY, "day", "tcfeuv2"), ("personalisation", "granted", LAST_DAY, "day", "tcfeuv2"),
        ("ads_sale_share", "denied", received, "instant", "usca"), ("ads_sale_share", "gpc_on", received, "instant", "usca"),
    ]
    assert [event.expires_at for event in events] == [datetime(2027, 11, 1, tzinfo=UTC)] * 2 + [None] * 2
    assert {(event.actor, event.received_at) for event in events} == {("self", received)}
    assert [event.method for event in events] == ["banner", "banner", "banner", "gpc_header"]


def test_refusals_of_two_sections_are_two_events():
    """An old TC string's refusal must not hide that of today: a grant between the two would win otherwise."""
    text = gpp_string({2: tc_string(consents=()), 8: us_section((8, 1), sale=1)})
    ads = [event.effective_at for event in consent_events(decode(text, NOW), NOW) if event.purpose == "ads_sale_share"]
    assert ads == [LAST_DAY, NOW]


def test_unknown_says_nothing_of_any_purpose():
    nothing = Unknown("for a reason")
    assert (findings(nothing), consent_events(nothing, NOW)) == ((), ())
    assert states(nothing, NOW) == dict.fromkeys(PURPOSES, ("unknown", "not understood: for a reason"))


def test_the_documented_mapping_is_the_one_that_runs():
    """docs/signals.md is what a lawyer reads and signs."""
    rows = [line.split("|") for line in Path(PROJECT_ROOT / "docs/signals.md").read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    documented = {
        cells[1].strip(): tuple(map(int, re.findall(r"\d+", cells[2]))) for cells in rows if cells[2].strip().startswith("TCF purposes")
    }
    assert documented == TCF_PURPOSES
    assert {purpose: set(needed) for purpose, needed in TCF_PURPOSES.items()} == NEEDED
