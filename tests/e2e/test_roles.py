"""Roles by what they can open: real attempts with each role's own bundle and key, what it may (works) and must not (fails)."""

import csv
import json
import os
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import duckdb
import pytest

from orchestration.access import grants
from orchestration.access.bundles import read_bundle, write_bundles
from orchestration.access.errors import AccessError
from orchestration.access.grants import Grant, key_path
from orchestration.access.roles import load_roles
from orchestration.identity.keys import load_keys
from orchestration.identity.pseudonyms import PREFIXES, token
from orchestration.lake import open_lake
from orchestration.rights.stores import Batch, stores
from orchestration.settings import Settings
from tests.e2e.conftest import Cli

pytestmark = pytest.mark.slow
ROLES = tuple(load_roles())
EVERY = sorted({one.relation for role in load_roles().values() for one in role.opens})
# What no role may open, whatever it is called in the bundle's catalogue.
SHUT = ("raw.customers", "staging.stg_crm__customers", "features.risk_features", "risk.risk_ratings", "audience.audience_members",
        "ops.decision_payloads", "ops.decision_inputs", "vault.main.persons", "key_store.subject_keys")  # fmt: skip


class House:
    """A published home in which every role was given to somebody."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.held: dict[str, Grant] = {
            role: grants.add(settings, role, f"Holder of {role}", folder / role, "Somebody else") for role in ROLES
        }
        self.written = {one.grant.role: one for one in write_bundles(settings)}

    def ask(self, role: str, sql: str, key_of: str | None = None) -> list[tuple]:
        return read_bundle(self.held[role].bundle, key_path(self.settings, self.held[key_of or role]), sql)[1]


@pytest.fixture(scope="module")
def house(fintech, tmp_path_factory) -> House:
    folder = tmp_path_factory.mktemp("roles")
    return House(Settings(home=fintech.cli.copy(folder / "home").home, memory_limit_mb=1000), folder / "bundles")


@pytest.mark.parametrize("role", ROLES)
def test_a_role_opens_what_its_table_names(house, role):
    with open_lake(house.settings, read_only=True) as lake:
        for one in load_roles()[role].opens:
            if one.relation in house.written[role].absent:
                continue
            condition = f" where {one.where}" if one.where else ""
            expected = lake.execute(f"select count(*) from lake.{one.relation}{condition}").fetchall()
            assert house.ask(role, f"select count(*) from {one.relation}") == expected, one.relation
    assert house.ask(role, "select role, holder from about.bundle") == [(role, f"Holder of {role}")]


def test_the_bundles_are_not_empty(house):
    """A bundle without rows would pass every test that something is not in it."""
    for role, relation in (("analyst", "published.audience_segments"), ("compliance", "published.risk_segments"),
                           ("auditor", "ops.decisions"), ("privacy", "consent.gate"), ("engineer", "ops.loads")):  # fmt: skip
        assert house.ask(role, f"select count(*) from {relation}")[0][0] > 10


@pytest.mark.parametrize("role", ROLES)
def test_a_role_opens_nothing_else(house, role):
    """Every relation of every other role, and what no role opens, one real attempt each."""
    own = {one.relation for one in load_roles()[role].opens}
    for relation in [*(name for name in EVERY if name not in own), *SHUT]:
        with pytest.raises(AccessError, match=r"does not exist|not found"):
            house.ask(role, f"select * from {relation} limit 1")
    listed = house.ask(role, "select schema_name || '.' || table_name from duckdb_tables() where database_name = 'bundle'")
    assert {name for (name,) in listed} <= own | {"about.bundle", "about.relations"}


@pytest.mark.parametrize("role", ROLES)
def test_a_bundle_is_no_door_to_the_home(house, role):
    """The engine that opens it reads no other file, attaches nothing, and takes no second statement."""
    catalogue, data = house.settings.catalog, next(house.settings.lake_data.rglob("*.parquet"))
    for sql in (f"select * from read_parquet('{data}')", f"select * from read_text('{house.settings.key_file}')",
                f"attach '{catalogue}' as lake (type sqlite)", "select 1; select 2", "copy (select 1) to '/dev/stdout'",
                "set enable_external_access = true", "create table about.mine as select 1"):  # fmt: skip
        with pytest.raises(AccessError):
            house.ask(role, sql)


def test_a_role_s_key_opens_its_own_bundle_only(house, tmp_path):
    for role in ROLES:
        assert house.ask(role, "select 1") == [(1,)]
        for other in ROLES:
            if other != role:
                with pytest.raises(AccessError, match="does not open"):
                    house.ask(role, "select 1", key_of=other)
        with pytest.raises(duckdb.Error, match="without a key"):
            duckdb.connect(str(house.held[role].bundle), read_only=True)
    mine = tmp_path / "open.key"
    shutil.copy(key_path(house.settings, house.held["analyst"]), mine)
    mine.chmod(0o644)
    with pytest.raises(AccessError, match="open to others"):
        read_bundle(house.held["analyst"].bundle, mine, "select 1")


def test_nothing_of_a_bundle_lies_in_it_in_plain_text(house):
    token = house.ask("analyst", "select subject_token from published.audience_segments limit 1")[0][0].encode()
    for role in ROLES:
        content = house.held[role].bundle.read_bytes()
        assert b"audience_segments" not in content and b"Holder of" not in content and token not in content
        assert stat.S_IMODE(house.held[role].bundle.stat().st_mode) == 0o600


def test_no_two_bundles_can_be_joined_over_a_pseudonym(house):
    """Each role has one zone's, so that what marketing and compliance hold of a person cannot be laid side by side (wall 2)."""
    seen: dict[str, set[str]] = {}
    for role in ROLES:
        columns = house.ask(role, "select schema_name, table_name, column_name from duckdb_columns() where column_name like '%\\_token' "
                                  "escape '\\' and database_name = 'bundle'")  # fmt: skip
        seen[role] = {
            token for schema, table, column in columns
            for (token,) in house.ask(role, f"select distinct {column} from {schema}.{table} where {column} is not null")
        }  # fmt: skip
        zone = load_roles()[role].zone
        assert bool(seen[role]) == (zone != "none")
        assert all(token.startswith(PREFIXES.get(zone, "")) for token in seen[role])
    assert sum(map(len, seen.values())) == len(set().union(*seen.values()))
    # Nor over the consent event: marketing's bundle names none.
    events = {row[0] for row in house.ask("compliance", "select distinct consent_event_id from published.risk_segments")}
    values = house.ask("analyst", "select * from published.audience_segments")
    assert values and not (events - {None}) & {cell for row in values for cell in row}


def test_a_bundle_with_another_zone_s_pseudonyms_is_not_handed_out(house, monkeypatch, tmp_path):
    """What a wrong table or a wrong model would give away stops at the door; the older bundle stays."""
    from dataclasses import replace

    from orchestration.access import bundles

    wrong = replace(load_roles()["analyst"], opens=load_roles()["compliance"].opens)
    monkeypatch.setattr(bundles, "load_roles", lambda: {"analyst": wrong})
    before = house.held["analyst"].bundle.read_bytes()
    with pytest.raises(AccessError, match="not of analyst's zone"):
        write_bundles(house.settings, [house.held["analyst"]])
    assert house.held["analyst"].bundle.read_bytes() == before
    assert [path.name for path in house.held["analyst"].bundle.parent.iterdir()] == [house.held["analyst"].bundle.name]
    nobody = replace(load_roles()["engineer"], opens=load_roles()["privacy"].opens)
    monkeypatch.setattr(bundles, "load_roles", lambda: {"engineer": nobody})
    with pytest.raises(AccessError, match="zone none"):
        write_bundles(house.settings, [house.held["engineer"]])


def test_writing_decisions_into_a_bundle_is_logged_as_a_reading_of_the_ledger(house):
    lines = [json.loads(line) for line in house.settings.ledger_readings.read_text().splitlines()]
    actions = {line["action"]: line["leaf_count"] for line in lines if line["action"].startswith("bundle:")}
    assert actions == {"bundle:auditor": house.ask("auditor", "select count(*) from ops.decisions")[0][0]}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user of the operating system")
def test_another_user_of_the_machine_reads_neither_home_nor_bundle_but_the_group_s(house):
    """The operating system is the wall on a shared machine: the home is its owner's, a bundle the group's it was given to."""
    shared = Path(tempfile.mkdtemp(prefix="segline-shared-", dir="/tmp"))
    try:
        shared.chmod(0o755)
        home = shared / "home"
        shutil.copytree(house.settings.root, home)
        copied = Settings(home=home, memory_limit_mb=1000)
        given = grants.add(copied, "analyst", "Ann", shared / "for_ann", "Bob", group="nogroup")
        alone = grants.add(copied, "analyst", "Cy", shared / "for_cy", "Bob")
        write_bundles(copied, [given, alone])
        # The bundles' folders may be entered, so that the file's own mode is what decides.
        for grant in (given, alone):
            grant.bundle.parent.chmod(0o755)

        def read(path: Path) -> int:
            command = ["cat", str(path)]
            return subprocess.run(command, user=65534, group="nogroup", extra_groups=[], capture_output=True, check=False).returncode

        assert read(given.bundle) == 0
        for path in (alone.bundle, copied.key_file, copied.catalog, copied.key_store, key_path(copied, given)):
            assert path.exists() and read(path) != 0, path
    finally:
        shutil.rmtree(shared)


def test_a_grant_names_two_people_and_lies_outside_the_home(house, tmp_path):
    for role, holder, by, folder in (("superuser", "Ann", "Bob", tmp_path), ("analyst", "Ann", "ann ", tmp_path),
                                     ("analyst", " ", "Bob", tmp_path), ("analyst", "Ann", "", tmp_path),
                                     ("analyst", "Ann", "Bob", house.settings.root / "x")):  # fmt: skip
        with pytest.raises(AccessError):
            grants.add(house.settings, role, holder, folder, by)


def test_a_revoked_grant_leaves_neither_bundle_nor_key_and_is_never_written_again(house, tmp_path):
    grant = grants.add(house.settings, "engineer", "Eve", tmp_path / "out", "Bob")
    write_bundles(house.settings, [grant])
    assert grant.bundle.exists() and key_path(house.settings, grant).exists()
    ended = grants.revoke(house.settings, grant.grant_id, "Bob")
    assert not grant.bundle.exists() and not key_path(house.settings, grant).exists() and ended.revoked_by == "Bob"
    assert grant.grant_id not in {one.grant.grant_id for one in write_bundles(house.settings)}
    with pytest.raises(AccessError, match="no grant"):
        grants.revoke(house.settings, grant.grant_id, "Bob")


def test_an_erasure_reaches_the_bundles(house):
    """They lie outside the home, where no scan comes: so they are written anew once the rows are gone."""
    token = house.ask("analyst", "select subject_token from published.audience_segments limit 1")[0][0]
    with open_lake(house.settings) as lake:
        lake.execute("delete from lake.published.audience_segments where subject_token = ?", [token])
    (store,) = (store for store in stores(house.settings) if store.name == "bundles of roles")
    assert house.ask("analyst", f"select count(*) from published.audience_segments where subject_token = '{token}'") == [(1,)]
    outcomes = store.purge(Batch())
    assert outcomes[0].note == "written anew"
    assert house.ask("analyst", f"select count(*) from published.audience_segments where subject_token = '{token}'") == [(0,)]


def test_an_opt_out_reaches_the_bundles(house, fintech):
    """Marketing works from its bundle: who opted out must not go on standing in a segment there until the next run."""
    keys = load_keys(house.settings)
    with (fintech.sources / "customers.csv").open(encoding="utf-8") as stream:
        tokens = {token(keys, "audience", row["customer_id"]): row["customer_id"] for row in csv.DictReader(stream) if row["customer_id"].strip()}
    segments = "select subject_token, segment from published.audience_segments"
    subject = next(one for one, segment in house.ask("analyst", segments) if segment != "default" and one in tokens)
    before = house.ask("analyst", "select written_at from about.bundle")
    cli = Cli(house.settings.home, fintech.cli.profile)
    cli("rights", "request", tokens[subject], "--kind", "opt_out", "--verified-by", "officer")
    assert house.ask("analyst", f"{segments} where subject_token = '{subject}' and segment <> 'default'") == []
    assert house.ask("analyst", "select written_at from about.bundle") > before
