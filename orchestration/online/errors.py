"""What a request can be refused for, as RFC 9457 problems.

Belongs here: the one exception, and the kinds of problem. Does not belong here: HTTP framework code (`api`).
"""

from dataclasses import dataclass, field


@dataclass
class Problem(Exception):
    """A refusal: HTTP status, a kind for programs, a sentence for people that names no value and no person.

    `retry_after` is in seconds, where trying again makes sense.
    """

    status: int
    kind: str
    detail: str
    retry_after: int | None = None
    extra: dict[str, object] = field(default_factory=dict)

    def document(self) -> dict[str, object]:
        """The body, `application/problem+json` (RFC 9457)."""
        return {"type": f"urn:segline:problem:{self.kind}", "title": self.kind.replace("_", " "), "status": self.status,
                "detail": self.detail, **self.extra}


class ServeError(RuntimeError):
    """The service cannot start or go on; the message says how to mend it."""
