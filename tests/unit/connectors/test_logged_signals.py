"""A log of consent strings as a feed: each string decoded strictly, what is not understood seen and never a grant."""

import os
import time
from datetime import UTC, datetime, timedelta

import duckdb
import pytest

from orchestration.connectors.errors import ConnectorError
from orchestration.connectors.registry import connector
from orchestration.connectors.vocabulary import load_vocabulary
from orchestration.ingestion.errors import SourceError
from tests.unit.connectors.test_examples import EVENTS, EXAMPLES, customers, landed
from tests.unit.consent.signals.encoder import tc_string

HEADER = "customer_id,seen_at,tc_string,gpp_string,usprivacy,sec_gpc"
GRANTS, REFUSES = tc_string(consents=(1, 2, 3, 4, 5, 6, 7, 8, 9, 10)), tc_string(consents=(1, 5, 6))
OPTED_OUT_BESIDE_A_DRAFT = "DBACTCw~1YYN~BAAA"   # docs/signals.md: uspv1 opted out of sale, and a section that is a draft only


@pytest.fixture
def log(desk, tmp_path, monkeypatch):
    """The folder of logs; `write` makes a file, `pull` pulls as of a minute that no file is younger than."""
    folder = tmp_path / "logs"
    folder.mkdir()
    monkeypatch.setenv("SEGLINE_SIGNALS_FOLDER", str(folder))
    (desk.sources / "signals.yml").write_text((EXAMPLES / "signals" / "signals.yml").read_text())

    class Log:
        rows = staticmethod(lambda: desk.rows("signals", "subject, purpose, action, effective_at, expires_at, method"))
        dead = staticmethod(lambda: [(letter["reason"], letter["field"]) for letter in desk.dead("signals")])

        @staticmethod
        def write(*lines: str, name: str = "signals-1.csv", end: str = "\n"):
            (folder / name).write_text("\n".join((HEADER, *lines)) + end)
            return folder / name

        @staticmethod
        def pull(after: timedelta = timedelta(minutes=2)):
            return desk.pull("signals", now=datetime.now(UTC).replace(tzinfo=None) + after)

    return Log()


def test_a_tc_string_becomes_one_event_per_purpose_it_speaks_of(log):
    """With the day that the string carries, not that of the visit, and the thirteen months until it has to be asked again."""
    log.write(f"C1,2026-10-31T10:00:00Z,{GRANTS},,,")
    (count,) = log.pull().counts
    assert (count.records, count.received, count.rows, count.dead_letters) == (1, 3, 3, 0)
    day, end = datetime(2026, 10, 1), datetime(2027, 11, 1)
    assert log.rows() == [
        ("C1", purpose, "granted", day, end, "banner") for purpose in ("ads_sale_share", "analytics", "personalisation")
    ]


def test_a_string_cut_off_anywhere_grants_nothing_and_is_seen(log):
    """The one Python library for TC strings reads truncated ones as grants: here each is a dead letter."""
    log.write(*(f"C{end},2026-10-31T10:00:00Z,{GRANTS[:end]},,," for end in range(1, len(GRANTS))))
    report = log.pull()
    assert [row for row in log.rows() if row[2] == "granted"] == []
    assert report.reasons[("strings", "not_understood")] == len(GRANTS) - 1
    assert report.unexpected == len(GRANTS) - 1


def test_an_opt_out_counts_although_its_neighbour_is_not_understood(log):
    log.write(f"C1,2026-10-31T10:00:00Z,,{OPTED_OUT_BESIDE_A_DRAFT},,")
    log.pull()
    assert [row[1:3] for row in log.rows()] == [("ads_sale_share", "denied")]
    assert log.dead() == [("not_understood", "gpp_string")]


def test_each_signal_of_a_row_counts_and_gpc_0_is_no_signal(log):
    log.write("C1,2026-10-31T10:00:00Z,,,1YYN,1", "C2,2026-10-31T10:00:00Z,,,,0", "C2,2026-10-31T11:00:00Z,,,1---,")
    log.pull()
    seen = datetime(2026, 10, 31, 10)
    assert log.rows() == [
        ("C1", "ads_sale_share", "denied", seen, None, "banner"), ("C1", "ads_sale_share", "gpc_on", seen, None, "gpc_header"),
    ]  # fmt: skip
    assert log.dead() == [("no_expression", "sec_gpc"), ("no_expression", "usprivacy")]


@pytest.mark.parametrize(
    ("line", "letter"),
    [
        (f",2026-10-31T10:00:00Z,{GRANTS},,,", ("anonymous_subject", "customer_id")),
        (f"C1,,{GRANTS},,,", ("missing_field", "seen_at")),
        (f"C1,yesterday,{GRANTS},,,", ("malformed_timestamp", "seen_at")),
        ("C1,2026-10-31T10:00:00Z,,,,", ("no_expression", "")),
        (f"C1,2026-09-01T10:00:00Z,{GRANTS},,,", ("not_understood", "tc_string")),   # older than the string in it
        (f"C1,2026-10-31T10:00:00Z,{GRANTS}", ("malformed_row", "malformed_row")),
    ],
)
def test_a_row_that_cannot_be_understood_is_one_dead_letter(log, line, letter):
    log.write(line)
    (count,) = log.pull().counts
    assert (log.rows(), log.dead()) == ([], [letter])
    assert count.received == count.dead_letters == 1


def test_the_last_row_of_a_file_that_is_still_written_waits_for_its_end(log):
    """Cut off behind a dot, the string would be another well-formed one."""
    log.write(f"C1,2026-10-31T10:00:00Z,{REFUSES},,,", f"C2,2026-10-31T10:00:00Z,{GRANTS}", end="")
    log.pull()
    assert {row[0] for row in log.rows()} == {"C1"}
    log.write(f"C1,2026-10-31T10:00:00Z,{REFUSES},,,", f"C2,2026-10-31T10:00:00Z,{GRANTS},,,")
    log.pull()
    assert {row[0] for row in log.rows()} == {"C1", "C2"}


def test_pulling_again_adds_nothing_and_a_new_file_only_what_is_in_it(log):
    log.write(f"C1,2026-10-31T10:00:00Z,{GRANTS},,,")
    log.pull()
    (again,) = log.pull(timedelta(minutes=3)).counts
    assert (again.rows, again.duplicates) == (0, 3)
    log.write(f"C2,2026-10-31T11:00:00Z,{GRANTS},,,", name="signals-2.csv")
    (third,) = log.pull(timedelta(minutes=4)).counts
    assert (third.rows, third.duplicates) == (3, 3)


def test_a_file_that_was_copied_with_its_old_date_is_read(log):
    """`cp -p` and rsync keep the time of the last edit: by it a late copy would lie behind the cursor for good."""
    log.write(f"C1,2026-10-31T10:00:00Z,{GRANTS},,,")
    log.pull()
    late = log.write(f"C2,2026-10-31T10:00:00Z,{GRANTS},,,", name="signals-2.csv")
    os.utime(late, (time.time() - 9e6, time.time() - 9e6))
    (count,) = log.pull(timedelta(minutes=3)).counts
    assert count.rows == 3


def test_a_parquet_log_with_instants_of_another_zone_is_read_in_utc(desk, log, tmp_path):
    path = tmp_path / "logs" / "signals-1.parquet"
    with duckdb.connect() as connection:
        connection.execute("set timezone = 'America/New_York'")
        connection.execute(
            "copy (select 'C1' as customer_id, timestamptz '2026-10-31 06:00:00-04' as seen_at, '1YYN' as usprivacy) "
            f"to '{path}' (format parquet)"
        )
    (desk.sources / "signals.yml").write_text(
        "{version: 1, connector: signals, files: '*.parquet', read: {format: parquet}, subject: customer_id, "
        "received_at: seen_at, signals: {usprivacy: any}}"
    )
    log.pull()
    assert [row[3] for row in log.rows()] == [datetime(2026, 10, 31, 10)]


def test_a_log_without_a_declared_column_ends_the_pull(log, tmp_path):
    (tmp_path / "logs" / "signals-1.csv").write_text("customer_id,seen_at,tc_string\nC1,2026-10-31T10:00:00Z,x\n")
    with pytest.raises(SourceError, match="gpp_string"):
        log.pull()
    assert log.rows() == []


def test_a_log_has_no_state_to_compare_with(desk, log):
    vocabulary = load_vocabulary(desk.sources / "signals.yml", "signals")
    with pytest.raises(ConnectorError, match="no consent state"):
        list(connector("signals", vocabulary, desk.patience, desk.settings).full_state(datetime(2026, 11, 1)))


def test_no_string_is_written_where_dead_letters_are(desk, log):
    """A TC string tells a person's day and choices; a short GPP string of capitals looks like a vendor's constant."""
    bad = "DBAAAAAA"
    log.write(f"C1,2026-10-31T10:00:00Z,{GRANTS[:-9]},{bad},,")
    log.pull()
    written = "".join(path.read_text() for path in desk.folder("signals").glob("dead_letters-*"))
    assert "not_understood" in written
    assert bad not in written
    assert GRANTS[:20] not in written


def test_a_logged_string_lands_as_every_other_consent(desk, log):
    customers(desk)
    log.write(f"C1,2026-10-31T10:00:00Z,{GRANTS},,,", f"C2,2026-10-31T10:00:00Z,{REFUSES},,,", "nobody,2026-10-31T10:00:00Z,,,1YYN,")
    log.pull()
    events, quarantined = landed(desk, "signals", EVENTS, "select reason, count(*) from lake.ops.quarantine group by 1")
    assert events == [
        ("denied", "ads_sale_share"), ("denied", "analytics"), ("granted", "ads_sale_share"), ("granted", "analytics"),
        ("granted", "personalisation"), ("granted", "personalisation"),
    ]  # fmt: skip
    assert quarantined == [("unknown_customer", 1)]

