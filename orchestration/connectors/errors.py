"""What can be wrong with a pull as a whole, each with a stable name and a mend.

Belongs here: errors that end a pull; the delivery folder and its cursor are then as they were. A single record that
cannot be understood ends nothing: it becomes a dead letter (`dead_letters`).
No message ever quotes a body, a header, a query or a credential.
"""

from orchestration.ingestion.errors import SourceError

MENDS = {
    "not_configured": "set the variables that docs/connectors.md names for it",
    "insecure_url": "use https; plain http is for a server on this machine only",
    "unauthorised": "check client, secret and scopes with the vendor's administrator; they are read from the environment",
    "redirected": "set the address that the vendor documents: credentials are not sent on to another one",
    "rate_limited": "pull again later, or raise SEGLINE_PULL_LONGEST_WAIT_SECONDS",
    "unavailable": "pull again later; nothing was taken in and nothing is lost",
    "refused": "compare settings and scopes with the vendor's documentation",
    "partial_answer": "pull again; an answer that holds only some of the items is never taken for all of them",
    "half_answer": "pull again; the answer ended early or holds fewer items than it announces",
    "unexpected_answer": "compare the address with the vendor's documentation; the answer has another shape",
    "repeated_cursor": "report it to the vendor: the next page has the address of an earlier one",
    "repeated_page": "report it to the vendor: two addresses gave the same items",
    "too_many_pages": "narrow the window, or raise SEGLINE_PULL_MOST_PAGES",
    "inside_home": "choose a folder beside the home: pulled rows name people, the home never does",
    "pull_running": "wait for the other pull of this connector into this folder",
    "bad_state": "restore the folder from a copy, or pull into an empty one",
    "vocabulary_changed": "pull into an empty folder: rows that lie here were read with another vocabulary",
    "other_keys": "pull into an empty folder: rows that lie here carry identifiers made with other keys",
    "bad_hint": "drop it; the next regular pull finds whatever is there",
    "no_state": "run `segline run` first: there is no consent state to compare with",
}


class ConnectorError(SourceError):
    """A pull or a comparison that cannot be completed; `name` is one of `MENDS`."""

    def __init__(self, name: str, message: str, file: str | None = None) -> None:
        super().__init__(name, message, MENDS[name], file)


class PullNotReconciled(RuntimeError):
    """Items went missing or appeared between the vendor's answers and the written rows; nothing was taken in."""
