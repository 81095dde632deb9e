"""What several commands share: options, exit codes, the settings that they make, the one exception for people.

Belongs here: what two command modules need. Does not belong here: drawing (`drawing`), work.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from orchestration.settings import Settings

EXIT_FAILED, EXIT_SOURCES, EXIT_BLOCKED, EXIT_LOCKED = 1, 3, 4, 5


class ProfileName(StrEnum):
    """The tenant profiles that ship."""

    FINTECH = "fintech"
    CHILDRENS_RETAIL = "childrens_retail"


class OutputFormat(StrEnum):
    """How rows are written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


ProfileOption = Annotated[
    ProfileName | None,
    typer.Option("--profile", help="Which purposes exist and on what basis: a bank's or a children's retailer's."),
]
SourcesOption = Annotated[
    Path | None, typer.Option("--sources", help="Folder with a mapping.yml; without it the built-in sample is used.")
]
DataOption = Annotated[Path | None, typer.Option("--data", help="Folder of the data files; default: the sources folder.")]
AsOfOption = Annotated[
    str | None, typer.Option("--as-of", help="Rate as of this instant (ISO 8601, UTC); default: the mapping's, else now.")
]
FormatOption = Annotated[OutputFormat, typer.Option("--format", help="table for people, csv or json for scripts.")]


class Failure(Exception):
    """A user's mistake or a run's failure: shown as text, never as a traceback."""

    def __init__(self, message: str, code: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.code = code


def settings_of(
    profile: ProfileName | None = None, sources: Path | None = None, data: Path | None = None, as_of: str | None = None
) -> Settings:
    """The settings of the environment, overridden by what the command line gave."""
    given = {"profile": profile and profile.value, "sources": sources, "data": data, "as_of": as_of}
    return Settings(**{name: value for name, value in given.items() if value is not None})
