"""`segline consent decode`: what it prints, where it reads from, and how it ends."""

import json

import pytest
from typer.testing import CliRunner

from orchestration.cli import app
from orchestration.consent.signals.decoding import decode, detect
from orchestration.consent.signals.results import Signal, Unknown
from tests.unit.consent.signals.encoder import NOW, gpp_string, tc_string, us_section

TC = tc_string(consents=(1, 5, 6))


def run(*arguments: str, stdin: str | bytes | None = None):
    return CliRunner().invoke(app, ["consent", "decode", *arguments, "--as-of", "2026-11-01T12:00:00"], input=stdin)


def document(*arguments: str, stdin: str | bytes | None = None) -> tuple[int, dict]:
    result = run(*arguments, "--format", "json", stdin=stdin)
    return result.exit_code, json.loads(result.stdout)


def test_what_is_understood_is_printed_field_by_field():
    code, shown = document(TC)
    assert (code, shown["kind"], shown["well_formed"]) == (0, "tcf", True)
    assert shown["fields"]["PurposesConsent"] == [1, 5, 6]
    assert shown["fields"]["VendorConsents"] == [2, 6, 8]
    assert shown["fields"]["LastUpdated"] == "2026-10-01T00:00:00+00:00"
    assert shown["states"] == {
        "analytics": "denied", "personalisation": "granted", "ads_sale_share": "denied", "significant_decision_admt": "unknown",
        "sensitive": "unknown",
    }
    [grant] = [event for event in shown["events"] if event["action"] == "granted"]
    assert (grant["purpose"], grant["effective_at"], grant["effective_precision"], grant["expires_at"]) == (
        "personalisation", "2026-10-01T00:00:00+00:00", "day", "2027-11-01T00:00:00+00:00",
    )


def test_sections_stand_under_their_names():
    code, shown = document(gpp_string({2: TC, 8: us_section((8, 1), sale=1, gpc="1")}))
    assert (code, shown["fields"]["SectionIds"], shown["fields"]["usca"]["SaleOptOut"], shown["fields"]["usca"]["Gpc"]) == (0, [2, 8], 1, True)
    assert shown["fields"]["tcfeuv2"]["PurposesConsent"] == [1, 5, 6]
    assert (shown["states"]["ads_sale_share"], shown["states"]["personalisation"]) == ("denied", "granted")


@pytest.mark.parametrize("text", [TC[:-1], TC + "AA", "1YYNN", "DBABLA~BVQqAAAAAgA.QAAA.QA", "0", "hello", "", '{"gpc": 1}'])
def test_what_is_not_well_formed_ends_with_2_and_every_state_unknown(text):
    code, shown = document(text)
    assert (code, shown["well_formed"], set(shown["states"].values()), shown["events"]) == (2, False, {"unknown"}, [])
    assert shown["reason"] and "fields" not in shown


@pytest.mark.parametrize("text", [TC, TC[:-1], "1", "1YYN", "0", gpp_string({7: us_section((7, 1), gpc="1")})])
def test_the_table_says_the_same(text):
    result = run(text)
    code, shown = document(text)
    assert result.exit_code == code
    for purpose, state in shown["states"].items():
        assert any(purpose in line and state in line for line in result.stdout.splitlines())
    assert ("Not understood: " in result.stdout) == (code == 2)


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_the_string_may_come_from_standard_input(ending):
    """One line break at the end is the shell's, a second one is not."""
    assert document("-", stdin=TC + ending) == document(TC)
    assert document("-", stdin=TC + "\n\n")[0] == 2


def test_bytes_that_are_no_text_are_unknown():
    code, shown = document("-", stdin=b"\xff\xfe1YYN")
    assert (code, shown["well_formed"]) == (2, False)


def test_a_given_kind_is_the_only_one_tried():
    assert document(TC, "--kind", "tcf")[0] == 0
    for kind in ("gpp", "usp", "gpc"):
        assert document(TC, "--kind", kind)[0] == 2
    assert document("1YYN", "--kind", "gpc")[0] == 2
    assert run(TC, "--kind", "cookie").exit_code == 2


def test_a_time_that_is_none_is_a_wrong_usage():
    result = CliRunner().invoke(app, ["consent", "decode", TC, "--as-of", "yesterday"])
    assert result.exit_code != 0 and not result.stdout


@pytest.mark.parametrize(("text", "kind"), [
    (TC, "tcf"), ("DBABLA~BVQqAAAAAgA.QA", "gpp"), ("1YYN", "usp"), ("1", "gpc"), ('{"gpc": true}', "gpc"), ("1---", "usp"),
    ("", None), (" 1", None), ("BOEFEAyOEFEAyAHABDENAI4AAAB9vABAASA", None), ("c", None), ("0", None), ("true", None), ("[1]", None),
])
def test_the_beginning_shows_the_kind_or_nothing_does(text, kind):
    """A TC string of version 1 begins with B: it is of no kind that is read."""
    assert detect(text) == kind
    if kind is None:
        assert isinstance(decode(text, NOW), Unknown)
    else:
        assert isinstance(decode(text, NOW), Signal) and isinstance(decode(text, NOW, kind), Signal)


def test_a_kind_that_is_none_is_an_error_of_the_caller():
    with pytest.raises(ValueError, match="no kind of signal"):
        decode(TC, NOW, "cookie")
