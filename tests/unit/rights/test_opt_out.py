"""Opt-outs carried out: by the published run's own SQL, for those who opted out and nobody else, by basis and not by name.

The SQL here is small, and not the platform's: what is tested is that whatever was compiled is what decides. That the
platform's own gate gives the same rows as a full run is shown end to end.
"""

import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from orchestration.identity.keys import load_keys
from orchestration.identity.pseudonyms import token
from orchestration.lake import ensure_zones, open_lake
from orchestration.publication import publish
from orchestration.rights import opt_out
from orchestration.rights.export_files import exports_folder
from orchestration.rights.intake import record_opt_out
from orchestration.rights.opt_out import add_received_opt_outs, apply_opt_outs, apply_within_publication, processing_time
from orchestration.rights.published_sql import Model, RegatingError, record_models
from orchestration.run_lock import run_lock
from orchestration.settings import Settings

AS_OF = datetime(2026, 1, 1)
NAMES = ("audience_segments", "excluded_subjects", "risk_segments")
AS_OF_SQL = "cast('2026-01-01 00:00:00' as timestamp)"
STATES = f"""
select subject_token, max(request_id) as request_id from raw_requests
where request_type = 'opt_out' and received_at <= {AS_OF_SQL} group by 1
"""
GATE = """
select customers.subject_token, customers.risk_subject_token, customers.audience_subject_token, purposes.purpose,
    purposes.purpose_role, 'v1' as policy_version,
    case when not purposes.reads_signals then 'not_applicable' when states.request_id is null then 'granted'
        else 'withdrawn' end as consent_status,
    case when purposes.reads_signals then coalesce(states.request_id, 'grant') end as consent_event_id,
    case when not purposes.reads_signals then 'ALLOW' when states.request_id is null then 'ALLOW'
        when customers.age_band = '<13' then 'BLOCK' when customers.country = 'lenient' then 'ALLOW'
        else 'DEFAULT' end as gate_outcome,
    case when not purposes.reads_signals then 'legal_obligation' when states.request_id is null then 'consent_granted'
        when customers.country = 'lenient' then 'opt_out_regime' else 'privacy_request_opt_out' end as gate_reason
from customers cross join purposes left join states on states.subject_token = customers.subject_token
"""
DEFAULTS = f"""
select members.* from members
union all
select TOKEN as subject_token, 'default' as segment, gate.consent_event_id, gate.consent_status, gate.gate_outcome,
    gate.gate_reason, {AS_OF_SQL} as as_of
from gate where purpose_role = 'ROLE' and gate_outcome not in ('ALLOW', 'BLOCK')
"""
MEMBERS = f"""
select TOKEN as subject_token, 'named' as segment, consent_event_id, consent_status, gate_outcome, gate_reason,
    {AS_OF_SQL} as as_of
from lake.consent.gate where purpose_role = 'ROLE' and gate_outcome = 'ALLOW'
"""
COUNTS = "select 'audience' as zone, count(*) as subjects from gate where purpose_role = 'audience' and gate_outcome = 'BLOCK'"


def compiled(sql: str, **relations: str) -> str:
    for word, relation in relations.items():
        sql = sql.replace(f"from {word}", f"from {relation} as {word}").replace(f"join {word}", f"join {relation} as {word}")
    return sql


SOURCES = {"raw_requests": "lake.raw.privacy_requests", "customers": "lake.raw.customers", "purposes": "lake.policy.purposes"}
HERE = {**SOURCES, "states": "lake.consent.states", "gate": "lake.consent.gate"}


def candidate(role: str) -> str:
    sql = DEFAULTS.replace("TOKEN", f"{role}_subject_token").replace("ROLE", role)
    return compiled(sql, members=f"lake.{role}.members", gate=HERE["gate"])


MODELS = [
    Model("raw", "customers", "source", HERE["customers"], "source", "", (), None),
    Model("raw", "privacy_requests", "source", HERE["raw_requests"], "source", "", (), None),
    Model("policy", "purposes", "seed", HERE["purposes"], "seed", "", (), None),
    Model("consent", "states", "model", HERE["states"], "table", compiled(STATES, **SOURCES), (HERE["raw_requests"],), None),
    Model(
        "consent", "gate", "model", HERE["gate"], "table", compiled(GATE, **HERE),
        (HERE["customers"], HERE["purposes"], HERE["states"]), None,
    ),
    *(
        Model(
            "candidate", f"{role}_segments", "model", f"lake.candidate.{role}_segments", "table", candidate(role),
            (f"lake.{role}.members", HERE["gate"]), "subject_token",
        )
        for role in ("audience", "risk")
    ),
    Model(
        "candidate", "excluded_subjects", "model", "lake.candidate.excluded_subjects", "table",
        compiled(COUNTS, gate=HERE["gate"]), (HERE["gate"],), None,
    ),
]  # fmt: skip


def as_of_sql(sql: str, as_of: datetime) -> str:
    return sql.replace(f"{AS_OF}", f"{as_of}")


def models(as_of: datetime) -> list[Model]:
    """As compiled for a run of that instant."""
    return [Model(**{**vars(model), "sql": as_of_sql(model.sql, as_of)}) for model in MODELS]


def build(connection, as_of: datetime = AS_OF) -> None:
    """What dbt does in a run: the SQL above, in order."""
    for model in models(as_of):
        if model.kind == "model":
            if model.zone == "candidate" and model.token_column:
                role = model.name.split("_")[0]
                members = MEMBERS.replace("TOKEN", f"{role}_subject_token").replace("ROLE", role)
                connection.execute(f"create or replace table lake.{role}.members as {as_of_sql(members, as_of)}")
            connection.execute(f"create or replace table {model.relation} as {model.sql}")


def land(connection, settings: Settings, people: dict[str, tuple[str, str]]) -> None:
    keys = load_keys(settings)
    connection.execute("create or replace table lake.raw.customers (subject_token varchar, risk_subject_token varchar, "
                       "audience_subject_token varchar, age_band varchar, country varchar)")  # fmt: skip
    for name, about in people.items():
        tokens = [token(keys, zone, name) for zone in ("raw", "risk", "audience")]
        connection.execute("insert into lake.raw.customers values (?, ?, ?, ?, ?)", [*tokens, *about])
    connection.execute("create or replace table lake.raw.privacy_requests (request_id varchar, subject_token varchar, "
                       "request_type varchar, received_at timestamp, status varchar, feed varchar, load_id varchar)")  # fmt: skip


PEOPLE = {"ann": ("18+", "DE"), "bob": ("18+", "DE"), "kim": ("<13", "US"), "lea": ("18+", "lenient")}


def publish_all(connection, settings: Settings, run_id: str, as_of: datetime = AS_OF) -> None:
    publish(
        connection, NAMES, run_id, "fintech", as_of,
        lambda: apply_within_publication(connection, settings, models(as_of), run_id, as_of),
    )  # fmt: skip


@pytest.fixture(scope="module", params=["obliged", "not_obliged"])
def risk_reads_signals(request) -> bool:
    """An obliged entity's rating rests on law; another tenant's risk segments may rest on consent."""
    return request.param == "not_obliged"


@pytest.fixture(scope="module")
def published_home(tmp_path_factory, risk_reads_signals) -> Path:
    settings = Settings(home=tmp_path_factory.mktemp("published") / "home")
    with open_lake(settings) as connection:
        ensure_zones(connection)
        connection.execute(
            "create table lake.policy.purposes as select * from (values ('marketing', 'audience', true), "
            f"('rating', 'risk', {str(risk_reads_signals).lower()})) as t (purpose, purpose_role, reads_signals)"
        )
        connection.execute("create table lake.ops.deliveries as select 'run1' as run_id, timestamp '2026-01-01' as landed_at")
        land(connection, settings, PEOPLE)
        build(connection)
        publish_all(connection, settings, "run1")
    return settings.root


@pytest.fixture
def settings(tmp_path, published_home) -> Settings:
    shutil.copytree(published_home, tmp_path / "home")
    return Settings(home=tmp_path / "home", lock_wait_seconds=60)


def rows(settings: Settings, relation: str) -> dict[str, tuple]:
    """segment, evidence and as_of by customer name."""
    keys = load_keys(settings)
    zone = "audience" if relation.startswith("audience") else "risk"
    names = {token(keys, zone, name): name for name in PEOPLE}
    with open_lake(settings, read_only=True) as connection:
        found = connection.execute(
            "select subject_token, segment, gate_outcome, gate_reason, consent_status, consent_event_id "
            f"from lake.published.{relation}"
        ).fetchall()
    return {names[row[0]]: row[1:] for row in found}


def full_run(settings: Settings, as_of: datetime) -> set[str]:
    """A later run with the same delivery; returns the segments that it built, before they were published."""
    with open_lake(settings) as connection:
        land(connection, settings, PEOPLE)
        add_received_opt_outs(connection, settings, "run2")
        build(connection, as_of)
        built = connection.execute("select distinct segment from lake.candidate.audience_segments").fetchall()
        publish_all(connection, settings, "run2", as_of)
    return {segment for (segment,) in built}


def soon() -> datetime:
    """An instant that every request so far lies before."""
    return datetime.now(UTC).replace(tzinfo=None, microsecond=0) + timedelta(seconds=5)


def test_an_opt_out_moves_that_person_and_nobody_else(settings, risk_reads_signals):
    before = {name: rows(settings, name) for name in ("audience_segments", "risk_segments")}
    receipt = record_opt_out(settings, "ann")
    result = apply_opt_outs(settings)
    after = {name: rows(settings, name) for name in before}
    default = ("default", "DEFAULT", "privacy_request_opt_out", "withdrawn", receipt.request_id)
    assert after["audience_segments"].pop("ann") == default
    if risk_reads_signals:
        assert after["risk_segments"].pop("ann") == default
    else:
        assert after["risk_segments"].pop("ann") == before["risk_segments"]["ann"], "the basis reads no signal"
    for name in before:
        del before[name]["ann"]
    assert after == before
    assert result.applied == [receipt.request_id] and not result.pending


def test_the_row_is_the_one_that_a_full_run_gives(settings):
    """Otherwise an auditor sees a decision change that nobody took."""
    for name in PEOPLE:
        record_opt_out(settings, name)
    apply_opt_outs(settings)
    direct = {name: rows(settings, name) for name in ("audience_segments", "risk_segments")}
    full_run(settings, soon())
    assert {name: rows(settings, name) for name in direct} == direct
    with open_lake(settings, read_only=True) as connection:
        assert connection.execute("select * from lake.published.excluded_subjects").fetchall() == [("audience", 1)]


def test_whom_the_policy_blocks_disappears_and_is_counted(settings):
    record_opt_out(settings, "kim")
    apply_opt_outs(settings)
    assert "kim" not in rows(settings, "audience_segments")
    with open_lake(settings, read_only=True) as connection:
        assert connection.execute("select subjects from lake.published.excluded_subjects").fetchall() == [(1,)]


def test_where_the_policy_still_allows_the_segment_stays_with_fresh_evidence(settings):
    receipt = record_opt_out(settings, "lea")
    apply_opt_outs(settings)
    assert rows(settings, "audience_segments")["lea"] == ("named", "ALLOW", "opt_out_regime", "withdrawn", receipt.request_id)


def test_applying_twice_changes_nothing(settings):
    record_opt_out(settings, "ann")
    apply_opt_outs(settings)
    before = rows(settings, "audience_segments")
    assert apply_opt_outs(settings).applied == []
    assert rows(settings, "audience_segments") == before


def test_an_unknown_customer_waits_and_is_served_when_delivered(settings):
    receipt = record_opt_out(settings, "zoe")
    assert apply_opt_outs(settings).pending == [receipt.request_id]
    PEOPLE["zoe"] = ("18+", "DE")
    try:
        full_run(settings, soon())
        assert rows(settings, "audience_segments")["zoe"][:3] == ("default", "DEFAULT", "privacy_request_opt_out")
        assert apply_opt_outs(settings).pending == []
    finally:
        del PEOPLE["zoe"]


def test_a_run_that_rates_as_of_an_earlier_instant_does_not_undo_an_opt_out(settings):
    """Its gate does not know the request yet: the publication applies it again, in its own transaction."""
    record_opt_out(settings, "ann")
    apply_opt_outs(settings)
    assert full_run(settings, AS_OF) == {"named"}
    assert rows(settings, "audience_segments")["ann"][0] == "default"


def test_publishing_again_what_was_built_before_an_opt_out_does_not_undo_it(settings):
    """An operator who materialises the publication alone copies the candidates, which a run built without the request."""
    record_opt_out(settings, "ann")
    apply_opt_outs(settings)
    with open_lake(settings) as connection:
        built = connection.execute("select segment, count(*) from lake.candidate.audience_segments group by 1").fetchall()
    assert sorted(built) == [("default", 1), ("named", len(PEOPLE) - 1)]


def test_a_candidate_that_is_a_view_follows_what_it_reads(settings):
    """Clusters are one: nothing can be deleted from a view, and an opt-out that tried was in force nowhere."""
    model = next(model for model in MODELS if model.name == "audience_segments")
    sql = model.sql.replace("members.*", "members.* rename (audience_subject_token as subject_token)")
    with open_lake(settings) as connection:
        connection.execute("alter table lake.audience.members rename column subject_token to audience_subject_token")
        connection.execute(f"drop table {model.relation}")
        connection.execute(f"create view {model.relation} as {sql}")
        connection.execute(
            f"update lake.ops.published_models set materialized = 'view', sql = ? where name = '{model.name}'", [sql]
        )
    record_opt_out(settings, "ann")
    apply_opt_outs(settings)
    assert rows(settings, "audience_segments")["ann"][0] == "default"
    with open_lake(settings) as connection:
        built = connection.execute("select segment, count(*) from lake.candidate.audience_segments group by 1").fetchall()
    assert sorted(built) == [("default", 1), ("named", len(PEOPLE) - 1)]


def test_an_opt_out_that_arrives_during_a_run_is_in_force_at_once_and_after_it(settings):
    with run_lock(settings):
        record_opt_out(settings, "ann")
        result = apply_opt_outs(settings)
        assert result.beside_a_run and result.moved["published.audience_segments"] == 1
        with open_lake(settings) as connection:
            publish_all(connection, settings, "run1")
    assert rows(settings, "audience_segments")["ann"][0] == "default"


def stranger_writes(settings: Settings, times: int, monkeypatch) -> list[int]:
    """Somebody who takes no turns commits in the middle of the first `times` tries."""
    log, tries = opt_out._log, []

    def meets_a_stranger(*arguments) -> None:
        log(*arguments)
        tries.append(1)
        if len(tries) <= times:
            with open_lake(settings, holds_turn=False) as stranger:
                stranger.execute("create or replace table lake.ops.strange as select 1 as one")

    monkeypatch.setattr(opt_out, "_log", meets_a_stranger)
    return tries


def test_a_writer_who_takes_no_turns_delays_an_opt_out_and_does_not_stop_it(settings, monkeypatch):
    """The commit fails, and only it: the request is on record, so it is carried out from the start."""
    tries = stranger_writes(settings, 1, monkeypatch)
    record_opt_out(settings, "ann", "test")
    assert len(apply_opt_outs(settings).applied) == 1
    assert len(tries) == 2
    assert rows(settings, "audience_segments")["ann"][0] == "default"
    assert not apply_opt_outs(settings).applied, "carried out once, and logged once"


def test_a_store_that_never_lets_an_opt_out_commit_is_an_error_that_says_so(settings, monkeypatch):
    stranger_writes(settings, 99, monkeypatch)
    monkeypatch.setattr(opt_out._carry_out.retry, "sleep", lambda seconds: None)
    record_opt_out(settings, "ann", "test")
    with pytest.raises(duckdb.TransactionException, match="locked"):
        apply_opt_outs(settings)
    assert rows(settings, "audience_segments")["ann"][0] == "named"


def test_the_gate_on_record_says_what_was_published(settings):
    receipt = record_opt_out(settings, "ann")
    apply_opt_outs(settings)
    with open_lake(settings, read_only=True) as connection:
        found = connection.execute(
            "select gate_reason, consent_event_id from lake.consent.gate where purpose = 'marketing' and subject_token = ?",
            [token(load_keys(settings), "raw", "ann")],
        ).fetchall()
        assert found == [("privacy_request_opt_out", receipt.request_id)]
        assert connection.execute("select count(*) from lake.consent.gate").fetchone() == (8,)


def test_without_a_publication_everything_waits(tmp_path):
    empty = Settings(home=tmp_path / "home")
    assert apply_opt_outs(empty).pending == []
    receipt = record_opt_out(empty, "ann")
    assert apply_opt_outs(empty).pending == [receipt.request_id]


def test_a_publication_without_its_sql_is_an_error_and_not_a_guess(settings):
    with open_lake(settings) as connection:
        connection.execute("drop table lake.ops.published_models")
    record_opt_out(settings, "ann")
    with pytest.raises(RegatingError, match="segline run"):
        apply_opt_outs(settings)


def test_a_gate_that_reads_no_person_is_not_trusted(settings):
    with open_lake(settings) as connection:
        record_models(connection, [Model(**{**vars(model), "depends_on": ()}) for model in MODELS])
    record_opt_out(settings, "ann")
    with pytest.raises(RegatingError, match="not to be trusted"):
        apply_opt_outs(settings)
    assert rows(settings, "audience_segments")["ann"][0] == "named", "half an application must not stand"


@pytest.mark.parametrize("suffix", ["csv", "parquet", "json"])
def test_an_export_loses_the_person_and_keeps_the_rest(settings, suffix):
    folder = exports_folder(settings)
    folder.mkdir()
    options = {"csv": "format csv, header true", "parquet": "format parquet", "json": "format json, array true"}[suffix]
    with open_lake(settings, read_only=True) as connection:
        connection.execute(f"copy lake.published.audience_segments to '{folder}/a.{suffix}' ({options})")
        connection.execute(f"copy lake.published.audience_segments to '{folder}/untouched.{suffix}' ({options})")
        connection.execute(f"copy (select 1 as x) to '{folder}/other.csv' (format csv, header true)")
    record_opt_out(settings, "ann")
    assert apply_opt_outs(settings).export_files == 2
    gone = token(load_keys(settings), "audience", "ann")
    with open_lake(settings, read_only=True) as connection:
        left = {row[0] for row in connection.execute(f"select subject_token from '{folder}/a.{suffix}'").fetchall()}
    assert gone not in left and len(left) == len(PEOPLE) - 1
    assert (folder / "other.csv").exists()


def test_an_export_that_cannot_be_read_is_withdrawn_if_it_names_the_person(settings):
    folder = exports_folder(settings)
    folder.mkdir()
    gone, stays = (token(load_keys(settings), "audience", name) for name in ("ann", "bob"))
    (folder / "list.txt").write_text(f"{gone}\n{stays}\n")
    (folder / "harmless.txt").write_text(f"{stays}\n")
    record_opt_out(settings, "ann")
    apply_opt_outs(settings)
    assert [path.name for path in folder.iterdir()] == ["harmless.txt"]


def test_processing_times_are_on_record(settings):
    assert processing_time(settings) is None or processing_time(settings).requests == 0
    record_opt_out(settings, "ann")
    apply_opt_outs(settings)
    found = processing_time(settings)
    assert found.requests == 1 and 0 < found.p50_seconds <= found.p99_seconds <= found.longest_seconds
