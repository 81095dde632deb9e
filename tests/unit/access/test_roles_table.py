"""The table of roles: what it may say, and that documentation and models agree with it."""

import json
import re

import pytest

from orchestration.access import roles as roles_module
from orchestration.access.errors import AccessError
from orchestration.access.roles import Opening, Role, load_roles, markdown_table, read_roles, sides_mixed
from orchestration.settings import PROJECT_ROOT

GOOD = "roles:\n  - {role: one, title: One, zone: risk, pages: [], works_with: Nothing, opens: [{relation: published.publication}]}\n"


def sides() -> dict[str, frozenset[str]]:
    """Which side a published relation belongs to, as its model's YAML says."""
    found = {}
    for path in (PROJECT_ROOT / "dbt_project" / "models" / "candidate").glob("*.yml"):
        stated = re.search(r"roles: \[([a-z, ]+)\]", path.read_text(encoding="utf-8"))
        if stated:
            found[f"published.{path.stem}"] = frozenset(part.strip() for part in stated[1].split(","))
    return found


def test_the_table_that_ships_has_the_five_roles_and_no_role_opens_both_sides_of_the_second_wall():
    assert set(load_roles()) == {"analyst", "compliance", "auditor", "privacy", "engineer"}
    marked = {relation: found for relation, found in sides().items() if relation != "published.risk_rules"}
    assert marked["published.risk_segments"] == {"risk"} and marked["published.audience_segments"] == {"audience"}
    assert sides_mixed(load_roles().values(), marked) == []


def test_a_role_that_opens_both_sides_is_named():
    """Wall 2 is law (AMLR art. 76(4)); a table that breaks it must not pass for a slip."""
    both = Role("both", "", "risk", (Opening("published.risk_segments"), Opening("published.audience_segments")), (), "")
    assert sides_mixed([both], sides()) == ["both opens relations of both sides: audience, risk"]


def test_only_auditors_open_decisions_and_nobody_what_lies_behind_them():
    """A payload's nonce and a decision's inputs are the ledger's own; keys and identifiers are nobody's."""
    opened = {one.relation: role.role for role in load_roles().values() for one in role.opens}
    readers = [role.role for role in load_roles().values() if role.opening("ops.decisions")]
    assert readers == ["auditor"]
    assert not {"ops.decision_payloads", "ops.decision_inputs", "ops.ledger_statements", "ops.ledger_names"} & set(opened)


@pytest.mark.parametrize(
    "wrong",
    [
        GOOD.replace("published.publication", "vault.persons"),
        GOOD.replace("published.publication", "raw.customers"),
        GOOD.replace("published.publication", "publication"),
        GOOD.replace("zone: risk", "zone: everything"),
        GOOD.replace("pages: []", "pages: [vault]"),
        GOOD.replace("title: One, ", ""),
        GOOD.replace("[{relation: published.publication}]", "[]"),
        GOOD.replace("{relation: published.publication}", "{relation: published.publication, columns: []}"),
        GOOD.replace("{relation: published.publication}", "{relation: published.publication}, {relation: published.publication}"),
        GOOD + GOOD.partition("\n")[2],
        "roles: 3\n",
    ],
)
def test_a_table_that_is_missing_something_or_says_too_much_is_refused(tmp_path, wrong):
    path = tmp_path / "roles.yml"
    path.write_text(GOOD)
    assert set(read_roles(path)) == {"one"}
    path.write_text(wrong)
    with pytest.raises(AccessError):
        read_roles(path)


def test_the_documentation_shows_the_table_that_is_enforced():
    """One fact, one place: whoever changes roles.yml puts `segline access roles --markdown` into the page."""
    page = (PROJECT_ROOT / "docs" / "access.md").read_text(encoding="utf-8")
    assert markdown_table(load_roles()) in page


def test_what_the_proxy_shows_to_whom_is_the_table_too():
    """Each page has a user file of its own, and the page's users are those of the roles that may see it."""
    config = (PROJECT_ROOT / "deploy" / "proxy" / "nginx.conf").read_text(encoding="utf-8")
    assert set(re.findall(r"auth_basic_user_file (\w+)\.htpasswd;", config)) == set(roles_module.PAGES)
    page = (PROJECT_ROOT / "docs" / "access.md").read_text(encoding="utf-8")
    for name in roles_module.PAGES:
        holders = [role.role for role in load_roles().values() if name in role.pages]
        assert f"`{name}.htpasswd`: {', '.join(holders)}" in page
    assert json.dumps(sorted(roles_module.PAGES)) == '["documentation", "runs"]'
