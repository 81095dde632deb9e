"""Proofs of single rows, erasure, replay, and who read the ledger."""

import json
from datetime import datetime

import pytest
from small_tenant import DAY, Customer

from orchestration.identity.keys import load_keys
from orchestration.ledger.checkpoint import parse
from orchestration.ledger.erasure import erase_payloads
from orchestration.ledger.errors import LedgerError, ReplayError
from orchestration.ledger.export import consistency_proof, export_ledger, inclusion_proof
from orchestration.ledger.proving import Prover
from orchestration.ledger.reading_log import log_reading, read_pending, reads_ledger
from orchestration.ledger.replay import decisions_standing, replay, replay_candidates, sample_decisions
from orchestration.ledger.store import Tree
from orchestration.ledger.verification import verify
from orchestration.querying import run_query
from orchestration.rights.databases import LakeStore
from orchestration.rights.requests import Subject
from orchestration.rights.stores import Batch

LATER = datetime(2026, 1, 5)


def write(path, content):
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def leaf_of(connection, tenant, customer, family="risk"):
    query = "select leaf_index from lake.ops.decisions where subject_token = ? and family = ? order by 1 desc"
    return connection.execute(query, [tenant.token(customer), family]).fetchone()[0]


def check(tenant, connection, tmp_path, proof):
    import subprocess
    import sys

    from small_tenant import SCRIPT

    key = write(tmp_path / "key", tenant.key(connection).text())
    command = [sys.executable, "-I", str(SCRIPT), "--proof", str(write(tmp_path / "proof", proof)), "--public-key", str(key)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_an_outsider_checks_one_decision_and_one_continuation(tenant, tmp_path):
    with tenant.lake() as connection:
        tenant.decide(connection)
        received = connection.execute("select note from lake.ops.ledger_checkpoints").fetchone()[0]
        tenant.book["C1"].volume = 500
        tenant.decide(connection)
        proof = inclusion_proof(connection, leaf_of(connection, tenant, "C1"))
        good = check(tenant, connection, tmp_path, proof)
        assert good.returncode == 0 and '"segment":"high"' in good.stdout, good.stdout
        for change in (
            {"text": proof["text"].replace("high", "lows")},
            {"leaf_index": proof["leaf_index"] - 1},
            {"inclusion": proof["inclusion"][1:]},
            {"checkpoint": received},
        ):
            assert check(tenant, connection, tmp_path, proof | change).returncode == 1, change
        steps = consistency_proof(connection, received)
        assert check(tenant, connection, tmp_path, steps).returncode == 0
        assert check(tenant, connection, tmp_path, steps | {"consistency": steps["consistency"][:-1]}).returncode == 1
        with pytest.raises(LedgerError):
            inclusion_proof(connection, 9999)


def test_a_prover_gives_the_same_proofs_and_goes_on_when_the_ledger_grows(tenant):
    """It keeps hashes in memory; what it hands out is of the newest checkpoint all the same, after an erasure too."""
    with tenant.lake() as connection:
        prover = Prover(connection)
        with pytest.raises(LedgerError, match="no ledger yet"):
            prover.inclusion(0)
        for volume in (500, 600):
            tenant.decide(connection)
            size = parse(prover.inclusion(0)["checkpoint"]).size
            for leaf in (0, 7, size - 1):
                proof = inclusion_proof(connection, leaf)
                assert prover.inclusion(leaf) == {name: proof[name] for name in ("leaf_index", "leaf_hash", "inclusion", "checkpoint")}
            with pytest.raises(LedgerError, match="no leaf"):
                prover.inclusion(size)
            tenant.book["C1"].volume = volume
        erase_payloads(connection, tenant.settings, [tenant.token("C4")], "subject_request")
        assert parse(prover.inclusion(3)["checkpoint"]).size == size + 1
        # Three hundred more people: stored roots over 256 leaves come into it.
        tenant.book |= {f"D{number}": Customer() for number in range(300)}
        tenant.decide(connection)
        assert prover.inclusion(300)["inclusion"] == inclusion_proof(connection, 300)["inclusion"]


def test_a_prover_hands_out_nothing_that_does_not_lead_to_the_signed_root(tenant):
    """A leaf that somebody changed is no part of the signed ledger, in memory or not."""
    with tenant.lake() as connection:
        tenant.decide(connection)
        prover = Prover(connection)
        assert prover.inclusion(5)
        connection.execute("update lake.ops.ledger_leaves set leaf_hash = unhex(sha256('x')) where leaf_index = 5")
        with pytest.raises(LedgerError, match="segline verify"):
            Prover(connection).inclusion(5)
        prover._held[0][0:1] = b"\0"
        prover._tree = Tree(prover._tree.size, prover._read)
        with pytest.raises(LedgerError, match="segline verify"):
            prover.inclusion(5)


def test_erasure_leaves_every_other_proof_standing_and_nothing_to_guess(tenant, tmp_path):
    """Payload, nonce and inputs go; the leaf's hash stays and says nothing; the rest verifies, then and after later runs."""
    with tenant.lake() as connection:
        tenant.decide(connection)
        tenant.book["C1"].volume = 500
        tenant.decide(connection)
        mine, other = leaf_of(connection, tenant, "C1"), leaf_of(connection, tenant, "C4")
        token = tenant.token("C1")
        assert erase_payloads(connection, tenant.settings, [token], "subject_request") == 3
        del tenant.book["C1"]
        tenant.decide(connection)
        report = verify(connection, tenant.key(connection))
        assert report.findings == []
        assert report.checked["erased"] == 3
        for table in ("decision_payloads", "decision_inputs", "ledger_statements"):
            assert token not in str(connection.execute(f"select * from lake.ops.{table}").fetchall())
        erased = inclusion_proof(connection, mine)
        assert erased["text"] is None and erased["nonce"] is None
        for proof in (erased, inclusion_proof(connection, other)):
            assert check(tenant, connection, tmp_path, proof).returncode == 0
        export_ledger(connection, tmp_path / "x")
        key = write(tmp_path / "key", tenant.key(connection).text())
        outside = tenant.outside(tmp_path / "x", key)
        assert outside.returncode == 0, outside.stdout
        assert token not in (tmp_path / "x" / "leaves.tsv").read_text()
        assert erase_payloads(connection, tenant.settings, [token], "subject_request") == 0


def test_a_deletion_reaches_the_ledger_by_the_ledgers_own_erasure(tenant):
    """Rows deleted behind its back would be findings, and what the decisions were made from would stay."""
    with tenant.lake() as connection:
        tenant.decide(connection)
    person = Subject.of(load_keys(tenant.settings), "C1")
    assert person.tokens["ledger"] == tenant.token("C1")
    LakeStore(tenant.settings).forget(Batch(full=frozenset(person.tokens.values())))
    with tenant.lake() as connection:
        report = verify(connection, tenant.key(connection))
        assert (report.findings, report.checked["erased"]) == ([], 2)
        for table in ("decision_payloads", "decision_inputs"):
            rows = connection.execute(f"select count(*) from lake.ops.{table}").fetchone()[0]
            leaves = "select leaf_index from lake.ops.decision_payloads"
            kept = connection.execute(f"select count(*) from lake.ops.{table} where leaf_index in ({leaves})").fetchone()[0]
            assert rows == kept > 0


def test_only_an_erasure_on_record_explains_a_missing_row(tenant):
    with tenant.lake() as connection:
        tenant.decide(connection)
        kept = connection.execute("select * from lake.ops.decision_payloads where leaf_index = 3").fetchall()[0]
        token = connection.execute("select subject_token from lake.ops.decision_payloads where leaf_index = 3").fetchone()[0]
        connection.execute("delete from lake.ops.decision_payloads where leaf_index = 5")
        assert verify(connection, tenant.key(connection)).findings[0] == "leaf 5: the row is missing, and no erasure names it"
        erase_payloads(connection, tenant.settings, [token], "subject_request")
        connection.execute(f"insert into lake.ops.decision_payloads values ({', '.join('?' * len(kept))})", list(kept))
        assert "leaf 3: an erasure names it, but the row is there" in verify(connection, tenant.key(connection)).findings


def test_erasure_also_of_those_who_left_and_came_back(tenant):
    """Old runs' totals are counted from what is left and what the erasure says; every kind of row must come out."""
    with tenant.lake() as connection:
        tenant.decide(connection)
        gone = tenant.book.pop("C2")
        tenant.decide(connection)
        erase_payloads(connection, tenant.settings, [tenant.token("C2"), tenant.token("C3")], "retention")
        tenant.book["C2"] = gone
        tenant.decide(connection)
        assert verify(connection, tenant.key(connection)).findings == []


def test_a_decision_is_replayed_after_three_later_runs_a_rule_change_and_a_late_event(tenant):
    """Two clocks: the late event makes a new decision for the same instant; the old one stays, and both are rebuilt."""
    with tenant.lake() as connection:
        tenant.decide(connection, DAY)
        first = connection.execute("select max(decided_at) from lake.ops.decision_payloads").fetchone()[0]
        tenant.decide(connection, LATER)  # nothing new
        tenant.limit = 20  # a rule change
        tenant.decide(connection, LATER)
        tenant.book["C1"].volume = 777.7  # an event of before DAY that came late
        tenant.decide(connection, DAY)
        token = tenant.token("C1")

        run, before = decisions_standing(connection, token, DAY, first)
        assert run == "run1"
        risk = next(one for one in replay(connection, before) if one.decision.family == "risk")
        assert risk.decision.decided["segment"] == "low" and risk.decision.decided["rule_set_version"] == "rules-100"
        assert risk.differences == {} and risk.rebuilt["points"] == 0

        run, now = decisions_standing(connection, token, DAY)
        assert run == "run4"
        risk = next(one for one in replay(connection, now) if one.decision.family == "risk")
        assert risk.decision.decided["segment"] == "high" and risk.differences == {}

        run, between = decisions_standing(connection, token, LATER)
        assert run == "run3"
        risk = next(one for one in replay(connection, between) if one.decision.family == "risk")
        assert (risk.decision.decided["segment"], risk.decision.decided["rule_set_version"]) == ("high", "rules-20")
        assert risk.differences == {}
        assert verify(connection, tenant.key(connection)).findings == []


def test_every_decision_of_the_book_is_rebuilt_non_decisions_too(tenant):
    with tenant.lake() as connection:
        tenant.book["odd"] = Customer(volume=1 / 3 + 1e-9, is_pep=None)
        tenant.decide(connection)
        del tenant.book["C4"]
        tenant.decide(connection)
        rebuilt = []
        for name in (*tenant.book, "C4"):
            _, decisions = decisions_standing(connection, tenant.token(name), DAY)
            rebuilt += replay(connection, decisions)
        assert len(rebuilt) == 2 * (len(tenant.book) + 1)
        assert {one.decision.decided["segment"] for one in rebuilt} >= {"excluded", "default", "departed", "high", "low", "quiet"}
        assert [one for one in rebuilt if one.differences] == []


def test_replay_sees_what_was_not_decided_so(tenant):
    """The check that every run makes must be able to fail: a record that its inputs do not explain is found."""
    from orchestration.identity.keys import load_keys
    from orchestration.ledger.bundles import load_bundle
    from orchestration.ledger.inputs import map_people

    with tenant.lake() as connection:
        tenant.decide(connection)
        sample = sample_decisions(connection)
        assert sample and not [one for one in replay(connection, sample) if one.differences]
        connection.execute("update lake.ops.decision_payloads set segment = 'low', points = 3 where segment = 'high'")
        wrong = [one.differences for one in replay(connection, sample_decisions(connection)) if one.differences]
        assert wrong and set(wrong[0]) == {"segment", "points"}
        bundle = load_bundle(connection, sample[0].bundle_sha256)
        map_people(connection, load_keys(tenant.settings))
        assert replay_candidates(connection, bundle) == []
        connection.execute("update lake.candidate.risk_segments set segment = 'low' where segment = 'high'")
        assert replay_candidates(connection, bundle)[0] == "risk: segment"


def test_replay_refuses_changed_or_missing_inputs_and_rules(tenant):
    with tenant.lake() as connection:
        tenant.decide(connection)
        _, decisions = decisions_standing(connection, tenant.token("C1"), DAY)
        connection.execute("update lake.ops.ledger_parts set content = content || ' '")
        with pytest.raises(LedgerError, match="was changed"):
            replay(connection, decisions)
        connection.execute("update lake.ops.ledger_parts set content = content[:-2]")
        connection.execute("update lake.ops.decision_inputs set input = replace(input, '18+', '16-17')")
        with pytest.raises(ReplayError, match="not what was decided from"):
            replay(connection, decisions)
        connection.execute("delete from lake.ops.decision_inputs")
        with pytest.raises(ReplayError, match="is missing"):
            replay(connection, decisions)


def test_nothing_is_replayed_of_before_the_first_run(tenant):
    with tenant.lake() as connection:
        tenant.decide(connection)
        with pytest.raises(ReplayError, match="no run had decided"):
            decisions_standing(connection, tenant.token("C1"), datetime(2020, 1, 1))


def test_readers_are_logged_and_the_log_is_bound_into_the_ledger(tenant):
    """The audit query volume: who read the ledger by SQL or by command, and nothing of whom."""
    with tenant.lake() as connection:
        tenant.decide(connection)
    run_query(tenant.settings, "select count(*) from ops.decisions")
    run_query(tenant.settings, "select count(*) from policy.risk_tiers")
    log_reading(tenant.settings, "replay", [3, 4])
    assert tenant.settings.ledger_readings.stat().st_mode & 0o077 == 0
    with tenant.lake() as connection:
        assert len(read_pending(connection, tenant.settings).lines) == 2
        tenant.decide(connection)
        found = connection.execute("select action, leaves, leaf_count, run_id, reader <> '' from lake.ops.ledger_readings order by 1").fetchall()
        assert found == [("query", [], 0, "run2", True), ("replay", [3, 4], 2, "run2", True)]
        assert tenant.settings.ledger_readings.read_bytes() == b""
        assert verify(connection, tenant.key(connection)).findings == []


def test_lines_that_a_killed_run_could_not_forget_are_not_taken_in_twice(tenant):
    with tenant.lake() as connection:
        tenant.decide(connection)
        log_reading(tenant.settings, "verify")
        lines = tenant.settings.ledger_readings.read_bytes()
        tenant.decide(connection)
        tenant.settings.ledger_readings.write_bytes(lines)
        tenant.decide(connection)
        assert connection.execute("select count(*) from lake.ops.ledger_readings").fetchone() == (1,)
        assert verify(connection, tenant.key(connection)).findings == []


def test_a_reading_that_cannot_be_logged_does_not_take_place(tenant):
    with tenant.lake() as connection:
        tenant.decide(connection)
    tenant.settings.ledger_readings.parent.mkdir(exist_ok=True)
    tenant.settings.ledger_readings.mkdir()
    with pytest.raises(LedgerError, match="does not take place"):
        run_query(tenant.settings, "select * from ops.decisions")
    assert run_query(tenant.settings, "select 1 as one") == (["one"], [(1,)])


@pytest.mark.parametrize(
    ("sql", "reads"),
    [
        ("select * from ops.decisions", True),
        ('select * from "OPS"."Decision_Payloads"', True),
        ("from query('select 1 from ops.de' || 'cisions')", True),
        ("from query_table('ops.dec' || 'isions')", True),
        ("select segment from published.risk_segments", False),
    ],
)
def test_no_way_of_writing_a_query_escapes_the_log(sql, reads):
    assert reads_ledger(sql) is reads


def test_who_was_re_keyed_keeps_the_name_by_which_the_ledger_knows_him(tenant):
    """A new pseudonym is not a new customer: nothing is entered, the history stays one, and an erasure takes all of it."""
    from orchestration.identity.keys import key_text
    from orchestration.identity.pseudonyms import token
    from orchestration.ledger.names import DDL, RELATION, names_in_ledger

    with tenant.lake() as connection:
        first = tenant.decide(connection)
    before = {name: tenant.token(name) for name in tenant.book}
    old = load_keys(tenant.settings)
    content = json.loads(key_text(old)) | {"version": 2, "pseudonym": "A" * 42 + "E", "fingerprint": "B" * 42 + "E", "kek_version": 2}
    content["retired"] = [{"version": 1, "pseudonym": json.loads(key_text(old))["pseudonym"]}]
    tenant.settings.key_file.write_text(json.dumps(content))
    new = load_keys(tenant.settings)
    # As the re-keying leaves it: today's raw pseudonym beside the ledger's of before.
    with tenant.lake() as connection:
        connection.execute(DDL)
        rows = [(token(new, "raw", name), led) for name, led in before.items()]
        connection.executemany(f"insert into {RELATION} values (?, ?)", rows)
        assert names_in_ledger(connection, new, [row[0] for row in rows]) == list(before.values())
        assert names_in_ledger(connection, new, ["stranger"]) != names_in_ledger(connection, new, ["another"])
        entry = tenant.decide(connection)
        assert first.decisions and entry.decisions == 0
        tenant.book["C1"].volume = 9_000
        assert tenant.decide(connection).decisions == 1
        newest = connection.execute("select subject_token, previous_leaf from lake.ops.decision_payloads order by leaf_index desc limit 1").fetchone()
        assert newest[0] == before["C1"] and newest[1] is not None
        assert erase_payloads(connection, tenant.settings, Subject.of(new, "C1").tokens.values(), "erasure") == 3
        assert connection.execute(f"select count(*) from {RELATION}").fetchone() == (len(before) - 1,)
