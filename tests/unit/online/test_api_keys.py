"""Callers' keys: shown once, hashed, ended, revoked; the wall holds for callers too."""

import stat
from datetime import UTC, datetime, timedelta

import pytest

from orchestration.online.api_keys import ROLES, Callers, keys_path, make_key, read_keys, revoke_key
from orchestration.online.errors import Problem, ServeError
from orchestration.online.limiting import Rate
from orchestration.settings import Settings


@pytest.fixture
def settings(tmp_path) -> Settings:
    return Settings(home=tmp_path / "home")


def callers(settings: Settings) -> Callers:
    found = Callers(settings)
    found.refresh()
    return found


def test_a_key_is_kept_as_a_hash_and_opens_what_its_roles_say(settings):
    """Whoever reads the register must not be able to call."""
    secret = make_key(settings, "fraud", ("events", "risk"), "ann")
    assert secret not in keys_path(settings).read_text() and stat.S_IMODE(keys_path(settings).stat().st_mode) == 0o600
    assert callers(settings).caller(secret).roles == ("events", "risk")
    assert callers(settings).caller(secret[:-1]) is None and callers(settings).caller("") is None


def test_no_key_sees_both_sides_of_the_wall(settings):
    """A caller that sees tiers and segments is the join that the pseudonyms prevent."""
    with pytest.raises(ServeError, match="two sides"):
        make_key(settings, "both", ("audience", "risk"), "ann")
    with pytest.raises(ServeError):
        make_key(settings, "all", ROLES, "ann")
    assert read_keys(settings) == []


@pytest.mark.parametrize(("name", "roles"), [("", ("risk",)), ("a b", ("risk",)), ("x" * 61, ("risk",)), ("a", ()), ("a", ("root",))])
def test_a_name_or_role_that_is_none_is_refused(settings, name, roles):
    """A key without a role, or with one that nothing knows, is a mistake."""
    with pytest.raises(ServeError):
        make_key(settings, name, roles, "ann")


def test_a_key_ends_and_can_be_revoked_and_its_name_given_again(settings):
    """A key that cannot be taken back is no key."""
    passed = datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=1)
    ended = make_key(settings, "ended", ("risk",), "ann", passed)
    secret = make_key(settings, "shop", ("audience",), "ann")
    running = callers(settings)
    assert running.caller(ended) is None and running.caller(secret)
    with pytest.raises(ServeError, match="revoke it first"):
        make_key(settings, "shop", ("audience",), "ann")
    revoke_key(settings, "shop")
    running.refresh()
    assert running.caller(secret) is None
    with pytest.raises(ServeError):
        revoke_key(settings, "shop")
    again = make_key(settings, "shop", ("audience",), "ann")
    assert callers(settings).caller(again) and not callers(settings).caller(secret)
    assert [key.name for key in read_keys(settings)] == ["ended", "shop", "shop"], "the register forgets nobody"


def test_a_damaged_register_lets_nobody_in(settings):
    """Fail closed: yesterday's keys are not known to hold today."""
    secret = make_key(settings, "shop", ("audience",), "ann")
    running = callers(settings)
    keys_path(settings).write_text('[{"name": "shop"')
    with pytest.raises(ServeError):
        running.refresh()
    assert running.caller(secret) is None


def test_a_limit_is_per_caller_and_says_when_to_come_back():
    """A batch counts as what is in it; one that is larger than the limit goes alone."""
    rate = Rate(10)
    rate.take("a", 10)
    with pytest.raises(Problem) as refused:
        rate.take("a")
    assert refused.value.status == 429 and refused.value.retry_after >= 1
    rate.take("b", 1000)
