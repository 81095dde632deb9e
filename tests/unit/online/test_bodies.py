"""Requests: whatever the API takes, the batch takes too, and reads as the same values."""

import json
import math
from datetime import datetime

import duckdb
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from orchestration.ingestion.contracts import load_contracts
from orchestration.ingestion.delivery import scratch_database
from orchestration.ingestion.examining import Examiner
from orchestration.ingestion.mapping import Mapping
from orchestration.lake import engine
from orchestration.online import event_log
from orchestration.online.bodies import EVENTS, event_models, event_union
from orchestration.settings import Settings
from tests import effort

FUTURE = datetime(9000, 1, 1)
ANY_TEXT = st.text(max_size=12) | st.sampled_from(["x", " x ", "ﬁ", "e\u0301", "null", "NULL", "0", "1e3", "\u2003", "-", "DE", "true"])


ODD = st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT | st.just([])


def fitting(column) -> st.SearchStrategy:
    """Values that mostly fit."""
    made = {
        "string": ANY_TEXT,
        "enum": st.sampled_from(column.values or ("x",)),
        "currency": st.sampled_from(["EUR", "USD", "CZK"]),
        "decimal": st.decimals(0, 10**12, places=2).map(float) | st.integers(0, 10**9) | st.decimals(0, 10**12, places=2).map(str),
        "number": st.floats(0, 10) | st.integers(0, 10),
        "integer": st.integers(-(2**63), 2**63 - 1),
        "boolean": st.booleans(),
        "timestamp": st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)).map(lambda moment: moment.isoformat() + "Z")
        | st.sampled_from(["2026-11-01T00:00:00+02:00", "2026-11-01T00:00:00.5Z", "2026-02-28 10:00:00+00:00"]),
        "date": st.dates().map(str),
    }[column.type]
    return made if column.required else st.none() | made


@st.composite
def event(draw, kind: str) -> dict:
    """An event; now and then one of its values is something else."""
    columns = [column for column in load_contracts()[EVENTS[kind]].columns if not column.subject]
    data = {column.name: draw(fitting(column)) for column in columns}
    if draw(st.booleans()):
        data[draw(st.sampled_from(columns)).name] = draw(ODD)
    return data


@pytest.fixture(scope="module")
def connection(tmp_path_factory):
    settings = Settings(home=tmp_path_factory.mktemp("bodies") / "home")
    with engine(settings) as opened, scratch_database(opened, settings):
        opened.execute("create table subjects as select 'known' as customer_id, 'token' as subject_token")
        yield opened


def by_batch(connection: duckdb.DuckDBPyConnection, kind: str, folder, rows: list[dict]) -> dict[str, tuple]:
    """What the batch's reader keeps of these rows, by key."""
    entity = EVENTS[kind]
    contract = load_contracts()[entity]
    names = {column.name: column.name for column in contract.columns}
    feed = {"name": "online", "entity": entity, "files": "*.ndjson", "options": {"format": "json"}, "columns": names}
    mapping = Mapping.model_validate({"version": 1, "name": "bodies", "feeds": [feed]})
    (folder / "rows.ndjson").write_text("".join(json.dumps(row) + "\n" for row in rows))
    examiner = Examiner(connection, mapping, folder, FUTURE)
    examination = examiner.examine(contract, "subjects")
    columns = [column.name for column in contract.columns if not column.subject]
    kept = connection.execute(f"select {', '.join(columns)} from {examination.kept}").fetchall()
    refused = connection.execute(f"select column_name, reason, value_shape from {examination.quarantine}").fetchall()
    assert not refused, refused
    examiner.close(examination)
    return {row[columns.index(contract.key)]: row for row in kept}


@pytest.mark.parametrize("kind", sorted(EVENTS))
def test_what_the_api_takes_the_batch_takes_as_the_same_values(connection, kind, tmp_path_factory):
    """An event that was acknowledged and then quarantined would be lost; one read otherwise would decide otherwise."""
    folder, contract = tmp_path_factory.mktemp(kind), load_contracts()[EVENTS[kind]]
    model = event_models()[kind]
    taken = 0

    # Many rows in few examples, and none is made smaller: each costs a delivery.
    @settings(
        max_examples=effort.examples(12), deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate]
    )
    @given(st.lists(event(kind), min_size=30, max_size=60))
    def check(drawn: list[dict]) -> None:
        nonlocal taken
        accepted = {}
        for number, data in enumerate(drawn):
            sent = data | {"customer_id": "known", contract.key: f"k{number}"}
            try:
                body = model.model_validate({"type": kind, "data": sent})
            except ValidationError:
                continue
            row = body.data.model_dump()
            accepted[f"k{number}"] = event_log.Event(
                EVENTS[kind], f"k{number}", "token", None, FUTURE,
                {column.name: row[column.name] for column in contract.columns if not (column.subject or column.counterparty)},
            )  # fmt: skip
            # As the sender would put it into a file of its own.
            drawn[number] = sent
        if not accepted:
            return
        taken += len(accepted)
        kept = by_batch(connection, kind, folder, [drawn[int(key[1:])] for key in accepted])
        assert kept.keys() == accepted.keys(), [accepted[key].row for key in accepted.keys() - kept.keys()]
        table = event_log.raw_tables(accepted.values())[EVENTS[kind]]
        connection.register("online_rows", table)
        columns = [column for column in contract.columns if not column.subject]
        typed = ", ".join(
            "null" if column.counterparty else f"cast({column.name} as {contract.raw_columns()[column.name]})" for column in columns
        )
        names = [column.name for column in columns]
        other = [place for place, column in enumerate(columns) if column.counterparty]
        for row in connection.execute(f"select {typed} from online_rows").fetchall():
            batch = kept[row[names.index(contract.key)]]
            assert row == tuple(None if place in other else value for place, value in enumerate(batch))
        connection.unregister("online_rows")

    check()
    assert taken > 10, "a test of what is taken has to take something"


@pytest.mark.parametrize("kind", ["transactions", "", None, 5])
def test_an_unknown_kind_is_no_event(kind):
    """The kinds are few, and named in the description."""
    with pytest.raises(ValidationError):
        TypeAdapter(event_union()).validate_python({"type": kind, "data": {}})


@pytest.mark.parametrize("amount", [math.inf, -math.inf, math.nan, 10**13, "ten", True])
def test_an_amount_that_is_none_is_refused(amount):
    """An infinite amount would make every sum that it enters infinite."""
    data = {"transaction_id": "m", "customer_id": "c", "booked_at": "2026-11-01T00:00:00Z", "direction": "debit", "amount": amount,
            "currency": "EUR", "payment_method": "card"}  # fmt: skip
    with pytest.raises(ValidationError):
        event_models()["transaction"].model_validate({"type": "transaction", "data": data})
    event_models()["transaction"].model_validate({"type": "transaction", "data": data | {"amount": 1}})
