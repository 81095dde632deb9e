"""A new signing key: who holds any key of the chain verifies all of the ledger, and a key that nobody vouched for counts for nothing."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from small_tenant import Tenant, a_book
from test_ledger_proofs import check, leaf_of, write
from test_ledger_tampering import attacked, outside, script  # noqa: F401 (a fixture)

from orchestration.ledger import key_rotation
from orchestration.ledger.bundles import canonical
from orchestration.ledger.checkpoint import VerifierKey, parse, public_bytes, sign
from orchestration.ledger.errors import LedgerError, SigningKeyError
from orchestration.ledger.export import consistency_proof, export_ledger, inclusion_proof
from orchestration.ledger.key_rotation import rotate_signing_key
from orchestration.ledger.signing_key import VARIABLE, next_key_file, read_key_file
from orchestration.ledger.verification import verify, verify_head

STATEMENTS, CHECKPOINTS = "lake.ops.ledger_statements", "lake.ops.ledger_checkpoints"


def decide(tenant, connection, volume):
    tenant.book["C1"].volume = volume
    tenant.decide(connection)


@pytest.fixture(scope="module")
def rotated(tmp_path_factory):
    """(tenant, connection, public keys in order, heads before each change): two changes, with runs before, between and after."""
    tenant = Tenant(tmp_path_factory.mktemp("rotated") / "home", a_book())
    with tenant.lake() as connection:
        tenant.decide(connection)
        keys, heads = [tenant.key(connection)], []
        for volume in (500, 600):
            heads.append(connection.execute(f"select note from {CHECKPOINTS} order by tree_size desc limit 1").fetchone()[0])
            keys.append(rotate_signing_key(connection, tenant.settings))
            decide(tenant, connection, volume)
        yield tenant, connection, keys, heads


def seen(script, tenant, connection, folder, key, **given):  # noqa: F811
    """What the outsider's verifier finds who holds that key."""
    tenant = type("Holder", (), {"key": lambda self, _: key})()
    return outside(script, tenant, connection, folder, **given)


def test_who_holds_any_key_of_the_chain_verifies_everything(rotated, script, tmp_path):  # noqa: F811
    tenant, connection, keys, heads = rotated
    assert len({key.key_id for key in keys}) == 3
    for number, key in enumerate(keys):
        report = verify(connection, key, [("held", note) for note in heads])
        assert report.findings == [] and report.checked["changes of the signing key"] == 2
        assert seen(script, tenant, connection, tmp_path / f"x{number}", key, anchors=heads) == []
    assert verify_head(connection, tenant.key(connection)).is_good and tenant.key(connection) == keys[-1]


def test_the_old_key_signs_nothing_any_more_and_its_bytes_are_gone(rotated):
    tenant, connection, _, _ = rotated
    assert not next_key_file(tenant.settings).exists()
    names = [path.name for path in tenant.settings.ledger_key_file.parent.glob("*ledger*")]
    assert names == ["ledger.key"]
    newest = connection.execute(f"select note from {CHECKPOINTS} order by tree_size desc limit 1").fetchone()[0]
    assert newest.count("\u2014 ") == 1
    both = connection.execute(f"select note from {CHECKPOINTS} where run_id like 'key:%'").fetchall()
    assert [note.count("\u2014 ") for (note,) in both] == [2, 2]


def test_single_proofs_are_checked_with_a_key_of_before(rotated, tmp_path):
    """The auditor who holds last year's key gets the changes with the proof."""
    tenant, connection, keys, heads = rotated
    proof, steps = inclusion_proof(connection, leaf_of(connection, tenant, "C1")), consistency_proof(connection, heads[0])
    for key in keys:
        holder = type("Holder", (), {"key": lambda self, _, key=key: key})()
        for one in (proof, steps):
            good = check(holder, connection, tmp_path, one)
            assert good.returncode == 0, good.stdout
            changes = one["key_changes"]
            texts = [change | {"text": change["text"].replace('"form":1', '"form":2')} for change in changes]
            needed = ([], changes[:1], changes[1:], changes[::-1]) if key == keys[0] else ()
            for spoilt in (*needed, texts):
                assert check(holder, connection, tmp_path, one | {"key_changes": spoilt}).returncode == 1, spoilt


def resign(connection, leaf, *signers):
    """SQL: the checkpoint of a change with other signatures."""
    head = parse(connection.execute(f"select note from {CHECKPOINTS} where tree_size = {leaf + 1}").fetchone()[0])
    return f"update {CHECKPOINTS} set note = '{sign(head, *signers)}' where tree_size = {leaf + 1}"


def test_a_gap_in_the_chain_is_refused_by_both_verifiers(rotated, script, tmp_path):  # noqa: F811
    """A thief with a key of his own, or with the new one alone, cannot go on with the ledger."""
    tenant, connection, keys, _ = rotated
    leaf = connection.execute(f"select min(leaf_index) from {STATEMENTS} where kind = 'key'").fetchone()[0]
    last = read_key_file(tenant.settings.ledger_key_file)
    thief = Ed25519PrivateKey.generate()
    for number, statement in enumerate((
        f"delete from {STATEMENTS} where leaf_index = {leaf}",
        resign(connection, leaf, last),
        resign(connection, leaf, thief),
        f"update {STATEMENTS} set statement = replace(statement, '{keys[1].text()}', "
        f"'{VerifierKey(keys[0].name, public_bytes(thief)).text()}') where leaf_index = {leaf}",
    )):
        for key in (keys[0], keys[2]):
            with attacked(connection, statement):
                assert verify(connection, key).findings
                assert seen(script, tenant, connection, tmp_path / f"{number}{key.key_id.hex()}", key)


def test_behind_a_broken_change_no_later_one_is_followed(rotated, script, tmp_path):  # noqa: F811
    """Otherwise who forges one change makes all that come after it his own."""
    tenant, connection, keys, _ = rotated
    leaf = connection.execute(f"select min(leaf_index) from {STATEMENTS} where kind = 'key'").fetchone()[0]
    with attacked(connection, resign(connection, leaf, Ed25519PrivateKey.generate())):
        inside = verify(connection, keys[0]).findings
        told = seen(script, tenant, connection, tmp_path / "x", keys[0])
        sizes = [row[0] for row in connection.execute(f"select tree_size from {CHECKPOINTS} where tree_size > {leaf}").fetchall()]
        assert len(sizes) == 4
        for found in (inside, told):
            assert sum("signature" in text or "did not sign" in text for text in found) >= len(sizes)
            assert any("does not count" in text for text in found)


def test_a_key_that_never_signed_is_refused(rotated, script, tmp_path):  # noqa: F811
    tenant, connection, keys, _ = rotated
    stranger = VerifierKey(keys[0].name, public_bytes(Ed25519PrivateKey.generate()))
    assert any("never signed" in text for text in verify(connection, stranger).findings)
    assert any("none of those" in text for text in seen(script, tenant, connection, tmp_path / "x", stranger))


class Killed(BaseException):
    """The process ends here."""


STEPS = [(step, moment) for step in ("make_key_file", "_enter", "replace_guarded") for moment in ("before", "after")]
GATE = ("_enter", "after")


@pytest.mark.parametrize(("step", "moment"), [one if one == GATE else pytest.param(*one, marks=pytest.mark.nightly) for one in STEPS])
def test_a_rotation_that_was_killed_goes_on_and_nothing_is_signed_meanwhile(tenant, monkeypatch, step, moment):
    """Two keys of one ledger at once would be two ledgers."""
    real = getattr(key_rotation, step)

    def killed(*given):
        if moment == "after":
            real(*given)
        raise Killed

    with tenant.lake() as connection:
        tenant.decide(connection)
        old = tenant.key(connection)
        monkeypatch.setattr(key_rotation, step, killed)
        with pytest.raises(Killed):
            rotate_signing_key(connection, tenant.settings)
        monkeypatch.undo()
        if (step, moment) not in {("make_key_file", "before"), ("replace_guarded", "after")}:
            with pytest.raises(SigningKeyError, match="keys rotate --ledger"):
                decide(tenant, connection, 400)
        if (step, moment) != ("replace_guarded", "after"):
            rotate_signing_key(connection, tenant.settings)
        new = tenant.key(connection)
        assert new != old and connection.execute(f"select count(*) from {STATEMENTS} where kind = 'key'").fetchone() == (1,)
        decide(tenant, connection, 500)
        assert verify(connection, old).findings == verify(connection, new).findings == []


def test_a_rotation_that_fails_leaves_the_key_as_it_was(tenant, monkeypatch):
    with tenant.lake() as connection:
        with pytest.raises(LedgerError, match="no ledger yet"):
            rotate_signing_key(connection, tenant.settings)
        tenant.decide(connection)
        key = tenant.key(connection)
        monkeypatch.setenv(VARIABLE, "A" * 43)
        with pytest.raises(SigningKeyError, match="unset the variable"):
            rotate_signing_key(connection, tenant.settings)
        monkeypatch.delenv(VARIABLE)
        connection.execute("update lake.ops.ledger_leaves set leaf_hash = unhex(sha256('x')) where leaf_index = 3")
        with pytest.raises(LedgerError, match="segline verify"):
            rotate_signing_key(connection, tenant.settings)
        assert tenant.key(connection) == key and not next_key_file(tenant.settings).exists()


def test_the_old_key_restored_from_a_backup_does_not_go_on(tenant):
    """The checkpoint of the change bears its signature too, so this has to be asked apart."""
    with tenant.lake() as connection:
        tenant.decide(connection)
        backup = tenant.settings.ledger_key_file.read_text()
        rotate_signing_key(connection, tenant.settings)
        tenant.settings.ledger_key_file.write_text(backup)
        with pytest.raises(SigningKeyError, match="was rotated"):
            decide(tenant, connection, 500)


def test_the_statement_reads_as_the_documentation_says(rotated, tmp_path):
    tenant, connection, keys, _ = rotated
    text = connection.execute(f"select statement from {STATEMENTS} where kind = 'key' order by leaf_index limit 1").fetchone()[0]
    said = json.loads(text)
    assert set(said) == {"form", "kind", "leaf_index", "new_key", "old_key", "rotated_at"} and text == canonical(said)
    assert (said["old_key"], said["new_key"]) == (keys[0].text(), keys[1].text())
    export_ledger(connection, tmp_path / "x")
    key = write(tmp_path / "key", keys[0].text())
    assert tenant.outside(tmp_path / "x", key).returncode == 0
