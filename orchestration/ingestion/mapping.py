"""The mapping file: how a tenant's own files become the platform's contracts.

Belongs here: the file's typed form and its checks against the contracts. Does not belong here: reading the data.
"""

import difflib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from orchestration.ingestion.contracts import Contract, load_contracts
from orchestration.ingestion.errors import SourceError
from orchestration.ingestion.expressions import Expression, ExpressionError, compile_expression
from orchestration.ingestion.strict_yaml import StrictYamlError, load_yaml

FILE_NAME = "mapping.yml"
OWN = "source_row"


class ReadOptions(BaseModel):
    """How files are read; every field may stand under `defaults` and be overridden in a feed or lookup."""

    model_config = ConfigDict(extra="forbid")

    format: Literal["csv", "json", "parquet"] = "csv"
    delimiter: str = Field(",", min_length=1, max_length=4)
    quote: str = Field('"', max_length=1)
    encoding: str = "utf-8"
    null_values: list[str] = [""]
    decimal: Literal[".", ","] = "."
    final_newline: Literal["required", "optional"] = "required"
    timestamp_formats: list[str] = []


class Join(BaseModel):
    """A left join of a feed with a lookup: `on` is an expression over the feed and earlier lookups that equals the key."""

    model_config = ConfigDict(extra="forbid")

    lookup: str
    on: str


class Lookup(BaseModel):
    """A side table for joins. It is not taken in by itself; its key must be unique after `where`."""

    model_config = ConfigDict(extra="forbid")

    files: str | list[str]
    key: str
    where: str | None = None
    options: ReadOptions


class Feed(BaseModel):
    """One delivery that becomes rows of one contract."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")
    entity: str
    files: str | list[str]
    where: str | None = None
    joins: list[Join] = []
    columns: dict[str, str] | None = None
    options: ReadOptions


class Mapping(BaseModel):
    """A checked mapping file. `as_of` is UTC without zone; `None` means the time of the run."""

    model_config = ConfigDict(extra="forbid")

    version: Literal[1]
    name: str
    description: str = ""
    as_of: datetime | None = None
    lookups: dict[str, Lookup] = {}
    feeds: list[Feed]

    def feeds_of(self, entity: str) -> list[Feed]:
        """The feeds of one contract, in the file's order."""
        return [feed for feed in self.feeds if feed.entity == entity]


def paths(files: str | list[str], data: Path) -> list[Path]:
    """The files that a feed names, sorted, each once. Globs are relative to `data` and must stay inside it."""
    found: set[Path] = set()
    for pattern in [files] if isinstance(files, str) else files:
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            raise SourceError("path_outside_data", f"{pattern} leaves the data folder", "name files relative to it")
        found.update(path for path in data.glob(pattern) if path.is_file())
    return sorted(found)


def join_expressions(feed: Feed) -> list[Expression]:
    """The compiled `on` of each join, in order; each may use the lookups joined before it."""
    return [
        compile_expression(join.on, OWN, frozenset(other.lookup for other in feed.joins[:position]))
        for position, join in enumerate(feed.joins)
    ]


def column_expressions(feed: Feed, contract: Contract, available: set[str]) -> dict[str, Expression]:
    """The expression of each contract column that the feed fills.

    Without `columns` in the mapping, columns of equal name are taken. Raises `SourceError` for a required column that
    nothing fills.
    """
    lookups = frozenset(join.lookup for join in feed.joins)
    if feed.columns is None:
        texts = {column.name: f'"{column.name}"' for column in contract.columns if column.name.lower() in available}
    else:
        texts = feed.columns
    for column in contract.columns:
        if column.required and column.name not in texts:
            raise SourceError(
                "missing_column",
                f"feed {feed.name}: the contract {contract.entity} requires {column.name} and nothing fills it",
                f"add `{column.name}: <column or expression>` to the feed's columns"
                if feed.columns is not None
                else "deliver the column, or map it under `columns`",
                file=str(feed.files),
                column=column.name,
            )
    return {name: compile_expression(str(text), OWN, lookups) for name, text in texts.items()}


def load_mapping(folder: Path) -> Mapping:
    """Read and check `mapping.yml` of a sources folder. Raises `SourceError` that names feed, column and mend."""
    path = folder / FILE_NAME if folder.is_dir() else folder
    if not path.is_file():
        raise SourceError("no_mapping", f"{path} does not exist", f"put a {FILE_NAME} there (see docs/mapping.md)")
    try:
        content = load_yaml(path)
        if not isinstance(content, dict):
            raise SourceError("bad_mapping", "the file is not a mapping of keys", "start it with `version: 1`", str(path))
        mapping = Mapping.model_validate(_with_defaults(content))
    except StrictYamlError as error:
        raise SourceError("bad_mapping", str(error), "correct the line", str(path)) from None
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise SourceError("bad_mapping", f"{place}: {first['msg']}", "correct that entry", str(path)) from None
    if mapping.as_of and mapping.as_of.tzinfo:
        mapping.as_of = mapping.as_of.astimezone(UTC).replace(tzinfo=None)
    _check_against_contracts(mapping, path)
    return mapping


def _with_defaults(content: dict[str, Any]) -> dict[str, Any]:
    """Gather each entry's reading options, filled up from `defaults`, under `options`."""
    content = dict(content)
    defaults = content.pop("defaults", None) or {}
    known = set(ReadOptions.model_fields)

    def split(entry: Any) -> Any:
        if not isinstance(entry, dict):
            return entry
        own = {key: value for key, value in entry.items() if key in known}
        rest = {key: value for key, value in entry.items() if key not in known}
        return {**rest, "options": {**defaults, **own}}

    content["feeds"] = [split(feed) for feed in content.get("feeds") or []]
    content["lookups"] = {name: split(lookup) for name, lookup in (content.get("lookups") or {}).items()}
    return content


def _check_against_contracts(mapping: Mapping, path: Path) -> None:
    contracts = load_contracts()
    names = [feed.name for feed in mapping.feeds]
    for feed in mapping.feeds:
        if names.count(feed.name) > 1:
            raise SourceError("bad_mapping", f"two feeds are called {feed.name}", "give each its own name", str(path))
        if feed.entity not in contracts:
            raise SourceError(
                "unknown_entity",
                f"feed {feed.name}: there is no contract {feed.entity}" + _closest(feed.entity, list(contracts)),
                f"use one of {', '.join(contracts)}",
                str(path),
            )
        known = [column.name for column in contracts[feed.entity].columns]
        lookups = frozenset(join.lookup for join in feed.joins)
        for lookup in lookups - set(mapping.lookups):
            raise SourceError("unknown_lookup", f"feed {feed.name}: no lookup {lookup}", "declare it under lookups", str(path))
        for name, text in (feed.columns or {}).items():
            if name not in known:
                raise SourceError(
                    "unknown_column",
                    f"feed {feed.name}: the contract {feed.entity} has no column {name}" + _closest(name, known),
                    f"use one of {', '.join(known)}",
                    str(path),
                    name,
                )
            _compile(feed.name, name, str(text), lookups, path)
        if feed.where:
            _compile(feed.name, "where", feed.where, lookups, path)
        for position, join in enumerate(feed.joins):
            earlier = frozenset(other.lookup for other in feed.joins[:position])
            _compile(feed.name, f"join {join.lookup}", join.on, earlier, path)
    for name, lookup in mapping.lookups.items():
        if lookup.where:
            _compile(f"lookup {name}", "where", lookup.where, frozenset(), path)
    if not mapping.feeds_of("customers"):
        raise SourceError("missing_entity", "no feed delivers customers", "add a feed with `entity: customers`", str(path))


def _compile(feed: str, column: str, text: str, lookups: frozenset[str], path: Path) -> None:
    try:
        compile_expression(text, OWN, lookups)
    except ExpressionError as error:
        raise SourceError(
            "bad_expression", f"feed {feed}: {error}", "write a scalar SQL expression over the columns", str(path), column
        ) from None


def _closest(name: str, names: list[str]) -> str:
    match = difflib.get_close_matches(name, names, n=1)
    return f" (did you mean {match[0]}?)" if match else ""
