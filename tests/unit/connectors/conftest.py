"""Vendors on loopback that behave as their documentation says, and misbehave when told to."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import duckdb
import pytest

from orchestration.connectors.pulling import PullReport, pull
from orchestration.connectors.recording import record_pull
from orchestration.connectors.registry import connector, pulled_folder
from orchestration.connectors.settings import Patience
from orchestration.connectors.vocabulary import load_vocabulary
from orchestration.identity.keys import load_keys
from orchestration.ingestion.landing import land
from orchestration.ingestion.mapping import load_mapping
from orchestration.lake import open_lake
from orchestration.settings import Settings

NOW = datetime(2026, 11, 1, 12)
CLIENT, SECRET, KEY = "client-planted", "secret-planted-77", "key-planted-88"
ONETRUST = """
version: 1
connector: onetrust
purposes: {p-news: personalisation, p-ads: ads_sale_share, Profiling: analytics}
not_consent: [p-necessary]
"""
TRUSTARC = """
version: 1
connector: trustarc
fields: {subject: dataSubject.externalId, choices: programs, purpose: program.id, choice: value}
purposes: {g-news: personalisation}
choices: {OPTED_IN: granted, OPTED_OUT: denied}
"""
ZIGPOLL = """
version: 1
connector: zigpoll
subject: metadata.customer_id
consent_questions:
  - {slide: s-consent, purpose: personalisation, answers: {"Yes, please": granted, "No": denied}}
score_questions:
  - {slide: s-nps, question_type: nps}
"""
MAPPING = """
version: 1
name: test
lookups:
  crm: {files: customers.csv, key: email}
feeds:
  - {name: crm, entity: customers, files: customers.csv}
  - name: onetrust
    entity: consent_events
    files: "pulled/onetrust/consent_events-*.parquet"
    format: parquet
    joins: [{lookup: crm, on: subject}]
    columns:
      event_id: event_id
      customer_id: crm.customer_id
      purpose: purpose
      action: action
      effective_at: effective_at
      received_at: received_at
      expires_at: expires_at
      notice_version: notice_version
      method: method
      actor: actor
"""
VOCABULARIES = {"onetrust": ONETRUST, "trustarc": TRUSTARC, "zigpoll": ZIGPOLL}


@dataclass
class Request:
    """What a server got."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict:
        return json.loads(self.body or b"{}")


@dataclass
class Answer:
    """What it answers. `length` overrides Content-Length, `hang` holds the answer back until the test is over."""

    body: object = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    hang: bool = False

    @property
    def content(self) -> bytes:
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


class Vendor:
    """A real HTTP server. `faults` answer the next data requests, one each; `after` changes every normal answer."""

    def __init__(self) -> None:
        self.records: dict[str, list[dict]] = {"receipts": [], "profiles": [], "consents": [], "responses": []}
        self.requests: list[Request] = []
        self.faults: list[Answer | Callable[[Request], Answer] | None] = []
        self.after: Callable[[Request, Answer], Answer] = lambda request, answer: answer
        self.tokens = 0
        self.revoked: set[str] = set()
        self.token_answer: Answer | None = None
        self.page_size = 2
        self.released = threading.Event()
        vendor = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args: object) -> None:
                """Say nothing."""

            def serve(self) -> None:
                parts = urlsplit(self.path)
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Request(self.command, parts.path, dict(parse_qsl(parts.query)), headers, body)
                vendor.requests.append(request)
                answer = vendor.answer(request)
                if answer.hang:
                    vendor.released.wait(20)
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer.content) if answer.length is None else answer.length))
                self.end_headers()
                self.wfile.write(answer.content)
                if answer.length is not None:
                    self.close_connection = True

            do_GET = do_POST = serve

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def data_requests(self) -> list[Request]:
        return [request for request in self.requests if "token" not in request.path]

    def answer(self, request: Request) -> Answer:
        if "token" in request.path:
            return self._token(request)
        if self.faults:
            fault = self.faults.pop(0)
            if fault is not None:
                return fault(request) if callable(fault) else fault
        return self.after(request, self._data(request))

    def _token(self, request: Request) -> Answer:
        if self.token_answer:
            return self.token_answer
        form = dict(parse_qsl(request.body.decode()))
        if (form.get("client_id"), form.get("client_secret"), form.get("grant_type")) != (CLIENT, SECRET, "client_credentials"):
            return Answer({"error": "invalid_client"}, 401)
        self.tokens += 1
        return Answer({"access_token": f"token-planted-{self.tokens}", "token_type": "bearer", "expires_in": 21599})

    def _data(self, request: Request) -> Answer:
        if request.path == "/responses":
            if request.headers.get("authorization") != KEY:
                return Answer({"message": "unprocessable"}, 422)
            return self._responses(request)
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        if bearer in self.revoked or not bearer.startswith("token-planted-"):
            return Answer({"message": "unauthorized"}, 401)
        if request.path == "/api/consent/v2/receipts" and request.method == "POST":
            return self._receipts(request)
        if request.path == "/rest/api/consent/v4/datasubjects/profiles/unordered":
            return self._profiles(request)
        if request.path == "/server/api/v1/external/consents":
            return self._consents(request)
        return Answer({"message": "not found"}, 404)

    def _slice(self, rows: list[dict], begin: object, size: int) -> tuple[list[dict], int | None]:
        begin = int(begin or 0) if str(begin or 0).isdigit() else 0
        page = rows[begin : begin + size]
        return page, (begin + size if begin + size < len(rows) else None)

    def _receipts(self, request: Request) -> Answer:
        since, until = (datetime.fromisoformat(request.query[name]) for name in ("fromDate", "toDate"))
        if until - since > timedelta(hours=24):
            return Answer({"message": "window longer than 24 hours"}, 400)
        rows = [row for row in self.records["receipts"] if since <= _time(row["consentCreationDate"]) <= until]
        page, following = self._slice(rows, request.json.get("requestContinuation"), self.page_size)
        pageable = {"requestContinuation": None if following is None else str(following)}
        return Answer({"content": page, "numberOfElements": len(page), "last": following is None, "pageable": pageable})

    def _profiles(self, request: Request) -> Answer:
        since, until = (datetime.fromisoformat(request.query[name]) for name in ("updatedSince", "updatedUntil"))
        if until - since > timedelta(days=7) or int(request.query["size"]) > 50:
            return Answer({"message": "window longer than 7 days"}, 400)
        rows = [row for row in self.records["profiles"] if since <= _time(row["lastUpdatedDate"]) <= until]
        page, following = self._slice(rows, request.headers.get("requestcontinuation"), self.page_size)
        body = {"content": page, "numberOfElements": len(page), "last": following is None}
        return Answer(body if following is None else {**body, "requestContinuation": str(following)})

    def _consents(self, request: Request) -> Answer:
        query = request.query
        since, until = float(query.get("fromModifiedDate", 0)), float(query.get("toModifiedDate", 1e12))
        rows = [row for row in self.records["consents"] if since <= row["modifiedDate"] <= until]
        number, size = int(query["page"]), min(int(query["size"]), self.page_size)
        page, following = self._slice(rows, number * size, size)
        body = {"content": page, "numberOfElements": str(len(page)), "totalElements": str(len(rows)), "number": str(number)}
        return Answer({**body, "size": str(size), "totalPages": -(-len(rows) // size), "last": following is None})

    def _responses(self, request: Request) -> Answer:
        query = request.query
        since, until = float(query.get("createdAfter", 0)), float(query.get("createdBefore", 1e15))
        rows = [row for row in self.records["responses"] if since <= _time(row["createdAt"]).timestamp() * 1000 <= until]
        page, following = self._slice(rows, query.get("startCursor"), self.page_size)
        return Answer({"data": page, "hasNextPage": following is not None, "endCursor": str(following or len(rows))})


def _time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment.replace(tzinfo=None) if moment.tzinfo else moment


@dataclass
class Desk:
    """A home, a tenant's sources folder, a vendor, and pulls from it."""

    settings: Settings
    sources: Path
    vendor: Vendor
    patience: Patience

    def pull(self, name: str, now: datetime = NOW, folder: Path | None = None, **given: object) -> PullReport:
        vocabulary = load_vocabulary(self.sources / f"{name}.yml", name)
        return pull(
            connector(name, vocabulary, self.patience, self.settings),
            vocabulary,
            self.settings,
            load_keys(self.settings),
            folder or self.folder(name),
            self.patience,
            now,
            **given,
        )

    def folder(self, name: str) -> Path:
        return pulled_folder(self.sources, name)

    def rows(self, name: str, columns: str = "*", entity: str = "consent_events") -> list[tuple]:
        """Every pulled row, as landing would find it."""
        parts = sorted(self.folder(name).glob(f"{entity}-*.parquet"))
        if not parts:
            return []
        with duckdb.connect() as connection:
            files = ", ".join(f"'{part}'" for part in parts)
            return connection.execute(f"select {columns} from read_parquet([{files}]) order by all").fetchall()

    def dead(self, name: str) -> list[dict]:
        """Every dead letter as written."""
        paths = sorted(self.folder(name).glob("dead_letters-*.jsonl"))
        return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    server = Vendor()
    yield server
    server.close()


@pytest.fixture
def desk(tmp_path: Path, vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> Desk:
    for name in ("ONETRUST", "TRUSTARC", "ZIGPOLL"):
        monkeypatch.setenv(f"SEGLINE_{name}_URL", vendor.url)
        monkeypatch.setenv(f"SEGLINE_{name}_CLIENT_ID", CLIENT)
        monkeypatch.setenv(f"SEGLINE_{name}_CLIENT_SECRET", SECRET)
        monkeypatch.setenv(f"SEGLINE_{name}_START", "2026-10-31T00:00:00Z")
    monkeypatch.setenv("SEGLINE_TRUSTARC_TOKEN_URL", f"{vendor.url}/oauth/token")
    monkeypatch.setenv("SEGLINE_ZIGPOLL_KEY", KEY)
    monkeypatch.setenv("SEGLINE_ZIGPOLL_ACCOUNT_ID", "account-1")
    sources = tmp_path / "sources"
    sources.mkdir()
    for name, text in VOCABULARIES.items():
        (sources / f"{name}.yml").write_text(text)
    patience = Patience(
        connect_seconds=2, read_seconds=0.5, attempts=3, backoff_seconds=0.01, longest_wait_seconds=2, most_pages=50
    )
    return Desk(Settings(home=tmp_path / "home"), sources, vendor, patience)


def receipt(number: int, subject: str = "C1", **changes: object) -> dict:
    """A receipt with one purpose as the specification has it; changes of the purpose begin with `purpose_`."""
    purpose = {"id": "p-news", "name": "News", "version": 3, "transactionType": "CONFIRMED"}
    purpose |= {name.removeprefix("purpose_"): value for name, value in changes.items() if name.startswith("purpose_")}
    record = {
        "id": f"r-{number}",
        "dataSubjectIdentifier": subject,
        "consentCreationDate": f"2026-10-31T20:{number:02}:05.123Z",
        "interactionDate": f"2026-10-31T20:{number:02}:00.000Z",
        "origin": "PREFERENCE_CENTER",
        "test": False,
        "isAnonymous": False,
        "purposes": [purpose],
    }
    own = {name: value for name, value in changes.items() if not name.startswith("purpose_")}
    return {name: value for name, value in {**record, **own}.items() if value is not ...}


def profile(subject: str = "C1", status: str = "ACTIVE", **changes: object) -> dict:
    """One subject's purpose as the v4 list has it."""
    record = {
        "id": "p-news",
        "identifier": subject,
        "lastReceiptId": "r-9",
        "name": "News",
        "version": 3,
        "status": status,
        "consentDate": "2026-10-30T09:00:00.000Z",
        "withdrawalDate": None if status == "ACTIVE" else "2026-10-31T09:00:00.000Z",
        "lastUpdatedDate": "2026-10-31T09:00:01.000Z",
    }
    return {name: value for name, value in {**record, **changes}.items() if value is not ...}


def consent(number: int, subject: str = "C1", value: object = "OPTED_IN", **changes: object) -> dict:
    """A TrustArc consent record with one program."""
    record = {
        "id": f"t-{number}",
        "dataSubject": {"externalId": subject},
        "status": "ACTIVE",
        "createdDate": 1793440800 + number,
        "modifiedDate": 1793440800 + number,
        "consentForm": {"id": "form-1"},
        "programs": [{"program": {"id": "g-news"}, "value": value}],
    }
    return {name: value for name, value in {**record, **changes}.items() if value is not ...}


def response(number: int, subject: str | None = "C1", slide: str = "s-consent", answer: object = "Yes, please", **changes) -> dict:
    """A Zigpoll response to one slide."""
    record = {
        "_id": f"z-{number}",
        "createdAt": f"2026-10-31T20:{number:02}:00.000Z",
        "accountId": "account-1",
        "pollId": "poll-1",
        "slideId": slide,
        "participantId": "q-1",
        "response": answer,
        "valueType": "vote",
        "metadata": {} if subject is None else {"customer_id": subject},
    }
    return {**record, **changes}


def mail(number: int) -> str:
    return f"c{number}@planted.example"


@pytest.fixture
def landed(desk):
    """A function that pulls, lands, and derives the consent state and the gate from what was landed."""
    rows = "".join(f"C{number},individual,{mail(number)}\n" for number in range(1, 6))
    (desk.sources / "customers.csv").write_text("customer_id,customer_type,email\n" + rows)
    (desk.sources / "mapping.yml").write_text(MAPPING)

    def land_it(now: datetime = NOW):
        report = desk.pull("onetrust", now)
        mapping = load_mapping(desk.sources)
        with open_lake(desk.settings) as connection:
            delivery = land(
                connection, desk.settings, load_keys(desk.settings), mapping, desk.sources, now, "run", lambda *_: None
            )
            record_pull(connection, report, desk.folder("onetrust"), now)
            # A small stand-in for dbt's models: the latest expression decides, a grant opens the gate.
            connection.execute(
                "create or replace table lake.consent.consent_states as select subject_token, purpose, "
                "event_id as consent_event_id, action as consent_status from lake.raw.consent_events "
                "qualify row_number() over (partition by subject_token, purpose order by effective_at desc, action) = 1"
            )
            connection.execute(
                "create or replace table lake.consent.gate as select subject_token, purpose, "
                "case when consent_status = 'granted' then 'ALLOW' else 'DEFAULT' end as gate_outcome "
                "from lake.consent.consent_states"
            )
        return delivery

    return land_it


def state(number: int, status: str = "ACTIVE", **changes: object) -> dict:
    return profile(mail(number), status, **changes)
