"""New keys: nothing of the old stays in use, nobody is lost or comes back, and whoever is killed goes on.

The gate rotates the wrapping key, kills that once, and re-keys once; what needs several landings and erasures is nightly.
"""

import base64
import csv
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path

import pytest

from orchestration.identity import rotation
from orchestration.identity.errors import (
    IdentityError,
    MasterKeyError,
    RotationError,
    RotationUnfinishedError,
    WrongMasterKeyError,
)
from orchestration.identity.key_store import open_key_store
from orchestration.identity.keys import VARIABLE, key_text, load_keys, next_key_file, read_key_file
from orchestration.identity.pseudonyms import person_tokens, token, zone_of
from orchestration.identity.vault import read_person
from orchestration.lake import identifier, open_lake, table_columns
from orchestration.rights import certificate, receiving, rekeying, scanner
from orchestration.rights.access import export
from orchestration.rights.intake import read_opt_outs, record_opt_out
from orchestration.rights.requests import now, open_log
from orchestration.settings import PROJECT_ROOT, Settings
from tests.unit.rights.conftest import Home, apply

SIGNED = "ops.decision_payloads"


def everything(home: Home) -> dict[str, list]:
    """Every row of every table, pseudonyms replaced by whom they name under the home's own keys: equal before and after."""
    with (home.sources / "customers.csv").open(encoding="utf-8", newline="") as stream:
        customers = {row["customer_id"] for row in csv.DictReader(stream)}
    known = {
        value: f"{zone} of {customer}"
        for customer in customers
        for zone, value in person_tokens(home.keys, customer).items()
        if "." not in zone
    }
    found = {}
    with open_lake(home.settings, read_only=True) as connection:
        for (schema, name), columns in table_columns(connection).items():
            if f"{schema}.{name}" in (SIGNED, "ops.ledger_names", "ops.pseudonym_keys"):
                continue
            rows = connection.execute(f"select * from lake.{identifier(schema)}.{identifier(name)}").fetchall()
            tokens = [place for place, column in enumerate(columns) if column.endswith("_token")]
            found[f"{schema}.{name}"] = sorted(
                (tuple(known.get(cell, "stranger") if place in tokens and cell else cell for place, cell in enumerate(row)) for row in rows),
                key=repr,
            )
    return found


def old_tokens(home: Home, customers: list[str]) -> list[str]:
    """What a person's pseudonyms were under the keys of now."""
    return [value for customer in customers for zone, value in person_tokens(home.keys, customer).items() if zone_of(zone) != "ledger"]


def found_in_files(home: Home, texts: list[str]) -> set[str]:
    """Tables and files of the home, opened as the eraser's search opens them, in which one of these texts lies."""
    scan = scanner.Scanner(home.settings, None, {"old": {text.encode(): "old pseudonym" for text in texts}}).run()
    assert not scan.shut, scan.shut
    return {f"{hit.file} {hit.place}" for hit in scan.of("old")}


# the wrapping key


def test_the_wrapping_key_is_replaced_and_every_value_still_opens(retail):
    customers = [row["customer_id"] for row in retail.customers()[:3]]
    old, tokens = retail.keys, [retail.subject(one).tokens for one in customers]
    before = [read_person(retail.settings, old, one["raw"]) for one in tokens]
    done = rekeying.rotate(retail.settings)
    new = retail.keys
    assert (new.version, new.kek_version, done.persons) == (1, 2, len(retail.rows("select 1 from lake.raw.customers")))
    assert new.kek != old.kek and new.pseudonym == old.pseudonym and new.fingerprint == old.fingerprint and not new.retired
    assert [retail.subject(one).tokens for one in customers] == tokens
    assert [read_person(retail.settings, new, one["raw"]) for one in tokens] == before
    with pytest.raises(WrongMasterKeyError):
        read_person(retail.settings, old, tokens[0]["raw"])
    assert not next_key_file(retail.settings).exists()


def test_the_old_wrapping_key_and_what_it_wrapped_are_nowhere_in_the_home(retail):
    """A copy of the old key must open nothing: neither it nor a wrapped key of before stays in a file, a log or a free page."""
    old = retail.keys
    with closing(sqlite3.connect(retail.settings.key_store)) as store:
        wrapped = [row[0] for row in store.execute("select wrapped_key from subject_keys limit 50")]
    text = key_text(old).split('"kek": "')[1].split('"')[0]

    def lying() -> set[str]:
        searched = [path.read_bytes() for path in (*retail.settings.key_store.parent.glob("keys.sqlite*"),
                                                   *retail.settings.key_file.parent.rglob("*")) if path.is_file()]  # fmt: skip
        return {what for what, needles in (("wrapped", wrapped), ("key", [text.encode()])) if any(n in c for n in needles for c in searched)}

    assert lying() == {"wrapped", "key"}  # the search finds what is there
    rekeying.rotate(retail.settings)
    assert lying() == set()


def test_the_old_key_file_is_overwritten_not_only_unlinked(retail, tmp_path):
    """Seen through a hard link, as somebody's copy of the file's place on the disk would show it."""
    link = tmp_path / "same.keys"
    link.hardlink_to(retail.settings.key_file)
    assert b"kek" in link.read_bytes()
    rekeying.rotate(retail.settings)
    assert set(link.read_bytes()) == {0}
    assert b"kek" in retail.settings.key_file.read_bytes()


@pytest.mark.nightly
def test_open_requests_and_certificates_outlive_a_rotation(retail):
    customer, erased = (row["customer_id"] for row in retail.customers()[:2])
    waiting = receiving.receive(retail.settings, retail.keys, customer, "access", "test", "officer")
    deleted = receiving.receive(retail.settings, retail.keys, erased, "deletion", "test", "officer")
    apply(retail)
    rekeying.rotate(retail.settings)
    with open_log(retail.settings) as log:
        assert log.subject(log.get(waiting.request_id), retail.keys).customer == customer
    document = certificate.read(retail.settings, deleted.request_id)
    certificate.check(document, certificate.public_keys(retail.keys))
    with pytest.raises(certificate.CertificateError):
        certificate.check(document, certificate.public_key(retail.keys))


def test_a_damaged_key_store_stops_the_rotation_and_leaves_everything_as_it_was(retail):
    text = retail.settings.key_file.read_text()
    with closing(sqlite3.connect(retail.settings.key_store)) as store:
        store.execute("update subject_keys set wrapped_key = zeroblob(48) where subject_token in (select max(subject_token) from subject_keys)")
        store.commit()
    with pytest.raises(WrongMasterKeyError):
        rekeying.rotate(retail.settings)
    assert retail.settings.key_file.read_text() == text and not next_key_file(retail.settings).exists()
    open_key_store(retail.settings, load_keys(retail.settings)).close()


# pseudonyms


def test_every_pseudonym_is_made_anew_and_every_row_stays_whose_it_was(bank):
    customers = [row["customer_id"] for row in bank.customers()]
    with open_lake(bank.settings) as connection:
        connection.execute("drop table lake.ops.decision_payloads")  # signed: the one place where pseudonyms stay
    export_file = bank.settings.root / "exports" / "campaign.csv"
    export_file.parent.mkdir()
    export_file.write_text(f"subject_token\n{bank.subject(customers[0]).tokens['audience']}\n")
    before, past = everything(bank), old_tokens(bank, customers)
    assert len(found_in_files(bank, past)) > 20  # the search finds what is there
    old = bank.keys
    done = rekeying.rotate(bank.settings, with_pseudonyms=True)
    new = bank.keys
    assert done.with_pseudonyms and (new.version, new.kek_version) == (2, 2)
    assert len({new.kek, new.pseudonym, new.fingerprint, old.kek, old.pseudonym, old.fingerprint}) == 6
    assert everything(bank) == before
    assert found_in_files(bank, past) == set()
    assert read_person(bank.settings, new, token(new, "raw", customers[0]))["customer_id"] == customers[0]


@pytest.mark.nightly
def test_the_next_delivery_finds_everybody_where_the_re_keying_left_them(bank):
    """What the re-keying wrote is what landing makes: nobody is new, nobody is sealed again, the same pseudonyms."""
    rekeying.rotate(bank.settings, with_pseudonyms=True)
    before = bank.rows("select subject_token, risk_subject_token, audience_subject_token from lake.raw.customers order by all")
    with closing(sqlite3.connect(bank.settings.key_store)) as store:
        keys = store.execute("select * from subject_keys order by 1").fetchall()
    bank.land()
    assert bank.rows("select subject_token, risk_subject_token, audience_subject_token from lake.raw.customers order by all") == before
    with closing(sqlite3.connect(bank.settings.key_store)) as store:
        assert store.execute("select * from subject_keys order by 1").fetchall() == keys


@pytest.mark.nightly
def test_nobody_suppressed_comes_back_after_a_re_keying(retail):
    """The list knows an erased person by the old key alone, and the person is known to nobody: so that key stays for finding."""
    customer = retail.customers()[0]["customer_id"]
    receiving.receive(retail.settings, retail.keys, customer, "deletion", "test", "officer")
    apply(retail)
    assert sum(rows for (_, reason), rows in retail.land().items() if reason == "suppressed") > 3
    held = retail.rows("select count(*) from lake.raw.customers")
    done = rekeying.rotate(retail.settings, with_pseudonyms=True)
    assert done.keeps_old_pseudonym_key and [one.version for one in retail.keys.retired] == [1]
    rekeying.rotate(retail.settings, with_pseudonyms=True)  # and after one more
    assert [one.version for one in retail.keys.retired] == [1, 2]
    assert sum(rows for (_, reason), rows in retail.land().items() if reason == "suppressed") > 3
    assert retail.tables_with(customer) == {}
    assert retail.rows("select count(*) from lake.raw.customers") == held
    found = scanner.verify(retail.settings, retail.keys, [customer], retail.customers()[0]["customer_id"])
    assert found.verdict == scanner.CLEAR, found.person


@pytest.mark.nightly
def test_without_the_retired_key_the_suppressed_would_come_back(retail):
    """The control of the test above: it is that key, and nothing else, that finds them."""
    customer = retail.customers()[0]["customer_id"]
    receiving.receive(retail.settings, retail.keys, customer, "deletion", "test", "officer")
    apply(retail)
    rekeying.rotate(retail.settings, with_pseudonyms=True)
    content = json.loads(retail.settings.key_file.read_text())
    content.pop("retired")
    retail.settings.key_file.write_text(json.dumps(content))
    retail.land()
    assert retail.tables_with(customer)


@pytest.mark.nightly
def test_a_re_keyed_person_is_erased_wholly(retail):
    customer, control = (row["customer_id"] for row in retail.customers()[:2])
    rekeying.rotate(retail.settings, with_pseudonyms=True)
    assert f"{SIGNED}.subject_token" in retail.tables_with(customer)  # under the pseudonym of before
    receiving.receive(retail.settings, retail.keys, customer, "deletion", "test", "officer")
    apply(retail)
    assert retail.tables_with(customer) == {}
    assert scanner.verify(retail.settings, retail.keys, [customer], control).verdict == scanner.CLEAR


@pytest.mark.nightly
def test_requests_holds_and_the_feed_are_known_again(bank):
    asking, holding = (row["customer_id"] for row in bank.customers()[:2])
    waiting = receiving.receive(bank.settings, bank.keys, asking, "access", "test", "officer")
    receiving.receive(bank.settings, bank.keys, asking, "portability", "test", None)
    with open_log(bank.settings) as log:
        log.hold(bank.subject(holding).hash, "court", "counsel", now() + timedelta(days=9))
        receiving.open_from_feed(bank.settings, bank.keys, log)
        logged = len(log.all())
    apply(bank)
    rekeying.rotate(bank.settings, with_pseudonyms=True)
    with open_log(bank.settings) as log:
        assert log.subject(log.get(waiting.request_id), bank.keys).tokens["raw"] == bank.subject(asking).tokens["raw"]
        assert log.hold_on(bank.subject(holding).hash, now())
        # What the feed had brought is not brought again: its requests are known by keyed hashes of their numbers.
        assert receiving.open_from_feed(bank.settings, bank.keys, log) == [] and len(log.all()) == logged
        joined = log.open("portability", bank.subject(asking), bank.keys, "test again")
        assert "duplicate_joined" in [name for _, name, _ in joined.events]
    export(bank.settings, bank.keys, asking, "json", bank.settings.root.parent / "copies")


@pytest.mark.nightly
def test_an_opt_out_of_somebody_who_was_no_customer_yet_is_not_lost(bank):
    """The intake cannot say whose it is when the key changes; the delivery that brings the person can."""
    sources = bank.sources.parent / "later"
    shutil.copytree(bank.sources, sources, dirs_exist_ok=True)
    known = bank.customers()[0]["customer_id"]
    record_opt_out(bank.settings, "LATECOMER")
    record_opt_out(bank.settings, known)
    rekeying.rotate(bank.settings, with_pseudonyms=True)
    held = set(read_opt_outs(bank.settings)["subject_token"].to_pylist())
    assert token(bank.keys, "raw", known) in held and token(bank.keys, "raw", "LATECOMER") not in held
    path = sources / "customers.csv"
    header = path.read_text(encoding="utf-8").splitlines()[0].split(",")
    values = {"customer_id": "LATECOMER", "customer_type": "individual", "country": "DE"}
    with path.open("a", encoding="utf-8") as stream:
        stream.write(",".join(values.get(name.strip('"'), "") for name in header) + "\n")
    bank.land(sources=sources)
    made = {row["subject_token"]: row for row in read_opt_outs(bank.settings).to_pylist()}
    tokens = bank.subject("LATECOMER").tokens
    assert made[tokens["raw"]]["audience_subject_token"] == tokens["audience"]


def test_whatever_must_be_done_first_is_said_and_nothing_is_changed(bank, monkeypatch):
    customer = bank.customers()[0]["customer_id"]
    text = bank.settings.key_file.read_text()

    def refused(match: str) -> None:
        with pytest.raises(RotationError, match=match):
            rekeying.rotate(bank.settings, with_pseudonyms=True)
        assert bank.settings.key_file.read_text() == text and not next_key_file(bank.settings).exists()

    with open_log(bank.settings) as log:
        stranger = log.hold(bank.subject("NOBODY").hash, "court", "counsel", None)
    refused("legal hold")
    with open_log(bank.settings) as log:
        log.lift(stranger, "counsel")
    with closing(sqlite3.connect(bank.settings.key_store)) as store:
        held = store.execute("select * from subject_keys where subject_token = ?", [bank.subject(customer).tokens["raw"]]).fetchone()
        store.execute("delete from subject_keys where subject_token = ?", held[:1])
        store.commit()
    refused("have no key")
    with closing(sqlite3.connect(bank.settings.key_store)) as store:
        store.execute("insert into subject_keys values (?, ?, ?, ?)", held)
        store.commit()
    with open_lake(bank.settings) as connection:
        connection.execute("insert into lake.raw.customers by name select 'AAAAAAAAAAAAAAAAAAAAAA' as subject_token")
    refused("not in the vault")
    monkeypatch.setenv(VARIABLE, "anything")
    with pytest.raises(MasterKeyError):
        rekeying.rotate(bank.settings)


def test_keys_of_the_environment_are_not_rotated(bank, monkeypatch):
    monkeypatch.setenv(VARIABLE, base64.b64encode(bank.settings.key_file.read_bytes()).decode())
    with pytest.raises(RotationError, match="unset the variable"):
        rekeying.rotate(bank.settings)
    assert not next_key_file(bank.settings).exists()


@pytest.mark.nightly
def test_nothing_is_opened_while_a_rotation_is_unfinished(bank):
    rotation.begin(bank.settings, True, True, "public")
    with pytest.raises(RotationUnfinishedError, match="segline keys rotate"):
        load_keys(bank.settings)
    assert rekeying.status(bank.settings).is_unfinished
    assert issubclass(RotationUnfinishedError, IdentityError)
    rekeying.rotate(bank.settings)
    assert not rekeying.status(bank.settings).is_unfinished and rekeying.status(bank.settings).retired == (1,)


# killed in the middle

# Where the process is killed: before or after a function of one of the two modules.
PLACES = {
    "kek: keys laid down": (False, "rotation", "begin", "after"),
    "kek: keys wrapped anew": (False, "rotation", "rewrap", "after"),
    "kek: before the file is replaced": (False, "rotation", "finish", "before"),
    "pseudonyms: keys laid down": (True, "rotation", "begin", "after"),
    "pseudonyms: lake rewritten": (True, "rekeying", "_renew_lake", "after"),
    "pseudonyms: in the lake's transaction": (True, "rekeying", "_name_for_ledger", "before"),
    "pseudonyms: log moved": (True, "rekeying", "_renew_log", "after"),
    "pseudonyms: entries sealed, old keys there": (True, "rotation", "_reseal_entries", "after"),
    "pseudonyms: vault done, snapshots there": (True, "rotation", "reseal", "after"),
    "pseudonyms: before the file is replaced": (True, "rotation", "finish", "before"),
}
KILLED = """
import os, signal, sys
from pathlib import Path
from orchestration.identity import rotation
from orchestration.rights import rekeying
from orchestration.settings import Settings
home, profile, kind, module, name, moment = sys.argv[1:]
target = {"rotation": rotation, "rekeying": rekeying}[module]
real = getattr(target, name)
def killing(*arguments, **named):
    if moment == "after":
        real(*arguments, **named)
    os.kill(os.getpid(), signal.SIGKILL)
setattr(target, name, killing)
rekeying.rotate(Settings(home=Path(home), profile=profile, memory_limit_mb=1000), kind == "True")
"""
GATE = ("kek: keys wrapped anew",)


@pytest.mark.parametrize("place", [name if name in GATE else pytest.param(name, marks=pytest.mark.nightly) for name in PLACES])
def test_a_killed_rotation_goes_on_and_ends_as_an_undisturbed_one(retail, place):
    with_pseudonyms, *where = PLACES[place]
    customer, erased, control = (row["customer_id"] for row in retail.customers()[:3])
    if with_pseudonyms:
        receiving.receive(retail.settings, retail.keys, erased, "deletion", "test", "officer")
        apply(retail)
    waiting = receiving.receive(retail.settings, retail.keys, customer, "access", "test", "officer")
    with open_lake(retail.settings) as connection:
        connection.execute("drop table lake.ops.decision_payloads")
    before, past, old = everything(retail), old_tokens(retail, [customer]), retail.keys
    person = read_person(retail.settings, old, retail.subject(customer).tokens["raw"])
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(retail.settings.root), retail.settings.profile, str(with_pseudonyms), *where],
        cwd=PROJECT_ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    with pytest.raises(RotationUnfinishedError):
        load_keys(retail.settings)
    begun = read_key_file(next_key_file(retail.settings))

    rekeying.rotate(retail.settings)  # whatever is asked, it goes on with what was begun
    new = retail.keys
    assert (new.kek, new.pseudonym) == (begun.kek, begun.pseudonym) and new.kek != old.kek
    assert (new.pseudonym != old.pseudonym) == with_pseudonyms
    assert everything(retail) == before
    assert read_person(retail.settings, new, retail.subject(customer).tokens["raw"]) == person
    with open_log(retail.settings) as log:
        assert log.subject(log.get(waiting.request_id), new).tokens["raw"] == retail.subject(customer).tokens["raw"]
    assert asdict(rekeying.status(retail.settings))["under_older_wrapping"] == 0
    if with_pseudonyms:
        assert found_in_files(retail, past) == set()
        assert sum(rows for (_, reason), rows in retail.land().items() if reason == "suppressed") > 3
        assert retail.tables_with(erased) == {} and retail.tables_with(control)


def test_a_home_without_anybody_is_rotated_too(tmp_path):
    settings = Settings(home=tmp_path / "home", memory_limit_mb=1000)
    load_keys(settings)
    assert rekeying.rotate(settings).persons == 0
    done = rekeying.rotate(settings, with_pseudonyms=True)
    # Nothing hangs on the old pseudonym key, so it is destroyed.
    assert (done.version, done.kek_version, done.keeps_old_pseudonym_key) == (2, 3, False)
    assert load_keys(settings).retired == () and isinstance(settings.key_file, Path)
