"""Webhooks: a reason to pull, never evidence.

None of the vendors publishes a signature for its callbacks, so anybody may send one. A hint says which connector to ask and
nothing else: no field of a payload reaches a row, and the worst that a forged one does is a pull that finds nothing new.

Belongs here: reading such a payload. Does not belong here: receiving it; a few lines in front of `segline sources pull
--hint` do, wherever the tenant's callbacks arrive.
"""

import json
from dataclasses import dataclass

from orchestration.connectors.errors import ConnectorError
from orchestration.connectors.settings import VENDORS

MOST_BYTES = 1_000_000


@dataclass(frozen=True)
class PullHint:
    """Ask this connector soon."""

    connector: str


def hint(connector: str, payload: bytes) -> PullHint:
    """The hint of a payload that arrived for a connector. `ConnectorError` for what is no JSON object: noise, no reason."""
    if connector not in VENDORS:
        raise ConnectorError("bad_hint", f"there is no connector {connector}")
    if len(payload) > MOST_BYTES:
        raise ConnectorError("bad_hint", f"a payload of {len(payload)} bytes is none")
    try:
        content = json.loads(payload)
    except (ValueError, RecursionError):
        raise ConnectorError("bad_hint", "the payload is no JSON text") from None
    if not isinstance(content, dict):
        raise ConnectorError("bad_hint", "the payload is no JSON object")
    return PullHint(connector)
