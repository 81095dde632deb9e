"""The record of clusterings and of their names, and the one row that dbt assigns with.

A clustering is never overwritten: the newest of a side stands, also when it says that nothing is stable. A name belongs to a
lasting identifier and is given by somebody other than the person who fitted.

Belongs here: the tables of the record, who may name what. Does not belong here: fitting (`fitting`). A daily run reads this
alone; it loads no machine-learning library and fits nothing.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import duckdb

from orchestration.clustering.errors import NamingRefused
from orchestration.clustering.fitting import CURRENT, Clustering, fingerprint
from orchestration.clustering.sides import Side
from orchestration.lake import open_lake, table_exists, transaction
from orchestration.run_lock import run_lock
from orchestration.settings import Settings

RECORD_DDL = (
    "create table if not exists lake.ops.clusterings (fitted_at timestamp, side varchar, number integer, version varchar, "
    "sha256 varchar, fitted_by varchar, fitted_as_of varchar, people bigint, state varchar, reason varchar, "
    "document varchar, report varchar)"
)
NAMES_DDL = (
    "create table if not exists lake.ops.cluster_names (named_at timestamp, side varchar, cluster_id varchar, name varchar, "
    "named_by varchar, reason varchar)"
)
NO_CLUSTERING, REFUSED = "no_clustering", "refused"
NAME = re.compile(r"[^\W_](?:[\w ,&+'()-]{1,58})[\w)]")


@dataclass(frozen=True)
class Recorded:
    """One fit on record."""

    fitted_at: datetime
    number: int
    version: str
    sha256: str
    fitted_by: str
    fitted_as_of: str
    people: int
    state: str
    reason: str
    document: Mapping[str, Any]
    report: Mapping[str, Any]


@dataclass(frozen=True)
class Standing:
    """Whether a clustering may assign: status as dbt knows it, the reason, the fit on record, approved names by cluster."""

    status: str
    reason: str
    recorded: Recorded | None
    names: Mapping[str, str]


def history(connection: duckdb.DuckDBPyConnection, side: Side) -> list[Recorded]:
    """All fits of a side, oldest first."""
    if not table_exists(connection, "ops", "clusterings"):
        return []
    columns = ", ".join(Recorded.__dataclass_fields__)
    rows = connection.execute(
        f"select {columns} from lake.ops.clusterings where side = ? order by number", [side.name]
    ).fetchall()
    return [Recorded(*row[:-2], json.loads(row[-2]), json.loads(row[-1])) for row in rows]


def names_of(connection: duckdb.DuckDBPyConnection, side: Side) -> dict[str, str]:
    """The latest approved name of each cluster that ever had one."""
    if not table_exists(connection, "ops", "cluster_names"):
        return {}
    rows = connection.execute(
        "select cluster_id, name from lake.ops.cluster_names where side = ? order by named_at", [side.name]
    ).fetchall()
    return dict(rows)


def standing(connection: duckdb.DuckDBPyConnection, side: Side, columns: Mapping[str, str]) -> Standing:
    """Whether the newest clustering may assign rows with those columns (name to type).

    Never raises for what is wrong with a clustering: then nobody is clustered, and the reason says so.
    """
    past = history(connection, side)
    names = names_of(connection, side)
    if not past:
        return Standing(NO_CLUSTERING, "nobody fitted a clustering yet: segline clusters fit", None, names)
    newest = past[-1]
    if newest.state != CURRENT:
        return Standing(newest.state, newest.reason, newest, names)
    if fingerprint(newest.document) != newest.sha256 or newest.document.get("sha256") != newest.sha256:
        return Standing(REFUSED, f"{newest.version} is not what was fitted: its SHA-256 differs", newest, names)
    missing = [feature["name"] for feature in newest.document["features"] if columns.get(feature["name"]) != "double"]
    if missing:
        reason = f"{newest.version} was fitted on {', '.join(missing)}, which {'.'.join(side.relation)} no longer has as a number"
        return Standing(REFUSED, reason, newest, names)
    return Standing(CURRENT, newest.reason, newest, names)


def refresh(connection: duckdb.DuckDBPyConnection, side: Side, columns: Mapping[str, str]) -> Standing:
    """Write the one row that dbt assigns with into the side's own zone, in one transaction; returns what it says."""
    found = standing(connection, side, columns)
    document = json.dumps(found.recorded.document, sort_keys=True) if found.recorded else None
    if found.status == REFUSED:
        document = None  # nothing of it may be compiled
    connection.execute(f"create schema if not exists lake.{side.zone}")
    connection.execute(
        f"create table if not exists {side.target} (status varchar, reason varchar, document varchar, names varchar)"
    )
    with transaction(connection):
        connection.execute(f"delete from {side.target}")
        connection.execute(
            f"insert into {side.target} values (?, ?, ?, ?)",
            [found.status, found.reason, document, json.dumps(found.names, sort_keys=True)],
        )
    return found


def keep(settings: Settings, side: Side, clustering: Clustering, fitted_by: str, number: int) -> None:
    """Add a fit to the record."""
    document = clustering.document
    with run_lock(settings), open_lake(settings) as connection:
        connection.execute("create schema if not exists lake.ops")
        connection.execute(RECORD_DDL)
        row = [
            datetime.now(UTC).replace(tzinfo=None), side.name, number, document["version"], document["sha256"], fitted_by,
            document["fitted_as_of"], clustering.people, clustering.state, clustering.reason,
            json.dumps(document, sort_keys=True), json.dumps(clustering.report, sort_keys=True),
        ]  # fmt: skip
        connection.execute(f"insert into lake.ops.clusterings values ({', '.join('?' for _ in row)})", row)


def person(name: str) -> str:
    """A person's name as compared: case and blanks do not make a second person. Raises `NamingRefused` if empty."""
    compared = " ".join(name.split()).casefold()
    if not compared:
        raise NamingRefused("say who you are: --by NAME")
    return compared


def name_cluster(settings: Settings, side: Side, cluster_id: str, name: str, by: str, reason: str) -> None:
    """Approve a name for a cluster of the newest clustering.

    Raises `NamingRefused` unless a second person gives it, says why, and no other cluster of the clustering bears it.
    """
    named = " ".join(name.split())
    with open_lake(settings, read_only=True) as connection:
        past, names = history(connection, side), names_of(connection, side)
    if not past or past[-1].state != CURRENT:
        raise NamingRefused("there is no clustering whose clusters could be named: segline clusters list")
    newest = past[-1]
    known = [cluster["cluster_id"] for cluster in newest.document["clusters"]]
    if cluster_id not in known:
        raise NamingRefused(f"{newest.version} has no cluster {cluster_id!r}: {', '.join(known)}")
    if person(by) == person(newest.fitted_by):
        raise NamingRefused(f"{by} fitted {newest.version}; another person has to approve its names")
    if not reason.strip():
        raise NamingRefused("say why: --reason TEXT")
    if not NAME.fullmatch(named):
        raise NamingRefused("a name has 3 to 60 letters, digits, blanks and , & + ' ( ) -, and begins with a letter or digit")
    if named.casefold() in {other.casefold() for key, other in names.items() if key in known and key != cluster_id}:
        raise NamingRefused(f"another cluster is called {named} already")
    if named.casefold() in ("default", "unclustered"):
        raise NamingRefused(f"{named} already says that somebody is in no cluster")
    with run_lock(settings), open_lake(settings) as connection:
        connection.execute("create schema if not exists lake.ops")
        connection.execute(NAMES_DDL)
        connection.execute(
            "insert into lake.ops.cluster_names values (?, ?, ?, ?, ?, ?)",
            [datetime.now(UTC).replace(tzinfo=None), side.name, cluster_id, named, by.strip(), reason.strip()],
        )
