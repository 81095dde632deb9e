"""The vault: sealed one by one, readable by the right key only, whole after any interruption."""

import base64
import json
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from orchestration.identity import vault as vault_module
from orchestration.identity.errors import (
    DamagedEntryError,
    IdentityError,
    PersonNotFoundError,
    WrongMasterKeyError,
)
from orchestration.identity.keys import MasterKeys
from orchestration.identity.pseudonyms import token
from orchestration.identity.vault import PERSONS, VaultCounts, VaultWriter, attached_vault, read_person
from orchestration.ingestion.contracts import Contract, ContractColumn
from tests.unit.identity.conftest import Desk

Person = Callable[..., dict[str, object]]


def read(desk: Desk, customer_id: str) -> dict[str, str]:
    return read_person(desk.settings, desk.keys, token(desk.keys, "raw", customer_id), desk.connection)


def stored(desk: Desk) -> dict[str, dict[str, bytes]]:
    """The vault's rows by subject token, as they lie there."""
    with attached_vault(desk.connection, desk.settings, read_only=True) as connection:
        result = connection.execute(f"select * from {PERSONS}")
        names = [column[0] for column in result.description]
        return {row[0]: dict(zip(names, row, strict=True)) for row in result.fetchall()}


def snapshots(desk: Desk) -> int:
    with attached_vault(desk.connection, desk.settings, read_only=True) as connection:
        return connection.execute("select count(*) from vault.snapshots()").fetchone()[0]


def wrapped_keys(desk: Desk) -> dict[str, tuple]:
    with closing(sqlite3.connect(desk.settings.key_store)) as store:
        return {row[0]: row[1:] for row in store.execute("select * from subject_keys")}


def test_a_person_comes_out_as_delivered(desk: Desk, make_person: Person) -> None:
    name = "=HYPERLINK(\"x\"); Žluťoučký 'Kůň' \N{SNOWMAN}\nline two"
    desk.deliver(make_person("C-1", full_name=name), make_person("C-2"))
    assert read(desk, "C-1") == {
        "customer_id": "C-1",
        "full_name": name,
        "email": "ada.planted@example.org",
        "phone": "+420777123456",
        "tax_id": "TAX-PLANTED-77",
        "street_address": 'Planted Street 12; "rear" O\'Hara',
        "postal_code": "11742",
        "birth_date": "1987-06-05",
    }


def test_values_that_are_not_known_are_not_there(desk: Desk, make_person: Person) -> None:
    desk.deliver(make_person("C-1", email=None, birth_date=None, phone=None))
    assert set(read(desk, "C-1")) == {"customer_id", "full_name", "tax_id", "street_address", "postal_code"}


def test_the_same_delivery_again_changes_nothing(desk: Desk, make_person: Person) -> None:
    rows = [make_person("C-1"), make_person("C-2", email=None)]
    assert desk.deliver(*rows).vault == VaultCounts(added=2, changed=0, unchanged=0)
    before, moment, held = stored(desk), snapshots(desk), wrapped_keys(desk)
    assert desk.deliver(*reversed(rows), load_id="again").vault == VaultCounts(
        added=0, changed=0, unchanged=2
    )
    assert stored(desk) == before
    assert snapshots(desk) == moment
    assert wrapped_keys(desk) == held


def test_changed_persons_are_replaced_new_ones_added_missing_ones_kept(
    desk: Desk, make_person: Person
) -> None:
    desk.deliver(make_person("C-1"), make_person("C-2"), make_person("C-3"), load_id="first")
    before, held = stored(desk), wrapped_keys(desk)
    result = desk.deliver(
        make_person("C-2", email="new@example.org"), make_person("C-3"), make_person("C-4"), load_id="second"
    )
    assert result.vault == VaultCounts(added=1, changed=1, unchanged=1)
    assert read(desk, "C-1")["email"] == "ada.planted@example.org"
    assert read(desk, "C-2")["email"] == "new@example.org"
    after = stored(desk)
    loads = {
        customer: after[token(desk.keys, "raw", customer)]["load_id"]
        for customer in ("C-1", "C-2", "C-3", "C-4")
    }
    assert loads == {"C-1": "first", "C-2": "second", "C-3": "first", "C-4": "second"}
    assert len(after) == 4
    kept = token(desk.keys, "raw", "C-3")
    assert after[kept] == before[kept]
    assert held.items() <= wrapped_keys(desk).items()  # a person's key never changes


@pytest.mark.parametrize(
    "change",
    [
        {"full_name": None},
        {"email": ""},
        {"phone": "+420777123457"},
        {"birth_date": "1987-06-06"},
        {"postal_code": "11743"},
        {"email": "ada.planted@example.org+420777", "phone": "123456"},
    ],
)
def test_any_identifier_counts_as_a_change(
    desk: Desk, make_person: Person, change: dict[str, object]
) -> None:
    """The last case moves text from one value to the next one."""
    desk.deliver(make_person("C-1"))
    assert desk.deliver(make_person("C-1", **change)).vault.changed == 1


def test_what_is_no_identifier_does_not_touch_the_vault(desk: Desk, make_person: Person) -> None:
    desk.deliver(make_person("C-1"))
    again = desk.deliver(make_person("C-1", country="France", industry="retail", customer_type="corporate"))
    assert again.vault == VaultCounts(added=0, changed=0, unchanged=1)


def test_a_new_attribute_reaches_everybody(desk: Desk, make_person: Person) -> None:
    desk.deliver(make_person("C-1"), make_person("C-2"))
    passport = ContractColumn(
        name="passport",
        type="string",
        description="Passport.",
        category="user.government_id",
        identifier=True,
    )
    old = desk.contract
    desk.contract = Contract(**{**old.model_dump(), "columns": (*old.columns, passport)})
    result = desk.deliver(make_person("C-1", passport="P-77"))
    assert result.vault.changed == 1
    assert read(desk, "C-1")["passport"] == "P-77"
    assert "passport" not in read(desk, "C-2")


def test_each_value_is_sealed_alone_under_the_persons_own_key(desk: Desk, make_person: Person) -> None:
    desk.deliver(
        make_person("C-1", full_name="same", email="same"), make_person("C-2", full_name="same", email="same")
    )
    entries = stored(desk)
    sealed = [entry[name] for entry in entries.values() for name in ("full_name", "email")]
    assert len({value for value in sealed}) == 4
    assert len({value[:12] for value in sealed}) == 4  # nonces
    assert len({tuple(row) for row in wrapped_keys(desk).values()}) == 2
    subject = token(desk.keys, "raw", "C-1")
    nonce, wrapped_key, version = wrapped_keys(desk)[subject]
    person_key = AESGCM(desk.keys.kek).decrypt(nonce, wrapped_key, subject.encode())
    value = entries[subject]["email"]
    assert AESGCM(person_key).decrypt(value[:12], value[12:], f"{subject}email".encode()) == b"same"
    assert (len(person_key), version) == (32, 1)


def test_nothing_is_in_plain_text_anywhere_under_the_home(lake_desk: Desk, make_person: Person) -> None:
    """The stores are read open as well: encrypted files would hide what was put into them in plain text."""
    desk = lake_desk
    result = desk.deliver(make_person("C-PLANTED-1"), make_person("C-PLANTED-2", customer_type="corporate"))
    desk.connection.execute(f"insert into lake.raw.customers select * from {result.relation}")
    secrets = [desk.keys.kek, desk.keys.pseudonym, desk.keys.fingerprint]
    needles = [
        secret for key in secrets for secret in (key, key.hex().encode(), base64.urlsafe_b64encode(key)[:42])
    ]
    needles += [b"PLANTED", b"Planted", b"planted", b"777123456", b"11742", b"1987-06-05", b"C-PLANTED-1"]
    contents = {path: path.read_bytes() for path in desk.settings.root.rglob("*") if path.is_file()}
    for path, content in contents.items():
        if path == desk.settings.key_file:
            assert base64.urlsafe_b64encode(desk.keys.kek)[:42] in content  # the search finds what is there
        else:
            assert not [needle for needle in needles if needle in content], path
    opened = repr(stored(desk)).encode() + repr(wrapped_keys(desk)).encode()
    opened += repr(desk.rows("select * from lake.raw.customers")).encode()
    assert b"Germany" in opened
    assert not [needle for needle in needles if needle in opened]


def test_the_vault_is_private(desk: Desk, make_person: Person) -> None:
    desk.deliver(make_person("C-1"))
    assert desk.settings.key_store.stat().st_mode & 0o077 == 0
    assert desk.settings.vault_catalog.stat().st_mode & 0o077 == 0
    assert desk.settings.vault_data.stat().st_mode & 0o077 == 0
    assert "vault" not in {row[0] for row in desk.rows("select database_name from duckdb_databases()")}
    with closing(sqlite3.connect(desk.settings.key_store)) as store:
        assert store.execute("pragma journal_mode").fetchone() == ("wal",)


@pytest.mark.parametrize("name", ["kek", "pseudonym", "fingerprint", "version"])
def test_other_master_keys_are_refused_before_anything_is_written(
    desk: Desk, make_person: Person, name: str
) -> None:
    desk.deliver(make_person("C-1"))
    before, right = stored(desk), desk.keys
    parts = {part: getattr(right, part) for part in ("version", "kek", "pseudonym", "fingerprint")}
    desk.keys = MasterKeys(**(parts | {name: 2 if name == "version" else bytes(32)}))
    with pytest.raises(WrongMasterKeyError, match=name):
        desk.deliver(make_person("C-1"), make_person("C-2"))
    with pytest.raises(WrongMasterKeyError, match=name):
        read_person(desk.settings, desk.keys, token(right, "raw", "C-1"))
    assert stored(desk) == before
    assert len(wrapped_keys(desk)) == 1


def test_a_foreign_wrapped_key_is_refused(desk: Desk, make_person: Person) -> None:
    """As after rows of another installation's key store were copied in."""
    desk.deliver(make_person("C-1"))
    subject = token(desk.keys, "raw", "C-1")
    foreign = AESGCM(bytes(32)).encrypt(bytes(12), bytes(32), subject.encode())
    with closing(sqlite3.connect(desk.settings.key_store)) as store, store:
        store.execute("update subject_keys set nonce = ?, wrapped_key = ?", [bytes(12), foreign])
    with pytest.raises(WrongMasterKeyError):
        read(desk, "C-1")
    with pytest.raises(WrongMasterKeyError):
        desk.deliver(make_person("C-1", email="new@example.org"))


def test_keys_wrapped_under_another_version_are_refused(desk: Desk, make_person: Person) -> None:
    desk.deliver(make_person("C-1"))
    with closing(sqlite3.connect(desk.settings.key_store)) as store, store:
        store.execute("update subject_keys set kek_version = 2")
    with pytest.raises(WrongMasterKeyError, match="1 persons' keys"):
        desk.deliver(make_person("C-1"))


@pytest.mark.parametrize("swap", ["attributes", "persons"])
def test_swapped_values_are_noticed(desk: Desk, make_person: Person, swap: str) -> None:
    desk.deliver(make_person("C-1"), make_person("C-2", full_name="Bob"))
    with attached_vault(desk.connection, desk.settings) as connection:
        if swap == "attributes":
            connection.execute(f"update {PERSONS} set email = full_name, full_name = email")
        else:
            others = f"select max(full_name) from {PERSONS} as other"
            connection.execute(
                f"update {PERSONS} set full_name = "
                f"({others} where other.subject_token <> persons.subject_token)"
            )
    with pytest.raises(DamagedEntryError) as caught:
        read(desk, "C-1")
    assert "Bob" not in str(caught.value) and "Ada" not in str(caught.value)


def test_a_destroyed_key_ends_the_entry_until_the_person_comes_again(desk: Desk, make_person: Person) -> None:
    desk.deliver(make_person("C-1"), make_person("C-2"))
    subject = token(desk.keys, "raw", "C-1")
    old = wrapped_keys(desk)[subject]
    with closing(sqlite3.connect(desk.settings.key_store)) as store, store:
        store.execute("delete from subject_keys where subject_token = ?", [subject])
    with pytest.raises(PersonNotFoundError):
        read(desk, "C-1")
    assert read(desk, "C-2")["customer_id"] == "C-2"
    assert desk.deliver(make_person("C-1"), make_person("C-2")).vault == VaultCounts(
        added=0, changed=1, unchanged=1
    )
    assert read(desk, "C-1")["customer_id"] == "C-1"
    assert wrapped_keys(desk)[subject] != old


def test_unknown_persons_and_empty_homes(desk: Desk, make_person: Person) -> None:
    with pytest.raises(PersonNotFoundError):
        read(desk, "C-1")
    assert not desk.settings.vault_catalog.exists()
    desk.deliver(make_person("C-1"))
    with pytest.raises(PersonNotFoundError):
        read(desk, "C-2")


def test_a_lost_key_store_is_said_not_remade(desk: Desk, make_person: Person) -> None:
    desk.deliver(make_person("C-1"))
    for path in desk.settings.key_store.parent.glob("keys.sqlite*"):
        path.unlink()
    with pytest.raises(IdentityError, match="restore it from your backup"):
        desk.deliver(make_person("C-1"))
    assert not desk.settings.key_store.exists()


def interrupt_before_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next delivery ends when its keys are stored and its values are written but not committed."""
    original = VaultWriter.commit

    def interrupted(writer: VaultWriter) -> None:
        writer._flush()
        monkeypatch.setattr(VaultWriter, "commit", original)
        raise KeyboardInterrupt

    monkeypatch.setattr(VaultWriter, "commit", interrupted)


def test_an_interrupted_first_delivery_is_completed_by_the_next(
    desk: Desk, make_person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt_before_commit(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        desk.deliver(make_person("C-1"), make_person("C-2"))
    assert stored(desk) == {}
    left = wrapped_keys(desk)
    assert len(left) == 2
    assert desk.deliver(make_person("C-1"), make_person("C-2")).vault == VaultCounts(
        added=2, changed=0, unchanged=0
    )
    assert wrapped_keys(desk) == left
    assert read(desk, "C-2")["email"] == "ada.planted@example.org"


def test_an_interrupted_change_leaves_the_earlier_entry_readable(
    desk: Desk, make_person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if the change never comes again: the earlier values must not be locked behind a newer key."""
    desk.deliver(make_person("C-1"))
    interrupt_before_commit(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        desk.deliver(make_person("C-1", email="new@example.org"))
    assert read(desk, "C-1")["email"] == "ada.planted@example.org"
    assert desk.deliver(make_person("C-1")).vault.unchanged == 1
    assert read(desk, "C-1")["email"] == "ada.planted@example.org"
    desk.deliver(make_person("C-1", email="new@example.org"))
    assert read(desk, "C-1")["email"] == "new@example.org"


def test_many_flushes_are_one_commit(
    desk: Desk, make_person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vault_module, "_FLUSH_ROWS", 1)
    monkeypatch.setattr("orchestration.identity.split.BATCH_ROWS", 2048)
    desk.deliver(*(make_person(f"C-{number}") for number in range(5000)))
    changes = [make_person(f"C-{number}", email="new" if number % 2 else None) for number in range(5000)]
    before = snapshots(desk)
    assert desk.deliver(*changes).vault == VaultCounts(added=0, changed=5000, unchanged=0)
    assert snapshots(desk) == before + 1
    assert len(stored(desk)) == 5000
    assert read(desk, "C-4999")["email"] == "new"
    assert "email" not in read(desk, "C-4998")


def test_a_person_can_be_read_without_an_open_engine(desk: Desk, make_person: Person) -> None:
    desk.deliver(make_person("C-1"))
    assert read_person(desk.settings, desk.keys, token(desk.keys, "raw", "C-1"))["customer_id"] == "C-1"


def test_the_vault_is_committed_beside_the_callers_transaction(lake_desk: Desk, make_person: Person) -> None:
    """It comes before `raw`: rolling raw back does not take it away."""
    lake_desk.connection.execute("begin transaction")
    result = lake_desk.deliver(make_person("C-1"))
    lake_desk.connection.execute(f"insert into lake.raw.customers select * from {result.relation}")
    assert read(lake_desk, "C-1")["customer_id"] == "C-1"
    lake_desk.connection.execute("rollback")
    assert lake_desk.rows("select count(*) from lake.raw.customers") == [(0,)]
    assert lake_desk.deliver(make_person("C-1")).vault.unchanged == 1


def test_reserved_attribute_names_are_refused(desk: Desk, make_person: Person) -> None:
    old = desk.contract
    column = ContractColumn(name="fingerprint", type="string", description="x", category="x", identifier=True)
    desk.contract = Contract(**{**old.model_dump(), "columns": (*old.columns, column)})
    with pytest.raises(IdentityError, match="fingerprint"):
        desk.deliver(make_person("C-1"))


def test_counts_and_results_can_be_told(desk: Desk, make_person: Person) -> None:
    """What goes to a log or an event names tables and numbers, no person."""
    result = desk.deliver(make_person("C-PLANTED"))
    assert "PLANTED" not in repr(result) and "lanted" not in repr(result)
    assert json.dumps(vars(result.vault)) == '{"added": 1, "changed": 0, "unchanged": 0}'
