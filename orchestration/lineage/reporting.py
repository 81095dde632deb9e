"""A proof and its passports, from a home: what the commands and the check in the graph share.

Belongs here: putting project, waivers, store and run together. Does not belong here: proving, drawing.
"""

import csv
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestration.ingestion.contracts import load_contracts
from orchestration.lake import open_lake, private_folder, relation_columns, row_counts
from orchestration.lineage.compiling import compiled_manifest
from orchestration.lineage.openlineage import DeliveryError, RunFacts, Span, run_events, send_events, write_events
from orchestration.lineage.passport import passport, publications
from orchestration.lineage.project import Project, PythonStep, load_policy, read_project
from orchestration.lineage.proof import Proof, prove
from orchestration.lineage.waivers import load_waivers
from orchestration.publication import last_publication
from orchestration.quality.suites import BOUNDARIES, check_specs
from orchestration.settings import DBT_PROJECT_DIR, Settings
from orchestration.transformation import model_spans, run_manifest


def prove_manifest(manifest: Mapping[str, Any], profile: str, steps: Mapping[str, PythonStep]) -> tuple[Project, Proof]:
    """Prove what a compiled manifest describes, and Dagster's `steps` outside it, under the reviewed policy and waivers."""
    project = read_project(manifest, load_contracts(), load_policy(), profile, steps)
    return project, prove(project, load_waivers())


def prove_project(settings: Settings, steps: Mapping[str, PythonStep]) -> tuple[Project, Proof]:
    """Prove the project as it stands, without a run."""
    return prove_manifest(compiled_manifest(settings), settings.profile, steps)


def purposes_of(profile: str) -> list[dict[str, str]]:
    """The purposes that the profile declares, as the policy's seed has them."""
    with (DBT_PROJECT_DIR / "seeds" / "policy" / "profile_purposes.csv").open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["profile"] == profile and row["is_declared"] == "true"]


def checks_of(manifest: Mapping[str, Any], relation: str) -> list[str]:
    """Names of the checks on a relation (`zone.name`): data tests and expectations."""
    nodes = manifest["nodes"]
    names = [
        node["name"]
        for node in nodes.values()
        if node["resource_type"] == "test"
        and any(
            f"{nodes[one]['schema']}.{nodes[one]['name']}" == relation
            for one in node.get("depends_on", {}).get("nodes", [])
            if one in nodes
        )
    ]
    names += [spec.check for boundary in BOUNDARIES for spec in check_specs(boundary) if spec.relation == relation]
    return sorted(set(names))


def standing_publication(settings: Settings) -> dict[str, Any] | None:
    """What stands published under the settings' profile: run, instant and time, with rows per relation."""
    if not settings.catalog.exists():
        return None
    with open_lake(settings, read_only=True) as connection:
        publication = last_publication(connection)
        if publication is None or publication[1] != settings.profile:
            return None
        rows = connection.execute(
            "select relation, row_count from lake.ops.publications where run_id = ?", [publication[0]]
        ).fetchall()
    run_id, _, as_of, published_at = publication
    return {"run_id": run_id, "as_of": as_of, "published_at": published_at, "rows": dict(rows)}


def passport_of(settings: Settings, wanted: str, steps: Mapping[str, PythonStep]) -> dict[str, Any]:
    """The passport of what stands published, from the SQL that ran; of the project as it stands where nothing does."""
    publication = standing_publication(settings)
    ran = run_manifest(settings, publication["run_id"]) if publication else None
    manifest = ran or compiled_manifest(settings)
    project, proof = prove_manifest(manifest, settings.profile, steps)
    return written(settings, manifest, project, proof, wanted, publication)


def written(
    settings: Settings,
    manifest: Mapping[str, Any],
    project: Project,
    proof: Proof,
    wanted: str,
    publication: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """One passport with purposes, checks and, if there is one, the publication's row count."""
    document = passport(project, proof, wanted, purposes_of(settings.profile))
    name = document["relation"].partition(".")[2]
    document["checks"] = checks_of(manifest, f"{project.policy.published_from}.{name}")
    if publication:
        rows = publication["rows"].get(document["relation"])
        document["publication"] = {key: str(publication[key]) for key in ("run_id", "as_of", "published_at")} | {"rows": rows}
    return document


def job_spans(project: Project, steps: Mapping[str, Span], models: Mapping[str, Span]) -> dict[str, Span]:
    """From when to when each relation's job ran: its step of the run, and within dbt's step what dbt says of the model."""
    spans = {f"landing.{entity}": steps["landing"] for entity in load_contracts() if "landing" in steps}
    for name, node in project.nodes.items():
        is_model = node.kind == "model"
        known = (models.get(name[1]) if is_model else None) or steps.get("transformation" if is_model else "__".join(name))
        if known:
            spans[node.text] = known
        if name[0] == project.policy.published_from and "publication" in steps:
            spans[f"{project.policy.published_zone}.{name[1]}"] = steps["publication"]
    return spans


def deliver_events(
    settings: Settings, run_id: str, started: datetime, steps: Mapping[str, Span], project: Project, proof: Proof
) -> tuple[int, str]:
    """Make the run's OpenLineage events and deliver them where the settings say: (how many, why not, if not).

    `started` is the run's beginning, `steps` when its steps ran, by name (UTC).
    """
    spans = job_spans(project, steps, model_spans(settings, run_id))
    with open_lake(settings, read_only=True) as connection:
        types, rows = relation_columns(connection), row_counts(connection)
    facts = RunFacts(run_id, (started, datetime.now(UTC)), spans, types, rows)
    events = run_events(project, proof, facts)
    place = settings.openlineage or ""
    if not place.startswith(("http://", "https://")):
        return write_events(events, Path(place).expanduser()), ""
    try:
        return send_events(events, place), ""
    except DeliveryError as error:
        kept = private_folder(settings.runs_dir / run_id) / "openlineage.ndjson"
        write_events(events, kept)
        return 0, f"{error}; they are kept in {kept.name} in the run's folder"


def keep_passports(settings: Settings, run_id: str, manifest: Mapping[str, Any], project: Project, proof: Proof) -> list[str]:
    """Write each publication's passport into the run's folder; returns the files' names."""
    folder = private_folder(settings.runs_dir / run_id)
    files = []
    for name in publications(project):
        document = written(settings, manifest, project, proof, name, None)
        path = folder / f"passport_{name}.json"
        path.write_text(json.dumps(document, ensure_ascii=False, indent=2, default=str) + "\n", encoding="utf-8")
        files.append(path.name)
    return files
