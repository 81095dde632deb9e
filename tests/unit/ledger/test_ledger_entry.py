"""What enters the ledger: each decision once, non-decisions too, and totals that come out."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small_tenant import DAY, Customer, Tenant, a_book

from orchestration.identity.keys import load_keys
from orchestration.identity.pseudonyms import token
from orchestration.lake import open_lake, transaction
from orchestration.ledger.erasure import erase_payloads
from orchestration.ledger.errors import LedgerError
from orchestration.ledger.store import DDL, prepare_tables
from orchestration.ledger.verification import verify, verify_head
from tests.effort import examples

ZONES = ("raw", "staging", "policy", "consent", "features", "risk", "audience", "candidate", "ops")


def rows(connection, columns, condition="true"):
    return connection.execute(f"select {columns} from lake.ops.decisions where {condition} order by leaf_index").fetchall()


def test_everybody_is_in_every_family_once_default_and_excluded_too(tenant):
    """The book reconciles: who has no segment is there with the cause."""
    with tenant.lake() as connection:
        entry = tenant.decide(connection)
        assert entry.decisions == 2 * len(tenant.book)
        found = dict(rows(connection, "family || ' ' || segment, 1"))
        assert {"risk high", "risk low", "engagement default", "engagement excluded", "engagement quiet"} <= set(found)
        child = rows(connection, "segment, gate_outcome, gate_reason", f"subject_token = '{tenant.token('C7')}' and family = 'engagement'")
        assert child == [("excluded", "BLOCK", "parental_consent_missing")]
        for family in entry.totals.values():
            assert family["new"] == sum(family["segments"].values()) == len(tenant.book)


def test_a_row_binds_subject_decision_versions_consent_and_inputs(tenant):
    with tenant.lake() as connection:
        tenant.decide(connection)
        (row,) = rows(
            connection,
            "segment, points, reason_codes, rule_set_version, consent_status, consent_event_id, legal_basis, policy_version, "
            "run_id, as_of, length(input_sha256), length(bundle_sha256), score",
            f"subject_token = '{tenant.token('C5')}' and family = 'risk'",
        )
        assert row[:4] == ("high", 70, "R1,R2", "rules-100")
        assert row[4:10] == ("not_applicable", None, "legal_obligation", "p1", "run1", DAY)
        assert row[10:12] == (64, 64)
        assert str(row[12]) == "42.500000"


def test_the_unchanged_are_vouched_for_by_one_row(tenant):
    """Nobody changed: one leaf more, whatever the size of the book. Another day alone decides nothing."""
    with tenant.lake() as connection:
        tenant.decide(connection)
        entry = tenant.decide(connection, DAY.replace(day=2))
        assert entry.decisions == 0
        assert {name: total["unchanged"] for name, total in entry.totals.items()} == {"risk": 12, "engagement": 12}


def test_a_changed_decision_names_the_one_before(tenant):
    with tenant.lake() as connection:
        tenant.decide(connection)
        tenant.book["C1"].volume = 500
        tenant.book["C0"].consent = "withdrawn"
        entry = tenant.decide(connection)
        changed = rows(connection, "family, previous_segment, segment, previous_leaf", "run_id = 'run2'")
        assert sorted(row[:3] for row in changed) == [("engagement", "quiet", "default"), ("risk", "low", "high")]
        for family, previous, _, leaf in changed:
            assert rows(connection, "family, segment", f"leaf_index = {leaf}") == [(family, previous)]
        assert entry.totals["risk"]["changed"] == 1


def test_new_rules_decide_anew_even_where_the_segment_stays(tenant):
    """The row says which rules decided; under new ones it would say what is not so."""
    with tenant.lake() as connection:
        tenant.decide(connection)
        tenant.limit = 101
        entry = tenant.decide(connection)
        assert entry.totals["risk"]["changed"] == 12
        assert entry.totals["engagement"]["unchanged"] == 12


def test_who_leaves_the_book_departs_once_and_may_come_back(tenant):
    with tenant.lake() as connection:
        tenant.decide(connection)
        gone = tenant.book.pop("C2")
        assert tenant.decide(connection).totals["risk"]["departed"] == 1
        assert tenant.decide(connection).decisions == 0
        tenant.book["C2"] = gone
        assert tenant.decide(connection).totals["risk"]["new"] == 1
        segments = [row[0] for row in rows(connection, "segment", f"subject_token = '{tenant.token('C2')}' and family = 'risk'")]
        assert segments == ["low", "departed", "low"]
        assert verify(connection, tenant.key(connection)).findings == []


def test_no_zone_pseudonym_and_no_unread_column_is_kept(tenant):
    """The ledger must not join what the zones keep apart, nor hold what decided nothing."""
    with tenant.lake() as connection:
        tenant.decide(connection)
        tokens = connection.execute("select unnest([subject_token, risk_subject_token, audience_subject_token]) from lake.raw.customers")
        zone_tokens = [row[0] for row in tokens.fetchall()]
        everything = json.dumps(
            [
                connection.execute(f"select * from lake.ops.{name}").fetchall()
                for name in ("decision_payloads", "decision_inputs", "ledger_statements", "ledger_bundles", "ledger_parts")
            ],
            default=str,
        )
        assert not [token for token in zone_tokens if f'"{token}"' in everything or f'"{token}' in everything]
        assert "unread" not in everything.replace("'unread'", "")
        assert not [name for name in tenant.book if f'"{name}"' in everything]


def test_a_place_in_the_ledger_says_nothing_about_whom_it_is_about(tmp_path):
    """Two ledgers over one book and one pair of keys stand in different orders."""
    orders = []
    one = Tenant(tmp_path / "one", a_book())
    with one.lake() as connection:
        one.decide(connection)
        orders.append([row[0] for row in rows(connection, "subject_token")])
    other = Tenant(tmp_path / "other", a_book())
    (tmp_path / "other" / "keys").mkdir(parents=True)
    (tmp_path / "other" / "keys" / "segline.keys").write_bytes((tmp_path / "one" / "keys" / "segline.keys").read_bytes())
    (tmp_path / "other" / "keys" / "segline.keys").chmod(0o600)
    with other.lake() as connection:
        other.decide(connection)
        orders.append([row[0] for row in rows(connection, "subject_token")])
    assert sorted(orders[0]) == sorted(orders[1])
    assert orders[0] != orders[1]


@pytest.mark.parametrize(
    "spoil",
    [
        "delete from lake.candidate.risk_segments where segment = 'high'",
        "insert into lake.candidate.risk_segments select * from lake.candidate.risk_segments limit 1",
        "delete from lake.candidate.audience_segments",
    ],
)
def test_a_run_whose_sums_do_not_come_out_enters_nothing(tenant, spoil):
    with tenant.lake() as connection:
        manifest = tenant.build(connection, DAY)
        prepare_tables(connection)
        connection.execute(spoil)
        with pytest.raises(LedgerError, match="does not hold each of them once"), transaction(connection):
            tenant.enter(connection, manifest, "r")
        assert connection.execute("select count(*) from lake.ops.ledger_leaves").fetchone() == (0,)


def test_nothing_is_built_on_a_damaged_ledger(tenant):
    with tenant.lake() as connection:
        tenant.decide(connection)
        connection.execute("delete from lake.ops.ledger_leaves where leaf_index >= 20")
        tenant.book["C1"].volume = 500
        with pytest.raises(LedgerError, match="segline verify"):
            tenant.decide(connection)


def test_another_signing_key_does_not_go_on(tenant):
    with tenant.lake() as connection:
        tenant.decide(connection)
        tenant.settings.ledger_key_file.write_text("A" * 43 + "\n")
        with pytest.raises(LedgerError, match="not signed with the given key"):
            tenant.decide(connection)


def test_an_entry_that_is_rolled_back_leaves_nothing(tenant):
    """Decisions and segments are one transaction: if the publication fails, neither is there."""
    with tenant.lake() as connection:
        tenant.decide(connection)
        before = connection.execute("select count(*) from lake.ops.ledger_leaves").fetchone()
        tenant.book["C1"].volume = 500
        manifest = tenant.build(connection, DAY)
        connection.execute("begin")
        tenant.enter(connection, manifest, "r")
        connection.execute("rollback")
        assert connection.execute("select count(*) from lake.ops.ledger_leaves").fetchone() == before
        assert verify(connection, tenant.key(connection)).findings == []
        assert tenant.decide(connection).decisions == 1


def test_an_empty_book_has_a_ledger_too(tmp_path):
    tenant = Tenant(tmp_path / "home", {})
    with tenant.lake() as connection:
        assert tenant.decide(connection).decisions == 0
        assert verify(connection, tenant.key(connection)).findings == []


def test_the_tables_are_made_once(tenant):
    with tenant.lake() as connection:
        tenant.decide(connection)
        names = {row[0] for row in connection.execute("select table_name from information_schema.tables where table_schema = 'ops'").fetchall()}
        assert {ddl.split("lake.ops.")[1].split()[0] for ddl in DDL} <= names
        assert {"decisions", "ledger_readings"} <= names


people = st.builds(
    Customer,
    volume=st.sampled_from([0.1, 99.999999, 100.0, 1e6 + 1 / 3]),
    purchases=st.integers(0, 4),
    consent=st.sampled_from([None, "granted", "withdrawn"]),
    age_band=st.sampled_from(["<13", "18+"]),
    is_pep=st.sampled_from([None, True, False]),
)
books = st.dictionaries(st.sampled_from(["anna", "bo", "\u00e7a", 'd"q', "e\\b", "f\tt"]), people, max_size=6)


@settings(max_examples=examples(4), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(books, min_size=2, max_size=3))
def test_whatever_happens_to_the_book_the_ledger_adds_up(tmp_path_factory, history):
    """People come, change, leave and return: totals reconcile with the book after every run, and all of it verifies."""
    tenant = Tenant(tmp_path_factory.mktemp("history") / "home")
    with open_lake(tenant.settings) as connection:
        for book in history:
            tenant.book = book
            entry = tenant.decide(connection)
            for total in entry.totals.values():
                assert total["new"] + total["changed"] + total["unchanged"] == sum(total["segments"].values()) == len(book)
            assert verify_head(connection, tenant.key(connection)).findings == []
        assert verify(connection, tenant.key(connection)).findings == []


def enter_some(tenant, connection, *customers: str):
    """Between runs: only these people's decisions are compared, though others' rows differ as well."""
    raw = ", ".join(f"'{token(load_keys(tenant.settings), 'raw', customer)}'" for customer in customers)
    manifest = tenant.build(connection, DAY)
    with transaction(connection):
        return tenant.enter(connection, manifest, "between", among=f"select unnest([{raw}])")


def test_a_few_decisions_are_entered_between_runs_and_the_totals_are_those_of_all(tenant):
    """An opt-out changes few rows of a large book, and no segment may change without its decision."""
    with tenant.lake() as connection:
        tenant.decide(connection)
        tenant.book["C0"].consent = tenant.book["C3"].consent = "withdrawn"
        entry = enter_some(tenant, connection, "C0")
        assert entry.decisions == 1
        engagement = entry.totals["engagement"]
        assert (engagement["changed"], engagement["unchanged"]) == (1, len(tenant.book) - 1)
        assert sum(engagement["segments"].values()) == len(tenant.book)
        assert verify(connection, tenant.key(connection)).findings == []
        later = tenant.decide(connection)
        assert later.totals["engagement"]["changed"] == 1  # C3, whose turn it is
        assert verify(connection, tenant.key(connection)).findings == []


def test_between_runs_nothing_is_entered_where_nothing_changed(tenant):
    with tenant.lake() as connection:
        tenant.decide(connection)
        leaves = connection.execute("select count(*) from lake.ops.ledger_leaves").fetchone()
        assert enter_some(tenant, connection, "C0") is None
        assert connection.execute("select count(*) from lake.ops.ledger_leaves").fetchone() == leaves


def test_between_runs_nobody_is_entered_whom_no_run_has_decided_on(tenant):
    """A delivery that was never published may hold them; the book of what is published does not."""
    with tenant.lake() as connection:
        tenant.decide(connection)
        tenant.book["C99"] = Customer(consent="granted", purchases=4)
        assert enter_some(tenant, connection, "C99") is None


def test_between_runs_after_an_erasure_the_totals_still_add_up(tenant):
    with tenant.lake() as connection:
        tenant.decide(connection)
        erase_payloads(connection, tenant.settings, [tenant.token("C4")], "subject_request")
        del tenant.book["C4"]
        tenant.book["C0"].consent = "withdrawn"
        assert enter_some(tenant, connection, "C0").decisions == 1
        assert verify(connection, tenant.key(connection)).findings == []
