"""Deletion: everything of the person goes, from every store, for good; nothing of anybody else; proven or not claimed."""

import json
import sqlite3
from contextlib import closing

import pytest

from orchestration.identity.errors import PersonNotFoundError
from orchestration.identity.key_store import open_key_store
from orchestration.identity.pseudonyms import PREFIXES
from orchestration.identity.vault import read_person
from orchestration.lake import open_lake
from orchestration.ledger.names import DDL as NAMES_DDL
from orchestration.ledger.names import RELATION as NAMES
from orchestration.rights import certificate, databases, erasure, receiving, scanner, upkeep
from orchestration.rights.errors import ErasureError
from orchestration.rights.reach import relations
from orchestration.rights.requests import open_log
from orchestration.rights.stores import FileStore, Outcome, stores, unnamed_files
from orchestration.rights.suppression import entries, merge_copy, write_copy
from tests.unit.rights.conftest import Home, apply


def ask(home: Home, customer: str, verified_by: str | None = "officer"):
    return receiving.receive(home.settings, home.keys, customer, "deletion", "test", verified_by)


def state(home: Home, request_id: str) -> str:
    with open_log(home.settings) as log:
        return log.get(request_id).state


def others(home: Home, *customers: str) -> dict[str, list]:
    """Every row of every table that leads to a person, without those of the given ones; their mentions are emptied."""
    tokens = {token for customer in customers for token in home.subject(customer).tokens.values()}
    found = {}
    with open_lake(home.settings, read_only=True) as connection:
        for relation in relations(connection):
            if str(relation) == "features.risk_transaction_measures":
                continue  # by number; checked by its count
            cursor = connection.execute(f"select * exclude (load_id) from {relation.sql}" if "raw" in relation.schema else f"select * from {relation.sql}")
            names = [column[0] for column in cursor.description]
            owners = [names.index(name) for name in relation.owners]
            mentions = [names.index(name) for name in relation.mentions]
            rows = [
                tuple(None if place in mentions and value in tokens else value for place, value in enumerate(row))
                for row in cursor.fetchall()
                if not any(row[place] in tokens for place in owners)
            ]
            found[str(relation)] = sorted(rows, key=repr)
    return found


def test_everything_goes_is_proven_and_stays_gone(retail, tmp_path):
    """The whole way of one person, with the control before and after, and everybody else as they were."""
    victim, control = retail.customers()[:2]
    customer = victim["customer_id"]
    identifiers = [customer, victim["email"], victim["full_name"], victim["phone"]]
    assert retail.tables_with(customer) and retail.tables_with(control["customer_id"])
    before, held = others(retail, customer), retail.tables_with(control["customer_id"])
    found = scanner.verify(retail.settings, retail.keys, identifiers, control["customer_id"])
    assert found.verdict == scanner.FOUND and found.control
    assert any("opened with" in hit.place for hit in found.person)

    request = ask(retail, customer)
    assert request.state == "planned"
    with pytest.raises(PersonNotFoundError):  # the key is gone at once, before any row is
        read_person(retail.settings, retail.keys, retail.subject(customer).tokens["raw"])

    planted = retail.plant(customer, retail.subject(customer).tokens["risk"])
    applied = apply(retail)
    assert [one.state for one in applied.requests if one.request_id == request.request_id] == ["proven"]
    assert retail.tables_with(customer) == {}
    assert others(retail, customer) == before and retail.tables_with(control["customer_id"]) == held
    assert planted[0].read_text() == "first line\nthird\n" and not planted[1].exists() and not planted[2].exists()
    with closing(sqlite3.connect(planted[3])) as db:
        assert db.execute("select event from event_logs").fetchall() == [("harmless",)]
    after = scanner.verify(retail.settings, retail.keys, identifiers, control["customer_id"])
    assert after.verdict == scanner.CLEAR, after.person
    with open_lake(retail.settings, read_only=True) as connection:
        assert len(connection.execute("from ducklake_snapshots('lake')").fetchall()) == 1

    document = certificate.read(retail.settings, request.request_id)
    certificate.check(document, certificate.public_key(retail.keys))
    assert {entry["store"] for entry in document["stores"]} == {store.name for store in stores(retail.settings)}
    assert document["proof"]["control_found_before"] and document["proof"]["control_found_after"]
    assert document["proof"]["found"] == 0 and document["proof"]["files_searched"] > 40
    text = json.dumps(document)
    assert not any(value in text for value in [*identifiers, *retail.subject(customer).tokens.values()])

    # the same delivery again, as a back-fill would bring it
    reasons = retail.land()
    assert sum(rows for (_, reason), rows in reasons.items() if reason == "suppressed") > 3
    assert retail.rows("select count(*) from lake.ops.quarantine where reason = 'suppressed' and row_number is not null") == [(0,)]
    assert retail.tables_with(customer) == {}
    assert {name: len(rows) for name, rows in others(retail).items()} == {name: len(rows) for name, rows in before.items()}
    assert others(retail)["raw.transactions"] == before["raw.transactions"]
    again = scanner.verify(retail.settings, retail.keys, identifiers, control["customer_id"])
    assert again.verdict == scanner.CLEAR, again.person


def test_a_restored_backup_brings_nobody_back(retail, tmp_path):
    """Lake and vault of last week, keys included, are put back: the start of the next run erases again."""
    backup = retail.copy(tmp_path / "backup")
    customer, control = (row["customer_id"] for row in retail.customers()[:2])
    ask(retail, customer)
    apply(retail)
    assert erasure.repeat_at_start(retail.settings) == []
    for parts in (("lake",), ("vault",), ("lake", "vault")):
        retail.restore(backup, *parts)
        found = scanner.verify(retail.settings, retail.keys, [customer], control)
        assert found.verdict == scanner.FOUND, parts
        assert erasure.repeat_at_start(retail.settings), parts
        assert retail.tables_with(customer) == {}
        assert scanner.verify(retail.settings, retail.keys, [customer], control).verdict == scanner.CLEAR, parts


def test_a_whole_home_from_a_backup_is_mended_by_the_lists_copy(retail, tmp_path):
    """A backup of everything is older than the deletion, its suppression list too: only a copy kept elsewhere knows."""
    backup = retail.copy(tmp_path / "backup")
    customer = retail.customers()[0]["customer_id"]
    ask(retail, customer)
    with open_log(retail.settings) as log:
        assert write_copy(log, tmp_path / "list.json") == len(PREFIXES)
    assert customer not in (tmp_path / "list.json").read_text()
    assert entries(backup.settings) == []
    with open_log(backup.settings) as log:
        assert merge_copy(log, tmp_path / "list.json") == len(PREFIXES)
        assert merge_copy(log, tmp_path / "list.json") == 0
    assert backup.tables_with(customer)
    assert erasure.repeat_at_start(backup.settings)
    assert backup.tables_with(customer) == {}


def test_many_go_together(retail):
    """A batch is one pass: each is proven, each has a certificate, everybody else is as before."""
    customers = [row["customer_id"] for row in retail.customers()[:8]]
    before = others(retail, *customers)
    requests = [ask(retail, customer) for customer in customers]
    apply(retail)
    assert {state(retail, request.request_id) for request in requests} == {"proven"}
    assert all(certificate.read(retail.settings, request.request_id)["batch"]["requests"] == 8 for request in requests)
    assert others(retail, *customers) == before
    assert not any(retail.tables_with(customer) for customer in customers)


def test_the_catalogues_statistics_keep_no_value_of_an_erased_row(retail):
    """DuckLake does not recompute a table's smallest and largest value when all rows of one of its files are deleted."""
    customer = retail.customers()[0]["customer_id"]
    token = retail.subject(customer).tokens["raw"]
    with open_lake(retail.settings) as connection:
        connection.execute("create table lake.ops.only_one as select ? as subject_token", [token])
        connection.execute("create table lake.ops.two_files as select ? as subject_token", ["~" + token])
        connection.execute("insert into lake.ops.two_files values ('_')")
        connection.execute("update lake.ops.two_files set subject_token = ? where subject_token <> '_'", [token])
    request = ask(retail, customer)
    apply(retail)
    assert state(retail, request.request_id) == "proven"
    assert retail.rows("select count(*) from lake.ops.only_one") == [(0,)]
    assert retail.rows("select subject_token from lake.ops.two_files") == [("_",)]


def test_an_unverified_or_paused_deletion_erases_nothing(retail):
    first, second = (row["customer_id"] for row in retail.customers()[:2])
    unverified, paused = ask(retail, first, None), ask(retail, second, None)
    with open_log(retail.settings) as log:
        log.pause(paused.request_id, "papers asked for")
    held = retail.tables_with(first), retail.tables_with(second)
    apply(retail)
    assert (retail.tables_with(first), retail.tables_with(second)) == held
    assert {state(retail, unverified.request_id), state(retail, paused.request_id)} == {"received"}


def test_the_plan_says_what_would_go_and_changes_nothing(retail):
    customer = retail.customers()[0]["customer_id"]
    ask(retail, customer)
    held = retail.tables_with(customer)
    requests, outcomes = erasure.survey(retail.settings, retail.keys)
    planned = {outcome.place: outcome.erased for outcome in outcomes if outcome.erased}
    assert [request.state for request in requests] == ["planned"]
    assert planned["raw.transactions"] == held["raw.transactions.subject_token"] and planned["persons"] == 1
    assert retail.tables_with(customer) == held


def test_whoever_is_unknown_is_erased_as_well(retail):
    """Nothing is held: the certificate says so, and a later delivery does not bring the person in."""
    request = ask(retail, "CU-NEVER-SEEN-1")
    apply(retail)
    document = certificate.read(retail.settings, request.request_id)
    assert {place["result"] for entry in document["stores"] for place in entry["places"]} == {"nothing held"}


def test_the_other_side_of_a_movement_is_forgotten_too(retail):
    """A person also stands in other people's rows: their row stays, the pseudonym goes, and does not come back."""
    first, second = retail.customers()[:2]
    token = retail.subject(first["customer_id"]).tokens["raw"]
    with open_lake(retail.settings) as connection:
        connection.execute(
            "update lake.raw.transactions set counterparty_token = ? where subject_token = ?",
            [token, retail.subject(second["customer_id"]).tokens["raw"]],
        )
    rows = retail.rows("select count(*) from lake.raw.transactions where counterparty_token = ?", token)[0][0]
    own = retail.tables_with(first["customer_id"])["raw.transactions.subject_token"]
    total = retail.rows("select count(*) from lake.raw.transactions")[0][0]
    assert rows > 0
    request = ask(retail, first["customer_id"])
    apply(retail)
    assert state(retail, request.request_id) == "proven"
    assert retail.rows("select count(*) from lake.raw.transactions") == [(total - own,)]


@pytest.mark.slow
def test_a_kill_at_any_step_is_made_good_by_the_next_pass(retail, monkeypatch):
    """Before every store has reported nothing is called proven, and each further pass takes up what is left."""

    class Killed(BaseException):
        pass

    def kill(*args, **kwargs):
        raise Killed

    customer = retail.customers()[0]["customer_id"]
    request = ask(retail, customer)
    points = [
        (databases.KeyStore, "forget"), (databases.VaultStore, "forget"), (databases.LakeStore, "_forget_in"),
        (FileStore, "forget"), (databases.VaultStore, "purge"), (databases, "compact_sqlite"), (FileStore, "purge"),
        (erasure, "_prove"), (certificate, "store"),
    ]  # fmt: skip
    for owner, name in points:
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, kill)
            with pytest.raises(Killed):
                apply(retail)
        assert state(retail, request.request_id) != "proven", name
    apply(retail)
    assert state(retail, request.request_id) == "proven"
    assert retail.tables_with(customer) == {}


def test_a_key_that_the_kill_left_goes_with_the_next_pass(retail, monkeypatch):
    """Killed between plan and shredding: the plan stands, the key still lies there."""
    customer = retail.customers()[0]["customer_id"]
    with monkeypatch.context() as patch:
        patch.setattr(receiving, "shred", lambda settings, tokens: 0)
        ask(retail, customer)
    token = retail.subject(customer).tokens["raw"]
    assert read_person(retail.settings, retail.keys, token)
    apply(retail)
    with closing(open_key_store(retail.settings, retail.keys)) as store:
        assert store.execute("select count(*) from subject_keys where subject_token = ?", [token]).fetchone() == (0,)


def test_what_is_found_is_not_called_proven(retail, monkeypatch):
    """A store that says it erased, and did not: the search tells, the request stays open, the next pass mends it."""
    customer = retail.customers()[0]["customer_id"]
    request = ask(retail, customer)
    log_file = retail.plant(customer)[0]
    with monkeypatch.context() as patch:
        patch.setattr(FileStore, "purge", lambda self, batch: [Outcome(self.name, "everything", 1)])
        applied = apply(retail)
    assert state(retail, request.request_id) == "propagated"
    assert applied.verdicts[request.request_id].verdict == scanner.FOUND
    with pytest.raises(certificate.CertificateError):
        certificate.read(retail.settings, request.request_id)
    assert customer in log_file.read_text()
    apply(retail)
    assert state(retail, request.request_id) == "proven"


def test_a_reader_that_holds_the_catalogue_is_an_error_and_no_proof(retail, monkeypatch):
    customer = retail.customers()[0]["customer_id"]
    request = ask(retail, customer)
    monkeypatch.setattr(upkeep, "_COMPACT_SECONDS", 0.2)
    with closing(sqlite3.connect(retail.settings.vault_catalog, isolation_level=None)) as reader:
        apply_fails = reader.execute("begin").execute("select count(*) from ducklake_snapshot").fetchone()
        assert apply_fails
        with pytest.raises(ErasureError, match="held by a reader"):
            apply(retail)
    assert state(retail, request.request_id) == "applied"
    apply(retail)
    assert state(retail, request.request_id) == "proven"


def test_no_file_of_a_landed_home_is_without_a_store(retail):
    """Whoever adds a place has to say how it is erased."""
    assert unnamed_files(retail.settings) == []
    (retail.settings.root / "cache").mkdir()
    (retail.settings.root / "cache" / "rows.bin").write_bytes(b"x")
    assert [path.name for path in unnamed_files(retail.settings)] == ["rows.bin"]


def test_the_feeds_deletion_of_somebody_who_cannot_be_read_finds_the_ledgers_name_of_before(retail):
    """After a re-keying the ledger knows a person by another pseudonym than today's keys make; without it his rows would stay."""
    raw = retail.subject(retail.customers()[0]["customer_id"]).tokens["raw"]
    other = retail.subject(retail.customers()[1]["customer_id"]).tokens
    with open_lake(retail.settings) as connection:
        connection.execute("delete from lake.raw.privacy_requests")
        connection.execute(NAMES_DDL)
        connection.execute(f"insert into {NAMES} values (?, 'led_of_before')", [raw])
        for number, token in enumerate((raw, other["raw"])):
            connection.execute(
                "insert into lake.raw.privacy_requests (request_id, subject_token, request_type, received_at, status, feed, load_id) "
                "values (?, ?, 'deletion', timestamp '2026-10-01', 'received', 'cmp', 'x')",
                [f"PR-{number}", token],
            )
    upkeep.shred(retail.settings, [raw, other["raw"]])
    with open_log(retail.settings) as log:
        opened = receiving.open_from_feed(retail.settings, retail.keys, log)
        named = {log.subject(request, retail.keys).tokens["raw"]: log.subject(request, retail.keys).tokens["ledger"] for request in opened}
    assert named == {raw: "led_of_before", other["raw"]: other["ledger"]}


def test_the_feeds_deletions_open_life_cycles_once(retail):
    customer, other = retail.customers()[:2]
    with open_lake(retail.settings) as connection:
        connection.execute("delete from lake.raw.privacy_requests")
        for number, (row, status) in enumerate(((customer, "verified"), (other, "received"))):
            connection.execute(
                "insert into lake.raw.privacy_requests (request_id, subject_token, request_type, received_at, status, feed, load_id) "
                "values (?, ?, 'deletion', timestamp '2026-10-01', ?, 'cmp', 'x')",
                [f"PR-{number}-{row['customer_id']}", retail.subject(row["customer_id"]).tokens["raw"], status],
            )
    assert receiving.waiting_deletions(retail.settings, retail.keys) == 1
    apply(retail)
    assert receiving.waiting_deletions(retail.settings, retail.keys) == 0
    with open_log(retail.settings) as log:
        assert [request.state for request in log.all()] == ["proven", "received"]
        assert all(request.source.startswith("feed cmp: ") and "PR-" not in request.source for request in log.all())
    assert retail.tables_with(customer["customer_id"]) == {}
    with open_log(retail.settings) as log:
        assert receiving.open_from_feed(retail.settings, retail.keys, log) == []
