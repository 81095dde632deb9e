"""The folder of a connector's pulled rows: parts, dead letters, and the cursor that is moved last.

Belongs here: what lies there, writing it durably, reading it strictly. Does not belong here: HTTP, a vendor's fields.

Pulled rows name people, so the folder is never inside the home; it belongs to the tenant's own data folder, beside the
other deliveries, open to its owner only. Every delivery is landed as a whole (docs/decisions/0001), so parts are kept.
The order of writing is part, then state: a pull that dies between the two leaves a part that the state does not know,
which the next pull removes and makes again.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

from orchestration.connectors.errors import ConnectorError
from orchestration.lake import private_folder
from orchestration.settings import Settings

STATE = "state.json"
_FIELDS = {"version", "connector", "vocabulary", "keys", "sequence", "cursors", "parts", "completed_at"}


@dataclass
class State:
    """How far a connector has come: the cursor of each list (UTC), the parts by name with their rows.

    `vocabulary` and `keys` say what the rows were made with; `completed_at` is when all lists were last read to their end.
    """

    connector: str
    vocabulary: str
    keys: int
    sequence: int = 0
    cursors: dict[str, datetime] = field(default_factory=dict)
    parts: dict[str, int] = field(default_factory=dict)
    completed_at: datetime | None = None


def require_outside(folder: Path, settings: Settings) -> None:
    """`ConnectorError` if the folder lies in the home, which never holds plain identifiers."""
    resolved = folder.expanduser().resolve()
    if resolved == settings.root or settings.root in resolved.parents:
        raise ConnectorError("inside_home", f"{folder} lies in the home {settings.root}")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for one pull; `ConnectorError` if another one holds it. The kernel releases a dead one's lock."""
    private_folder(folder)
    with (folder / ".lock").open("a") as stream:
        os.fchmod(stream.fileno(), 0o600)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConnectorError("pull_running", f"another pull writes to {folder}") from None
        yield


def read_state(folder: Path, connector: str) -> State | None:
    """The folder's state, `None` if nothing was ever pulled into it. `ConnectorError` for an unreadable one: beginning
    anew could leave rows unaccounted for."""
    path = folder / STATE
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if set(content) != _FIELDS or content["version"] != 1:
            raise ValueError
        state = State(
            str(content["connector"]),
            str(content["vocabulary"]),
            int(content["keys"]),
            int(content["sequence"]),
            {name: datetime.fromisoformat(text) for name, text in content["cursors"].items()},
            {str(name): int(rows) for name, rows in content["parts"].items()},
            datetime.fromisoformat(content["completed_at"]) if content["completed_at"] else None,
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ConnectorError("bad_state", "it is no state of a pull", str(path)) from None
    if state.connector != connector:
        raise ConnectorError("bad_state", f"it belongs to the connector {state.connector}", str(path))
    missing = sorted(name for name in state.parts if not (folder / name).is_file())
    if missing:
        raise ConnectorError("bad_state", f"the part {missing[0]} is gone", str(path))
    return state


def write_state(folder: Path, state: State) -> None:
    """Replace the state, whole or not at all, and have it on the disk."""
    content = {"version": 1, **asdict(state)}
    content["cursors"] = {name: moment.isoformat() for name, moment in state.cursors.items()}
    content["completed_at"] = state.completed_at.isoformat() if state.completed_at else None
    draft = folder / f".{STATE}"
    draft.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    make_durable(draft, folder / STATE)


def make_durable(draft: Path, final: Path) -> None:
    """Give a written file its name, private and on the disk."""
    os.chmod(draft, 0o600)
    _sync(draft)
    os.replace(draft, final)
    _sync(final.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_unknown(folder: Path, state: State) -> None:
    """Remove parts and drafts that the state does not know: what a pull left that died before it was complete."""
    for path in [*folder.glob("*.parquet"), *folder.glob("*.jsonl"), *folder.glob(".draft-*")]:
        if path.name not in state.parts:
            path.unlink()


def parts_of(folder: Path, state: State, entity: str) -> list[Path]:
    """The known parts of one entity, in order."""
    return [folder / name for name in sorted(state.parts) if name.startswith(f"{entity}-")]
