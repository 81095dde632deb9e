"""What a run leaves behind: counts that add up, segments that rest on the gate, and nothing that names a person."""

import csv
import json
import re
import sqlite3
from collections import defaultdict
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from orchestration.lake import identifier, literal, open_lake, relation_columns
from orchestration.lineage.columns import column_sources
from orchestration.rights.canary import TWINS
from orchestration.sample.people import IDENTIFIER_PATTERNS
from orchestration.settings import Settings
from tests.e2e.conftest import EVENTS

pytestmark = pytest.mark.slow
IDENTIFIERS = ("full_name", "email", "phone", "tax_id", "street_address", "postal_code", "birth_date")
EVIDENCE = ("consent_event_id", "consent_status", "legal_basis", "policy_version", "gate_reason")


def test_every_row_read_is_accounted_for(fintech):
    rows = fintech.cli.rows("select * from ops.reconciliation")
    assert {row["entity"] for row in rows} == set(fintech.summary.entities)
    for row in rows:
        expected = fintech.summary.entities[row["entity"]]
        parts = [int(row[name]) for name in ("rows_kept", "duplicates", "quarantined")]
        assert int(row["rows_read"]) == sum(parts) == expected.rows
        assert parts[1:] == [expected.duplicates, expected.quarantined.total()]


def test_every_planted_fault_is_quarantined_for_the_reason_it_was_planted_for(fintech):
    rows = fintech.cli.rows("select entity, reason, count(*) as n from ops.quarantine group by all")
    found = {(row["entity"], row["reason"]): int(row["n"]) for row in rows}
    planted = {
        (entity, reason): count
        for entity, account in fintech.summary.entities.items()
        for reason, count in account.quarantined.items()
        if count
    }
    assert found == planted


def test_the_book_reconciles_from_customers_to_published_segments(fintech):
    """Members + default + excluded = customers, on both sides; nobody is lost between the gate and the publication."""
    customers = int(fintech.cli.rows("select count(*) as n from raw.customers")[0]["n"])
    customers -= len(TWINS)  # the canary's: placed beside every delivery, never published
    excluded = {
        row["zone"]: int(row["n"])
        for row in fintech.cli.rows("select zone, sum(subject_count) as n from published.excluded_subjects group by 1")
    }
    risk = int(fintech.cli.rows("select count(*) as n from published.risk_segments")[0]["n"])
    assert risk + excluded.get("risk", 0) == customers
    for row in fintech.cli.rows("select segment_family, count(*) as n from published.audience_segments group by 1"):
        assert int(row["n"]) + excluded.get("audience", 0) == customers


@pytest.mark.parametrize("relation", ["risk_segments", "audience_segments"])
def test_evidence_travels_into_every_segment(fintech, relation):
    row = fintech.cli.rows(f"select * from published.{relation} limit 1")[0]
    assert set(EVIDENCE) <= set(row)


def test_no_audience_member_without_a_valid_grant(fintech):
    """The promise of the gate: not default means granted, and by an event that is on record."""
    rows = fintech.cli.rows(
        "select a.segment, a.consent_status, a.gate_outcome, e.action from published.audience_segments a "
        "left join raw.consent_events e on e.event_id = a.consent_event_id where a.segment <> 'default'"
    )
    assert rows
    assert {(row["consent_status"], row["gate_outcome"], row["action"]) for row in rows} == {("granted", "ALLOW", "granted")}


def test_the_two_published_sides_cannot_be_joined(fintech):
    shared = fintech.cli.rows(
        "select count(*) as n from published.risk_segments r join published.audience_segments a using (subject_token)"
    )
    assert shared[0]["n"] == "0"


def test_published_tables_carry_no_raw_pseudonym(fintech):
    raw = {row["t"] for row in fintech.cli.rows("select subject_token as t from raw.customers")}
    for relation in ("risk_segments", "audience_segments"):
        assert not raw & {row["t"] for row in fintech.cli.rows(f"select subject_token as t from published.{relation}")}


def test_a_retailer_has_no_aml_purpose_and_blocks_children_without_a_parent(retail):
    purposes = {row["purpose"] for row in retail.cli.rows("select distinct purpose from consent.gate")}
    assert "aml_legal_obligation" not in purposes
    bases = {row["legal_basis"] for row in retail.cli.rows("select distinct legal_basis from published.risk_segments")}
    assert bases == {"legitimate_interest"}
    children = retail.cli.rows(
        "select gate_outcome, count(*) as n from consent.gate where age_band = '<13' and jurisdiction like 'US-%' "
        "and purpose = 'personalisation' and consent_status <> 'granted' group by 1"
    )
    assert [row["gate_outcome"] for row in children] == ["BLOCK"]
    ads = retail.cli.rows(
        "select count(*) as n from consent.gate where purpose = 'ads_sale_share' and age_band <> '18+' and gate_outcome = 'ALLOW'"
    )
    assert ads[0]["n"] == "0"


def test_explain_tells_an_auditor_what_he_asks_first(fintech):
    customer = a_customer(fintech.sources)
    told = fintech.cli.json("explain", customer)
    assert told["risk_segment"]["tier"] in ("low", "medium", "high", "prohibited")
    fired = {rule["rule_id"] for rule in told["rules_fired"]}
    assert fired == {code for code in told["risk_segment"]["reason_codes"].split(",") if code}
    points = sum(rule["points"] or 0 for rule in told["rules_fired"])
    assert told["risk_segment"]["points"] == points
    assert all(rule["rule_text"] and rule["legal_reference"] and rule["version"] for rule in told["rules_fired"])
    assert {"purpose", "gate_outcome", "legal_basis"} <= set(told["gate"][0])
    assert any(source["entity"] == "customers" and len(source["sha256"]) == 64 for source in told["sources"])
    assert "Risk tier" in fintech.cli("explain", customer).stdout


def test_explain_of_a_stranger_is_an_error_with_a_mend(fintech):
    assert "unknown_customer" in fintech.cli("explain", "nobody", expect=3).stderr


def test_query_refuses_to_write_and_to_look_elsewhere(fintech, tmp_path):
    (tmp_path / "x.csv").write_text("a\n1\n")
    for sql in ("drop table raw.customers", f"select * from '{tmp_path}/x.csv'", "select 1; select 2", "select nope"):
        assert fintech.cli("query", sql, expect=2).stderr


def test_a_formula_never_leaves_as_one(fintech):
    """A spreadsheet runs a cell that begins with an equals sign."""
    assert fintech.cli("query", "select '=SUM(A1)' as a", "--format", "csv").stdout.splitlines()[1].startswith("'=")


def test_the_summary_says_what_was_published_and_where_to_look(fintech):
    for word in ("Reconciliation", "Quarantine", "published.risk_segments", "segline explain", "segline ui"):
        assert word in fintech.printed


def test_lineage_and_row_counts_reach_dagster(fintech):
    """A profile that points to `:memory:` would lose them with a warning only, and the run would stay green."""
    storage = fintech.cli.home / "dagster" / "history"
    run = fintech.cli.rows("select run_id from published.publication")[0]["run_id"]
    with sqlite3.connect(storage / "runs" / f"{run}.db") as db:
        events = [json.loads(row[0]) for row in db.execute("select event from event_logs")]
    text = json.dumps([event for event in events if "ASSET_MATERIALIZATION" in json.dumps(event)])
    assert "dagster/column_lineage" in text and "dagster/row_count" in text


def test_the_run_delivers_its_lineage_events(fintech):
    """The step only makes them where somebody asks for them, so a run without a collector would never show that it cannot."""
    lines = (fintech.sources.parent / EVENTS).read_text(encoding="utf-8").splitlines()
    outputs = {f"{made['namespace']}/{made['name']}" for line in lines for made in json.loads(line)["outputs"]}
    assert any(name.endswith("published.risk_segments") for name in outputs)
    assert "lineage_events_are_delivered" not in fintech.printed
    made = {name.partition("/")[2] for name in outputs}
    assert "risk.score_model" in made, "what Python makes is lineage too"
    assert "risk.trained_model" not in made, "another job makes it, this run did not"
    spans: dict[str, list[datetime]] = defaultdict(list)
    for event in map(json.loads, lines):
        spans[event["job"]["name"]].append(datetime.fromisoformat(event["eventTime"]))
    first, last = spans["publish_segments"]
    assert all(first <= start <= end <= last for start, end in spans.values())
    known = {name for name, span in spans.items() if span != [first, last]}
    assert known == set(spans) - {"publish_segments"}, "a job whose own times nobody told"
    assert spans["landing.customers"][1] < spans["candidate.risk_segments"][0] < spans["published.risk_segments"][1]


def test_the_passport_that_is_asked_for_later_is_the_one_that_the_run_kept(fintech):
    """Of the scores, which rest on what Python makes: a command that did not read Dagster's graph would call them unproven."""
    shown = fintech.cli.json("lineage", "passport", "risk_scores")
    (kept,) = (fintech.cli.home / "runs").glob("*/passport_risk_scores.json")
    assert shown["verdict"] == "proven" and shown["violations"] == []
    assert shown["publication"]["run_id"] == kept.parent.name
    assert shown | {"publication": None} == json.loads(kept.read_text(encoding="utf-8"))  # kept before the publication


def needles(sources: Path, home: Path) -> dict[str, bytes]:
    """Identifiers of the sample, customer identifiers among them, and the master keys in each spelling."""
    with (sources / "customers.csv").open(encoding="utf-8", newline="") as stream:
        customers = [row for row in csv.DictReader(stream)]
    found = {}
    for customer in customers[:: max(1, len(customers) // 60)]:
        for column in ("customer_id", *IDENTIFIERS):
            value = customer[column]
            # Shorter values would be found by chance; years and postal codes occur in dates and counts.
            if len(value) >= 8 and column not in ("birth_date", "postal_code"):
                found[f"{column} {value}"] = value.encode()
    keys = json.loads((home / "keys" / "segline.keys").read_text())
    for name, value in keys.items():
        if isinstance(value, str) and len(value) >= 32:
            found[f"key {name}"] = value.encode()
    assert len(found) > 100
    return found


def test_no_identifier_and_no_key_anywhere_under_the_home(fintech):
    """Logs, artefacts, events, catalogues, databases: the bytes of every file but the key file are searched."""
    home = fintech.cli.home
    wanted = needles(fintech.sources, home)
    files = [path for path in home.rglob("*") if path.is_file() and path != home / "keys" / "segline.keys"]
    assert len(files) > 50
    hits = [f"{path.relative_to(home)}: {what}" for path in files for what, needle in wanted.items() if needle in path.read_bytes()]
    assert hits == []
    # The search finds what is there: the source file holds every one of the identifiers.
    source = (fintech.sources / "customers.csv").read_bytes()
    assert all(needle in source for what, needle in wanted.items() if not what.startswith("key ") and '"' not in what)


def test_no_identifier_in_any_table_of_the_lake(fintech):
    """Encrypted files hide what a byte search cannot see, so every text column is asked as well."""
    wanted = {needle.decode() for what, needle in needles(fintech.sources, fintech.cli.home).items() if not what.startswith("key ")}
    with open_lake(Settings(home=fintech.cli.home), read_only=True) as connection:
        columns = connection.execute(
            "select table_schema, table_name, column_name from information_schema.columns "
            "where table_catalog = 'lake' and data_type = 'VARCHAR'"
        ).fetchall()
        assert len(columns) > 100
        connection.execute("create temp table wanted as select unnest(?) as value", [sorted(wanted)])
        by_table = defaultdict(list)
        for schema, table, column in columns:
            by_table[f"lake.{schema}.{identifier(table)}"].append(column)
        for relation, names in by_table.items():  # a question for each column would open each file as often as it has columns
            values, said = ", ".join(map(identifier, names)), ", ".join(map(literal, names))
            hits = connection.execute(
                f"select distinct name from (select unnest([{values}]) as value, unnest([{said}]) as name from {relation}) "
                "semi join wanted using (value)"
            ).fetchall()
            assert hits == [], relation


def test_the_vault_holds_what_the_lake_must_not(fintech):
    from orchestration.identity.keys import load_keys
    from orchestration.identity.pseudonyms import token
    from orchestration.identity.vault import read_person

    settings = Settings(home=fintech.cli.home)
    customer = a_customer(fintech.sources)
    keys = load_keys(settings)
    person = read_person(settings, keys, token(keys, "raw", customer))
    assert person["customer_id"] == customer and person["full_name"]


def test_no_planted_identifier_at_all_anywhere_under_the_home(fintech):
    """Every identifier of the sample has a shape that nothing else has, so all of them are searched for, not a choice."""
    patterns = [re.compile(pattern.encode()) for pattern in IDENTIFIER_PATTERNS]
    files = [path for path in fintech.cli.home.rglob("*") if path.is_file()]
    hits = [f"{path.name}: {pattern.pattern}" for path in files for pattern in patterns if pattern.search(path.read_bytes())]
    assert hits == []
    source = (fintech.sources / "customers.csv").read_bytes()
    assert all(pattern.search(source) for pattern in patterns)


def test_every_published_column_has_a_lineage_and_the_evidence_comes_from_the_gate(fintech):
    """The lineage that an auditor walks must not end in nothing, and consent must be on it."""
    run = fintech.cli.rows("select run_id from published.publication")[0]["run_id"]
    manifest = json.loads((fintech.cli.home / "dbt" / "runs" / run / "manifest.json").read_text())
    with open_lake(Settings(home=fintech.cli.home), read_only=True) as connection:
        columns = relation_columns(connection)
    compiled = {(n["schema"], n["name"]): n["compiled_code"] for n in manifest["nodes"].values() if n.get("compiled_code")}
    models = {relation: column_sources(sql, columns) for relation, sql in compiled.items() if relation in columns}

    def origins(schema: str, name: str, column: str) -> set[tuple[str, str]]:
        found = {(schema, name)}
        for parent in models.get((schema, name), {}).get(column, ()):
            found |= origins(*parent)
        return found

    for name in ("risk_segments", "audience_segments"):
        assert set(models["candidate", name]) == set(columns["candidate", name]) == set(columns["published", name])
        for column in EVIDENCE:
            assert ("consent", "gate") in origins("candidate", name, column), f"{name}.{column}"


def test_files_are_private(fintech):
    assert (fintech.cli.home / "keys" / "segline.keys").stat().st_mode & 0o077 == 0
    for folder in ("keys", "vault", "lake", "tmp"):
        assert (fintech.cli.home / folder).stat().st_mode & 0o077 == 0
    assert not [path for path in (fintech.cli.home / "tmp").rglob("*") if path.is_file()]


def a_customer(sources: Path) -> str:
    with duckdb.connect() as connection:
        return connection.execute(
            f"select customer_id from read_csv('{sources}/customers.csv', all_varchar => true) "
            "where customer_type = 'individual' group by 1 having count(*) = 1 order by 1 limit 1"
        ).fetchone()[0]


def test_without_a_model_the_rules_stand_alone_and_say_so(fintech):
    """A fresh machine's first run: no score, every tier the rules' own."""
    rows = fintech.cli.rows(
        "select distinct model_status, tier = rules_tier as same, score_tier from published.risk_segments where tier is not null"
    )
    assert [(row["model_status"], row["same"].lower(), row["score_tier"]) for row in rows] == [("no_model", "true", "")]
    assert fintech.cli.rows("select count(*) as n from published.risk_scores") == [{"n": "0"}]
