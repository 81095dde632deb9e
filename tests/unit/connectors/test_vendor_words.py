"""Only an explicit yes grants: what each vendor's words become, and that nothing else ever does."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.connectors import onetrust, trustarc
from orchestration.connectors.dead_letters import REASONS, DeadLetter, shape_of
from orchestration.connectors.onetrust import OneTrustConnector
from orchestration.connectors.rows import ConsentRow, content_key, epoch_instant, instant
from orchestration.connectors.settings import OneTrust, Patience, TrustArc, Zigpoll
from orchestration.connectors.trustarc import TrustArcConnector
from orchestration.connectors.vocabulary import Purpose, load_vocabulary
from orchestration.connectors.zigpoll import ZigpollConnector
from orchestration.identity.keys import MasterKeys
from orchestration.ingestion.contracts import load_contracts
from orchestration.ingestion.errors import SourceError
from tests.unit.connectors.conftest import NOW, VOCABULARIES, consent, profile, receipt, response

URL = "https://cmp.example.com"
unhurried = settings(deadline=None)  # the machine may be busy


@pytest.fixture(scope="module")
def vendors(tmp_path_factory):
    folder = tmp_path_factory.mktemp("words")
    words = {}
    for name, text in VOCABULARIES.items():
        (folder / f"{name}.yml").write_text(text)
        words[name] = load_vocabulary(folder / f"{name}.yml", name)
    given = {"client_id": "c", "client_secret": "s", "start": NOW}
    return {
        "onetrust": OneTrustConnector(OneTrust(url=URL, **given), words["onetrust"], Patience()),
        "trustarc": TrustArcConnector(TrustArc(url=URL, **given), words["trustarc"], Patience()),
        "zigpoll": ZigpollConnector(Zigpoll(url=URL, key="k", account_id="a", start=NOW), words["zigpoll"], Patience()),
    }


def read(vendors, name: str, resource: str, record: object) -> list:
    connector = vendors[name]
    found = next((each for each in connector.resources if each.name == resource), None)
    return list(connector.read(found, record))


def said(outcomes: list) -> list[str]:
    """Action of a row, reason of a dead letter."""
    return [each.reason if isinstance(each, DeadLetter) else getattr(each, "action", "score") for each in outcomes]


@pytest.mark.parametrize(
    ("status", "action"),
    [
        ("CONFIRMED", "granted"), ("OPT_IN", "granted"),
        ("WITHDRAWN", "withdrawn"), ("EXPIRED", "withdrawn"), ("CANCEL", "withdrawn"),
        ("NOTGIVEN", "denied"), ("NO_CHOICE", "denied"), ("PENDING", "denied"), ("OPT_OUT", "denied"), ("HARD_OPT_OUT", "denied"),
        ("IMPLICIT", "no_expression"), ("NO_OPT_OUT", "no_expression"), ("EXTEND", "no_expression"),
        ("CHANGE_PREFERENCES", "no_expression"),
        ("confirmed", "unknown_status"), ("ACTIVE", "unknown_status"), (True, "unknown_status"), (None, "missing_field"),
    ],
)  # fmt: skip
def test_receipts(vendors, status, action):
    assert said(read(vendors, "onetrust", "receipts", receipt(1, purpose_transactionType=status))) == [action]


@pytest.mark.parametrize(
    ("status", "action"),
    [
        ("ACTIVE", "granted"), ("OPT_IN", "granted"),
        ("WITHDRAWN", "withdrawn"), ("EXPIRED", "withdrawn"),
        ("NO_CONSENT", "denied"), ("PENDING", "denied"), ("OPT_OUT", "denied"), ("HARD_OPT_OUT", "denied"),
        ("NOT_OPT_OUT", "no_expression"), ("IMPLICIT", "no_expression"), ("EXTEND", "no_expression"),
        ("ALWAYS_ACTIVE", "not_consent"), ("CONFIRMED", "unknown_status"), ("active", "unknown_status"), ("", "missing_field"),
    ],
)  # fmt: skip
def test_profiles(vendors, status, action):
    assert said(read(vendors, "onetrust", "profiles", profile(status=status))) == [action]


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"test": True}, "test_record"),
        ({"test": "false"}, "test_record"),
        ({"isAnonymous": True}, "anonymous_subject"),
        ({"dataSubjectIdentifier": ...}, "missing_field"),
        ({"dataSubjectIdentifier": "  "}, "missing_field"),
        ({"dataSubjectIdentifier": 7}, "missing_field"),
        ({"purposes": ...}, "missing_field"),
        ({"purposes": []}, "missing_field"),
        ({"purposes": "p-news"}, "malformed_value"),
        ({"purposes": ["p-news"]}, "malformed_value"),
        ({"origin": "CARRIER_PIGEON"}, "unknown_method"),
        ({"interactionDate": "yesterday"}, "malformed_timestamp"),
        ({"interactionDate": "2026-10-31"}, "malformed_timestamp"),
        ({"interactionDate": "2026-13-31T10:00:00Z"}, "malformed_timestamp"),
        ({"interactionDate": 1793440800}, "malformed_timestamp"),
        ({"interactionDate": ..., "consentCreationDate": ...}, "missing_field"),
        ({"purpose_id": "p-other", "purpose_name": "Other"}, "unknown_purpose"),
        ({"purpose_id": None, "purpose_name": None}, "missing_field"),
        ({"purpose_id": "p-news", "purpose_name": "Profiling"}, "contradictory_purpose"),
        ({"purpose_id": "p-necessary"}, "not_consent"),
        ({"purpose_expiryDate": "soon"}, "malformed_timestamp"),
        ({"purpose_reactivationDate": "soon"}, "malformed_timestamp"),
        ({"purpose_reactivationDate": "2026-01-01T00:00:00"}, "denied"),
        ({"purpose_id": "p-unknown", "purpose_name": "Profiling"}, "granted"),
    ],
)
def test_a_receipt_that_is_not_whole_grants_nothing(vendors, changes, outcome):
    assert said(read(vendors, "onetrust", "receipts", receipt(1, **changes))) == [outcome]


@pytest.mark.parametrize("record", [None, "CONFIRMED", 1, [], {}])
@pytest.mark.parametrize(("name", "resource"), [("onetrust", "receipts"), ("onetrust", "profiles"), ("trustarc", "consents"), ("zigpoll", "responses")])
def test_what_is_no_record_is_a_dead_letter_and_no_crash(vendors, name, resource, record):
    outcomes = read(vendors, name, resource, record)
    assert outcomes and all(isinstance(each, DeadLetter) for each in outcomes)


def test_a_grant_keeps_expiry_version_and_method(vendors):
    (row,) = read(vendors, "onetrust", "receipts", receipt(1, purpose_expiryDate="2027-01-01T01:00:00+01:00"))
    assert (row.expires_at, row.notice_version, row.method, row.actor) == (instant("2027-01-01T00:00:00"), "3", "form", "self")


@pytest.mark.parametrize(
    ("record", "outcome"),
    [
        (consent(1), "granted"),
        (consent(1, value="OPTED_OUT"), "denied"),
        (consent(1, value="MAYBE"), "unknown_answer"),
        (consent(1, value=None), "missing_field"),
        (consent(1, value=True), "unknown_answer"),
        (consent(1, status="EXPIRED"), "withdrawn"),
        (consent(1, status="PENDING"), "denied"),
        (consent(1, value="OPTED_OUT", status="EXPIRED"), "denied"),
        (consent(1, status="active"), "unknown_status"),
        (consent(1, status=...), "missing_field"),
        (consent(1, dataSubject={}), "missing_field"),
        (consent(1, createdDate="last week"), "malformed_timestamp"),
        (consent(1, createdDate=...), "missing_field"),
        (consent(1, validityEndDate="never"), "malformed_timestamp"),
        (consent(1, programs=[]), "missing_field"),
        (consent(1, programs={"g-news": "OPTED_IN"}), "malformed_value"),
        (consent(1, programs=["g-news"]), "malformed_value"),
        (consent(1, programs=[{"program": {"id": "g-new"}, "value": "OPTED_IN"}]), "unknown_purpose"),
    ],
)
def test_trustarc(vendors, record, outcome):
    assert said(read(vendors, "trustarc", "consents", record)) == [outcome]


@pytest.mark.parametrize(
    ("record", "outcome"),
    [
        (response(1), "granted"),
        (response(1, answer="No"), "denied"),
        (response(1, answer="yes, please"), "unknown_answer"),
        (response(1, answer="Sure"), "unknown_answer"),
        (response(1, valueType="dynamic-response"), "unknown_answer"),
        (response(1, valueType=None), "unknown_answer"),
        (response(1, subject=None), "missing_field"),
        (response(1, metadata=None), "missing_field"),
        (response(1, createdAt="soon"), "malformed_timestamp"),
        (response(1, answer=None), "missing_field"),
        (response(1, answer=["Yes, please"]), "malformed_value"),
        (response(1, slideId=None), "missing_field"),
        (response(1, slide="s-unknown"), "unknown_question"),
        (response(1, _id=None), "missing_field"),
        (response(1, slide="s-nps", answer="10"), "score"),
        (response(1, slide="s-nps", answer="11"), "malformed_value"),
        (response(1, slide="s-nps", answer="nan"), "malformed_value"),
        (response(1, slide="s-nps", answer="very likely"), "malformed_value"),
    ],
)
def test_zigpoll(vendors, record, outcome):
    assert said(read(vendors, "zigpoll", "responses", record)) == [outcome]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
ESSENTIAL = ["dataSubjectIdentifier", "interactionDate", "test", "isAnonymous", "origin", "purposes", "transactionType", "id", "name", "expiryDate", "reactivationDate", "version"]


@unhurried
@given(field=st.sampled_from(ESSENTIAL), value=JSON)
def test_no_mutation_of_a_refusal_ever_grants(vendors, field, value):
    """Whatever else a record says, without an explicit yes there is no grant."""
    record = receipt(1, purpose_transactionType="OPT_OUT")
    target = record["purposes"][0] if field in ("transactionType", "id", "name", "expiryDate", "reactivationDate", "version") else record
    target[field] = value
    outcomes = read(vendors, "onetrust", "receipts", record)
    assert outcomes
    assert "granted" not in said(outcomes) or value in ("CONFIRMED", "OPT_IN")


@unhurried
@given(field=st.sampled_from(["status", "dataSubject", "createdDate", "validityEndDate", "programs"]), value=JSON)
def test_no_mutation_of_a_trustarc_refusal_ever_grants(vendors, field, value):
    record = {**consent(1, value="OPTED_OUT"), field: value}
    assert "granted" not in said(read(vendors, "trustarc", "consents", record))


@unhurried
@given(field=st.sampled_from(["response", "valueType", "slideId", "metadata", "createdAt", "_id"]), value=JSON)
def test_no_mutation_of_a_zigpoll_refusal_ever_grants(vendors, field, value):
    record = {**response(1, answer="No"), field: value}
    granted = "granted" in said(read(vendors, "zigpoll", "responses", record))
    assert not granted or (field == "response" and str(value).strip() == "Yes, please")


@unhurried
@given(st.text(max_size=30))
def test_a_status_that_is_not_documented_is_never_read(vendors, word):
    if word in onetrust.TRANSACTIONS or word in trustarc.STATUSES:
        return
    assert said(read(vendors, "onetrust", "receipts", receipt(1, purpose_transactionType=word)))[0] in ("unknown_status", "missing_field")
    assert said(read(vendors, "trustarc", "consents", consent(1, status=word)))[0] in ("unknown_status", "missing_field")


@unhurried
@given(st.text(max_size=60))
def test_the_shape_of_a_value_never_shows_it_unless_it_is_a_constant(value):
    shown = shape_of(value)
    assert shown == f"text of {len(value)}" or (shown == value and value.isascii() and value.isupper())


def keys(secret: bytes) -> MasterKeys:
    return MasterKeys(1, b"k" * 32, secret * 32, b"f" * 32)


def test_the_identifier_of_a_row_is_keyed_and_says_nothing_of_the_person():
    row = ConsentRow("ada@planted.example", "analytics", "granted", NOW)
    one, other = content_key(keys(b"a"), "onetrust", row), content_key(keys(b"b"), "onetrust", row)
    assert one != other and "planted" not in one and one.startswith("onetrust-")


@unhurried
@given(st.sampled_from(["subject", "purpose", "action", "notice_version", "method", "actor", "vendor_purpose"]), st.text(min_size=1))
def test_rows_that_differ_in_anything_have_different_identifiers(field, value):
    row = ConsentRow("C1", "analytics", "granted", NOW)
    changed = ConsentRow(**{**vars(row), field: value})
    same = changed == row
    assert (content_key(keys(b"a"), "onetrust", row) == content_key(keys(b"a"), "onetrust", changed)) == same


@pytest.mark.parametrize("text", ["2026-10-31", "31.10.2026 10:00", "2026-10-31T25:00:00", "now", "", None, 5, "2026-10-31T10:00:00 CET", "20261031T100000"])
def test_what_is_no_full_time_is_none(text):
    assert instant(text) is None


def test_times_are_brought_to_utc():
    assert instant("2026-10-31T12:00:00+02:00") == instant("2026-10-31T10:00:00Z") == instant("2026-10-31 10:00:00")
    assert epoch_instant(1793440800) == epoch_instant("1793440800") == instant("2026-10-31T10:00:00")


@pytest.mark.parametrize("value", [True, None, "soon", "-5", [], float("inf"), 1e300, float("nan")])
def test_what_is_no_epoch_time_is_none(value):
    assert epoch_instant(value) is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("onetrust", "version: 1\nconnector: onetrust\npurposes: {p-news: everything}\n"),
        ("onetrust", "version: 1\nconnector: onetrust\npurposes: {}\n"),
        ("onetrust", "version: 1\nconnector: onetrust\n"),
        ("onetrust", "version: 1\nconnector: onetrust\npurposes: {a: analytics}\npurpose: {}\n"),
        ("onetrust", "version: 1\nconnector: onetrust\npurposes: {a: analytics, a: sensitive}\n"),
        ("onetrust", VOCABULARIES["trustarc"]),
        ("trustarc", VOCABULARIES["trustarc"].replace("granted", "allowed")),
        ("zigpoll", VOCABULARIES["zigpoll"].replace("s-nps", "s-consent")),
        ("zigpoll", "version: 1\nconnector: zigpoll\nsubject: a\n"),
        ("zigpoll", "not a mapping"),
    ],
)
def test_a_doubtful_vocabulary_is_refused(tmp_path, name, text):
    path = tmp_path / "words.yml"
    path.write_text(text)
    with pytest.raises(SourceError) as caught:
        load_vocabulary(path, name)
    assert caught.value.name == "bad_vocabulary"


def test_a_missing_vocabulary_is_named(tmp_path):
    with pytest.raises(SourceError, match="no_vocabulary"):
        load_vocabulary(tmp_path / "words.yml", "onetrust")


def test_the_vocabularys_words_are_the_contracts():
    """Else a row that is read here would be quarantined there."""
    from typing import get_args

    from orchestration.connectors.vocabulary import Method

    contract = load_contracts()["consent_events"]
    assert get_args(Purpose) == contract.column("purpose").values
    assert set(get_args(Method)) <= set(contract.column("method").values)
    assert set(onetrust.METHODS.values()) <= set(contract.column("method").values)
    actions = {*onetrust.TRANSACTIONS.values(), *onetrust.STATUSES.values()} - set(REASONS)
    assert actions <= set(contract.column("action").values)
