"""HTTP: paging, retry and tokens through dlt's REST client, made strict.

Belongs here: what holds for every vendor: only status 200 is success, an answer has the shape that is documented, no page
comes twice, waiting is bounded, a token is renewed once. Does not belong here: a vendor's addresses or words.

dlt's client alone takes a missing list for an empty page, sends credentials after a redirect and puts bodies into its
errors, so its answers are checked here and its errors never leave this module. Of dlt only the REST client is used, not
its pipelines: their state and destination would double the landing. Its telemetry belongs to the pipelines, and is
switched off here all the same. Importing dlt costs a second, so import this module late.
https://dlthub.com/docs/general-usage/http/rest-client
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import requests
from dlt.common.configuration.specs.runtime_configuration import RuntimeConfiguration
from dlt.sources.helpers.requests.retry import Client
from dlt.sources.helpers.rest_client import RESTClient
from dlt.sources.helpers.rest_client.auth import OAuth2ClientCredentials
from dlt.sources.helpers.rest_client.paginators import BasePaginator

from orchestration.connectors.errors import ConnectorError
from orchestration.connectors.settings import Patience, require_secure

UNAUTHORISED = frozenset({401, 403})
Body = Any
Record = Any


@dataclass
class Envelope:
    """How a vendor wraps a page: where the records are, and what the wrapper says about itself.

    `announced` reads how many records the page claims to hold, `None` if it does not say.
    """

    key: str | None
    announced: Callable[[dict[str, Any]], int | None] = lambda body: None
    unauthorised: frozenset[int] = UNAUTHORISED

    def records(self, body: Body) -> list[Record]:
        """The records of a page. `ConnectorError` for another shape, or fewer records than announced."""
        rows = body if self.key is None else body.get(self.key) if isinstance(body, dict) else None
        if not isinstance(rows, list):
            raise ConnectorError("unexpected_answer", "the answer holds no list of items")
        announced = self.announced(body)
        if announced is not None and announced != len(rows):
            raise ConnectorError("half_answer", f"a page announces {announced} items and holds {len(rows)}")
        return rows


def whole_number(value: object) -> int | None:
    """A count that a wrapper states, as number or digits; `None` if absent. `ConnectorError` for anything else."""
    if value is None:
        return None
    if isinstance(value, str) and value.isdigit():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ConnectorError("unexpected_answer", "a count of the answer is no whole number")


class Token(OAuth2ClientCredentials):
    """A client-credentials token, renewed once when the server refuses it before its time."""

    def parse_access_token(self, response_json: Any) -> str:
        """The token. `ConnectorError` if the answer has none: dlt would go on with the word None."""
        token = response_json.get("access_token") if isinstance(response_json, dict) else None
        if not isinstance(token, str) or not token:
            raise ConnectorError("unauthorised", "the token address gave no token")
        return token

    def parse_expiration_in_seconds(self, response_json: Any) -> int:
        """Lifetime in seconds; an unreadable one counts as over, so that the token is asked for again."""
        try:
            return int(response_json.get("expires_in", 0))
        except (TypeError, ValueError):
            return 0

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the token on a request, and the renewal behind it."""
        super().__call__(request)
        request.register_hook("response", self._renew)
        return request

    def _renew(self, response: requests.Response, **kwargs: Any) -> requests.Response:
        if response.status_code != 401:
            return response
        response.close()
        self.obtain_token()
        again = response.request.copy()
        again.headers["Authorization"] = f"Bearer {self.access_token}"
        # The adapter runs no hooks: a second refusal reaches the caller.
        return response.connection.send(again, **kwargs)  # type: ignore[attr-defined]


class RawKey(requests.auth.AuthBase):
    """A key as the whole Authorization header, without a scheme."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Put the key on a request."""
        request.headers["Authorization"] = self._key
        return request


class CheckedPaginator(BasePaginator):
    """A paginator that ends: no cursor twice, no page twice, at most `most_pages` pages."""

    def __init__(self, most_pages: int) -> None:
        super().__init__()
        self.most_pages = most_pages
        self.page = 0
        self.rows = 0
        self._pages: set[bytes] = set()
        self._cursors: set[str] = set()

    def update_state(self, response: requests.Response, data: list[Any] | None = None) -> None:
        """Check the page against all earlier ones, then find the next."""
        records = data or []
        self.page += 1
        self.rows += len(records)
        if records:
            digest = hashlib.sha256(json.dumps(records, sort_keys=True).encode()).digest()
            if digest in self._pages:
                raise ConnectorError("repeated_page", f"page {self.page} holds the items of an earlier page")
            self._pages.add(digest)
        self.advance(response.json())
        if self.has_next_page and self.page >= self.most_pages:
            raise ConnectorError("too_many_pages", f"there are more than {self.most_pages} pages")

    @abstractmethod
    def advance(self, body: Body) -> None:
        """Find the next page in the answer; sets `_has_next_page`."""

    def take_cursor(self, cursor: object, more: object) -> str | None:
        """The next cursor as text, `None` at the end. `ConnectorError` if it came before, or if more is said to follow
        without one."""
        if not cursor:
            if more is True:
                raise ConnectorError("half_answer", "an answer says that more follows and does not say where")
            self._has_next_page = False
            return None
        text = cursor if isinstance(cursor, str) else json.dumps(cursor)
        if text in self._cursors:
            raise ConnectorError("repeated_cursor", f"after {self.page} pages the cursor is one that was used before")
        self._cursors.add(text)
        return text

    @abstractmethod
    def update_request(self, request: requests.Request) -> None:
        """Put the next page's address into the request."""


class CheckedClient(RESTClient):
    """dlt's client that takes nothing for success but a complete answer of status 200."""

    def __init__(self, base_url: str, patience: Patience, auth: requests.auth.AuthBase, session: requests.Session) -> None:
        super().__init__(base_url, auth=auth, session=session, config=RuntimeConfiguration(dlthub_telemetry=False))
        self.patience = patience
        self.envelope = Envelope(None)

    def extract_response(self, response: requests.Response, data_selector: Any) -> list[Any]:
        """The records of an answer. `ConnectorError` says what is wrong with it, without quoting it."""
        require_success(response, self.envelope.unauthorised)
        try:
            body = response.json()
        except ValueError:
            raise ConnectorError("half_answer", "the answer is no complete JSON text") from None
        return self.envelope.records(body)


def require_success(response: requests.Response, unauthorised: frozenset[int]) -> None:
    """`ConnectorError` for every status but 200."""
    status = response.status_code
    if status == 200:
        return
    if status in unauthorised:
        raise ConnectorError("unauthorised", f"the vendor answers {status}")
    if status == 429:
        asked = response.headers.get("Retry-After", "")
        wait = f" and asks to wait {asked} s" if asked.isdigit() else ""
        raise ConnectorError("rate_limited", f"the vendor answers 429{wait}")
    if status < 300:
        raise ConnectorError("partial_answer", f"the vendor answers {status}, which is not success of every item")
    if status < 400:
        raise ConnectorError("redirected", f"the vendor answers {status}")
    raise ConnectorError("unavailable" if status >= 500 else "refused", f"the vendor answers {status}")


def _short_wait(patience: Patience) -> Callable[[requests.Response | None, BaseException | None], bool]:
    """Retry a 429 only if the wait that it asks for is one that we grant: knocking earlier would be rude and useless."""

    def retry(response: requests.Response | None, error: BaseException | None) -> bool:
        if response is None or response.status_code != 429:
            return False
        asked = response.headers.get("Retry-After", "")
        return not asked.isdigit() or int(asked) <= patience.longest_wait_seconds

    return retry


def make_session(patience: Patience) -> requests.Session:
    """A session with bounded waiting and bounded retry that follows no redirect."""
    client = Client(
        request_timeout=(patience.connect_seconds, patience.read_seconds),
        raise_for_status=False,
        status_codes=tuple(range(500, 600)),
        retry_condition=_short_wait(patience),
        request_max_attempts=patience.attempts,
        request_backoff_factor=patience.backoff_seconds,
        request_max_retry_delay=patience.longest_wait_seconds,
        session_attrs={"max_redirects": 0},
    )
    return client.session


@dataclass
class Transport:
    """One vendor's connection: where, who, how patiently. `pages` is all that connectors use."""

    base_url: str
    patience: Patience
    authorise: Callable[[requests.Session], requests.auth.AuthBase] = field(repr=False)
    _client: CheckedClient | None = field(default=None, repr=False)

    @property
    def client(self) -> CheckedClient:
        """The client, made at first use."""
        if self._client is None:
            require_secure(self.base_url)
            session = make_session(self.patience)
            self._client = CheckedClient(self.base_url, self.patience, self.authorise(session), session)
        return self._client

    def pages(
        self,
        path: str,
        envelope: Envelope,
        paginator: CheckedPaginator,
        params: dict[str, Any] | None = None,
        json_body: dict[str, Any] | None = None,
    ) -> Iterator[list[Record]]:
        """The pages' records. Whatever goes wrong is a `ConnectorError` that quotes nothing of the exchange."""
        client = self.client
        client.envelope = envelope
        try:
            yield from (
                list(page)
                for page in client.paginate(
                    path,
                    method="GET" if json_body is None else "POST",
                    params=params,
                    json=json_body,
                    paginator=paginator,
                    data_selector="$",
                    hooks={"response": []},
                    timeout=(self.patience.connect_seconds, self.patience.read_seconds),
                )
            )
        except requests.TooManyRedirects:
            raise ConnectorError("redirected", f"{path}: the vendor points to another address") from None
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else 0
            name = "unauthorised" if 400 <= status < 500 and status != 429 else "unavailable"
            raise ConnectorError(name, f"the token address answers {status}") from None
        except requests.exceptions.ChunkedEncodingError:
            raise ConnectorError("half_answer", f"{path}: the answer ended early, each time") from None
        except requests.Timeout:
            raise ConnectorError("unavailable", f"{path}: no answer within {self.patience.read_seconds:g} s") from None
        except requests.exceptions.JSONDecodeError:
            raise ConnectorError("half_answer", f"{path}: an answer is no complete JSON text") from None
        except requests.RequestException as error:
            raise ConnectorError("unavailable", f"{path}: {type(error).__name__}") from None


def client_credentials(
    token_url: str, client_id: str, client_secret: str
) -> Callable[[requests.Session], requests.auth.AuthBase]:
    """OAuth 2 client credentials at that address, asked for through the pull's own bounded session."""
    require_secure(token_url)
    return lambda session: Token(
        access_token_url=token_url, client_id=client_id, client_secret=client_secret, session=session
    )
