"""The facts of the standing publication, read from a home.

Belongs here: reading store, run folder and registry. Does not belong here: the results of the checks, which Dagster keeps
(`orchestration.check_results`); pages.
"""

import base64
import binascii
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

from orchestration.documentation.facts import Facts, Head, LedgerRun, ModelCard, Table
from orchestration.documentation.queries import QUERIES
from orchestration.documentation.rule_history import rule_versions
from orchestration.lake import open_lake, transaction
from orchestration.ledger.checkpoint import DASH, parse
from orchestration.lineage.data_map import DataMap, build_data_map
from orchestration.settings import Settings
from orchestration.transformation import run_manifest


class NothingPublished(RuntimeError):
    """There is no publication yet, so there is nothing to document."""


def gather(settings: Settings) -> Facts:
    """Everything about the standing publication. Raises `NothingPublished`.

    All queries see one state of the store. What cannot be read besides the store (a run's folder that was cleared, a
    registry that is damaged) is missing on the site, which says why; it stops nothing.
    """
    # In one transaction, which is one snapshot: a publication in between would mix two runs.
    with open_lake(settings, read_only=True) as connection, transaction(connection):
        tables = {query.name: _ask(connection, query.name, query.sql) for query in QUERIES}
        if not tables["publication"].rows:
            raise NothingPublished("nothing is published yet: start with `segline run`")
        runs = ledger_runs(tables["ledger_runs"])
        history = rule_versions(connection, runs)
    run_id, profile = tables["publication"].rows[0][:2]
    settings = settings.model_copy(update={"profile": profile})
    missing: dict[str, str] = {}

    def attempt(name: str, read: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return read()
        except Exception as error:
            missing[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no more is known'}"
            return otherwise

    return Facts(
        tables=tables,
        rule_history=tuple(history),
        ledger_runs=tuple(runs),
        head=attempt("ledger_head", lambda: head_of(tables["ledger_head"]), None),
        data_map=attempt("data_map", lambda: _data_map(settings, run_id), None),
        passports=attempt("passports", lambda: _passports(settings, run_id), ()),
        cards=attempt("cards", lambda: _cards(settings), ()),
        missing=missing,
    )


def ledger_runs(answer: Table) -> list[LedgerRun]:
    """The runs that the ledger's statements name, oldest first."""
    found = []
    for (statement,) in answer.rows:
        run = json.loads(statement)
        found.append(
            LedgerRun(
                run["run_id"],
                _minute(run["as_of"]),
                _minute(run["decided_at"]),
                run["profile"],
                run["decisions"],
                run["book"],
                run["bundle_sha256"],
                run["families"],
            )
        )
    return found


def head_of(answer: Table) -> Head | None:
    """The newest checkpoint, in its parts. The key's id stands in the signature, so no key is needed to say which signed."""
    if not answer.rows:
        return None
    newest = answer.dicts()[0]
    checkpoint = parse(newest["note"])
    signature = newest["note"].rpartition(DASH)[2].split()[-1]
    try:
        key_id = base64.b64decode(signature, validate=True)[:4].hex()
    except binascii.Error:
        key_id = "unreadable"
    return Head(checkpoint.origin, checkpoint.size, checkpoint.root.hex(), key_id, newest["note"], newest["made_at"])


def _ask(connection: duckdb.DuckDBPyConnection, name: str, sql: str) -> Table:
    """The answer; without rows where a relation of the query is not made yet, as in a home whose first run was older."""
    try:
        cursor = connection.execute(sql)
    except duckdb.CatalogException:
        return Table(name, ())
    return Table(name, tuple(column[0] for column in cursor.description), tuple(cursor.fetchall()))


def _data_map(settings: Settings, run_id: str) -> DataMap:
    from orchestration.lineage.compiling import compiled_manifest

    return build_data_map(run_manifest(settings, run_id) or compiled_manifest(settings), settings.profile)


def _passports(settings: Settings, run_id: str) -> tuple[dict[str, Any], ...]:
    """As the run left them in its folder; made anew where that is gone."""
    kept = sorted((settings.runs_dir / run_id).glob("passport_*.json"))
    if kept:
        return tuple(json.loads(Path(path).read_text(encoding="utf-8")) for path in kept)
    from orchestration.lineage.graph import steps_of_project
    from orchestration.lineage.passport import publications
    from orchestration.lineage.reporting import passport_of, prove_project

    steps = steps_of_project(settings)
    project, _ = prove_project(settings, steps)
    return tuple(passport_of(settings, name, steps) for name in publications(project))


def _cards(settings: Settings) -> tuple[ModelCard, ...]:
    """Cards of all registered models, newest first. Without a registry none: looking must not make one."""
    if not (settings.models_dir / "registry.sqlite").exists():
        return ()
    from orchestration.scoring.registry import CARD, plots, read, versions

    return tuple(ModelCard(one.version, one.aliases, one.sha256, read(one, CARD), plots(one)) for one in versions(settings))


def _minute(instant: str) -> str:
    return instant[:16].replace("T", " ")
