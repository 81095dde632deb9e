"""What a decision was made from: one JSON text per subject and side, kept with the decision and erased with it.

`{"features.risk_features": [["individual", null, 12.5]], …}`: per relation its rows about the subject, per row the values in
the order of the bundle's columns. No token is among them: replay puts the ledger's own in their place, so that the
pseudonyms of two zones never lie side by side. Numbers are written so that reading them gives the same number again.

Belongs here: gathering inputs, and the assignments that come of candidates. Does not belong here: storing them (`entry`).
"""

from collections.abc import Iterable, Mapping
from typing import Any

import duckdb

from orchestration.identity.keys import MasterKeys
from orchestration.lake import identifier, literal
from orchestration.ledger.bundles import GATE, TARGETS, TOKEN_COLUMNS, Bundle
from orchestration.ledger.leaves import DECIDED, DECISION_COLUMNS, EVIDENCE, EXCLUDED
from orchestration.ledger.names import named_column

RISK = "risk"
JSON_TYPES = ("BIGINT", "BOOLEAN", "DOUBLE", "INTEGER", "SMALLINT", "VARCHAR")


def map_people(
    connection: duckdb.DuckDBPyConnection, keys: MasterKeys, sample: int | None = None, among: str | None = None
) -> int:
    """Temporary table `ledger_people`: a number, each customer's tokens in the zones, and the ledger's. Returns how many.

    With `sample`, so many customers drawn at random; with `among`, SQL for raw pseudonyms, those; else all of them.

    The number lives as long as the table: joins over whole numbers take a fraction of those over tokens.

    The ledger's token is made from the raw one, so that no identifier has to be at hand. The canary's twins are nobody:
    they are not published, and nothing about them is decided.
    """
    from orchestration.identity.split import drop_tables, tokenise
    from orchestration.rights.canary import canary_tokens

    connection.execute(
        "create or replace temp table ledger_raw as select subject_token from lake.raw.customers "
        "where subject_token not in $twins"
        + (f" and subject_token in ({among})" if among else "")
        + (f" using sample {sample} rows" if sample else ""),
        {"twins": [tokens[0] for tokens in canary_tokens(keys).values()]},
    )
    tokenise(connection, "ledger_raw", "subject_token", "ledger", keys, "ledger_tokens")
    named, joined = named_column(connection, "tokens.token", "customers.subject_token")
    connection.execute(
        "create or replace temp table ledger_people as select row_number() over () as number, "
        "customers.subject_token as raw_token, "
        f"customers.risk_subject_token, customers.audience_subject_token, {named} as subject_token "
        "from lake.raw.customers as customers inner join ledger_tokens as tokens on tokens.value = customers.subject_token"
        + joined
    )
    drop_tables(connection, "ledger_raw", "ledger_tokens")
    return int(connection.execute("select count(*) from ledger_people").fetchone()[0])


def assignments(connection: duckdb.DuckDBPyConnection, families: Iterable[str], zone: str | None = None) -> str:
    """SQL over the candidates, the gate and `ledger_people`: who is decided on in which family, and how.

    With `zone` the segments are those of that zone: what is published may have been amended since the candidates. The
    blocked are there too, as excluded: the gate is all that speaks of them. Run by the entry and by the replay alike.
    """
    risk, audience = ((zone or schema, name) for schema, name in (TARGETS["risk"], TARGETS["audience"]))
    return " union all by name ".join(
        [
            _segments(connection, risk, literal(RISK), RISK, "risk_subject_token"),
            _segments(connection, audience, "found.segment_family", "audience", "audience_subject_token"),
            *(_excluded(family) for family in (RISK, *families)),
        ]
    )


def _segments(connection: duckdb.DuckDBPyConnection, target: tuple[str, str], family: str, role: str, token: str) -> str:
    relation = f"lake.{target[0]}.{target[1]}"
    present = {column[0] for column in connection.execute(f"select * from {relation} limit 0").description}
    columns = ", ".join(
        f"cast({'found.' + name if name in present else 'null'} as {DECISION_COLUMNS[name]}) as {name}"
        for name in DECIDED
        if name != "profile"
    )
    return (
        f"select people.number, people.subject_token, {family} as family, {literal(role)} as role, {columns} "
        f"from {relation} as found inner join ledger_people as people on people.{token} = found.subject_token"
    )


def _excluded(family: str) -> str:
    role = RISK if family == RISK else "audience"
    evidence = ", ".join(f"gate.{name}" for name in EVIDENCE)
    nothing = ", ".join(
        f"cast(null as {DECISION_COLUMNS[name]}) as {name}" for name in DECIDED if name not in ("segment", "profile", *EVIDENCE)
    )
    return (
        f"select people.number, people.subject_token, {literal(family)} as family, {literal(role)} as role, "
        f"'{EXCLUDED}' as segment, {evidence}, {nothing} from lake.{GATE[0]}.{GATE[1]} as gate "
        "inner join ledger_people as people on people.raw_token = gate.subject_token "
        f"where gate.purpose_role = {literal(role)} and gate.gate_outcome = 'BLOCK'"
    )


def inputs_query(connection: duckdb.DuckDBPyConnection, bundle: Bundle, wanted: str) -> str:
    """SQL for (number, role, input) of the people and roles of the relation `wanted` (number, role).

    By `concat`, as the leaves' text (`leaves.decision_text`): `||` copies what stands to its left at each step.
    """
    texts = []
    for role, relations in bundle.document["targets"].items():
        kept = [name for name in relations if name in bundle.document["inputs"]]
        joined, fields = [], []
        for position, name in enumerate(kept):
            alias = f"input_{position}"
            rows = _rows_of(connection, name, bundle.document["inputs"][name], role, wanted)
            joined.append(f"left join ({rows}) as {alias} on {alias}.number = wanted.number")
            fields.append(f"""'"{name}":[', coalesce({alias}.rows, ''), ']'""")
        document = ", ".join(["'{'", ", ',', ".join(fields) or "''", "'}'"])
        texts.append(
            f"select wanted.number, wanted.role, concat({document}) as input "
            f"from {wanted} as wanted {' '.join(joined)} where wanted.role = {literal(role)}"
        )
    return " union all ".join(texts)


def stored_columns(columns: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Those of an input's columns whose values are kept: all but tokens."""
    return [(name, kind) for name, kind in columns if name not in TOKEN_COLUMNS]


def _rows_of(
    connection: duckdb.DuckDBPyConnection, name: str, columns: Iterable[tuple[str, str]], role: str, wanted: str
) -> str:
    """SQL: number, and the subject's rows in one relation as JSON lists with commas between."""
    schema, table = name.split(".")
    relation = f"lake.{identifier(schema)}.{identifier(table)}"
    present = [column[0] for column in connection.execute(f"select * from {relation} limit 0").description]
    token = next(column for column in TOKEN_COLUMNS if column in present)
    own = "raw_token" if token == "subject_token" else token
    # The gate answers for one purpose at a time, so the other purposes' rows decide nothing here.
    condition = f" where source.purpose in ({_purposes(connection, role)})" if "purpose" in present else ""
    source = (
        f"from {relation} as source inner join ledger_people as people on people.{own} = source.{token} "
        f"semi join {wanted} as asked on asked.number = people.number and asked.role = {literal(role)}{condition}"
    )
    values = ", ".join(_json_value(f"source.{identifier(column)}", kind) for column, kind in stored_columns(columns))
    text = f"cast(json_array({values}) as varchar)"
    (most,) = connection.execute(
        f"select max(times) from (select count(*) as times from {relation} as source{condition} group by source.{token})"
    ).fetchone()
    if most is None or most == 1:
        return f"select people.number, {text} as rows {source}"
    return f"select people.number, string_agg({text}, ',' order by {text}) as rows {source} group by people.number"


def _json_value(column: str, kind: str) -> str:
    """As JSON's own type where that loses nothing; the number's text is three times as fast as a cast to text."""
    return column if kind.upper() in JSON_TYPES else f"cast({column} as varchar)"


def _purposes(connection: duckdb.DuckDBPyConnection, role: str) -> str:
    """SQL: the role's purpose, and those that single families of it rest on besides."""
    asked = f"select purpose from lake.{GATE[0]}.{GATE[1]} where purpose_role = {literal(role)}"
    schema, name = TARGETS[role]
    relation = f"lake.{schema}.{name}"
    if "purpose" not in {column[0] for column in connection.execute(f"select * from {relation} limit 0").description}:
        return asked
    return f"{asked} union select purpose from {relation}"


def families_of(manifest: Mapping[str, Any]) -> list[str]:
    """The segment families that the run's profile declares, as the audience models say in their `meta`.

    An optional family, such as clusters before the first fit, is one as soon as the SQL that ran builds it.
    """
    found = []
    for node in manifest["nodes"].values():
        if node["resource_type"] == "model" and node["schema"] == "audience":
            meta, sql = node.get("config", {}).get("meta", {}), node.get("compiled_code") or ""
            found += meta.get("families", [])
            found += [family for family in meta.get("optional_families", []) if f"'{family}' as segment_family" in sql]
    return sorted(set(found))
