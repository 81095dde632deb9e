"""The roles and what each may open, read from `roles.yml`.

Belongs here: the table, strictly read, and its drawing for people. Does not belong here: writing bundles (`bundles`), who has
which role (`grants`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from orchestration.access.errors import AccessError
from orchestration.identity.pseudonyms import PREFIXES
from orchestration.ingestion.strict_yaml import StrictYamlError, load_yaml

TABLE = Path(__file__).with_name("roles.yml")
NO_ZONE = "none"
PAGES = ("documentation", "runs")
# What lies left of the gate, holds features, or is no publication yet is opened by no role.
SHUT_ZONES = ("vault", "raw", "staging", "features", "risk", "audience", "candidate", "reference")
_ROLE = {"role", "title", "zone", "opens", "pages", "works_with"}
_OPENING = {"relation", "columns", "where"}


@dataclass(frozen=True)
class Opening:
    """A relation that a role may read: all of it, or those columns, or those rows."""

    relation: str
    columns: tuple[str, ...] = ()
    where: str | None = None

    @property
    def schema(self) -> str:
        """Its zone."""
        return self.relation.split(".")[0]

    @property
    def name(self) -> str:
        """Its name within the zone."""
        return self.relation.split(".")[1]


@dataclass(frozen=True)
class Role:
    """One role. `zone` is the only one whose pseudonyms it sees, or `none`."""

    role: str
    title: str
    zone: str
    opens: tuple[Opening, ...]
    pages: tuple[str, ...]
    works_with: str

    def opening(self, relation: str) -> Opening | None:
        """How it opens a relation, `None` if that is shut."""
        return next((one for one in self.opens if one.relation == relation), None)


def read_roles(path: Path) -> dict[str, Role]:
    """The roles of a table by name. Raises `AccessError` for whatever is missing, unknown or contradictory."""
    try:
        content = load_yaml(path)
    except StrictYamlError as error:
        raise AccessError(str(error)) from None
    entries = content.get("roles") if isinstance(content, Mapping) and set(content) == {"roles"} else None
    if not isinstance(entries, list) or not entries:
        raise AccessError(f"{path.name}: a list `roles` is expected")
    roles: dict[str, Role] = {}
    for entry in entries:
        role = _role(path.name, entry)
        if role.role in roles:
            raise AccessError(f"{path.name}: the role {role.role} stands twice")
        roles[role.role] = role
    return roles


@cache
def load_roles() -> dict[str, Role]:
    """The roles that ship."""
    return read_roles(TABLE)


def _role(where: str, entry: Any) -> Role:
    if not isinstance(entry, Mapping) or set(entry) != _ROLE:
        raise AccessError(f"{where}: a role has exactly {', '.join(sorted(_ROLE))}")
    name, zone, pages = str(entry["role"]), entry["zone"], entry["pages"]
    if zone != NO_ZONE and zone not in PREFIXES:
        raise AccessError(f"{where}: {name} has the zone {zone!r}; the zones are {', '.join(PREFIXES)} and {NO_ZONE}")
    if not isinstance(pages, list) or set(pages) - set(PAGES):
        raise AccessError(f"{where}: {name} has pages other than {', '.join(PAGES)}")
    if not isinstance(entry["opens"], list) or not entry["opens"]:
        raise AccessError(f"{where}: {name} opens nothing")
    opens = tuple(_opening(where, name, one) for one in entry["opens"])
    if len({one.relation for one in opens}) != len(opens):
        raise AccessError(f"{where}: {name} opens a relation twice")
    return Role(name, str(entry["title"]), zone, opens, tuple(pages), str(entry["works_with"]))


def _opening(where: str, role: str, entry: Any) -> Opening:
    if not isinstance(entry, Mapping) or "relation" not in entry or set(entry) - _OPENING:
        raise AccessError(f"{where}: what {role} opens is a relation, and if need be columns and where")
    relation, columns = str(entry["relation"]), entry.get("columns", [])
    parts = relation.split(".")
    if len(parts) != 2 or parts[0] in SHUT_ZONES:
        raise AccessError(f"{where}: {role} may not open {relation}: no role opens the zones {', '.join(SHUT_ZONES)}")
    if not isinstance(columns, list) or ("columns" in entry and not columns):
        raise AccessError(f"{where}: {role}, {relation}: columns is a list of names")
    return Opening(relation, tuple(map(str, columns)), entry.get("where"))


def sides_mixed(roles: Iterable[Role], sides: Mapping[str, frozenset[str]]) -> list[str]:
    """Roles that would open published segments of both sides of wall 2, each as a sentence; empty is what passes.

    `sides` says of a published relation which sides it belongs to (`meta.roles` of its model); a relation that belongs to both
    holds counts only and is opened by side.
    """
    wrong = []
    for role in roles:
        seen: set[str] = set()
        for one in role.opens:
            found = sides.get(one.relation, frozenset())
            if len(found) == 1:
                seen |= found
        # The rule register says how everybody is rated and nothing about anybody, so it may stand beside either side.
        if len(seen) > 1:
            wrong.append(f"{role.role} opens relations of both sides: {', '.join(sorted(seen))}")
    return wrong


def markdown_table(roles: Mapping[str, Role]) -> str:
    """The table for docs/access.md: a row per relation, a column per role."""
    relations = sorted({one.relation for role in roles.values() for one in role.opens})
    header = ["relation", *roles]
    lines = [f"| {' | '.join(header)} |", f"|{'---|' * len(header)}"]
    for relation in relations:
        cells = [_cell(role.opening(relation)) for role in roles.values()]
        lines.append(f"| `{relation}` | {' | '.join(cells)} |")
    zones = ["-" if role.zone == NO_ZONE else role.zone for role in roles.values()]
    lines.append(f"| *pseudonyms of zone* | {' | '.join(zones)} |")
    for page in PAGES:
        lines.append(f"| *{page} (proxy)* | {' | '.join('opens' if page in role.pages else '-' for role in roles.values())} |")
    return "\n".join(lines)


def _cell(opening: Opening | None) -> str:
    if opening is None:
        return "-"
    if opening.columns:
        return f"{len(opening.columns)} columns"
    return f"where {opening.where}" if opening.where else "opens"
