"""What servers do wrong: each fault has a name, nothing loops, and nothing half-read is taken in."""

import pytest

from orchestration.connectors.errors import ConnectorError
from orchestration.connectors.settings import Patience, require_secure
from tests.unit.connectors.conftest import KEY, SECRET, Answer, consent, profile, receipt, response


def failure(desk, name: str) -> ConnectorError:
    """The error that a pull ends with; nothing was taken in then."""
    with pytest.raises(ConnectorError) as caught:
        desk.pull(name)
    assert desk.rows(name) == []
    return caught.value


def fill(desk, name: str, count: int = 5) -> None:
    """Records for one vendor, more than a page of them."""
    make = {"onetrust": ("receipts", receipt), "trustarc": ("consents", consent), "zigpoll": ("responses", response)}
    kind, maker = make[name]
    desk.vendor.records[kind] = [maker(number) for number in range(count)]


VENDORS = ["onetrust", "trustarc", "zigpoll"]


@pytest.mark.parametrize("name", VENDORS)
def test_every_page_is_read(desk, name):
    """Paging is the vendor's own; a page forgotten is a withdrawal forgotten."""
    fill(desk, name)
    report = desk.pull(name)
    assert len(desk.rows(name)) == 5
    assert sum(count.pages for count in report.counts) >= 3


@pytest.mark.parametrize("name", VENDORS)
def test_a_429_is_waited_for_as_long_as_the_server_asks(desk, name):
    fill(desk, name)
    desk.vendor.faults = [Answer({}, 429, {"Retry-After": "1"})]
    desk.pull(name)
    assert len(desk.rows(name)) == 5


@pytest.mark.parametrize("name", VENDORS)
def test_a_429_that_asks_for_longer_than_we_wait_is_an_error_and_not_a_knock(desk, name):
    """Asking again before the time would only prolong the lock-out."""
    fill(desk, name)
    desk.vendor.faults = [Answer({}, 429, {"Retry-After": "3600"})]
    error = failure(desk, name)
    assert (error.name, "3600" in error.message) == ("rate_limited", True)
    assert len(desk.vendor.data_requests) == 1


@pytest.mark.parametrize("name", VENDORS)
def test_a_429_without_end_is_given_up(desk, name):
    desk.vendor.faults = [Answer({}, 429)] * 9
    assert failure(desk, name).name == "rate_limited"
    assert len(desk.vendor.data_requests) == desk.patience.attempts


@pytest.mark.parametrize("name", VENDORS)
def test_a_server_in_trouble_is_asked_again_and_then_given_up(desk, name):
    fill(desk, name)
    desk.vendor.faults = [Answer({}, 503), Answer(b"<html>", 502)]
    desk.pull(name)
    assert len(desk.rows(name)) == 5
    desk.vendor.faults = [Answer({}, 500)] * 9
    with pytest.raises(ConnectorError, match="unavailable"):
        desk.pull(name)


@pytest.mark.parametrize("name", ["onetrust", "trustarc"])
def test_a_token_that_expires_between_two_pages_is_renewed_once(desk, name):
    fill(desk, name)
    desk.vendor.faults = [None, lambda request: desk.vendor.revoked.add("token-planted-1") or desk.vendor._data(request)]
    desk.pull(name)
    assert len(desk.rows(name)) == 5
    assert desk.vendor.tokens == 2


@pytest.mark.parametrize("name", ["onetrust", "trustarc"])
def test_a_token_that_is_refused_after_its_renewal_is_an_error(desk, name):
    desk.vendor.after = lambda request, answer: Answer({}, 401)
    assert failure(desk, name).name == "unauthorised"
    assert desk.vendor.tokens == 2


@pytest.mark.parametrize("answer", [Answer({}), Answer({"access_token": ""}), Answer(b"[]"), Answer({"error": "x"}, 401)])
def test_a_token_address_that_gives_no_token_is_an_error(desk, answer):
    """dlt alone would send the word None as the token."""
    desk.vendor.token_answer = answer
    assert failure(desk, "onetrust").name == "unauthorised"
    assert desk.vendor.data_requests == []


def test_a_bad_zigpoll_key_is_named_for_what_it_is(desk, monkeypatch):
    """Zigpoll answers 422, which reads like a malformed request."""
    monkeypatch.setenv("SEGLINE_ZIGPOLL_KEY", "wrong")
    assert failure(desk, "zigpoll").name == "unauthorised"


def test_the_zigpoll_key_is_sent_without_a_scheme(desk):
    desk.pull("zigpoll")
    assert desk.vendor.requests[0].headers["authorization"] == KEY


@pytest.mark.parametrize("name", VENDORS)
@pytest.mark.parametrize("status", [201, 202, 204, 206, 207])
def test_a_success_that_is_not_200_is_not_taken_for_all_items(desk, name, status):
    fill(desk, name, 1)
    desk.vendor.after = lambda request, answer: Answer(answer.body, status)
    assert failure(desk, name).name == "partial_answer"


@pytest.mark.parametrize("name", VENDORS)
def test_an_answer_cut_off_in_its_json_is_an_error(desk, name):
    fill(desk, name)
    desk.vendor.after = lambda request, answer: Answer(answer.content[:-20])
    assert failure(desk, name).name == "half_answer"


@pytest.mark.parametrize("name", VENDORS)
def test_an_answer_shorter_than_its_length_is_asked_for_again_and_then_an_error(desk, name):
    fill(desk, name)
    desk.vendor.faults = [lambda request: Answer(b'{"content": [', length=400)]
    desk.pull(name)
    assert len(desk.rows(name)) == 5


@pytest.mark.parametrize("name", VENDORS)
def test_an_answer_that_is_always_cut_off_is_an_error(desk, name):
    desk.vendor.after = lambda request, answer: Answer(b'{"content": [', length=400)
    assert failure(desk, name).name == "half_answer"


@pytest.mark.parametrize("name", ["onetrust", "trustarc"])
def test_a_page_with_fewer_items_than_it_announces_is_an_error(desk, name):
    fill(desk, name)
    desk.vendor.after = lambda request, answer: Answer({**answer.body, "content": answer.body["content"][:-1]})
    assert failure(desk, name).name == "half_answer"


def test_a_total_that_is_not_reached_is_an_error(desk):
    fill(desk, "trustarc", 3)
    desk.vendor.after = lambda request, answer: Answer({**answer.body, "totalElements": "4"})
    assert failure(desk, "trustarc").name == "half_answer"


def test_a_total_that_changes_between_pages_is_an_error(desk):
    """Then the pages belong to two different lists, and what moved between them was seen twice or never."""
    fill(desk, "trustarc", 5)
    desk.vendor.after = lambda request, answer: Answer({**answer.body, "totalElements": str(5 + int(request.query["page"]))})
    assert failure(desk, "trustarc").name == "half_answer"


@pytest.mark.parametrize("name", VENDORS)
@pytest.mark.parametrize("body", [[], {}, {"content": None, "data": None}, {"content": {}, "data": {}}, "text", None, 7])
def test_another_shape_is_no_empty_page(desk, name, body):
    """dlt alone takes a missing list for no items: a changed interface would look like a quiet day."""
    desk.vendor.after = lambda request, answer: Answer(body)
    assert failure(desk, name).name == "unexpected_answer"


def test_a_cursor_that_comes_again_is_an_error_and_no_loop(desk):
    fill(desk, "onetrust", 9)
    turn = iter(range(999))

    def looping(request, answer):
        page = [receipt(next(turn))]
        return Answer({"content": page, "last": False, "pageable": {"requestContinuation": "same"}})

    desk.vendor.after = looping
    assert failure(desk, "onetrust").name == "repeated_cursor"
    assert len(desk.vendor.data_requests) == 2


@pytest.mark.parametrize("name", VENDORS)
def test_a_page_that_comes_again_under_new_cursors_is_an_error_and_no_loop(desk, name):
    fill(desk, name, 9)
    pages = iter(range(1, 999))
    first: list[object] = []

    def stuck(request, answer):
        first.append(answer.body)
        cursor = f"cursor-{next(pages)}"
        moved = {"requestContinuation": cursor, "endCursor": cursor, "number": request.query.get("page")}
        return Answer({**first[0], "pageable": {}, **moved})

    desk.vendor.after = stuck
    assert failure(desk, name).name == "repeated_page"


def test_pages_without_end_are_given_up(desk):
    """Ever new cursors with ever new items: only a bound ends that."""
    turn = iter(range(9999))

    def endless(request, answer):
        number = next(turn)
        return Answer({"data": [{"_id": f"e-{number}"}], "hasNextPage": True, "endCursor": f"c-{number}"})

    desk.vendor.after = endless
    assert failure(desk, "zigpoll").name == "too_many_pages"
    assert len(desk.vendor.data_requests) == desk.patience.most_pages


def test_more_without_a_cursor_is_an_error(desk):
    fill(desk, "onetrust")
    desk.vendor.after = lambda request, answer: Answer({**answer.body, "last": False, "pageable": {}})
    assert failure(desk, "onetrust").name == "half_answer"


def test_zigpolls_repeated_cursor_under_a_filter_is_got_round_by_reading_everything(desk):
    """Its cursor is known to come round again when a time filter is set; a pull that failed each time would be none."""
    fill(desk, "zigpoll", 7)
    desk.vendor.after = lambda request, answer: (
        Answer({**answer.body, "hasNextPage": True, "endCursor": "2"}) if "createdAfter" in request.query else answer
    )
    report = desk.pull("zigpoll")
    assert len(desk.rows("zigpoll")) == 7
    assert report.counts[0].duplicates > 0


@pytest.mark.parametrize("name", VENDORS)
def test_a_server_that_never_answers_is_given_up(desk, name):
    desk.vendor.faults = [Answer(hang=True)] * 9
    assert failure(desk, name).name == "unavailable"
    assert len(desk.vendor.data_requests) == desk.patience.attempts


def test_one_lost_answer_is_asked_for_again(desk):
    fill(desk, "onetrust")
    desk.vendor.faults = [Answer(hang=True)]
    desk.pull("onetrust")
    assert len(desk.rows("onetrust")) == 5


@pytest.mark.parametrize("name", VENDORS)
@pytest.mark.parametrize("status", [301, 302, 307])
def test_credentials_do_not_follow_a_redirect(desk, vendor, name, status):
    desk.vendor.after = lambda request, answer: Answer({}, status, {"Location": f"{vendor.url}/elsewhere"})
    assert failure(desk, name).name == "redirected"
    assert not any(request.path == "/elsewhere" for request in vendor.requests)


@pytest.mark.parametrize("name", VENDORS)
def test_a_refusal_is_an_error_without_the_vendors_words(desk, name):
    desk.vendor.after = lambda request, answer: Answer({"message": "person@planted.example is unknown"}, 400)
    error = failure(desk, name)
    assert error.name == "refused"
    assert "planted" not in str(error)


@pytest.mark.parametrize(
    "url",
    ["http://cmp.example.com", "ftp://127.0.0.1", "https://user:word@cmp.example.com", "https://", "cmp.example.com", "http://127.0.0.1.example.com"],
)
def test_an_address_without_encryption_is_refused(url):
    with pytest.raises(ConnectorError, match="insecure_url"):
        require_secure(url)


@pytest.mark.parametrize("url", ["https://cmp.example.com", "http://127.0.0.1:99", "http://localhost", "http://[::1]:1"])
def test_an_encrypted_address_or_this_machine_will_do(url):
    require_secure(url)


def test_an_unencrypted_vendor_is_never_asked(desk, monkeypatch):
    monkeypatch.setenv("SEGLINE_ONETRUST_URL", "http://cmp.example.com")
    assert failure(desk, "onetrust").name == "insecure_url"


@pytest.mark.parametrize("name", VENDORS)
def test_no_credential_reaches_an_error_a_log_or_a_file(desk, name, caplog, capfd):
    """An artefact that carries a token is a key under the mat."""
    caplog.set_level(0)
    fill(desk, name)
    desk.pull(name)
    desk.vendor.after = lambda request, answer: Answer({"echo": dict(request.headers)}, 400)
    with pytest.raises(ConnectorError) as caught:
        desk.pull(name)
    texts = [str(caught.value), repr(caught.value), repr(desk.patience), caplog.text, *capfd.readouterr()]
    texts += [path.read_bytes().decode(errors="replace") for path in desk.sources.rglob("*") if path.is_file()]
    for secret in (SECRET, KEY, "token-planted"):
        assert not any(secret in text for text in texts)


def test_patience_is_bounded_by_its_type():
    with pytest.raises(ValueError):
        Patience(attempts=0)
    with pytest.raises(ValueError):
        Patience(read_seconds=0)


def test_the_profiles_cursor_goes_into_the_header(desk):
    """OneTrust takes the token of this list in a header, the token of the receipts in the body."""
    desk.vendor.records["profiles"] = [profile(f"C{number}") for number in range(5)]
    desk.pull("onetrust")
    cursors = [r.headers.get("requestcontinuation") for r in desk.vendor.requests if "profiles" in r.path]
    assert [cursor for cursor in cursors if cursor] == ["2", "4"]
    assert len(desk.rows("onetrust")) == 5
