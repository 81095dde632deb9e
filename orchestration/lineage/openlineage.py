"""OpenLineage events of one run: what was made of what, column by column, for whoever collects lineage elsewhere.

Belongs here: the proof's relations as OpenLineage's typed events, and sending them. Does not belong here: what the
lineage is (`tracing`). The events come from our own analysis of the SQL that ran, so they also tell what a parser of
projected columns cannot: the columns that joined, filtered and grouped (indirect transformations).
Specification: https://openlineage.io/docs/spec/object-model
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from orchestration.ingestion.contracts import load_contracts
from orchestration.lineage.labels import Relation
from orchestration.lineage.landed import delivered_columns
from orchestration.lineage.project import Name, Node, Project
from orchestration.lineage.proof import Proof
from orchestration.lineage.tracing import GATE_ITSELF

JOBS, STORE, SOURCES = "segline", "segline.lake", "segline.sources"
JOB = "publish_segments"
PRODUCER = "urn:segline"
DIRECT = {"identity": "IDENTITY", "transformation": "TRANSFORMATION", "aggregation": "AGGREGATION"}
INDIRECT = {"filter": "FILTER", "join": "JOIN", "group": "GROUP_BY", "window": "WINDOW", "sort": "SORT"}
TIMEOUT_SECONDS = 10


class DeliveryError(RuntimeError):
    """The endpoint did not take the events; they are in the file."""


Span = tuple[datetime, datetime]  # from when to when, UTC


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run: its id (a UUID), its times and those of its jobs by name, column types and rows of each relation.

    A dbt model or a landing whose times are not known is told with those of the run; what Python makes is told if they are known.
    """

    run_id: str
    span: Span
    spans: Mapping[str, Span] = field(default_factory=dict)
    types: Mapping[Name, Mapping[str, str]] = field(default_factory=dict)
    rows: Mapping[Name, int] = field(default_factory=dict)


def run_events(project: Project, proof: Proof, facts: RunFacts) -> list[Any]:
    """START and COMPLETE of the run, and in between of each relation that it landed, built or published."""
    from openlineage.client.event_v2 import Job, Run, set_producer

    set_producer(PRODUCER)
    events: list[Any] = []
    for contract in load_contracts().values():
        events += _landing_events(contract, facts)
    for name, node in sorted(project.nodes.items()):
        relation = relation_of(proof, node)
        # Models are trained and clusters fitted by jobs of their own: in the graph of this one they stand, it does not make them.
        is_made = node.kind == "model" or (node.kind == "python" and node.text in facts.spans)
        if is_made and relation is not None:
            events += _model_events(node, relation, facts)
        if name[0] == project.policy.published_from and relation is not None:
            events += _publication_events(project, node, relation, facts)
    started, completed = _start_and_end(Run(facts.run_id), Job(JOBS, JOB), facts.span)
    return [started, *events, completed]


def relation_of(proof: Proof, node: Node) -> Relation | None:
    """The relation as its own side sees it; whatever is upstream of the gate, as the gate does."""
    for role in (node.role, GATE_ITSELF, *sorted(proof.sides)):
        side = proof.sides.get(role) if role else None
        if side and node.name in side.relations and (role == GATE_ITSELF or node.kind != "model" or node.name in side.reads):
            return side.relations[node.name]
    return None


def write_events(events: Iterable[Any], path: Path) -> int:
    """Add the events to a file, one JSON document a line; returns how many."""
    from openlineage.client.serde import Serde

    lines = [Serde.to_json(event) for event in events]
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
    return len(lines)


def send_events(events: Iterable[Any], url: str) -> int:
    """Post the events to an OpenLineage endpoint's base address; returns how many. Raises `DeliveryError`."""
    import requests
    from openlineage.client.transport.http import HttpConfig, HttpTransport

    transport = HttpTransport(HttpConfig(url=url, timeout=TIMEOUT_SECONDS, retry={"total": 1}))
    sent = 0
    try:
        for event in events:
            answer = transport.emit(event)
            answer.raise_for_status()
            sent += 1
    except requests.RequestException as error:
        raise DeliveryError(f"{sent} events were taken, then {type(error).__name__}") from None
    finally:
        transport.close()
    return sent


def _start_and_end(run: Any, job: Any, span: Span, inputs: Iterable[Any] = (), outputs: Iterable[Any] = ()) -> list[Any]:
    """The two events that the specification asks for of each run of a job; what was read and made is known at its end."""
    from openlineage.client.event_v2 import RunEvent, RunState

    started, ended = (time.replace(tzinfo=UTC).isoformat() for time in span)
    return [
        RunEvent(eventType=RunState.START, eventTime=started, run=run, job=job, inputs=[], outputs=[]),
        RunEvent(eventType=RunState.COMPLETE, eventTime=ended, run=run, job=job, inputs=[*inputs], outputs=[*outputs]),
    ]


def _job_events(job: str, description: str, inputs, output, facts: RunFacts, sql: str = "") -> list[Any]:
    from openlineage.client.event_v2 import InputDataset, Job, Run
    from openlineage.client.facet_v2 import documentation_job, job_type_job, parent_run, sql_job

    parent = parent_run.ParentRunFacet(run=parent_run.Run(facts.run_id), job=parent_run.Job(JOBS, JOB))
    kind = job_type_job.JobTypeJobFacet(processingType="BATCH", integration="DBT" if sql else "SEGLINE", jobType="MODEL")
    facets = {"jobType": kind, "documentation": documentation_job.DocumentationJobFacet(description=description)}
    if sql:
        facets["sql"] = sql_job.SQLJobFacet(query=sql, dialect="duckdb")
    return _start_and_end(
        Run(str(uuid5(UUID(facts.run_id), job)), facets={"parent": parent}),
        Job(JOBS, job, facets=facets),
        facts.spans.get(job, facts.span),
        [InputDataset(namespace, name) for namespace, name in sorted(inputs)],
        [output],
    )


def _output(name: Name, columns: Mapping[str, list], indirect: list, facts: RunFacts):
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import column_lineage_dataset, output_statistics_output_dataset, schema_dataset

    types = facts.types.get(name, {})
    fields = [schema_dataset.SchemaDatasetFacetFields(name=column, type=types.get(column)) for column in columns]
    lineage = {column: column_lineage_dataset.Fields(inputFields=found) for column, found in columns.items()}
    facets = {
        "schema": schema_dataset.SchemaDatasetFacet(fields=fields),
        "columnLineage": column_lineage_dataset.ColumnLineageDatasetFacet(fields=lineage, dataset=indirect),
    }
    statistics = {}
    if name in facts.rows:
        rows = facts.rows[name]
        statistics = {"outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=rows)}
    return OutputDataset(STORE, ".".join(name), facets=facets, outputFacets=statistics)


def _input(namespace: str, relation: str, column: str, kind: str, subtype: str, masking: bool = False):
    from openlineage.client.facet_v2 import column_lineage_dataset

    how = column_lineage_dataset.Transformation(type=kind, subtype=subtype, masking=masking)
    return column_lineage_dataset.InputField(namespace, relation, column, transformations=[how])


def _landing_events(contract, facts: RunFacts) -> list[Any]:
    columns = {
        column: [
            _input(SOURCES, contract.entity, one, "DIRECT", "IDENTITY" if one == column else "TRANSFORMATION", "token" in column)
            for one in delivered
        ]
        for column, delivered in delivered_columns(contract).items()
    }
    output = _output(("raw", contract.entity), columns, [], facts)
    return _job_events(f"landing.{contract.entity}", contract.description, {(SOURCES, contract.entity)}, output, facts)


def _model_events(node: Node, relation: Relation, facts: RunFacts) -> list[Any]:
    columns = {
        name: [
            _input(STORE, origin.relation, origin.column, "DIRECT", DIRECT[origin.how])
            for origin in sorted(column.origins, key=str)
        ]
        for name, column in relation.columns
    }
    rows = sorted(relation.row_origins, key=str)
    indirect = [_input(STORE, one.relation, one.column, "INDIRECT", INDIRECT[one.how]) for one in rows]
    reads = {one.relation for one in rows} | {one.relation for _, column in relation.columns for one in column.origins}
    output = _output(node.name, columns, indirect, facts)
    description = " ".join(node.description.split())
    return _job_events(node.text, description, {(STORE, one) for one in reads}, output, facts, node.sql)


def _publication_events(project: Project, node: Node, relation: Relation, facts: RunFacts) -> list[Any]:
    published = (project.policy.published_zone, node.name[1])
    columns = {name: [_input(STORE, node.text, name, "DIRECT", "IDENTITY")] for name, _ in relation.columns}
    description = "One transaction replaces what analysts see."
    output = _output(published, columns, [], facts)
    return _job_events(".".join(published), description, {(STORE, node.text)}, output, facts)
