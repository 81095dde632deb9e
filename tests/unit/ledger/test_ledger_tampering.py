"""Nothing in the ledger is changed, taken out, moved or added unseen, and what was is named: by both verifiers.

One ledger of three runs serves all of this; each attack is made in a transaction that is rolled back. The outsider's verifier
gets an export of the attacked ledger.
"""

import importlib.util
import os
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_tenant import SCRIPT, Tenant, a_book

from orchestration.ledger import matching
from orchestration.ledger.checkpoint import Checkpoint, sign
from orchestration.ledger.errors import LedgerError
from orchestration.ledger.export import export_ledger
from orchestration.ledger.leaves import DECISION_COLUMNS, decision_text, leaf_bytes
from orchestration.ledger.merkle import root_of_hashes
from orchestration.ledger.reading_log import log_reading
from orchestration.ledger.signing_key import load_signing_key
from orchestration.ledger.store import stored_tree
from orchestration.ledger.verification import verify, verify_head
from tests.effort import examples

PEOPLE = 150
PAYLOADS, LEAVES, STATEMENTS = (f"lake.ops.{name}" for name in ("decision_payloads", "ledger_leaves", "ledger_statements"))


@pytest.fixture(scope="module")
def script():
    """The outsider's verifier as a module, so that a hundred exports need no hundred interpreters."""
    spec = importlib.util.spec_from_file_location("segline_verify", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """(tenant, connection, heads after each run)"""
    tenant = Tenant(tmp_path_factory.mktemp("kept") / "home", a_book(PEOPLE))
    with tenant.lake() as connection:
        tenant.decide(connection)
        log_reading(tenant.settings, "verify", leaf_count=301)
        log_reading(tenant.settings, "replay", [5])
        tenant.book["C1"].volume = 500
        del tenant.book["C2"]
        tenant.decide(connection)
        tenant.book["C0"].consent = None
        tenant.decide(connection)
        heads = [row[0] for row in connection.execute("select note from lake.ops.ledger_checkpoints order by tree_size").fetchall()]
        yield tenant, connection, heads


@pytest.fixture(scope="module")
def caught():
    """The list of mutations with what caught each; `-s` shows it."""
    rows: list[tuple[str, str, str]] = []
    yield rows
    print("\n| what was done to the ledger | `segline verify` | the outsider's verifier |\n|---|---|---|")
    for row in rows:
        print(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |")


@contextmanager
def attacked(connection, *statements):
    """The ledger with these statements done to it, until the block ends."""
    connection.execute("begin")
    try:
        for statement in statements:
            connection.execute(statement)
        yield
    finally:
        connection.execute("rollback")


def outside(script, tenant, connection, folder, anchors=(), earlier=None):
    """What the outsider's verifier finds in an export of the ledger as it stands."""
    tenant_key = tenant.key(connection)
    key = (tenant_key.name, tenant_key.key_id, tenant_key.public)
    export_ledger(connection, folder)
    paths = []
    for number, note in enumerate(anchors):
        path = folder.parent / f"{folder.name}-anchor-{number}"
        path.write_text(note)
        paths.append(str(path))
    return script.verify_export(folder, key, paths, earlier).shown


def one(connection, query):
    return connection.execute(query).fetchone()[0]


def test_an_untouched_ledger_is_good(kept, script, tmp_path):
    tenant, connection, heads = kept
    report = verify(connection, tenant.key(connection), [("head", note) for note in heads])
    assert report.findings == []
    assert (report.checked["runs"], report.checked["readings"]) == (3, 2)
    assert report.checked["leaves"] == report.checked["leaves under an anchor"] > 256
    assert outside(script, tenant, connection, tmp_path / "x", heads) == []


ATTACKS = {
    "a segment": (f"update {PAYLOADS} set segment = 'prohibited' where leaf_index = 17", "leaf 17"),
    "a nonce's bit": (f"update {PAYLOADS} set nonce = unhex('00') || nonce[2:] where leaf_index = 18", "leaf 18"),
    "whose it is": (f"update {PAYLOADS} set subject_token = 'led_AAAAAAAAAAAAAAAAAAAAAA' where leaf_index = 19", "leaf 19"),
    "a statement": (f"update {STATEMENTS} set statement = replace(statement, '\"book\":150', '\"book\":151')", "leaf 300"),
    "a row taken out": (f"delete from {PAYLOADS} where leaf_index = 20", "leaf 20: the row is missing"),
    "a leaf taken out": (f"delete from {LEAVES} where leaf_index = 21", "leaf 21 is missing"),
    "the newest leaf taken out": (f"delete from {LEAVES} where leaf_index = (select max(leaf_index) from {LEAVES})", "missing"),
    "a row twice": (f"insert into {PAYLOADS} select * from {PAYLOADS} where leaf_index = 22", "leaf 22"),
    "a leaf twice": (f"insert into {LEAVES} select * from {LEAVES} where leaf_index = 23", "leaf 23"),
    "two leaves swapped": (
        f"update {LEAVES} set leaf_index = 24 + 25 - leaf_index where leaf_index in (24, 25)",
        "leaf 24",
    ),
    "two rows swapped": (
        f"update {PAYLOADS} set leaf_index = 26 + 27 - leaf_index where leaf_index in (26, 27)",
        "leaf 27",
    ),
    "a leaf's hash": (f"update {LEAVES} set leaf_hash = unhex(sha256('x')) where leaf_index = 28", "leaf 28"),
    "a leaf's hash cut": (f"update {LEAVES} set leaf_hash = leaf_hash[:20] where leaf_index = 29", "leaf 29"),
    "a leaf appended": (
        f"insert into {LEAVES} select max(leaf_index) + 1, unhex(sha256('x')) from {LEAVES}",
        "without a signed checkpoint",
    ),
    "a checkpoint's root": (
        "update lake.ops.ledger_checkpoints set note = replace(note, chr(10) || tree_size || chr(10), chr(10) || '1' || chr(10))",
        "wrong",
    ),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_on_rows_is_found_and_named_by_both_verifiers(kept, script, caught, tmp_path, attack):
    statement, named = ATTACKS[attack]
    tenant, connection, _ = kept
    with attacked(connection, statement):
        inside = verify(connection, tenant.key(connection)).findings
        assert [text for text in inside if named in text], inside
        found = outside(script, tenant, connection, tmp_path / "x")
        # A row that stands for no leaf is not in an export, and one that is there twice shows as two lines.
        assert found, "the outsider saw nothing"
        if named.startswith("leaf"):
            assert [text for text in found if named.split(":")[0] in text], found
        caught.append((attack, next(text for text in inside if named in text), found[0]))


INSIDE_ONLY = {
    "a row that stands for no leaf": (
        f"insert into {PAYLOADS} select * replace (9999 as leaf_index) from {PAYLOADS} where leaf_index = 30",
        "row 9999 was added",
    ),
    "an input": ("update lake.ops.decision_inputs set input = replace(input, '18+', '<13') where leaf_index = 31", "leaf 31: its input was changed"),
    "an input taken out": ("delete from lake.ops.decision_inputs where leaf_index = 32", "leaf 32: its input is missing"),
    "an input too many": ("insert into lake.ops.decision_inputs values (8888, '{}')", "leaf 8888: an input without a decision"),
    "a rule's text": ("update lake.ops.ledger_parts set content = replace(content, '100', '101')", "part "),
    "a rule's text taken out": ("delete from lake.ops.ledger_parts where length(content) > 900", "missing"),
    "a bundle taken out": ("delete from lake.ops.ledger_bundles", "bundle "),
    "a reading unsaid": ("delete from lake.ops.ledger_reading_lines where position = 0", "log of readings"),
    "a reading's reader": ("update lake.ops.ledger_reading_lines set line = replace(line, 'verify', 'nothing')", "log of readings"),
    "a stored root": ("update lake.ops.ledger_nodes set node_hash = unhex(sha256('x'))", "leaves 0 to 255"),
    "a checkpoint taken out": (
        "delete from lake.ops.ledger_checkpoints where tree_size = (select min(tree_size) from lake.ops.ledger_checkpoints)",
        "run1",
    ),
}


@pytest.mark.parametrize("attack", INSIDE_ONLY)
def test_what_lies_beside_the_rows_is_checked_too(kept, caught, attack):
    statement, named = INSIDE_ONLY[attack]
    tenant, connection, _ = kept
    with attacked(connection, statement):
        found = verify(connection, tenant.key(connection)).findings
        assert [text for text in found if named in text], found
        caught.append((attack, next(text for text in found if named in text), "not asked"))


@settings(max_examples=examples(12), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(leaf=st.integers(0, 299), column=st.sampled_from([*DECISION_COLUMNS, "nonce"]), bit=st.integers(0, 6))
def test_any_single_change_of_any_row_is_found_by_both(kept, script, tmp_path_factory, leaf, column, bit):
    """The verifiers' refusal of a one-bit change, in whatever column of whatever row."""
    tenant, connection, _ = kept
    kind = DECISION_COLUMNS.get(column, "blob")
    if kind == "varchar":
        flipped = f"coalesce(chr(xor(ascii({column}), {1 << bit})) || {column}[2:], 'x')"
    elif kind == "timestamp":
        flipped = f"{column} + interval '{1 << bit} microseconds'"
    elif kind == "blob":
        first = f"xor(('0x' || hex({column})[1:2])::integer, {1 << bit})"
        flipped = f"unhex(printf('%02X', {first}) || hex({column})[3:])"
    else:
        flipped = f"coalesce({column} + {1 << bit} * 0.000001, 0)" if "decimal" in kind else f"coalesce(xor({column}, {1 << bit}), 0)"
    with attacked(connection, f"update {PAYLOADS} set {column} = {flipped} where leaf_index = {leaf}"):
        inside = verify(connection, tenant.key(connection)).findings
        assert [text for text in inside if f"leaf {leaf}" in text], inside
        found = outside(script, tenant, connection, tmp_path_factory.mktemp("changed") / "x")
        assert [text for text in found if f"leaf {leaf}" in text], found


def rewritten(connection, leaf: int) -> list[str]:
    """SQL of who rewrites a row and its leaf together, so that the two fit each other."""
    text = decision_text("decided")
    return [
        f"update {PAYLOADS} set points = 1, reason_codes = 'R9' where leaf_index = {leaf}",
        f"update {LEAVES} set leaf_hash = (select unhex(sha256({leaf_bytes('decided.nonce', text)})) from {PAYLOADS} as decided "
        f"where leaf_index = {leaf}) where leaf_index = {leaf}",
    ]


def test_a_row_rewritten_with_its_leaf_does_not_fit_the_signed_root(kept, script, tmp_path):
    """The row itself cannot be told from the others then: its block and its run are named, the row by an earlier export."""
    tenant, connection, _ = kept
    export_ledger(connection, tmp_path / "earlier")
    with attacked(connection, *rewritten(connection, 40)):
        found = verify(connection, tenant.key(connection)).findings
        assert [text for text in found if "leaves 0 to 255" in text]
        assert [text for text in found if "leaves 0 to 300 (run run1)" in text]
        told = outside(script, tenant, connection, tmp_path / "x", earlier=tmp_path / "earlier")
        assert "leaf 40: it is not the leaf of the earlier export" in told
        assert verify_head(connection, tenant.key(connection)).is_good  # that is what the weekly verification is for


def resigned(tenant, connection) -> list[str]:
    """SQL of who has the key and signs the ledger as it stands anew: every checkpoint, and the stored roots."""
    key, name = load_signing_key(tenant.settings), tenant.key(connection).name
    hashes = b"".join(row[0] for row in connection.execute(f"select leaf_hash from {LEAVES} order by leaf_index").fetchall())
    statements = ["delete from lake.ops.ledger_nodes"]
    statements.append(f"insert into lake.ops.ledger_nodes values (8, 0, unhex('{root_of_hashes(hashes[: 256 * 32]).hex()}'))")
    for (size,) in connection.execute("select tree_size from lake.ops.ledger_checkpoints").fetchall():
        note = sign(Checkpoint(name, size, root_of_hashes(hashes[: size * 32])), key)
        statements.append(f"update lake.ops.ledger_checkpoints set note = '{note}' where tree_size = {size}")
    return statements


def test_a_rewrite_with_the_key_is_seen_only_against_heads_held_elsewhere(kept, script, tmp_path):
    """What the documentation says plainly: without anchors this goes unseen."""
    tenant, connection, heads = kept
    with attacked(connection, *rewritten(connection, 40)):
        for statement in resigned(tenant, connection):
            connection.execute(statement)
        key = tenant.key(connection)
        assert verify(connection, key).findings == []
        assert outside(script, tenant, connection, tmp_path / "x") == []
        found = verify(connection, key, [("mail of January", heads[0])]).findings
        assert found == ["anchor mail of January: the first 301 leaves are not those that were anchored"]
        assert any("written anew" in text for text in outside(script, tenant, connection, tmp_path / "y", heads[:1]))


def test_a_ledger_cut_short_is_seen_only_against_heads_held_elsewhere(kept, script, tmp_path):
    """A restored backup looks whole: everything after it is simply not there."""
    tenant, connection, heads = kept
    size = one(connection, "select tree_size from lake.ops.ledger_checkpoints order by 1 limit 1 offset 1")
    cut = [f"delete from {table} where leaf_index >= {size}" for table in (PAYLOADS, LEAVES, STATEMENTS, "lake.ops.decision_inputs")]
    cut += [f"delete from lake.ops.ledger_checkpoints where tree_size > {size}"]
    with attacked(connection, *cut):
        key = tenant.key(connection)
        assert verify(connection, key).findings == []
        assert outside(script, tenant, connection, tmp_path / "x", heads[:2]) == []
        assert any("cut short" in text for text in verify(connection, key, [("mail", heads[2])]).findings)
        assert any("cut short" in text for text in outside(script, tenant, connection, tmp_path / "y", heads[2:]))


def test_totals_that_do_not_come_out_are_found_even_if_signed(kept, script, tmp_path):
    """An operator who signs a run's statement with wrong numbers is found out by the rows."""
    tenant, connection, _ = kept
    end = one(connection, f"select max(leaf_index) from {LEAVES}")
    spoiled = [
        f"update {STATEMENTS} set statement = replace(statement, '\"unchanged\":148', '\"unchanged\":140') where leaf_index = {end}",
        f"update {LEAVES} set leaf_hash = (select unhex(sha256({leaf_bytes('nonce', 'statement')})) from {STATEMENTS} where leaf_index = {end}) "
        f"where leaf_index = {end}",
    ]
    with attacked(connection, *spoiled):
        for statement in resigned(tenant, connection):
            connection.execute(statement)
        named = "140 unchanged stated, 148 found"
        assert any(named in text for text in verify(connection, tenant.key(connection)).findings)
        found = outside(script, tenant, connection, tmp_path / "x")
        assert any("140 unchanged stated, 148 found" in text for text in found), found


def test_the_stored_tree_proves_every_leaf(kept):
    """Proofs come from stored hashes of three levels; each must lead to the signed root."""
    from orchestration.ledger.checkpoint import parse
    from orchestration.ledger.merkle import verify_consistency, verify_inclusion

    _, connection, heads = kept
    head = parse(heads[-1])
    hashes = [row[0] for row in connection.execute(f"select leaf_hash from {LEAVES} order by leaf_index").fetchall()]
    for leaf in (0, 1, 255, 256, 257, len(hashes) - 1):
        assert verify_inclusion(hashes[leaf], leaf, head.size, stored_tree(connection, leaf).inclusion(leaf), head.root)
    for note in heads:
        old = parse(note)
        assert verify_consistency(old.size, head.size, old.root, head.root, stored_tree(connection).consistency(old.size))


def test_the_script_runs_alone_with_nothing_of_the_project(kept, tmp_path):
    """As the auditor runs it: a file, an isolated interpreter, exit codes."""
    tenant, connection, heads = kept
    export_ledger(connection, tmp_path / "x")
    key = tmp_path / "key"
    key.write_text(tenant.key(connection).text() + "\n")
    anchor = tmp_path / "anchor"
    anchor.write_text(heads[0])
    assert "orchestration" not in SCRIPT.read_text().replace("orchestration/", "")
    good = tenant.outside(tmp_path / "x", key, "--anchor", str(anchor))
    assert good.returncode == 0 and "GOOD" in good.stdout, good.stdout
    leaves = tmp_path / "x" / "leaves.tsv"
    content = bytearray(leaves.read_bytes())
    content[len(content) // 2] ^= 1
    leaves.write_bytes(content)
    bad = tenant.outside(tmp_path / "x", key)
    assert bad.returncode == 1 and "FOUND: l" in bad.stdout, bad.stdout
    other = tmp_path / "other"
    other.write_text("PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n")
    assert tenant.outside(tmp_path / "x", other).returncode == 1
    assert os.stat(tmp_path / "x").st_mode & 0o077 == 0


def test_a_ledger_without_any_checkpoint_is_not_taken_for_one_that_never_began(kept):
    """Its public key is asked for first, so this must say what is wrong."""
    tenant, connection, _ = kept
    with attacked(connection, "delete from lake.ops.ledger_checkpoints"), pytest.raises(LedgerError, match="no checkpoint"):
        tenant.key(connection)


@pytest.mark.parametrize("at_once", [64, 250])
def test_a_long_ledger_is_checked_in_parts_that_leave_nobody_out(kept, monkeypatch, at_once):
    """A row that stands in no part would be changed unseen: at a part's ends, far beyond the last, below the first, nowhere."""
    tenant, connection, _ = kept
    monkeypatch.setattr(matching, "HASHED_AT_ONCE", at_once)
    key = tenant.key(connection)
    assert verify(connection, key).findings == []
    for leaf in (at_once - 1, at_once):
        with attacked(connection, f"update {PAYLOADS} set points = 3 where leaf_index = {leaf}"):
            assert any(f"leaf {leaf}: the row was changed" in text for text in verify(connection, key).findings)
        with attacked(connection, f"update lake.ops.decision_inputs set input = '{{}}' where leaf_index = {leaf}"):
            assert any(f"leaf {leaf}: its input was changed" in text for text in verify(connection, key).findings)
    for place in ("1000000", "-5", "null"):
        strange = f"insert into {PAYLOADS} by name (select * replace ({place} as leaf_index) from {PAYLOADS} where leaf_index = 40)"
        with attacked(connection, strange):
            named = f"row {place.replace('null', 'None')} was added"
            assert any(named in text for text in verify(connection, key).findings)
