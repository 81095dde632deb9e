"""The HTTP API: FastAPI over the service. https://fastapi.tiangolo.com

Belongs here: routes, who may call them, problems as RFC 9457 documents. Does not belong here: anything that decides
(`service`). Bodies and paths name customers, so nothing of a request is ever logged or repeated in a refusal.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, Path, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from pydantic import Field
from starlette.exceptions import HTTPException

from orchestration.ingestion.contracts import load_contracts
from orchestration.online import replies
from orchestration.online.answers import audience_answer, risk_answer
from orchestration.online.api_keys import ApiKey, Callers
from orchestration.online.bodies import EVENTS, MOST_EVENTS, Subjects, Text, event_union
from orchestration.online.errors import Problem, ServeError
from orchestration.online.limiting import BodyLimit, Rate
from orchestration.online.metrics import Measured, Metrics
from orchestration.online.service import Person, Service

KEYS_SECONDS = 1.0
PROBLEMS = {
    400: "Not understood", 401: "No key that holds", 403: "The key lacks the role", 404: "Nothing there",
    405: "No such method", 409: "Contradicts what was accepted", 413: "Too large", 422: "Does not fit", 429: "Too many",
    503: "Not now",
}  # fmt: skip
ABOUT = """Risk and audience decisions that follow each event. An event is durable before it is acknowledged, and the next
decision about its subject has seen it. Decisions are made by the SQL that made the standing publication."""


def make_app(service: Service, callers: Callers, per_second: int) -> FastAPI:
    """The application; the service starts and stops with it."""

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        keeping = asyncio.create_task(_keep_fresh(callers))
        try:
            yield
        finally:
            keeping.cancel()
            await service.stop()

    refusal = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    responses: dict[int | str, dict[str, Any]] = {
        status: {"description": text, "content": refusal} for status, text in PROBLEMS.items()
    }
    # Swagger's pages load scripts from elsewhere; the description itself is served.
    app = FastAPI(
        title="Segline", version="1", description=ABOUT, lifespan=life, docs_url=None, redoc_url=None, responses=responses
    )
    metrics, rate = Metrics(service), Rate(per_second)
    app.add_middleware(BodyLimit)
    app.add_middleware(Measured, metrics=metrics)
    for kind in (Problem, RequestValidationError, HTTPException):
        app.add_exception_handler(kind, _refused)
    bearer = HTTPBearer(auto_error=False, description="A key from `segline api-keys add`.")

    def caller_with(*roles: str) -> Callable[..., ApiKey]:
        # A coroutine: a plain function would be run by a pool of threads.
        async def check(credentials: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> ApiKey:
            key = callers.caller(credentials.credentials) if credentials else None
            if key is None:
                raise Problem(401, "no_key", "send a key that holds: Authorization: Bearer …")
            if not set(roles) & set(key.roles):
                raise Problem(403, "not_allowed", f"this needs one of the roles {', '.join(roles)}")
            return key

        return check

    _add_open_routes(app, service)
    sender, reader, operator = caller_with("events"), caller_with("risk", "audience"), caller_with("operator")

    @app.post(
        "/v1/events",
        status_code=201,
        response_model=replies.EventsReply,
        responses={
            200: {"model": replies.EventsReply, "description": "All of it was accepted before"},
            202: {"model": replies.EventsReply, "description": "Accepted; the decision was not asked for, or is not there yet"},
        },
        summary="Take in an event, or up to a thousand",
    )
    async def events(
        request: Request,
        body: event_union() | Annotated[list[event_union()], Field(min_length=1, max_length=MOST_EVENTS)],  # type: ignore[valid-type]
        key: Annotated[ApiKey, Depends(sender)],
    ) -> Response:
        """Durable when answered, all of them or none. The answer has the new decision where the key may see one (roles risk or
        audience), unless `Prefer: respond-async` (RFC 7240) asks for the acknowledgement alone."""
        sent = body if isinstance(body, list) else [body]
        rate.take(key.name, len(sent))
        accepted, persons = await service.accept([(one.type, one.data.model_dump()) for one in sent])
        answers: list[dict[str, Any]] = [{"sequence": one.sequence, "replayed": one.is_replay} for one in accepted]
        later = "respond-async" in request.headers.get("prefer", "")
        if not later and set(key.roles) & {"risk", "audience"}:
            named = [one.data.customer_id for one in sent]
            try:
                for answer, decision in zip(answers, await _decisions(service, key, named, persons), strict=True):
                    answer["decision"] = decision
            except Problem:
                later = True  # the events are on the disk, whatever keeps the decision
        status = 202 if later else 200 if all(one.is_replay for one in accepted) else 201
        return _reply({"events": answers}, status)

    @app.post("/v1/decisions", response_model=replies.DecisionsReply, summary="Decisions about up to a thousand subjects")
    async def decisions(body: Subjects, key: Annotated[ApiKey, Depends(reader)]) -> Response:
        """What holds now, each acknowledged event taken into account. A key of the role risk sees the risk side, one of the role
        audience the audience side."""
        rate.take(key.name, len(body.subjects))
        return _reply({"decisions": await _decisions(service, key, body.subjects, service.persons(body.subjects))})

    @app.get("/v1/subjects/{subject}", response_model=replies.DecisionReply, summary="The decision about one subject")
    async def subject(
        subject: Annotated[Text, Path(description="The customer identifier.")], key: Annotated[ApiKey, Depends(reader)]
    ) -> Response:
        """As `POST /v1/decisions` for one. A path may end up in the logs of a proxy: there the other is the better one."""
        rate.take(key.name)
        (decision,) = await _decisions(service, key, [subject], service.persons([subject]))
        if decision["status"] == "none":
            raise Problem(404, "no_decision", "no decision stands for a subject of that identifier")
        return _reply(decision)

    @app.get("/metrics", response_class=Response, summary="Figures for Prometheus")
    async def figures(key: Annotated[ApiKey, Depends(operator)]) -> Response:
        """In Prometheus' text format."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)

    _describe(app)
    return app


def _add_open_routes(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", response_model=replies.HealthReply, summary="Whether the process lives")
    async def healthz() -> Response:
        """For whoever restarts it. Needs no key."""
        return _reply({"status": "ok"})

    @app.get("/readyz", response_model=replies.HealthReply, summary="Whether it may answer")
    async def readyz() -> Response:
        """For whoever sends it requests. Needs no key."""
        try:
            generation = service.require_ready()
        except Problem as problem:
            return _reply({"status": "not_ready", "detail": problem.detail}, 503)
        agrees = bool(generation.reconciliation and generation.reconciliation.passed)
        about = {"run_id": generation.published.run_id, "as_of": generation.published.as_of, "reconciled": agrees}
        if not agrees:
            detail = "online and batch decide differently: nobody is evaluated until the next publication"
            return _reply({"status": "not_ready", "detail": detail, **about}, 503)
        return _reply({"status": "ok", "pending": service.pending, **about})


async def _decisions(service: Service, key: ApiKey, named: Sequence[str], persons: Sequence[Person]) -> list[dict[str, Any]]:
    """One decision per person, in order, of the side that the key may see."""
    found = []
    for name, person in zip(named, persons, strict=True):
        generation, evaluation = await service.standing(person)
        answer: dict[str, Any] = {
            "subject": name, "status": "none", "source": "online" if evaluation else "published",
            "run_id": generation.published.run_id,
        }  # fmt: skip
        if not service.is_erased(person):
            if "risk" in key.roles and (risk := risk_answer(generation, evaluation, person.risk)):
                answer |= {"status": "decided", "risk": risk}
            if "audience" in key.roles and (audience := audience_answer(generation, evaluation, person.audience)):
                answer |= {"status": "decided", "audience": audience}
        found.append(answer)
    return found


def _reply(content: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(content, option=orjson.OPT_UTC_Z | orjson.OPT_NAIVE_UTC), status, media_type="application/json")


async def _refused(request: Request, error: Exception) -> Response:
    """Any refusal as a problem document; of a body that does not fit, where and why, never what."""
    if isinstance(error, RequestValidationError):
        faults = sorted({f"{_place(one['loc'])}: {one['type']}" for one in error.errors()})
        problem = Problem(422, "malformed", "the request does not fit its description", extra={"errors": faults[:20]})
    elif isinstance(error, HTTPException):
        problem = Problem(error.status_code, "refused", str(error.detail))
    else:
        assert isinstance(error, Problem)
        problem = error
    headers = {"Retry-After": str(problem.retry_after)} if problem.retry_after else {}
    headers |= {"WWW-Authenticate": "Bearer"} if problem.status == 401 else {}
    if isinstance(error, HTTPException):
        headers |= dict(error.headers or {})
    return Response(orjson.dumps(problem.document()), problem.status, headers, media_type="application/problem+json")


@cache
def _our_names() -> frozenset[str]:
    columns = {column.name for entity in EVENTS.values() for column in load_contracts()[entity].columns}
    return frozenset(columns | set(EVENTS) | {"body", "path", "type", "data", "subjects", "subject"})


def _place(parts: Sequence[int | str]) -> str:
    """Where a fault lies, in names that are ours: an unknown field may be named after somebody."""
    return ".".join(str(part) if isinstance(part, int) or part in _our_names() else "…" for part in parts)


async def _keep_fresh(callers: Callers) -> None:
    """Look at the register of keys every second: a revoked key is refused from then on."""
    while True:
        with suppress(ServeError):  # it lets nobody in until it can be read again
            callers.refresh()
        await asyncio.sleep(KEYS_SECONDS)


def _describe(app: FastAPI) -> None:
    """The description, with the form of problems in it."""
    made = app.openapi

    def described() -> dict[str, Any]:
        document = made()
        schema = replies.ProblemReply.model_json_schema(ref_template="#/components/schemas/{model}")
        document.setdefault("components", {}).setdefault("schemas", {})["Problem"] = schema
        return document

    app.openapi = described  # type: ignore[method-assign]
