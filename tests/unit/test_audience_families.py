"""A segment family whose purpose or basis the profile does not declare stops the build, with a sentence that says how to mend.

The macros are the project's own text, rendered without dbt; `tests/dbt` builds the real project over the real seeds.
"""

import re
from types import SimpleNamespace

import jinja2
import pytest

from orchestration.lineage.reporting import purposes_of
from orchestration.settings import DBT_PROJECT_DIR


class Refused(Exception):
    """What dbt raises for `exceptions.raise_compiler_error`."""


class _Returned(Exception):
    def __init__(self, value) -> None:
        self.value = value


def macros(profile: str, purposes: dict | None):
    """The callable macros over a profile whose seed says that."""

    def give(value):
        raise _Returned(value)

    def refuse(message):
        raise Refused(message)

    def caller(name):
        def call(*args):
            try:
                return getattr(module, f"inner__{name}")(*args)
            except _Returned as returned:
                return returned.value

        return call

    text = (DBT_PROJECT_DIR / "macros" / "audience_segments.sql").read_text(encoding="utf-8")
    names = re.findall(r"\{% macro (\w+)\(", text)
    environment = jinja2.Environment(extensions=["jinja2.ext.do"])
    given = {"return": give, "exceptions": SimpleNamespace(raise_compiler_error=refuse), "var": lambda name: profile, "execute": True}
    given |= {"clusters_are_built": lambda: False} | {name: caller(name) for name in names} | {"declared_purposes": lambda: purposes}
    inner = re.sub(r"\{% macro (\w+)\(", r"{% macro inner__\1(", text)
    module = environment.from_string(inner, globals=given).make_module({})
    return SimpleNamespace(**{name: caller(name) for name in names})


def declared(profile: str) -> dict:
    """The profile's purposes as the seed has them."""
    return {
        row["purpose"]: {"is_declared": True, "role": row["role"], "legal_basis": row["legal_basis"]} for row in purposes_of(profile)
    }


@pytest.mark.parametrize("profile", ["fintech", "childrens_retail"])
def test_what_ships_is_declared(profile):
    macros(profile, declared(profile)).require_audience_purposes()


@pytest.mark.parametrize(
    ("purpose", "change", "family", "said"),
    [
        ("personalisation", None, "engagement", "does not declare"),
        ("personalisation", {"is_declared": False}, "engagement", "does not declare"),
        ("personalisation", {"legal_basis": "legitimate_interest"}, "engagement", "rests on legitimate_interest"),
        ("personalisation", {"role": "none"}, "engagement", "gives the role none"),
        ("ads_sale_share", None, "behavioural", "does not declare"),
        ("ads_sale_share", {"is_declared": False}, "behavioural", "does not declare"),
        ("ads_sale_share", {"legal_basis": "legal_obligation"}, "behavioural", "rests on legal_obligation"),
    ],
)
def test_a_family_without_its_purpose_or_basis_stops_the_build(purpose, change, family, said):
    purposes = declared("childrens_retail")
    if change is None:
        del purposes[purpose]
    else:
        purposes[purpose] |= change
    with pytest.raises(Refused, match=said) as refused:
        macros("childrens_retail", purposes).require_audience_purposes()
    assert f"'{family}'" in str(refused.value) and f"'{purpose}'" in str(refused.value) and "profile_purposes.csv" in str(refused.value)


def test_a_profile_without_behavioural_families_needs_no_purpose_for_them():
    purposes = declared("fintech")
    del purposes["ads_sale_share"]
    macros("fintech", purposes).require_audience_purposes()


def test_an_unknown_profile_has_no_families():
    with pytest.raises(Refused, match="no segment families"):
        macros("hospital", {}).require_audience_purposes()


def test_behavioural_segments_rest_on_a_purpose_of_their_own():
    found = macros("childrens_retail", None)
    assert found.behavioural_purpose() != found.audience_purpose() == "personalisation"
    assert macros("fintech", None).behavioural_purpose() is None
